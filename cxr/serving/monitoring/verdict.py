"""The verdict on a stream: has anything drifted, and what do its scores let expect?"""

import math
from collections.abc import Iterator
from datetime import date

import numpy as np
from pydantic import Field

from cxr.core.settings import Strict
from cxr.serving.monitoring.records import Batch, Group, Reference
from cxr.serving.monitoring.store import count_rejected_films, iterate_groups
from cxr.stats.drift.binning import Bins
from cxr.stats.drift.evidence import Evidence, collect_evidence
from cxr.stats.drift.excess import LIMIT, collect_excess
from cxr.stats.drift.expected import Called, Estimate, expect_performance
from cxr.stats.metrics import Vector

FALSE_ALARMS = 0.01  # the largest chance that a stream without drift ever raises an alarm
MIX_ALARMS = 0.05  # the same for the class mix, by which estimates without labels are refused
MOST_POINTS = 10_000  # after which evidence is computed; with more batches, after each day
FEWEST_IMAGES = 100  # with a prediction, for an estimate of performance
REJECTED = "rejected films"
ALL_DEVICES = ""


class Alarm(Strict):
    """One measurement that has drifted.

    Attributes:
        measurement: Its name, or REJECTED.
        device: The device whose images have drifted; empty for all images together.
        raised: The day on which the evidence first sufficed.
        since: The day from which on the evidence was collected.
        images: How many images had been counted by then.
        log10_e: The logarithm to base 10 of the largest e-value, weighted.
    """

    measurement: str
    device: str
    raised: date
    since: date
    images: int
    log10_e: float

    def sentence(self) -> str:
        """Return what has drifted and since when."""
        of_device = f" of {self.device}" if self.device else ""
        what = describe_measurement(self.measurement)
        return f"{what}{of_device}, raised {self.raised}, by the images since {self.since}"


class Expected(Strict):
    """The performance that scores let expect, or why nobody can know.

    Attributes:
        images: How many images the estimates are of.
        estimates: By metric; empty where nobody can know.
        reason: Why there are none; empty if there are.
    """

    images: int
    estimates: dict[str, Estimate] = Field({})
    reason: str = ""


class Verdict(Strict):
    """What was found of a stream.

    Attributes:
        alarms: What has drifted, the strongest evidence first.
        evidence: The weighted log10 e-value, less its limit, by measurement and day of all devices
            together: an alarm is above 0.
        of_devices: The same of each measurement of one device that raised an alarm, by its name
            and that of the device.
        expected: The performance without labels.
    """

    alarms: tuple[Alarm, ...]
    evidence: dict[str, dict[date, float]]
    of_devices: dict[str, dict[date, float]]
    expected: Expected


def describe_measurement(name: str) -> str:
    """Return what a measurement is called for people.

    >>> [describe_measurement(name) for name in ("c3", "score", "darkness")]
    ['feature component 3', 'score', 'darkness']
    """
    if name.startswith("c") and name[1:].isdigit():
        return f"feature component {name[1:]}"
    return name.replace("_", " ")


def judge(reference: Reference, batches: list[Batch]) -> Verdict:
    """Return the verdict on the batches of a stream.

    Each test gets a share of FALSE_ALARMS: half goes to the tests of all images together, 1/2, 1/6,
    1/12, ... of the rest to the devices in the order in which they appear; each half in equal parts
    to the measurements.

    Args:
        reference: Of the stream.
        batches: In any order.
    """
    pairs = list(iterate_groups(batches))
    tests = len(reference.bins) + 1
    limit = math.log(2 * tests / FALSE_ALARMS)
    alarms = []
    evidence = {}
    of_devices = {}
    for bins in reference.bins:
        found = _test_measurement(pairs, bins)
        if found:
            evidence[bins.name] = found.by_day(limit)
            alarms += found.alarms(bins.name, ALL_DEVICES, limit)
    rejected = _test_rejected(batches)
    if rejected:
        evidence[REJECTED] = rejected.by_day(limit)
        alarms += rejected.alarms(REJECTED, ALL_DEVICES, limit)
    for device, device_limit in _device_limits(pairs, limit):
        own = [pair for pair in pairs if pair[1].device == device]
        for bins in reference.bins:
            found = _test_measurement(own, bins)
            raised = found.alarms(bins.name, device, device_limit) if found else []
            if found and raised:
                alarms += raised
                name = f"{describe_measurement(bins.name)}, {device or 'device not known'}"
                of_devices[name] = found.by_day(device_limit)
    alarms.sort(key=lambda alarm: -alarm.log10_e)
    return Verdict(
        alarms=tuple(alarms),
        evidence=evidence,
        of_devices=of_devices,
        expected=_expect(reference, pairs, bool(alarms)),
    )


class _Found:
    """The evidence of one test, with the day of each point and the images counted until then."""

    def __init__(self, evidence: Evidence, days: list[date], images: Vector):
        self.log_e = evidence.log_e
        self.images = np.cumsum(images)
        self.start = evidence.start
        self.days = days

    def by_day(self, limit: float) -> dict[date, float]:
        """Return the largest log10 e-value of each day, less the limit (a natural logarithm)."""
        largest: dict[date, float] = {}
        for day, log_e in zip(self.days, self.log_e, strict=True):
            above = float(log_e - limit) / math.log(10)
            largest[day] = max(above, largest.get(day, -math.inf))
        return largest

    def alarms(self, measurement: str, device: str, limit: float) -> list[Alarm]:
        """Return the alarm of this test, if its evidence ever reached the limit."""
        above = np.flatnonzero(self.log_e >= limit)
        if not len(above):
            return []
        first = int(above[0])
        alarm = Alarm(
            measurement=measurement,
            device=device,
            raised=self.days[first],
            since=self.days[int(self.start[first])],
            images=int(self.images[first]),
            log10_e=float(self.log_e.max()) / math.log(10),
        )
        return [alarm]


def _test_measurement(
    pairs: list[tuple[Batch, Group]],
    bins: Bins,
    any_mix: bool = True,
) -> _Found | None:
    """Return the evidence that a measurement has drifted; None without images."""
    if not pairs:
        return None
    days = [group.day for _, group in pairs]
    counts = np.array([group.counts[bins.name] for _, group in pairs])
    if len(days) > MOST_POINTS:
        days, counts = _sum_days(days, counts)
    evidence = collect_evidence(
        counts,
        _number_days(days),
        bins,
        any_mix,
    )
    return _Found(evidence, days, counts.sum(axis=1))


def _test_rejected(batches: list[Batch]) -> _Found | None:
    """Return the evidence that more films than LIMIT are rejected; None without images."""
    ordered = sorted(batches, key=lambda batch: (batch.last_day, batch.written))
    rows = []
    days = []
    for batch in ordered:
        rejected = count_rejected_films(batch)
        if batch.images + rejected:
            rows.append((rejected, batch.images + rejected))
            days.append(batch.last_day)
    if not rows:
        return None
    counts = np.array(rows)
    if len(days) > MOST_POINTS:
        days, counts = _sum_days(days, counts)
    evidence = collect_excess(counts[:, 0], counts[:, 1], _number_days(days))
    return _Found(evidence, days, counts[:, 1])


def _sum_days(days: list[date], counts: Vector) -> tuple[list[date], Vector]:
    """Return the days with images and their summed counts: to look less often is no false alarm."""
    numbers = _number_days(days)
    sums = np.zeros((numbers[-1] + 1, counts.shape[1]), np.int64)
    np.add.at(sums, numbers, counts)
    return sorted(set(days)), sums


def _number_days(days: list[date]) -> Vector:
    """Return the number of each day among the days with images, int64 (n,)."""
    return np.unique(np.array(days, "datetime64[D]"), return_inverse=True)[1]


def _device_limits(
    pairs: list[tuple[Batch, Group]],
    limit: float,
) -> Iterator[tuple[str, float]]:
    """Yield each device with the limit of its tests; none where there is one device only."""
    devices = list(dict.fromkeys(group.device for _, group in pairs))
    if len(devices) > 1:
        for number, device in enumerate(devices, 1):
            yield device, limit + math.log(number * (number + 1))


def _expect(
    reference: Reference,
    pairs: list[tuple[Batch, Group]],
    has_alarm: bool,
) -> Expected:
    """Return the performance that the scores let expect, if its assumption passes the tests."""
    positive = sum((group.positive for _, group in pairs), Called())
    negative = sum((group.negative for _, group in pairs), Called())
    images = positive.images + negative.images
    reason = ""
    if reference.miscalibrated:
        reason = f"the scores may not be taken for probabilities: {reference.miscalibrated}"
    elif has_alarm:
        reason = "the images at work have drifted, so that scores need not be probabilities there"
    elif images < FEWEST_IMAGES:
        reason = f"expected at least {FEWEST_IMAGES} images with a prediction, found {images}"
    elif _has_other_mix(reference, pairs):
        reason = (
            "the classes are mixed otherwise than in validation, so that scores are no "
            "probabilities; if nothing else differs, sensitivity and specificity are those of the "
            "card, and precision is not"
        )
    if reason:
        return Expected(images=images, reason=reason)
    return Expected(images=images, estimates=expect_performance(positive, negative))


def _has_other_mix(reference: Reference, pairs: list[tuple[Batch, Group]]) -> bool:
    """Return whether the scores speak against the class mix of validation."""
    for bins in reference.bins:
        if bins.name == "score":
            found = _test_measurement(pairs, bins, any_mix=False)
            return found is not None and float(found.log_e.max()) >= -math.log(MIX_ALARMS)
    return True  # without scores of validation nothing is known of the mix


def promise_sentence() -> str:
    """Return what the tests promise."""
    return (
        f"Where nothing drifts, an alarm is ever raised with a chance of at most "
        f"{100 * FALSE_ALARMS:g} %, however often and however long is looked; a class mix that "
        f"changes is no drift. More than {100 * LIMIT:g} % rejected films are one."
    )
