"""Calibration: a map that makes scores probabilities, chosen and fitted on validation images.

How far scores are from probabilities is measured in `reliability`. The map is one for all images,
not one per subgroup, and it knows nothing of a prevalence that differs where the model is used.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.calibration.maps import FITS, TINY, Method, Parameters, logits, sigmoid
from cxr.stats.intervals import number_patients
from cxr.stats.metrics import Vector, check_scores

FOLDS = 5
MIN_PATIENTS = 10  # of each class: about two in each fold

_Split = tuple[Vector, Vector]  # positions of the images to fit on, and of those to check on


class Calibration(Strict):
    """A monotone map of scores to probabilities.

    Temperature and Platt scaling are sigmoid(logit(score) / temperature + intercept); isotonic
    regression is linear between the points (x, y).

    Attributes:
        method: The kind of map; "none" changes nothing.
        reason: Why this kind was chosen, for people.
        images: How many validation images it was fitted on.
        patients: How many patients they show.
        temperature: Divisor of the logits, for temperature and Platt scaling.
        intercept: Added to the divided logits, for Platt scaling.
        x: Scores, rising, for isotonic regression.
        y: The probabilities of these scores.
        log_loss: Cross-validated log loss (natural logarithm) by candidate; empty if none was
            fitted.
    """

    method: Method = "none"
    reason: str
    images: int
    patients: int
    temperature: float = Field(1.0, gt=0)
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    log_loss: dict[str, float] = Field({})

    def apply(self, scores: Vector) -> Vector:
        """Return the calibrated scores, float64 (n,) from 0 to 1, in the order of the scores.

        Except by "none" and isotonic regression, scores are clipped to 1e-7..1 - 1e-7 first.

        Args:
            scores: 0 to 1, (n,).

        Raises:
            DataError: A score is not a number from 0 to 1.
        """
        scores = np.asarray(scores, np.float64)
        inside = (scores >= 0) & (scores <= 1)  # False for NaN, too
        if not inside.all():
            raise DataError(
                f"expected scores within 0..1 (n = {len(scores)}), found others: not calibrated"
            )
        if self.method == "none":
            return scores.copy()
        if self.method == "isotonic":
            return np.asarray(np.interp(scores, self.x, self.y))
        return sigmoid(logits(scores) / self.temperature + self.intercept)


def identity_calibration(patients: Sequence[str] | Vector) -> Calibration:
    """Return the map that changes nothing, for runs with calibration switched off.

    Args:
        patients: The patient of each validation image, text (n,).
    """
    return Calibration(
        reason="Switched off.",
        images=len(patients),
        patients=len(np.unique(number_patients(patients))),
    )


def fit_calibration(
    labels: Vector,
    scores: Vector,
    patients: Sequence[str] | Vector,
    seed: int = 0,
) -> Calibration:
    """Return the simplest map whose log loss is within one standard error of the smallest.

    The candidates are, simplest first: none, temperature scaling, Platt scaling and isotonic
    regression (see `maps`). Their log losses are cross-validated over 5 folds of whole
    patients. The standard error is that of the fold-wise differences to the best candidate: the
    one-standard-error rule of Breiman et al. (1984).

    Args:
        labels: 0 or 1, (n,).
        scores: 0 to 1, (n,).
        patients: The patient of each image, text (n,); an image with "" is a patient of its own.
        seed: Seed of the folds.

    Returns:
        The map fitted on all images. It is "none", with the reason, where there are too few
        patients, or where the scores are constant or separate the classes perfectly (no map then
        has the smallest loss).

    Raises:
        DataError: The lengths differ, a label is neither 0 nor 1, or a score is not within 0 to 1.
    """
    labels, scores = check_scores(labels, scores)
    patient_numbers = number_patients(patients)
    if len(patient_numbers) != len(labels):
        raise DataError(
            f"expected one patient per image, found {len(patient_numbers)} of {len(labels)}"
        )
    patient_count = len(np.unique(patient_numbers))
    problem = _find_problem(labels, scores, patient_numbers)
    splits: list[_Split] = []
    if not problem:
        splits = _split_folds(labels, patient_numbers, seed)
        if len(splits) < FOLDS:
            problem = (
                f"the {patient_count} patients do not make {FOLDS} folds with both classes in "
                "what is left"
            )
    if problem:
        return Calibration(
            reason=f"Not calibrated: {problem}.",
            images=len(labels),
            patients=patient_count,
        )
    losses = {method: _fold_losses(method, labels, scores, splits) for method in FITS}
    method = _simplest(losses)
    mean_losses: dict[str, float] = {name: float(loss.mean()) for name, loss in losses.items()}
    reason = (
        f"{method}: log loss {mean_losses[method]:.4f} cross-validated over {FOLDS} folds of "
        f"patients, {mean_losses['none']:.4f} uncalibrated; the simplest within one standard "
        f"error of the best ({min(mean_losses.values()):.4f})."
    )
    parameters = FITS[method](labels, scores)
    return Calibration(
        reason=reason,
        images=len(labels),
        patients=patient_count,
        log_loss=mean_losses,
        **parameters,
    )


def _find_problem(
    labels: Vector,
    scores: Vector,
    patient_numbers: Vector,
) -> str:
    """Return why no map can be fitted, or an empty text."""
    positives = len(np.unique(patient_numbers[labels == 1]))
    negatives = len(np.unique(patient_numbers[labels == 0]))
    if min(positives, negatives) < MIN_PATIENTS:
        return (
            f"expected {MIN_PATIENTS} positive and {MIN_PATIENTS} negative patients, "
            f"found {positives} and {negatives}"
        )
    if np.ptp(logits(scores)) == 0:
        return f"all {len(scores)} scores are the same"
    if scores[labels == 1].min() > scores[labels == 0].max():
        return f"the scores of {len(scores)} images separate the classes perfectly"
    return ""


def _split_folds(
    labels: Vector,
    patient_numbers: Vector,
    seed: int,
) -> list[_Split]:
    """Return up to 5 folds of whole patients that have images to check on and both classes to fit.

    Whole patients: images of one patient in both parts would make the losses too small.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(
        FOLDS,
        shuffle=True,
        random_state=seed,
    )
    splits = []
    for fit_on, check_on in folds.split(labels, labels, patient_numbers):
        if len(check_on) and len(np.unique(labels[fit_on])) == 2:
            splits.append((fit_on, check_on))
    return splits


def _fold_losses(
    method: Method,
    labels: Vector,
    scores: Vector,
    splits: list[_Split],
) -> Vector:
    """Return the log loss on each fold, float64 (folds,), of the map fitted on the other folds."""
    from sklearn.metrics import log_loss

    losses = []
    for fit_on, check_on in splits:
        parameters = FITS[method](labels[fit_on], scores[fit_on])
        calibrated = _from_parameters(parameters).apply(scores[check_on])
        # One wrong answer of exactly 0 or 1 would make the loss infinite.
        calibrated = np.clip(calibrated, TINY, 1 - TINY)
        losses.append(log_loss(labels[check_on], calibrated, labels=[0, 1]))
    return np.array(losses)


def _from_parameters(parameters: Parameters) -> Calibration:
    """Return a map for cross-validation, which needs no reason."""
    return Calibration(
        reason="",
        images=0,
        patients=0,
        **parameters,
    )


def _simplest(losses: dict[Method, Vector]) -> Method:
    """Return the simplest method whose loss is within one standard error of the smallest.

    Args:
        losses: Loss on each fold, float64 (folds,), by method.
    """
    smallest = min(losses.values(), key=lambda loss: float(loss.mean()))
    for method in FITS:
        excess = losses[method] - smallest
        standard_error = excess.std(ddof=1) / np.sqrt(len(excess))
        if excess.mean() <= standard_error:
            return method
    raise AssertionError("the best method is within any standard error of itself")
