"""Non-clinical baselines: how well a signal that is not clinical separates the classes.

A network that does not clearly beat these has learned nothing a ruler could not.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.settings import Strict
from cxr.exploration.signals import Array, Signal
from cxr.stats.intervals import Interval, bootstrap_intervals

FEWEST_PATIENTS = 5  # of each class: one for every fold
WARNING_LIMIT = 0.75  # AUROC of the container or of the films' shape above which the audit warns
DRAWS = 1_000  # of the bootstrap
_FOLDS = 5


class Separation(Strict):
    """How well a signal's scores separate the classes on one set of images.

    All metrics lie in 0..1 and are None, with a note, where they cannot be estimated. Intervals are
    of 95 %, by a bootstrap of whole patients (`cxr.stats.intervals`), and None where every draw is
    the same, as for an AUROC of 1. Sensitivity and specificity are at the threshold 0.5, on test
    only.
    """

    n: int
    positives: int
    patients: int
    auroc: float | None = None
    interval: Interval | None = None
    sensitivity: float | None = None
    sensitivity_interval: Interval | None = None
    specificity: float | None = None
    specificity_interval: Interval | None = None
    note: str = ""


class Baseline(Strict):
    """The baseline of one signal.

    Attributes:
        signal: Name of the signal.
        features: What it reads, in words.
        train: Cross-validated on train and val.
        test: Fitted on train and val, applied to test once.
    """

    signal: str
    features: str
    train: Separation
    test: Separation


class Study(NamedTuple):
    """What all signals share.

    Attributes:
        labels: int (n,).
        patients: Number of the patient, int (n,).
        is_test: bool (n,).
        seed: Of folds, classifiers and bootstrap.
    """

    labels: Array
    patients: Array
    is_test: Array
    seed: int


def measure_baseline(study: Study, signal: Signal) -> Baseline:
    """Measure how well a signal separates the classes.

    A baseline that cannot be estimated is None with a note, never an error.

    Args:
        study: Labels, patients and splits of the images.
        signal: The signal of the same images.

    Returns:
        The baseline on train and test.
    """
    from threadpoolctl import threadpool_limits

    # With one thread these small problems are ten times as fast as with threads that wait for
    # each other.
    with threadpool_limits(1):
        return Baseline(
            signal=signal.name,
            features=signal.description,
            train=_cross_validate(study, signal),
            test=_test(study, signal),
        )


def _cross_validate(study: Study, signal: Signal) -> Separation:
    """Return the separation on train and val."""
    rows = np.flatnonzero(~study.is_test)
    obstacle = _find_training_obstacle(study, signal)
    if obstacle:
        return _not_estimable(study, rows, obstacle)
    ranks = _out_of_fold_ranks(study, rows, signal)
    return _measure_separation(study, rows, ranks)


def _test(study: Study, signal: Signal) -> Separation:
    """Return the separation on test of a classifier fitted on train and val."""
    train_rows = np.flatnonzero(~study.is_test)
    rows = np.flatnonzero(study.is_test)
    obstacle = _too_few_patients(study, rows)
    if obstacle:
        return _not_estimable(study, rows, obstacle)
    obstacle = _find_training_obstacle(study, signal)
    if obstacle:
        return _not_estimable(
            study,
            rows,
            f"no model from train + val: {obstacle}",
        )
    classifier = signal.make_classifier()
    classifier.fit(signal.features[train_rows], study.labels[train_rows])
    scores = classifier.predict_proba(signal.features[rows])[:, 1]
    return _measure_separation(
        study,
        rows,
        scores,
        threshold=0.5,
    )


def _find_training_obstacle(study: Study, signal: Signal) -> str:
    """Return why no classifier can be fitted on train and val, or ""."""
    rows = np.flatnonzero(~study.is_test)
    too_few = _too_few_patients(study, rows)
    if too_few:
        return too_few
    features = signal.features[rows]
    if (features == features[:1]).all():
        return "the signal is the same in every image"
    return ""


def _too_few_patients(study: Study, rows: Array) -> str:
    """Return why these rows are not enough to estimate a separation, or ""."""
    if not len(rows):
        return "no image"
    _, labels = _label_patients(study, rows)
    negatives, positives = np.bincount(labels, minlength=2)
    if min(negatives, positives) >= FEWEST_PATIENTS:
        return ""
    return (
        f"expected {FEWEST_PATIENTS} patients of each class or more, "
        f"found {negatives} NORMAL and {positives} PNEUMONIA"
    )


def _label_patients(study: Study, rows: Array) -> tuple[Array, Array]:
    """Return the patients among the rows and their labels: 1 where any image is positive."""
    labels = pd.Series(study.labels[rows])
    by_patient = labels.groupby(study.patients[rows]).max()
    return by_patient.index.to_numpy(), by_patient.to_numpy()


def _out_of_fold_ranks(
    study: Study,
    rows: Array,
    signal: Signal,
) -> Array:
    """Score each row by a classifier that saw no image of its patient.

    Folds hold whole patients, stratified by label. Scores are ranks within their fold, 0..1: how
    the offsets of the five classifiers differ says nothing about the images.
    """
    from scipy.stats import rankdata
    from sklearn.model_selection import StratifiedKFold

    patients, patient_labels = _label_patients(study, rows)
    row_patients = study.patients[rows]
    features = signal.features[rows]
    labels = study.labels[rows]
    ranks = np.empty(len(rows))
    folds = StratifiedKFold(
        _FOLDS,
        shuffle=True,
        random_state=study.seed,
    )
    for _, held_out in folds.split(patients, patient_labels):
        is_out = np.isin(row_patients, patients[held_out])
        classifier = signal.make_classifier()
        classifier.fit(features[~is_out], labels[~is_out])
        scores = classifier.predict_proba(features[is_out])[:, 1]
        ranks[is_out] = rankdata(scores) / is_out.sum()
    return ranks


def _measure_separation(
    study: Study,
    rows: Array,
    scores: Array,
    threshold: float | None = None,
) -> Separation:
    """Return AUROC and interval; with a threshold, sensitivity and specificity as well."""
    from sklearn.metrics import roc_auc_score

    labels = study.labels[rows]
    intervals = bootstrap_intervals(
        labels,
        scores,
        study.patients[rows],
        0.5,
        DRAWS,
        study.seed,
    )
    metrics: dict[str, Any] = {
        "auroc": float(roc_auc_score(labels, scores)),
        "interval": intervals["auroc"],
    }
    if threshold is not None:
        predicted = scores >= threshold
        metrics["sensitivity"] = float(predicted[labels == 1].mean())
        metrics["sensitivity_interval"] = intervals["sensitivity"]
        metrics["specificity"] = float((~predicted[labels == 0]).mean())
        metrics["specificity_interval"] = intervals["specificity"]
    if metrics["interval"] is None:
        metrics["note"] = "no interval: the AUROC is the same in every draw of the patients"
    return Separation(**_count(study, rows), **metrics)


def _not_estimable(
    study: Study,
    rows: Array,
    obstacle: str,
) -> Separation:
    """Return a separation without metrics, and the reason."""
    note = f"not estimable (n = {len(rows)}): {obstacle}"
    return Separation(**_count(study, rows), note=note)


def _count(study: Study, rows: Array) -> dict[str, Any]:
    """Count images, positives and patients."""
    return {
        "n": len(rows),
        "positives": int(study.labels[rows].sum()),
        "patients": len(np.unique(study.patients[rows])),
    }
