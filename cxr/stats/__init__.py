"""Statistics: metrics and intervals, comparison of models, calibration, thresholds, subgroups."""
