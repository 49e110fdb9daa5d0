"""Data leakage: duplicates and patients in two splits, and the gate that stops on them."""
