"""Read a monitoring store: what each stream of predictions looks like, and whether it has drifted."""

import hashlib
from datetime import UTC, date, datetime, timedelta

from pydantic import AwareDatetime, Field

from cxr.core.formatting import format_count
from cxr.core.records import Record
from cxr.core.settings import Strict
from cxr.serving.monitoring.records import Batch, Reference
from cxr.serving.monitoring.store import iterate_groups, read_store
from cxr.serving.monitoring.verdict import FALSE_ALARMS, Verdict, describe_measurement, judge

AT_WORK_DAYS = 7  # a stream without images for longer than this, where others have some, has ended
MOST_NAMED = 3  # measurements in one sentence
_CLOCK_SLACK = timedelta(hours=1)  # clocks of two machines may differ by this


class Day(Strict):
    """What one day of a stream adds up to.

    Attributes:
        images: How many images were scored.
        abstained: How many of them were given no class.
        positive: How many were called positive.
        rejected: How many files were not scored.
        score: The mean score of the images with a class; None where there is none.
        counts: The images in each bin, by measurement.
    """

    images: int = 0
    abstained: int = 0
    positive: int = 0
    rejected: int = 0
    score: float | None = None
    counts: dict[str, tuple[int, ...]] = Field({})


class StreamReport(Strict):
    """One model at work, with one threshold, site and reference.

    Attributes:
        name: The stream's folder.
        reference: What its images are compared with.
        at_work: Whether it still predicts; an alarm of one that has ended is no alarm of the store.
        batches: How many predictions it has.
        devices: How many images each device has.
        days: What each day adds up to, in order.
        verdict: What was found.
        notes: What else has to be known, a sentence each.
    """

    name: str
    reference: Reference
    at_work: bool
    batches: int
    devices: dict[str, int]
    days: dict[date, Day]
    verdict: Verdict
    notes: tuple[str, ...]

    @property
    def alarm(self) -> bool:
        """Whether something has drifted."""
        return bool(self.verdict.alarms)

    @property
    def images(self) -> int:
        """How many images were scored."""
        return sum(day.images for day in self.days.values())

    @property
    def abstained(self) -> int:
        """How many images were given no class."""
        return sum(day.abstained for day in self.days.values())

    @property
    def rejected(self) -> int:
        """How many files were not scored."""
        return sum(day.rejected for day in self.days.values())

    def sentence(self) -> str:
        """Return the verdict in one sentence."""
        model = self.reference.describe()
        images = f"{format_count(self.images, 'images')} in {format_count(len(self.days), 'days')}"
        if self.alarm:
            alarms = self.verdict.alarms
            since = min(alarm.since for alarm in alarms)
            names = dict.fromkeys(describe_measurement(alarm.measurement) for alarm in alarms)
            named = ", ".join(list(names)[:MOST_NAMED])
            more = len(names) - MOST_NAMED
            others = f" and {more} more" if more > 0 else ""
            return (
                f"DRIFT since {since} in {named}{others}: the images of {model} are no longer like "
                f"those of validation, and the figures of the card do not apply ({images})"
            )
        if not self.reference.bins:
            return (
                f"{model}: {images}; whether they drift nobody can know: {self.reference.untested}"
            )
        return (
            f"{model}: no drift found in {images} (chance of a false alarm at most "
            f"{100 * FALSE_ALARMS:g} %, however long it is watched)"
        )


class MonitorReport(Record):
    """What a monitoring store says.

    Attributes:
        place: The store.
        made: When it was read.
        streams: Those at work first, then by their last day, the newest first.
        unreadable: Which files were not counted, and why.
    """

    place: str
    made: AwareDatetime
    streams: tuple[StreamReport, ...]
    unreadable: tuple[str, ...]

    @property
    def alarm(self) -> bool:
        """Whether any stream at work has drifted."""
        return any(stream.alarm for stream in self.streams if stream.at_work)

    @property
    def alarm_id(self) -> str:
        """A digest that stays the same for the same alarm, so that it can be acted on once.

        Empty where there is none. Another stream or another day of its first alarm is another.
        """
        first = []
        for stream in self.streams:
            if stream.at_work and stream.alarm:
                raised = min(alarm.raised for alarm in stream.verdict.alarms)
                first.append(f"{stream.name} {raised}")
        if not first:
            return ""
        return hashlib.sha256("\n".join(sorted(first)).encode()).hexdigest()[:16]

    def sentence(self) -> str:
        """Return the verdict on the store in one sentence."""
        at_work = [stream for stream in self.streams if stream.at_work]
        sentences = [stream.sentence() for stream in at_work if stream.alarm]
        if not sentences:
            sentences = [stream.sentence() for stream in at_work]
        if not sentences:
            sentences = ["no batch could be read: nothing is known"]
        if self.unreadable:
            sentences.append(f"{format_count(len(self.unreadable), 'files')} not counted")
        return "; ".join(sentences)


def read_monitor(
    place: str,
    since: date | None = None,
    now: datetime | None = None,
) -> MonitorReport:
    """Read a monitoring store and test each of its streams for drift.

    Args:
        place: The store, a folder or s3://bucket/prefix.
        since: The first day that counts, as after a cause was found and removed; None for all. The
            tests begin anew with it, so it is not to be moved until an alarm is gone.
        now: The time; that of the machine's clock if not given.

    Raises:
        DataError: There is no store.
        StorageError: It cannot be read.
    """
    now = now or datetime.now(UTC)
    stored = read_store(place)
    kept = {}
    for name, batches in stored.batches.items():
        kept[name] = [batch for batch in batches if since is None or batch.last_day >= since]
    last_days = {name: max(batch.last_day for batch in some) for name, some in kept.items() if some}
    streams = []
    for name, last in last_days.items():
        at_work = max(last_days.values()) - last <= timedelta(days=AT_WORK_DAYS)
        streams.append(_report_stream(name, stored.references[name], kept[name], at_work, now))
    streams.sort(key=lambda stream: (stream.at_work, max(stream.days)), reverse=True)
    return MonitorReport(
        place=place,
        made=now,
        streams=tuple(streams),
        unreadable=tuple(sorted(stored.unreadable)),
    )


def _report_stream(
    name: str,
    reference: Reference,
    batches: list[Batch],
    at_work: bool,
    now: datetime,
) -> StreamReport:
    """Return what a stream looks like."""
    devices: dict[str, int] = {}
    for _, group in iterate_groups(batches):
        devices[group.device] = devices.get(group.device, 0) + group.images
    return StreamReport(
        name=name,
        reference=reference,
        at_work=at_work,
        batches=len(batches),
        devices=devices,
        days=_sum_days(batches),
        verdict=judge(reference, batches),
        notes=tuple(_find_notes(reference, batches, at_work, now)),
    )


def _sum_days(batches: list[Batch]) -> dict[date, Day]:
    """Return what each day of a stream adds up to, in order."""
    totals: dict[date, Day] = {}
    scores: dict[date, float] = {}
    for _, group in iterate_groups(batches):
        before = totals.get(group.day, Day())
        called = group.positive + group.negative
        scores[group.day] = scores.get(group.day, 0.0) + called.score
        images = before.images + group.images
        abstained = before.abstained + group.abstained
        answered = images - abstained
        totals[group.day] = Day(
            images=images,
            abstained=abstained,
            positive=before.positive + group.positive.images,
            score=scores[group.day] / answered if answered else None,
            counts=_add_counts(before.counts, group.counts),
        )
    for batch in batches:
        day = batch.last_day
        before = totals.get(day, Day())
        rejected = before.rejected + sum(batch.rejected.values())
        totals[day] = before.model_copy(update={"rejected": rejected})
    return dict(sorted(totals.items()))


def _add_counts(
    some: dict[str, tuple[int, ...]],
    more: dict[str, tuple[int, ...]],
) -> dict[str, tuple[int, ...]]:
    """Return the sums of counts in the same bins."""
    if not some:
        return more
    return {
        name: tuple(a + b for a, b in zip(counts, more[name], strict=True))
        for name, counts in some.items()
    }


def _find_notes(
    reference: Reference,
    batches: list[Batch],
    at_work: bool,
    now: datetime,
) -> list[str]:
    """Return what a reader has to know of a stream besides its verdict, a sentence each."""
    notes = []
    if not at_work:
        notes.append(
            f"No images for more than {AT_WORK_DAYS} days, where another model has some: its "
            "verdict stands here and is no alarm of the store."
        )
    future = [batch for batch in batches if batch.written > now + _CLOCK_SLACK]
    if future:
        newest = max(batch.written for batch in future)
        notes.append(
            f"{format_count(len(future), 'predictions')} from the future, up to {newest:%Y-%m-%d %H:%M} "
            "UTC: the clock of a machine was wrong; counted once, under that day."
        )
    early = [batch for batch in batches if batch.written < reference.made - _CLOCK_SLACK]
    if early:
        oldest = min(batch.written for batch in early)
        notes.append(
            f"{format_count(len(early), 'predictions')} from before this stream was begun, from "
            f"{oldest:%Y-%m-%d %H:%M} UTC on: the clock of a machine was wrong; counted once, "
            "under that day."
        )
    return notes
