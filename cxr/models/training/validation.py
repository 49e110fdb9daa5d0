"""What is fitted, chosen and measured on validation: calibration, threshold and metrics.

It takes raw scores alone. A training writes the result; `cxr verify` computes it again.
"""

from typing import Any

import pandas as pd

from cxr.core.settings import TrainingSettings
from cxr.stats import calibration, intervals, metrics, reliability, thresholds

_RANKING_METRICS = ("auroc", "auprc")


def fit_on_validation(table: pd.DataFrame, settings: TrainingSettings) -> dict[str, Any]:
    """Fit the calibration, choose the threshold and measure the metrics there.

    AUROC and AUPRC are of the raw scores: a calibration fitted on these very images may only make
    ties that look better here (isotonic).

    Args:
        table: One row for each validation image: label, raw_score, patient_id.
        settings: How the operating point is chosen, and whether scores are calibrated.

    Returns:
        The fields calibration, calibration_quality, operating_point, val and val_intervals of a
        Training.

    Raises:
        DataError: A class is missing, or scores are no numbers.
    """
    labels = table["label"].to_numpy()
    raw = table["raw_score"].to_numpy()
    patients = table["patient_id"].to_numpy()

    if settings.calibrate:
        fitted = calibration.fit_calibration(
            labels,
            raw,
            patients,
            settings.seed,
        )
    else:
        fitted = calibration.identity_calibration(patients)
    scores = fitted.apply(raw)
    rule = thresholds.rule_from_settings(settings)
    point = thresholds.choose_operating_point(labels, scores, rule)

    measured = metrics.compute_metrics(labels, scores, point.threshold)
    measured_raw = metrics.compute_metrics(labels, raw, 0.5)
    measured |= {name: measured_raw[name] for name in _RANKING_METRICS}

    bounds = intervals.bootstrap_intervals(
        labels,
        scores,
        patients,
        point.threshold,
    )
    if fitted.method == "isotonic":
        # Every other map keeps the order, and so the two areas and their intervals.
        bounds_raw = intervals.bootstrap_intervals(
            labels,
            raw,
            patients,
            0.5,
        )
        bounds |= {name: bounds_raw[name] for name in _RANKING_METRICS}
    return {
        "calibration": fitted,
        "calibration_quality": reliability.measure_quality(labels, raw, scores),
        "operating_point": point,
        "val": measured,
        "val_intervals": bounds,
    }
