"""Scores made into probabilities by a map fitted on validation images, and how far scores are from being such.

Left out: calibration per subgroup, and any shift of prevalence between validation and where the model is used.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.intervals import check_scores, number_patients
from cxr.stats.metrics import Vector

Method = Literal["none", "temperature", "platt", "isotonic"]
SIMPLEST_FIRST: tuple[Method, ...] = ("none", "temperature", "platt", "isotonic")
FOLDS = 5
MIN_PATIENTS = 10  # of each class: two or so in each fold
TINY = 1e-7
MAX_TEMPERATURE = 100.0


class Calibration(Strict):
    """A monotone map of scores, its reason, and each candidate's cross-validated log loss (natural logarithm).

    Temperature and Platt: sigmoid(logit(score) / temperature + intercept). Isotonic: straight lines between (x, y).
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
        """Return the calibrated scores, float64 (n,) 0..1, never in another order; NumPy alone.

        Scores are clipped to 1e-7..1 - 1e-7 first, but not by 'none'. Raises DataError for one that is no number or
        outside 0..1.
        """
        scores = np.asarray(scores, np.float64)
        if not ((scores >= 0) & (scores <= 1)).all():
            raise DataError(
                f"expected scores within 0..1 (n = {len(scores)}), found others: not calibrated"
            )
        if self.method == "none":
            return scores.copy()
        if self.method == "isotonic":
            return np.asarray(np.interp(scores, self.x, self.y))
        return _sigmoid(logits(scores) / self.temperature + self.intercept)


def logits(scores: Vector) -> Vector:
    """Return log(score / (1 - score)), float64, of the scores clipped to 1e-7..1 - 1e-7: within -16.2..16.2."""
    clipped = np.clip(np.asarray(scores, np.float64), TINY, 1 - TINY)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(z: Vector) -> Vector:
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -700, 700))))  # exp(709) is the largest there is


def fit_calibration(
    labels: Vector, scores: Vector, patients: Sequence[str] | Vector, seed: int = 0
) -> Calibration:
    """Return the map fitted on validation images: the simplest whose log loss is within one standard error of the best.

    `labels` (n,) 0 or 1, `scores` (n,) 0..1, `patients` (n,) text ("" is a patient of its own). Candidates, simplest
    first: none; temperature (Guo et al. 2017); Platt (1999), which also has an intercept, since class weights in
    training shift every score and a temperature cannot take that back; isotonic (Zadrozny & Elkan 2002), which makes
    ties. Losses are of 5 folds of whole patients, the standard error that of the fold-wise difference to the best
    (the one-standard-error rule of Breiman et al. 1984). Too few patients, constant or perfectly separated scores get
    'none' (the last have no smallest loss). Raises DataError for scores that are no numbers or outside 0..1.
    """
    labels, scores = check_scores(labels, scores)
    of = number_patients(patients)
    if len(of) != len(labels):
        raise DataError(f"expected one patient per image, found {len(of)} of {len(labels)}")
    count, problem = len(np.unique(of)), _problem(labels, scores, of)
    splits = [] if problem else _folds(labels, of, seed)
    if len(splits) < FOLDS:
        why = (
            problem
            or f"the {count} patients do not make {FOLDS} folds with both classes in what is left"
        )
        return Calibration(reason=f"Not calibrated: {why}.", images=len(labels), patients=count)
    losses = {name: _losses(_FITS[name], labels, scores, splits) for name in SIMPLEST_FIRST}
    chosen = _simplest(losses)
    means = {name: float(each.mean()) for name, each in losses.items()}
    reason = (
        f"{chosen}: log loss {means[chosen]:.4f} cross-validated over {FOLDS} folds of patients, {means['none']:.4f} "
        f"uncalibrated; the simplest within one standard error of the best ({min(means.values()):.4f})."
    )
    return Calibration(
        reason=reason,
        images=len(labels),
        patients=count,
        log_loss=means,
        **_FITS[chosen](labels, scores),
    )


def _problem(labels: Vector, scores: Vector, of: Vector) -> str:
    """Return why no map can be fitted, or an empty text."""
    ill, healthy = (len(np.unique(of[labels == label])) for label in (1, 0))
    if min(ill, healthy) < MIN_PATIENTS:
        return f"expected {MIN_PATIENTS} ill and {MIN_PATIENTS} healthy patients, found {ill} and {healthy}"
    if np.ptp(logits(scores)) == 0:
        return f"all {len(scores)} scores are the same"
    if scores[labels == 1].min() > scores[labels == 0].max():
        return f"the scores of {len(scores)} images separate the classes perfectly"
    return ""


def _folds(labels: Vector, of: Vector, seed: int) -> list[tuple[Vector, Vector]]:
    """Return the (fit, check) positions of up to 5 folds of whole patients, those with something to fit and to check."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels, of)
    return [(rest, part) for rest, part in folds if len(part) and len(np.unique(labels[rest])) == 2]


_Fit = Callable[[Vector, Vector], dict[str, object]]


def _losses(
    fitted: _Fit, labels: Vector, scores: Vector, splits: list[tuple[Vector, Vector]]
) -> Vector:
    """Return the log loss of each fold, float64 (folds,), by the map that the other folds give."""
    from sklearn.metrics import log_loss

    found = []
    for rest, part in splits:
        made = Calibration.model_validate(
            {"reason": "", "images": 0, "patients": 0, **fitted(labels[rest], scores[rest])}
        )
        calibrated = np.clip(made.apply(scores[part]), TINY, 1 - TINY)
        found.append(log_loss(labels[part], calibrated, labels=[0, 1]))
    return np.array(found)


def _simplest(losses: dict[Method, Vector]) -> Method:
    best = min(losses.values(), key=lambda each: float(each.mean()))
    for name in SIMPLEST_FIRST:
        more = losses[name] - best
        if more.mean() <= more.std(ddof=1) / np.sqrt(len(more)):
            return name
    raise AssertionError("the best is within any standard error of itself")


def _fit_none(_labels: Vector, _scores: Vector) -> dict[str, object]:
    return {"method": "none"}


def _fit_temperature(labels: Vector, scores: Vector) -> dict[str, object]:
    from scipy.optimize import minimize_scalar

    z = logits(scores)
    ends = (-np.log(MAX_TEMPERATURE), np.log(MAX_TEMPERATURE))
    found = minimize_scalar(
        lambda t: _loss(z * np.exp(-t), labels),
        bounds=ends,
        method="bounded",
        options={"xatol": 1e-8},
    )
    return {"method": "temperature", "temperature": float(np.exp(found.x))}


def _fit_platt(labels: Vector, scores: Vector) -> dict[str, object]:
    """Fit slope and intercept to Platt's targets: a little inside 0 and 1, so that there always is a smallest loss."""
    from scipy.optimize import minimize

    z, ill = logits(scores), int(labels.sum())
    targets = np.where(labels == 1, (ill + 1) / (ill + 2), 1 / (len(labels) - ill + 2))

    def loss(at: Vector) -> tuple[float, Vector]:
        line = at[0] * z + at[1]
        more = _sigmoid(line) - targets
        return _loss(line, targets), np.array([(more * z).mean(), more.mean()])

    # A slope below 0 would turn the order of the scores around.
    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        tol=1e-12,
        bounds=[(1 / MAX_TEMPERATURE, MAX_TEMPERATURE), (None, None)],
    )
    return {"method": "platt", "temperature": float(1 / found.x[0]), "intercept": float(found.x[1])}


def _loss(z: Vector, targets: Vector) -> float:
    return float((np.logaddexp(0, z) - targets * z).mean())


def _fit_isotonic(labels: Vector, scores: Vector) -> dict[str, object]:
    from sklearn.isotonic import IsotonicRegression

    edge = 1 / (
        len(labels) + 2
    )  # n images cannot tell 0 from 1 / (n + 2): Laplace's rule of succession
    found = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(scores, labels)
    return {
        "method": "isotonic",
        "x": tuple(found.X_thresholds_.tolist()),
        "y": tuple(found.y_thresholds_.tolist()),
    }


_FITS: dict[Method, _Fit] = {
    "none": _fit_none,
    "temperature": _fit_temperature,
    "platt": _fit_platt,
    "isotonic": _fit_isotonic,
}


def identity_calibration(patients: Sequence[str] | Vector) -> Calibration:
    """Return the map that changes nothing, for where calibration is switched off."""
    return Calibration(
        reason="Switched off.",
        images=len(patients),
        patients=len(np.unique(number_patients(patients))),
    )
