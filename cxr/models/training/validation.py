"""What is measured, fitted and chosen on validation: metrics, calibration and threshold.

`fit_on_validation` takes raw scores alone: a training writes its result, `cxr verify` computes it
again.
"""

from typing import Any

import numpy as np
import pandas as pd

from cxr.core.settings import TrainingSettings
from cxr.models import scoring
from cxr.models.training import checkpoints
from cxr.models.training.feature_extraction import TrainingData
from cxr.models.training.session import Session
from cxr.stats import calibration, intervals, metrics, reliability, thresholds

_EPOCH_METRICS = ("auroc", "auprc", "accuracy", "precision", "sensitivity", "specificity")
_RANKING_METRICS = ("auroc", "auprc")


def raw_scores(
    model: Any,
    data: TrainingData,
    phase: str,
    session: Session,
) -> metrics.Vector:
    """Return the raw scores of the validation images, float64 (n,).

    Args:
        model: A head or top.
        data: What it learns from.
        phase: checkpoints.HEAD or checkpoints.FINE_TUNING.
        session: The training.
    """
    # The head alone has so little to do that the call costs more: it gets larger batches.
    is_head = phase == checkpoints.HEAD
    batch_size = session.settings.batch_size if is_head else None
    positions = np.arange(len(data.val))
    return scoring.score_images(model, data.val, positions, batch_size)


def epoch_metrics(
    model: Any,
    data: TrainingData,
    phase: str,
    session: Session,
) -> dict[str, Any]:
    """Return the metrics of a head or top at the threshold 0.5, by column of history.csv.

    The arguments are those of `raw_scores`.
    """
    scores = raw_scores(model, data, phase, session)
    labels = session.labels(session.val)
    measured = metrics.compute_metrics(labels, scores, 0.5)
    return {f"val_{name}": measured[name] for name in _EPOCH_METRICS}


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
