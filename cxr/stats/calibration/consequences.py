"""What a threshold means among 1,000 films: how many are found, missed and called in error.

Sensitivity and specificity are taken to be those of the test images wherever the films are from: that
holds as long as the films within a class are alike. Only how common the class is may differ.
"""

from collections.abc import Sequence

import numpy as np

from cxr.core.settings import Strict
from cxr.stats.intervals import Interval, bootstrap_intervals
from cxr.stats.metrics import Vector, compute_metrics

FILMS = 1000


class Count(Strict):
    """An expected number of films of 1,000, with its 95 % interval; None where not estimable."""

    value: float
    low: float | None
    high: float | None

    def words(self) -> str:
        """Return it for a table, small numbers with a decimal.

        >>> Count(value=47.51, low=None, high=None).words()
        '48'
        """
        return _films(self.value)

    def interval_words(self) -> str:
        """Return its interval for a table; empty where there is none.

        >>> Count(value=4.2, low=1.04, high=12.3).interval_words()
        '1.0 to 12'
        """
        if self.low is None or self.high is None:
            return ""
        return f"{_films(self.low)} to {_films(self.high)}"


class Consequences(Strict):
    """What becomes of 1,000 films at one prevalence.

    Attributes:
        found: Positive films that are called positive.
        missed: Positive films that are called negative.
        false_alarms: Negative films that are called positive.
        ppv: The share of positive films among those called positive; None where none is called.
    """

    found: Count
    missed: Count
    false_alarms: Count
    ppv: float | None


class Policy(Strict):
    """One way of calling films positive, with its metrics on the test images.

    Attributes:
        name: For people.
        threshold: The lowest score that counts as positive; None for the policies without a model.
        sensitivity: Of the test images.
        specificity: Of the test images.
        sensitivity_interval: Its 95 % interval; None where not estimable, or certain.
        specificity_interval: The same of the specificity.
    """

    name: str
    threshold: float | None
    sensitivity: float
    specificity: float
    sensitivity_interval: Interval | None = None
    specificity_interval: Interval | None = None

    def per_thousand(self, prevalence: float) -> Consequences:
        """Return what becomes of 1,000 films.

        Args:
            prevalence: Above 0 and below 1.
        """
        positives = FILMS * prevalence
        negatives = FILMS - positives
        found = _count(positives, self.sensitivity, self.sensitivity_interval)
        false_alarms = _complement(
            negatives,
            _count(negatives, self.specificity, self.specificity_interval),
        )
        called = found.value + false_alarms.value
        return Consequences(
            found=found,
            missed=_complement(positives, found),
            false_alarms=false_alarms,
            ppv=found.value / called if called else None,
        )


EVERY_FILM = Policy(
    name="every film called positive",
    threshold=None,
    sensitivity=1.0,
    specificity=0.0,
)
NO_FILM = Policy(
    name="no film called positive",
    threshold=None,
    sensitivity=0.0,
    specificity=1.0,
)


def measure_policy(
    name: str,
    labels: Vector,
    scores: Vector,
    patients: Sequence[str] | Vector,
    threshold: float,
) -> Policy:
    """Return what calling films positive from a threshold on does on the test images.

    Args:
        name: For people.
        labels: 0 or 1, (n,), both among them.
        scores: 0 to 1, (n,).
        patients: The patient of each image, text (n,); an image with "" is a patient of its own.
        threshold: The lowest score that counts as positive.

    Raises:
        DataError: A class is missing, or a score is not a number.
    """
    metrics = compute_metrics(np.asarray(labels), np.asarray(scores), threshold)
    intervals = bootstrap_intervals(labels, scores, patients, threshold)
    return Policy(
        name=name,
        threshold=threshold,
        sensitivity=float(metrics["sensitivity"] or 0.0),
        specificity=float(metrics["specificity"] or 0.0),
        sensitivity_interval=intervals["sensitivity"],
        specificity_interval=intervals["specificity"],
    )


def _films(count: float) -> str:
    """Return a number of films, with a decimal where it is below ten."""
    return f"{count:.1f}" if count < 9.95 else f"{count:.0f}"


def _count(films: float, share: float, interval: Interval | None) -> Count:
    """Return a share of films as a number of films."""
    return Count(
        value=films * share,
        low=films * interval.low if interval else None,
        high=films * interval.high if interval else None,
    )


def _complement(films: float, count: Count) -> Count:
    """Return how many of these films are not counted."""
    return Count(
        value=films - count.value,
        low=None if count.high is None else films - count.high,
        high=None if count.low is None else films - count.low,
    )
