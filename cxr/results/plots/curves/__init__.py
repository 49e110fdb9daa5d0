"""Curves over all thresholds: ROC, precision and recall, net benefit."""
