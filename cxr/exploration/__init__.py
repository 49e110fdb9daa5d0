"""Look at the data before training: figures, non-clinical baselines, distribution shift."""
