"""Calibration: maps of scores to probabilities, and how far scores are from them."""

from cxr.stats.calibration.fitting import Calibration, fit_calibration, identity_calibration

__all__ = ["Calibration", "fit_calibration", "identity_calibration"]
