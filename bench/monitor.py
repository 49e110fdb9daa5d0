"""Monitoring: how often images like those of validation raise an alarm, and how soon other ones do.

    python -m bench.monitor EXPORT WORK [--keep FOLDER] [--more WORK] [--worlds negative darker ...]
    python -m bench.monitor --years 200

EXPORT is an export folder with a scope, WORK the work folder that it is from (its pixel cache is read). Each line is 200 draws
of 200 images, whole patients at a time, in predictions of 10 or 50 images: the share of draws with an alarm by the images counted
until then, and the measurement that raised it most often. In scope are draws of the test images against validation as it was
exported, draws of one half of the validation patients against the other half (both halves drawn anew each time), and draws of the
images of another work folder (--more), such as new phantoms for a model of phantoms. Drifted are test images in the stress
worlds, and as negatives that are scored as if nobody had rejected them. Measurements are kept in FOLDER.

The second command watches made-up images, independent in each draw, for a year of 365 days with 20 patients each, and counts the
years with an alarm; then the same with a drift of one standard deviation that begins on day 300, and the days until the alarm.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.files import read_table
from cxr.core.settings import LABEL_NAMES, SPLITS
from cxr.data.images import pixel_cache
from cxr.data.images.changes.changed_images import ChangedImages
from cxr.data.images.changes.stress_worlds import CLEAN, WORLDS
from cxr.models import scoring
from cxr.models.scope import Scope, read_scope
from cxr.models.scope.opened_model import open_model
from cxr.results.cards.model_card import Card, read_card
from cxr.serving.monitoring.records import Batch, Group, Reference
from cxr.serving.monitoring.reference import fit_all
from cxr.serving.monitoring.verdict import judge
from cxr.stats.drift.expected import Called
from tests.support import monitored

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator], tuple[Array, Reference]]
DRAWS = 200
IMAGES = 200
BATCHES = (10, 50)
LOOKS = (50, 100, 200)  # images counted until an alarm, at most
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST_DAY = NOON.date()
NEGATIVE = "negative"
DAYS = 365
DRIFT_DAY = 300


def measure_all(
    export: Path,
    work: Path,
    keep: Path,
    worlds: list[str],
    splits: tuple[str, ...] = ("test",),
) -> dict[str, pd.DataFrame]:
    """Return the measurements of the images of some splits in each world, computed once."""
    missing = [world for world in worlds if not (keep / f"{world}.csv").is_file()]
    if missing:
        import keras

        card = read_card(export)
        scope = require_scope(export)
        model = open_model(keras.models.load_model(export / "model.keras")).model
        rows = read_table(work / "clean_metadata.csv")
        rows = rows[rows["split"].isin(splits)]
        (cache,) = work.glob("cache/pixels-*")
        stored = pixel_cache.load_pixels(cache, rows)
        keep.mkdir(parents=True, exist_ok=True)
        for world in missing:
            pixels = ChangedImages(stored, list(rows["pixel_sha256"]), change_of(world))
            table = measure(model, scope, card, pixels, len(rows))
            table["label"] = rows["label"].to_numpy()
            table["patient"] = rows["patient_id"].to_numpy()
            table.to_csv(keep / f"{world}.csv", index=False)
    return {world: pd.read_csv(keep / f"{world}.csv") for world in worlds}


def change_of(world: str) -> Callable[[Array, str], Array]:
    """Return what changes an image in a world."""
    if world == CLEAN:
        return lambda pixels, _: pixels
    if world == NEGATIVE:
        return lambda pixels, _: 255 - pixels
    return WORLDS[world].change


def measure(model: Any, scope: Scope, card: Card, pixels: Any, count: int) -> pd.DataFrame:
    """Return the measurements of images, as a prediction takes them."""
    parts = []
    done = 0
    for features, raw in scoring.model_outputs(model, pixels, np.arange(count)):
        places = np.arange(done, done + len(raw))
        part = scope.measure(features, pixels[places])
        scores = raw.reshape(-1).astype(np.float64)
        parts.append(part.assign(score=card.calibration.apply(scores)))
        done += len(raw)
    return pd.concat(parts, ignore_index=True)


def require_scope(export: Path) -> Scope:
    """Return the scope of an export."""
    scope = read_scope(export)
    assert scope is not None, "an export with a scope is needed"
    return scope


def reference_of(validation: pd.DataFrame, threshold: float) -> Reference:
    """Return the reference that a store would keep of these validation images."""
    return Reference(
        architecture="",
        run="",
        model_sha256="",
        version="",
        site="",
        threshold=threshold,
        made=NOON,
        images=len(validation),
        patients=validation["patient"].nunique(),
        bins=fit_all(validation),
    )


def whole_patients(table: pd.DataFrame, rng: np.random.Generator) -> Array:
    """Return the places of images of patients drawn at random, one patient after the other."""
    patients = table["patient"].to_numpy()
    order = {patient: place for place, patient in enumerate(rng.permutation(np.unique(patients)))}
    return np.argsort([order[patient] for patient in patients], kind="stable")[:IMAGES]


def number_bins(images: pd.DataFrame, reference: Reference) -> Array:
    """Return the bin of each image in each measurement, int64 (n, measurements)."""
    columns = [np.searchsorted(bins.edges, images[bins.name]) for bins in reference.bins]
    return np.stack(columns, axis=1)


def as_batches(
    numbers: Array,
    reference: Reference,
    size: int,
    day: date = FIRST_DAY,
) -> Iterator[Batch]:
    """Yield predictions of so many images each, as a store would keep them."""
    for start in range(0, len(numbers), size):
        part = numbers[start : start + size]
        counts = {}
        for place, bins in enumerate(reference.bins):
            of_bins = np.bincount(part[:, place], minlength=len(bins.negatives))
            counts[bins.name] = tuple(of_bins.tolist())
        group = Group(
            day=day,
            device="",
            images=len(part),
            abstained=len(part),
            positive=Called(),
            negative=Called(),
            counts=counts,
        )
        written = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=start)
        yield Batch(written=written, groups=(group,), rejected={})


def print_line(name: str, draw: Draw) -> None:
    """Print the share of draws with an alarm, by the images counted until then."""
    for size in BATCHES:
        rng = np.random.default_rng(size)
        found = dict.fromkeys(LOOKS, 0)
        raised: Counter[str] = Counter()
        for _ in range(DRAWS):
            numbers, reference = draw(rng)
            alarms = judge(reference, list(as_batches(numbers, reference, size))).alarms
            if alarms:
                raised[alarms[0].measurement] += 1
                first = min(alarm.images for alarm in alarms)
                for look in LOOKS:
                    found[look] += first <= look
        cells = "".join(f"{found[look] / DRAWS:8.3f}" for look in LOOKS)
        most = ", ".join(name for name, _ in raised.most_common(2))
        print(f"{name:34}{size:5}{cells}   {most}", flush=True)


def compare(export: Path, work: Path, keep: Path, more: Path | None, worlds: list[str]) -> None:
    """Print a line for each kind of draws."""
    threshold = read_card(export).threshold
    validation = require_scope(export).validation
    shipped = reference_of(validation, threshold)
    tables = measure_all(export, work, keep / "worlds", [CLEAN, *worlds])

    def halves(rng: np.random.Generator) -> tuple[Array, Reference]:
        known = rng.permutation(validation["patient"].unique())
        is_at_work = validation["patient"].isin(known[: len(known) // 2])
        reference = reference_of(validation[~is_at_work], threshold)
        numbers = number_bins(validation[is_at_work], reference)
        return numbers[whole_patients(validation[is_at_work], rng)], reference

    def draw_from(table: pd.DataFrame) -> Draw:
        numbers = number_bins(table, shipped)
        return lambda rng: (numbers[whole_patients(table, rng)], shipped)

    looks = "".join(f"{look:8}" for look in LOOKS)
    print(f"{'images counted':34}{'each':>5}{looks}   raised by")
    print_line("halves of validation", halves)
    print_line("test", draw_from(tables[CLEAN]))
    for label, name in enumerate(LABEL_NAMES):
        print_line(f"test, {name} alone", draw_from(tables[CLEAN].query(f"label == {label}")))
    if more is not None:
        fresh = measure_all(export, more, keep / "more", [CLEAN], SPLITS)[CLEAN]
        print_line(f"{len(fresh)} images of another folder", draw_from(fresh))
    for world in worlds:
        print_line(world, draw_from(tables[world]))


def watch_years(years: int) -> None:
    """Print how many years of made-up images raise an alarm, with and without drift."""
    for drift in (0.0, 1.0):
        alarms = 0
        waits = []
        for year in range(years):
            rng = np.random.default_rng([year, int(drift)])
            reference = reference_of(monitored.measure(rng, 400), monitored.THRESHOLD)
            batches: list[Batch] = []
            for day in range(DAYS):
                shift = drift if day >= DRIFT_DAY else 0.0
                images = monitored.measure(rng, 20, shift=shift)
                at = FIRST_DAY + timedelta(days=day)
                batches += as_batches(number_bins(images, reference), reference, len(images), at)
            raised = [alarm.raised for alarm in judge(reference, batches).alarms]
            if raised:
                alarms += 1
                waits.append((min(raised) - FIRST_DAY).days - DRIFT_DAY)
        after = f", {np.median(waits):g} days after it began (median)" if drift and waits else ""
        print(f"{years} years, drift {drift:g}: {alarms} with an alarm{after}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path, nargs="?")
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--keep", type=Path, default=Path("/tmp/cxr-bench-monitor"))
    parser.add_argument("--more", type=Path)
    parser.add_argument("--worlds", nargs="+", default=[NEGATIVE, *WORLDS])
    parser.add_argument("--years", type=int, default=0)
    given = parser.parse_args()
    if given.export:
        compare(given.export, given.work, given.keep, given.more, given.worlds)
    if given.export is None and not given.years:
        parser.error("expected EXPORT and WORK, or --years")
    if given.years:
        watch_years(given.years)


if __name__ == "__main__":
    main()
