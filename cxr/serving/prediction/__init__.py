"""Batch prediction: images scored with an exported model, into predictions.csv."""

from cxr.serving.prediction.predictions import Predictions
from cxr.serving.prediction.publishing import predict

__all__ = ["Predictions", "predict"]
