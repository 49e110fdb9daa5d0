"""Data leakage: exact duplicates, near-duplicates and patients in two splits, and the gate that stops on them."""
