"""Distribution shift: how train differs from the other splits within each class.

A test set that was photographed otherwise is another question than the one that was learned.
Patients are compared, not images: those of one patient are no independent draws. Why splits differ,
and whether it matters to a network, is not answered here; the test used does not see differences in
spread alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.formatting import describe_p_value
from cxr.core.records import Record
from cxr.core.settings import LABEL_NAMES, Strict
from cxr.data.images.border import border_mask
from cxr.data.patients import splits
from cxr.data.patients.splits import sample_patients
from cxr.exploration.geometry import measure_gradient_ratio
from cxr.stats.comparison import holm
from cxr.stats.intervals import Interval, bootstrap_intervals
from cxr.storage.arrays import Stored

SIGNALS = {
    "mean": "brightness (mean)",
    "std": "contrast (std)",
    "width": "width",
    "height": "height",
    "aspect": "aspect",
    "bytes_per_pixel": "bytes per pixel",
    "sharpness": "sharpness",
    "border": "border brightness",
    "gradient_ratio": "gradient ratio",
    "age": "age (years)",
    "pixel_spacing": "pixel spacing (mm)",
}
ATTRIBUTES = ("age", "pixel_spacing")  # signals that only some data have, and not of every image
COMPARED = ("test", "val")
FEWEST_PATIENTS = 5
TRIVIAL = 0.1  # an effect this close to 0.5 is no difference worth a warning, however small its p
SIGNIFICANCE_LEVEL = 0.05
DRAWS = 1_000  # of the bootstrap
MOST_IMAGES = 8_000  # of each split: sharpness takes a millisecond each
Array = np.ndarray[Any, Any]


class Difference(Strict):
    """How one signal of one class differs between train and another split.

    What cannot be estimated is None; `note` then says why.

    Attributes:
        label_name: The class.
        compared: The other split.
        signal: A key of SIGNALS.
        n_train: Patients in train of whom the signal is known.
        n_compared: The same in the other split.
        median_train: Median over the patients in train.
        median_compared: Median over the patients in the other split.
        effect: Probability that a patient of the other split has the higher value; 0.5 means no
            difference.
        interval: The 95 % interval of the effect.
        p: Of the two-sided Mann-Whitney test.
        p_holm: `p` corrected for all tests of the table.
        significant: Whether p_holm < 0.05 and the effect is more than 0.1 from 0.5.
        note: Why something is None.
    """

    label_name: str
    compared: str
    signal: str
    n_train: int
    n_compared: int
    median_train: float | None = None
    median_compared: float | None = None
    effect: float | None = None
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    significant: bool = False
    note: str = ""


class Shift(Record):
    """All differences that were looked for, in eda/shift.json.

    Attributes:
        manifest_sha256: SHA-256 of clean_metadata.csv.
        seed: Of samples and bootstrap.
        tests: How many tests were made, for which Holm's method corrects.
        differences: In the order class, split, signal.
    """

    manifest_sha256: str
    seed: int
    tests: int
    differences: tuple[Difference, ...]

    def table(self) -> pd.DataFrame:
        """Return one row for each difference, the interval as `low` and `high`."""
        rows = []
        for difference in self.differences:
            row = difference.model_dump(exclude={"interval"})
            interval = difference.interval
            row["low"] = interval.low if interval else None
            row["high"] = interval.high if interval else None
            rows.append(row)
        return pd.DataFrame(rows)

    def sentences(self) -> list[str]:
        """Return a sentence for each significant difference, the largest first."""
        significant = [
            (difference, difference.effect)
            for difference in self.differences
            if difference.significant and difference.effect is not None
        ]
        significant.sort(key=lambda pair: -abs(pair[1] - 0.5))
        return [_describe(difference, effect) for difference, effect in significant]


def measure_shift(
    table: pd.DataFrame,
    pixels: Stored,
    manifest_sha256: str,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Shift:
    """Compare train with test and with val, for each class and signal.

    At most 8,000 images of a split are looked at, of whole patients. Groups of fewer than five
    patients are not estimable. A patient who is in both splits counts in both, as if two. Of
    ATTRIBUTES those are compared that some image has.

    Args:
        table: The manifest.
        pixels: The cached pixels of its rows, uint8 (n, side, side).
        manifest_sha256: SHA-256 of clean_metadata.csv.
        seed: Of samples and bootstrap.
        on_step: Called with what is looked at next.

    Returns:
        The record.
    """
    on_step("sharpness, border and gradients of the pixels")
    patients = _measure_patients(table, pixels, seed)
    on_step("differences between the splits")
    measured_signals = [signal for signal in SIGNALS if signal in patients]
    differences = []
    for label_name in LABEL_NAMES:
        members = patients[patients["label_name"] == label_name]
        train = members[members["split"] == "train"]
        for compared in COMPARED:
            other = members[members["split"] == compared]
            for signal in measured_signals:
                difference = _compare(
                    label_name,
                    compared,
                    signal,
                    train,
                    other,
                    seed,
                )
                differences.append(difference)
    return Shift(
        manifest_sha256=manifest_sha256,
        seed=seed,
        tests=sum(difference.p is not None for difference in differences),
        differences=tuple(_correct(differences)),
    )


def _measure_patients(
    table: pd.DataFrame,
    pixels: Stored,
    seed: int,
) -> pd.DataFrame:
    """Return a row per class, split and patient: the mean of each signal over the images, or NaN."""
    positions = _choose_images(table, seed)
    rows = table.iloc[positions]
    sharpness = np.empty(len(positions))
    border = np.empty(len(positions))
    gradient_ratio = np.empty(len(positions))
    for number, position in enumerate(positions):  # one image in memory at a time
        image = np.asarray(pixels[position])
        sharpness[number] = measure_sharpness(image)
        border[number] = measure_border(image)
        gradient_ratio[number] = measure_gradient_ratio(image)
    area = rows["width"] * rows["height"]
    measured = pd.DataFrame(
        {
            "label_name": rows["label_name"],
            "split": rows["split"],
            "patient": splits.patient_groups(rows),
            "mean": rows["mean"],
            "std": rows["std"],
            "width": rows["width"],
            "height": rows["height"],
            "aspect": rows["width"] / rows["height"],
            "bytes_per_pixel": rows["bytes"] / area,
            "sharpness": sharpness,
            "border": border,
            "gradient_ratio": gradient_ratio,
        }
    )
    for name in ATTRIBUTES:
        if name in rows:
            known = pd.to_numeric(rows[name], errors="coerce")
            if known.notna().any():
                measured[name] = known
    groups = measured.groupby(["label_name", "split", "patient"])
    means = groups[[signal for signal in SIGNALS if signal in measured]].mean()
    # Rounded, or else the last bit of a mean decides what is a tie.
    return means.round(9).reset_index()


def _choose_images(table: pd.DataFrame, seed: int) -> Array:
    """Return the positions of the images to look at, int (n,), in rising order."""
    chosen = []
    for split in ("train", *COMPARED):
        is_member = (table["split"] == split).to_numpy(dtype=bool)
        members = np.flatnonzero(is_member)
        chosen.append(sample_patients(table, members, MOST_IMAGES, seed))
    return np.sort(np.concatenate(chosen))


def measure_sharpness(image: Array) -> float:
    """Return the variance of the Laplacian of an image, uint8 (side, side).

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000).
    """
    from scipy.ndimage import laplace

    return float(laplace(image.astype(np.float32)).var())


def measure_border(image: Array) -> float:
    """Return the mean gray value of the border of an image, uint8 (side, side)."""
    return float(image[border_mask(*image.shape)].mean())


def _compare(
    label_name: str,
    compared: str,
    signal: str,
    train: pd.DataFrame,
    other: pd.DataFrame,
    seed: int,
) -> Difference:
    """Compare the patients of train and of the other split; p is not yet corrected."""
    train_values = train[signal].dropna().to_numpy()
    other_values = other[signal].dropna().to_numpy()
    difference = Difference(
        label_name=label_name,
        compared=compared,
        signal=signal,
        n_train=len(train_values),
        n_compared=len(other_values),
        median_train=_median(train_values),
        median_compared=_median(other_values),
    )
    fewest = min(len(train_values), len(other_values))
    if fewest < FEWEST_PATIENTS:
        note = (
            f"not estimable (n = {fewest}): "
            f"expected {FEWEST_PATIENTS} patients or more of each split"
        )
        return difference.model_copy(update={"note": note})
    if np.ptp(np.concatenate([train_values, other_values])) == 0:
        note = "no difference: the same value in every image"
        return difference.model_copy(update={"effect": 0.5, "note": note})
    return difference.model_copy(update=_test(train_values, other_values, seed))


def _median(values: Array) -> float | None:
    """Return the median, None for no values."""
    return float(np.median(values)) if len(values) else None


def _test(
    train: Array,
    other: Array,
    seed: int,
) -> dict[str, Any]:
    """Return effect, interval, p and note of the values of two groups of patients, float (n,).

    Mann and Whitney (1947). The effect is U over the number of pairs, which is the AUROC of the
    value (Hanley and McNeil, 1982).
    """
    from scipy.stats import mannwhitneyu, rankdata

    test = mannwhitneyu(other, train, alternative="two-sided")
    values = np.concatenate([train, other])
    is_other = np.repeat([0, 1], [len(train), len(other)])
    intervals = bootstrap_intervals(
        is_other,
        rankdata(values) / len(values),
        [""] * len(values),
        0.5,
        DRAWS,
        seed,
    )
    interval = intervals["auroc"]
    note = ""
    if interval is None:
        note = "no interval: the effect is the same in every draw of the patients"
    return {
        "effect": float(test.statistic) / (len(train) * len(other)),
        "interval": interval,
        "p": float(test.pvalue),
        "note": note,
    }


def _correct(differences: list[Difference]) -> list[Difference]:
    """Set `p_holm` and `significant` where there was a test."""
    corrected = []
    p_values = holm([difference.p for difference in differences])
    for difference, p_holm in zip(differences, p_values, strict=True):
        effect = difference.effect
        relevant = effect is not None and abs(effect - 0.5) > TRIVIAL
        significant = relevant and p_holm is not None and p_holm < SIGNIFICANCE_LEVEL
        update = {"p_holm": p_holm, "significant": significant}
        corrected.append(difference.model_copy(update=update))
    return corrected


def _describe(difference: Difference, effect: float) -> str:
    """Return e.g. "NORMAL, train against test: width is lower in test (median 1,640 to ...)"."""
    signal = SIGNALS[difference.signal]
    direction = "higher" if effect > 0.5 else "lower"
    medians = (
        f"{format_value(difference.median_train)} to {format_value(difference.median_compared)}"
    )
    return (
        f"{difference.label_name}, train against {difference.compared}: {signal} is {direction} "
        f"in {difference.compared} (median {medians}, effect {effect:.2f}, "
        f"{describe_p_value(difference.p_holm)} after Holm, "
        f"n = {difference.n_train:,} and {difference.n_compared:,} patients)"
    )


def format_value(value: float | None) -> str:
    """Write a measured value for people."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
