"""What is measured, fitted and chosen on validation: metrics, calibration and threshold.

`fit_on_validation` takes raw scores alone: a training writes its result, `cxr verify` computes it
again.
"""

from typing import Any

import numpy as np
import pandas as pd

from cxr.core.settings import TrainingSettings
from cxr.data.images.changes.changed_images import ChangedImages
from cxr.data.images.changes.stress_worlds import CLEAN, WORLDS
from cxr.models import scoring, stress
from cxr.models.training import checkpoints
from cxr.models.training.feature_extraction import TrainingData
from cxr.models.training.session import Session
from cxr.stats import calibration, intervals, metrics, thresholds
from cxr.stats.calibration import Calibration, reliability
from cxr.stats.thresholds import OperatingPoint, Rule
from cxr.storage.arrays import Stored

_EPOCH_METRICS = ("auroc", "auprc", "accuracy", "precision", "sensitivity", "specificity")
_RANKING_METRICS = ("auroc", "auprc")


def raw_scores(
    model: Any,
    inputs: Stored | ChangedImages,
    phase: str,
    session: Session,
) -> metrics.Vector:
    """Return the raw scores of validation images, float64 (n,).

    Args:
        model: A head, a top or a whole network.
        inputs: What it takes of these images.
        phase: checkpoints.HEAD or checkpoints.FINE_TUNING.
        session: The training.
    """
    # The head alone has so little to do that the call costs more: it gets larger batches.
    is_head = phase == checkpoints.HEAD
    batch_size = session.settings.batch_size if is_head else None
    positions = np.arange(len(inputs))
    return scoring.score_images(model, inputs, positions, batch_size)


def epoch_metrics(
    model: Any,
    data: TrainingData[Any],
    phase: str,
    session: Session,
) -> dict[str, Any]:
    """Return the metrics of a model on validation, by column of history.csv.

    On the images as they are at the threshold 0.5; in the stress worlds, on fewer images, the mean
    and the lowest AUROC.

    Args:
        model: A head, a top or a whole network.
        data: What it learns from.
        phase: checkpoints.HEAD or checkpoints.FINE_TUNING.
        session: The training.
    """
    scores = raw_scores(model, data.val, phase, session)
    labels = session.labels(session.val)
    measured = metrics.compute_metrics(labels, scores, 0.5)
    row: dict[str, Any] = {f"val_{name}": measured[name] for name in _EPOCH_METRICS}
    stressed_labels = session.labels(session.stressed)
    aurocs = []
    for inputs in data.worlds.values():
        scores = raw_scores(model, inputs, phase, session)
        stressed = metrics.compute_metrics(stressed_labels, scores, 0.5)
        aurocs.append(stressed["auroc"] or 0.0)
    row["stress_auroc"] = float(np.mean(aurocs))
    row["stress_worst_auroc"] = float(np.min(aurocs))
    return row


def fit_on_validation(
    table: pd.DataFrame,
    worlds: pd.DataFrame | None,
    settings: TrainingSettings,
) -> dict[str, Any]:
    """Fit the calibration, choose the threshold and measure the metrics there.

    AUROC and AUPRC are of the raw scores: a calibration fitted on these very images may only make
    ties that look better here (isotonic).

    Args:
        table: One row for each validation image: label, raw_score, patient_id.
        worlds: The raw scores of some of them in the stress worlds, as `stress.write_world_scores`
            writes them; None for a training of a version that had none.
        settings: How the operating point is chosen, and whether scores are calibrated.

    Returns:
        The fields calibration, calibration_quality, operating_point, val, val_intervals and
        robustness of a Training.

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
    point = _choose_operating_point(labels, scores, worlds, fitted, rule)

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
    robustness = None
    if worlds is not None:
        robustness = stress.measure_robustness(worlds, fitted, point.threshold)
    return {
        "calibration": fitted,
        "calibration_quality": reliability.measure_quality(labels, raw, scores),
        "operating_point": point,
        "val": measured,
        "val_intervals": bounds,
        "robustness": robustness,
    }


def _choose_operating_point(
    labels: metrics.Vector,
    scores: metrics.Vector,
    worlds: pd.DataFrame | None,
    fitted: Calibration,
    rule: Rule,
) -> OperatingPoint:
    """Choose the threshold on the images as they are and in the stress worlds.

    Chosen on clean images alone it misses more in worlds of kinds that it was not chosen on; as the
    lowest that any world asks for it calls too many negatives positive (`bench/threshold_rules.py`).

    Args:
        labels: Of all validation images.
        scores: Their calibrated scores.
        worlds: Raw scores of some of them, as `stress.write_world_scores` writes them.
        fitted: The calibration.
        rule: How the operating point is chosen.
    """
    if worlds is None:
        return thresholds.choose_operating_point(labels, scores, rule)
    raw = worlds[[CLEAN, *WORLDS]].to_numpy(np.float64)
    calibrated = fitted.apply(raw.ravel()).reshape(raw.shape)
    return thresholds.choose_operating_point(
        worlds["label"].to_numpy(),
        calibrated,
        rule,
        prevalence=float(labels.mean()),
        kinds=[CLEAN, *(world.kind for world in WORLDS.values())],
    )
