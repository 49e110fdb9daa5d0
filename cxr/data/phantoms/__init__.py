"""Made-up chest X-rays for the demo and the tests."""
