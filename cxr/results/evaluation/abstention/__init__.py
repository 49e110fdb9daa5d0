"""The test images that the selected model would rather not answer: how many, and what it gains."""
