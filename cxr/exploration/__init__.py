"""Look at the data before a model is trained: figures, non-clinical baselines, distribution shift."""
