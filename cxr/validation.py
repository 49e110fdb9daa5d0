"""What is fitted, chosen and measured on validation, from raw scores alone: calibration, threshold, figures.

Left out: the choice between models (`selection`). Training writes it, verification computes it again.
"""

from typing import Any

import pandas as pd

from cxr import calibration, intervals, metrics, operating
from cxr.settings import TrainingSettings

_RANKING = ("auroc", "auprc")


def chosen(table: pd.DataFrame, settings: TrainingSettings) -> dict[str, Any]:
    """Return calibration, calibration_quality, operating_point, val and val_intervals of a Training.

    `table` has label, raw_score and patient_id. AUROC and AUPRC are of the raw scores: a calibration fitted on these
    very images may only make ties that look better here (isotonic). Raises DataError for a missing class or scores
    that are no numbers.
    """
    labels, raw, patients = (
        table[name].to_numpy() for name in ("label", "raw_score", "patient_id")
    )
    fitted = (
        calibration.fit(labels, raw, patients, settings.seed)
        if settings.calibrate
        else calibration.off(patients)
    )
    scores = fitted.apply(raw)
    point = operating.choose(labels, scores, operating.rule(settings))
    ranked = metrics.figures(labels, raw, 0.5)
    drawn = intervals.bootstrap(labels, scores, patients, point.threshold)
    if (
        fitted.method == "isotonic"
    ):  # every other map keeps the order, and so the two areas and their intervals
        ranked_drawn = intervals.bootstrap(labels, raw, patients, 0.5)
        drawn |= {name: ranked_drawn[name] for name in _RANKING}
    return {
        "calibration": fitted,
        "calibration_quality": calibration.quality(labels, raw, scores),
        "operating_point": point,
        "val": metrics.figures(labels, scores, point.threshold)
        | {name: ranked[name] for name in _RANKING},
        "val_intervals": drawn,
    }
