"""One made-up chest X-ray, drawn from formulas: the anatomy of a patient, tissue by tissue."""
