"""What `cxr site` says of a place, over 200 samples of test images in stress worlds.

    python -m bench.site RUN [--draws 200] [--worlds noisy blurred "stretched 1.25" darker]

RUN is the folder of a finished run (runs/ID), with scores_test_worlds.csv. In each world the scored test images are the place,
whose figures are known; a sample is patients drawn with replacement until it has as many labels as wanted. Printed are, for each
world and size: how many of the 95 % intervals hold the true figure; in how many samples a sensitivity is promised, and in how
many of these the sensitivity of the place is at least the promised one; how many samples refute what the prior correction
assumes; and, for the validation images, how often two halves of them (by patient) do, which is the rate of false refutations.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.files import read_table
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.serving.sites.measurement import operating_figures
from cxr.serving.sites.promise import promise_threshold
from cxr.stats.calibration import fit_calibration
from cxr.stats.calibration.line import fit_line
from cxr.stats.calibration.prevalence import LEVEL, adjust, compare_classes, logit_shift
from cxr.stats.calibration.reliability import brier
from cxr.stats.intervals import mean_interval, number_patients

SIZES = (100, 400)
PROMISES = (0.95, 0.9)
WORLDS = ("noisy", "blurred", "stretched 1.25", "darker")
NAMES = ("sensitivity", "specificity", "auroc", "auprc", "accuracy", "precision", "npv")


class Place:
    """Scored images whose figures are taken as the truth, from which samples are drawn."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray, patients: np.ndarray):
        self.labels = labels
        self.scores = scores
        self.patients = patients
        numbers = number_patients(patients)
        self.members = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]

    def draw(self, rng: np.random.Generator, size: int) -> "Place":
        """Return a sample of whole patients; one that is drawn twice is two patients."""
        rows: list[int] = []
        patients: list[str] = []
        while len(rows) < size:
            member = self.members[rng.integers(len(self.members))]
            patients += [str(len(rows))] * len(member)
            rows += member.tolist()
        return Place(self.labels[rows], self.scores[rows], np.array(patients))


def figures(
    place: Place, threshold: float, prevalence: float
) -> dict[str, tuple[float, float, float]]:
    """Return value and interval of each figure, as `measure` computes them; NaN: not estimable."""
    found = operating_figures(place.labels, place.scores, place.patients, threshold, draws=300)
    answers = {}
    for name in NAMES:
        interval = found.intervals[name]
        value = found.figures[name]
        ends = (interval.low, interval.high) if interval else (np.nan, np.nan)
        answers[name] = (np.nan if value is None else float(value), *ends)
    mixed = adjust(place.scores, logit_shift(prevalence, float(place.labels.mean())))
    squares = (mixed - place.labels) ** 2
    interval = mean_interval(squares, place.patients)
    if interval:
        answers["brier"] = (float(squares.mean()), interval.low, interval.high)
    line = fit_line(place.labels, mixed, place.patients)
    for name, estimate in (("slope", line.slope), ("intercept", line.intercept)):
        if estimate:
            answers[name] = (estimate.value, estimate.low, estimate.high)
    return answers


class Tally:
    """What samples of one size said of a place."""

    def __init__(self, place: Place, threshold: float, prevalence: float):
        self.place = place
        self.threshold = threshold
        self.prevalence = prevalence
        self.truth = figures(place, threshold, prevalence)
        self.covered: dict[str, list[bool]] = {name: [] for name in self.truth}
        self.promised = dict.fromkeys(PROMISES, 0)
        self.held = dict.fromkeys(PROMISES, 0)
        self.specificities: list[float] = []
        self.brier_scores: list[tuple[float, float]] = []

    def add(self, sample: Place) -> None:
        """Count what one sample says."""
        for name, (_, low, high) in figures(sample, self.threshold, self.prevalence).items():
            if name in self.truth and not np.isnan(low):
                self.covered[name].append(low - 1e-12 <= self.truth[name][0] <= high + 1e-12)
        for level in PROMISES:
            self.add_promise(sample, level)

    def add_promise(self, sample: Place, level: float) -> None:
        """Count whether a sample promises a sensitivity, and whether the place has it."""
        found = promise_threshold(sample.labels, sample.scores, sample.patients, level)
        if found.threshold is None:
            return
        called = self.place.scores >= found.threshold
        is_positive = self.place.labels == 1
        self.promised[level] += 1
        self.held[level] += bool(called[is_positive].mean() >= level)
        if level == PROMISES[0]:
            self.specificities.append(float((~called[~is_positive]).mean()))

    def show(self, draws: int, size: int) -> None:
        """Print the counts."""
        shares = []
        for name, marks in self.covered.items():
            left_out = "" if len(marks) == draws else f" ({len(marks)} samples)"
            shares.append(
                f"{name} {self.truth[name][0]:.3f}: {np.mean(marks) if marks else np.nan:.3f}{left_out}"
            )
        print(f"  n = {size}: intervals that hold the truth: {'; '.join(shares)}")
        for level, made in self.promised.items():
            held = f"{self.held[level] / made:.3f}" if made else "-"
            print(
                f"  n = {size}: {level:g} promised in {made / draws:.3f}, held in {held} of these"
            )
        if self.specificities:
            print(
                f"  n = {size}: specificity with {PROMISES[0]:g} promised: {np.mean(self.specificities):.3f}"
            )
        before, after = np.mean(self.brier_scores, axis=0)
        print(
            f"  n = {size}: Brier score by the model {before:.4f}, by the site's calibration {after:.4f}"
        )


def report(place: Place, threshold: float, prevalence: float, draws: int, size: int) -> None:
    """Print what samples of one size say of a place; a quarter of them are calibrated."""
    tally = Tally(place, threshold, prevalence)
    rng = np.random.default_rng(size)
    for number in range(draws):
        sample = place.draw(rng, size)
        tally.add(sample)
        if number % 4 == 0:
            tally.brier_scores.append(gain(place, sample, prevalence))
    tally.show(draws, size)


def gain(place: Place, sample: Place, prevalence: float) -> tuple[float, float]:
    """Return the Brier score of a place before and after the calibration that a sample gives."""
    mixed = adjust(sample.scores, logit_shift(prevalence, float(sample.labels.mean())))
    fitted = fit_calibration(sample.labels, mixed, sample.patients)
    whole = adjust(place.scores, logit_shift(prevalence, float(place.labels.mean())))
    return brier(place.labels, whole), brier(place.labels, fitted.apply(whole))


def is_refuted(one: Place, other: Place) -> bool:
    """Return whether the scores within a class differ, as the prior correction may not have it."""
    found = compare_classes(
        (one.labels, other.labels), (one.scores, other.scores), (one.patients, other.patients)
    )
    return any(comparison.p_holm < LEVEL for comparison in found)


def halves(place: Place, rng: np.random.Generator) -> tuple[Place, Place]:
    """Return two halves of a place, by patient."""
    order = rng.permutation(len(place.members))
    parts = []
    for chosen in np.array_split(order, 2):
        rows = np.concatenate([place.members[number] for number in chosen])
        parts.append(Place(place.labels[rows], place.scores[rows], place.patients[rows]))
    return parts[0], parts[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--worlds", nargs="+", default=WORLDS)
    given = parser.parse_args()
    training = Training.read(
        given.run / Selection.read(given.run / "selection.json").name / "training.json"
    )
    val = read_table(given.run / training.name / "scores_val.csv")
    prevalence = float(val["label"].mean())
    reference = Place(
        val["label"].to_numpy(), val["score"].to_numpy(float), val["patient_id"].to_numpy()
    )
    rng = np.random.default_rng(0)
    refuted = [is_refuted(*halves(reference, rng)) for _ in range(given.draws)]
    print(
        f"halves of validation: assumption of the prior correction refuted in {np.mean(refuted):.3f}"
    )
    table = read_table(given.run / "scores_test_worlds.csv")
    for world in given.worlds:
        place = place_of(table, world, training)
        positives = int(place.labels.sum())
        print(
            f"{world}: {len(place.labels)} images, {positives} PNEUMONIA, {len(place.members)} patients"
        )
        for size in SIZES:
            report(place, training.threshold, prevalence, given.draws, size)
        refuted = [is_refuted(place.draw(rng, SIZES[0]), reference) for _ in range(given.draws)]
        print(
            f"  n = {SIZES[0]}: assumption of the prior correction refuted in {np.mean(refuted):.3f}"
        )


def place_of(table: pd.DataFrame, world: str, training: Training) -> Place:
    """Return the test images in one world, with calibrated scores."""
    scores = training.calibration.apply(table[world].to_numpy(float))
    return Place(table["label"].to_numpy(), scores, table["patient_id"].to_numpy())


if __name__ == "__main__":
    main()
