"""All that is said of a model at a site, computed from the scores of the sample alone."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.models import stress
from cxr.serving.sites import prior
from cxr.serving.sites.promise import promise_threshold
from cxr.serving.sites.records import (
    STATUS,
    Measurement,
    OperatingFigures,
    Point,
    Verdict,
    localise,
)
from cxr.stats import intervals, metrics, subgroups
from cxr.stats.calibration import Calibration, fit_calibration, reliability
from cxr.stats.calibration.line import fit_line
from cxr.stats.calibration.maps import FITS
from cxr.stats.calibration.prevalence import adjust, logit_shift
from cxr.stats.comparison import delong
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Vector

POINTS = (0.05, 0.25, 0.5, 0.75, 0.95)  # scores at which the calibration's uncertainty is shown
DRAWS = 200  # of its bootstrap, in each of which the map is fitted
_MOST_TIMES = 50  # the sample; what more than that could tell is called out of reach


class Model(NamedTuple):
    """What a model's card says of its scores.

    Attributes:
        calibration: Its map from raw scores to probabilities.
        threshold: The lowest calibrated score that counts as positive.
        prevalence: Of the validation images that the calibration was fitted on.
    """

    calibration: Calibration
    threshold: float
    prevalence: float


def measure(
    scores: pd.DataFrame,
    worlds: pd.DataFrame,
    reference: pd.DataFrame | None,
    model: Model,
    promised: float,
    wanted: float | None = None,
) -> Measurement:
    """Measure a model at a site.

    Args:
        scores: The rows of scores_site.csv.
        worlds: The rows of scores_site_worlds.csv.
        reference: label, score and patient of the model's validation images; None where the model
            brings none.
        model: What its card says.
        promised: The sensitivity to promise.
        wanted: How common pneumonia is at the site; None where nobody said.

    Raises:
        DataError: A class is missing, or a score is no number.
    """
    labels = scores["label"].to_numpy()
    shipped = scores["score"].to_numpy(np.float64)
    patients = scores["patient_id"].to_numpy()
    figures = operating_figures(labels, shipped, patients, model.threshold)
    verdict, words = judge_sensitivity(figures, promised)
    mix_shift = logit_shift(model.prevalence, float(labels.mean()))
    mixed = adjust(shipped, mix_shift)
    raw = adjust(scores["raw_score"].to_numpy(np.float64), mix_shift)
    calibration = fit_calibration(labels, mixed, patients)
    offer = prior.offer(scores, reference, model.prevalence, wanted, calibration)
    local = localise(shipped, calibration, mix_shift, offer.shift)
    promise = promise_threshold(labels, local, patients, promised)
    threshold = promise.threshold
    if threshold is None:
        own = np.array([model.threshold])
        threshold = float(localise(own, calibration, mix_shift, offer.shift)[0])
    is_out = np.zeros(len(scores), bool)
    if STATUS in scores:
        is_out = (scores[STATUS] == "abstained").to_numpy()
    return Measurement(
        shipped=figures,
        verdict=verdict,
        verdict_words=words,
        mix_shift=mix_shift,
        calibration_quality=reliability.measure_quality(labels, raw, mixed),
        line=fit_line(labels, mixed, patients),
        brier=intervals.mean_interval((mixed - labels) ** 2, patients),
        subgroups=subgroups.measure_subgroups(scores, model.threshold),
        subgroup_tests=subgroups.compare_subgroups(scores, model.threshold),
        robustness=stress.measure_robustness(worlds, model.calibration, model.threshold),
        calibration=calibration,
        calibration_points=_calibration_points(scores, calibration, mix_shift),
        prevalence=offer,
        promise=promise,
        local=operating_figures(labels, local, patients, threshold),
        local_quality=reliability.measure_quality(labels, mixed, calibration.apply(mixed)),
        abstained=int(is_out.sum()) if STATUS in scores else None,
        answered=_answered_figures(labels, local, patients, threshold, is_out),
    )


def _answered_figures(
    labels: Vector,
    scores: Vector,
    patients: Vector,
    threshold: float,
    is_out: Vector,
) -> OperatingFigures | None:
    """Return the figures of the images that are in scope; None where all are, or a class is not."""
    if not is_out.any() or len(np.unique(labels[~is_out])) < 2:
        return None
    return operating_figures(labels[~is_out], scores[~is_out], patients[~is_out], threshold)


def operating_figures(
    labels: Vector,
    scores: Vector,
    patients: Vector,
    threshold: float,
    draws: int = 2000,
) -> OperatingFigures:
    """Return the metrics of a threshold, with intervals that hold for a hundred images, too.

    All are Wilson's by patient: the AUROC with the variance of Obuchowski (1997), the average
    precision with that of the bootstrap, whose own interval is too narrow near 1.

    Args:
        labels: 0 or 1, (n,), with both classes.
        scores: 0 to 1, (n,).
        patients: The patient of each image, text (n,).
        threshold: The lowest score that counts as positive.
        draws: Of the bootstrap.
    """
    positive = labels == 1
    called = scores >= threshold
    right = (called == positive).astype(np.float64)
    members = {
        "accuracy": np.ones(len(labels), bool),
        "sensitivity": positive,
        "specificity": ~positive,
        "precision": called,
        "npv": ~called,
    }
    bounds: dict[str, Interval | None] = {
        name: intervals.mean_interval(right[mask], patients[mask]) for name, mask in members.items()
    }
    bounds["auroc"] = _auroc_interval(labels, scores, patients)
    figures = metrics.compute_metrics(labels, scores, threshold)
    drawn = intervals.bootstrap_intervals(labels, scores, patients, threshold, draws)["auprc"]
    # Without an interval the average precision is the same in every draw.
    error = (drawn.high - drawn.low) / (2 * 1.96) if drawn else 0.0
    bounds["auprc"] = intervals.wilson_by_patient(
        float(figures["auprc"] or 0.0),
        error**2,
        int(positive.sum()),
        len(np.unique(intervals.number_patients(patients[positive]))),
    )
    return OperatingFigures(threshold=threshold, figures=figures, intervals=bounds)


def _auroc_interval(
    labels: Vector,
    scores: Vector,
    patients: Vector,
) -> Interval | None:
    """Return the interval of an AUROC; its patients are those of the class that has fewer."""
    numbers = intervals.number_patients(patients)
    fewest = min(len(np.unique(numbers[labels == label])) for label in (0, 1))
    if fewest < 2:
        return None
    # Against scores that are all the same, the difference varies as the AUROC itself does.
    compared = delong(labels, scores, np.full(len(scores), 0.5), patients)
    variance = compared.standard_error**2
    return intervals.wilson_by_patient(compared.auroc_a, variance, len(labels), fewest)


def judge_sensitivity(found: OperatingFigures, promised: float) -> tuple[Verdict, str]:
    """Return whether a threshold holds its promise at the site, and that in a sentence.

    It does where the whole interval of the sensitivity is at least the promise, and does not where
    the whole interval is below it.

    Args:
        found: The figures of the threshold.
        promised: The sensitivity that it promises.
    """
    value = float(found.figures["sensitivity"] or 0.0)
    interval = found.intervals["sensitivity"]
    if interval is None:
        return "not known", "the sensitivity is not estimable from one patient with PNEUMONIA"
    measured = (
        f"sensitivity {value:.3f} ({interval.low:.3f} to {interval.high:.3f}) at the model's "
        f"threshold {found.threshold:.6f}"
    )
    if interval.low >= promised:
        return "held", f"the promised sensitivity of {promised:g} is held: {measured}"
    if interval.high < promised:
        return "not held", f"the promised sensitivity of {promised:g} is not held: {measured}"
    return (
        "not known",
        f"whether the promised sensitivity of {promised:g} is held cannot be said: {measured}; "
        f"{_describe_need(value, interval, promised, int(found.figures['n'] or 0))}",
    )


def _describe_need(
    value: float,
    interval: Interval,
    promised: float,
    images: int,
) -> str:
    """Return how many more labelled images would tell, if the sensitivity stays as measured."""
    patients = interval.patients or interval.images
    # The variance that stands behind the interval: Wilson's half width, solved for it, is enough
    # for a forecast.
    variance = ((interval.high - interval.low) / (2 * 1.96)) ** 2
    for times in np.geomspace(1.1, _MOST_TIMES, 100):
        larger = intervals.wilson_by_patient(
            value,
            variance / times,
            int(interval.images * times),
            int(patients * times),
        )
        if larger and (larger.low >= promised or larger.high < promised):
            more = int(np.ceil(images * (times - 1)))
            return f"about {more} more labelled images would tell, if it stays as it is"
    return "it is too near to the promise for any reasonable number of images to tell"


def _calibration_points(
    scores: pd.DataFrame,
    calibration: Calibration,
    mix_shift: float,
) -> tuple[Point, ...]:
    """Return how sure the map is at POINTS, by a bootstrap of whole patients in which it is refitted."""
    if calibration.method == "none":
        return ()
    labels = scores["label"].to_numpy()
    mixed = adjust(scores["score"].to_numpy(np.float64), mix_shift)
    places = np.array(POINTS)
    numbers = intervals.number_patients(scores["patient_id"].to_numpy())
    members = [np.flatnonzero(numbers == number) for number in range(int(numbers.max()) + 1)]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        chosen = rng.integers(0, len(members), len(members))
        rows = np.concatenate([members[number] for number in chosen])
        if len(np.unique(labels[rows])) == 2:
            parameters = FITS[calibration.method](labels[rows], mixed[rows])
            fitted = Calibration(reason="", images=len(rows), patients=len(chosen), **parameters)
            drawn.append(localise(places, fitted, mix_shift, 0.0))
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    values = localise(places, calibration, mix_shift, 0.0)
    return tuple(
        Point(score=score, calibrated=float(value), low=float(lower), high=float(upper))
        for score, value, lower, upper in zip(POINTS, values, low, high, strict=True)
    )
