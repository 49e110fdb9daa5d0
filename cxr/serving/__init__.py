"""Exported models in use: prediction, the registry, challenges, retraining."""
