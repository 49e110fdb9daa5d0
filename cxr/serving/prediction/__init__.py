"""Batch prediction: images scored with an exported model, into predictions.csv."""

from cxr.serving.prediction.publishing import Predictions, predict

__all__ = ["Predictions", "predict"]
