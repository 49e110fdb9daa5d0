"""What is fitted, chosen and measured on validation, from raw scores alone: calibration, threshold, figures.

Left out: the choice between models (`selection`). Training writes it, verification computes it again.
"""

from typing import Any

import pandas as pd

from cxr.core.settings import TrainingSettings
from cxr.stats import calibration, intervals, metrics, reliability, thresholds

_RANKING = ("auroc", "auprc")


def fit_on_validation(table: pd.DataFrame, settings: TrainingSettings) -> dict[str, Any]:
    """Return calibration, calibration_quality, operating_point, val and val_intervals of a Training.

    `table` has label, raw_score and patient_id. AUROC and AUPRC are of the raw scores: a calibration fitted on these
    very images may only make ties that look better here (isotonic). Raises DataError for a missing class or scores
    that are no numbers.
    """
    labels, raw, patients = (
        table[name].to_numpy() for name in ("label", "raw_score", "patient_id")
    )
    fitted = (
        calibration.fit_calibration(labels, raw, patients, settings.seed)
        if settings.calibrate
        else calibration.identity_calibration(patients)
    )
    scores = fitted.apply(raw)
    point = thresholds.choose_operating_point(
        labels, scores, thresholds.rule_from_settings(settings)
    )
    ranked = metrics.compute_metrics(labels, raw, 0.5)
    drawn = intervals.bootstrap_intervals(labels, scores, patients, point.threshold)
    if (
        fitted.method == "isotonic"
    ):  # every other map keeps the order, and so the two areas and their intervals
        ranked_drawn = intervals.bootstrap_intervals(labels, raw, patients, 0.5)
        drawn |= {name: ranked_drawn[name] for name in _RANKING}
    return {
        "calibration": fitted,
        "calibration_quality": reliability.measure_quality(labels, raw, scores),
        "operating_point": point,
        "val": metrics.compute_metrics(labels, scores, point.threshold)
        | {name: ranked[name] for name in _RANKING},
        "val_intervals": drawn,
    }
