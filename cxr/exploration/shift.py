"""What differs between train and the other splits within each class: intensity, size, sharpness and border.

A test set that was photographed otherwise is another question than the one that was learned. Patients are compared,
not images: those of one patient are no independent draws. Left out: why splits differ, and whether it matters to a
network; and differences in spread alone, which the test used does not see.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.core.formatting import describe_p_value
from cxr.core.records import Record
from cxr.core.settings import LABEL_NAMES, Strict
from cxr.data import splits
from cxr.data.images.border import border_mask
from cxr.exploration.audit import sample_patients
from cxr.stats.comparison import holm
from cxr.stats.intervals import Interval, bootstrap_intervals
from cxr.storage.arrays import Stored

if TYPE_CHECKING:
    pass

SIGNALS = {
    "mean": "brightness (mean)",
    "std": "contrast (std)",
    "width": "width",
    "height": "height",
    "aspect": "aspect",
    "bytes_per_pixel": "bytes per pixel",
    "sharpness": "sharpness",
    "border": "border brightness",
}
COMPARED = ("test", "val")
FEWEST_PATIENTS = 5
TRIVIAL = 0.1  # an effect this close to 0.5 is no difference worth a warning, however small its p
LEVEL = 0.05
DRAWS = 1_000
_MOST_ROWS = 8_000  # of each split: sharpness takes a millisecond each
Vector = np.ndarray[Any, Any]


class Difference(Strict):
    """One signal of one class, train against another split; n counts patients.

    `effect` is the probability that a patient of the other split has the higher value (0.5: no difference).
    `p` is of the two-sided Mann-Whitney test, `p_holm` corrected for all tests of the table. `significant` means
    p_holm < 0.05 and an effect more than 0.1 from 0.5. None: not estimable, or no difference at all; see `note`.
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
    """eda/shift.json: every difference looked for, in the order class, split, signal; `tests` is Holm's number."""

    manifest_sha256: str
    seed: int
    tests: int
    differences: tuple[Difference, ...]

    def table(self) -> pd.DataFrame:
        """Return one row per difference, the columns its fields; the interval as `low` and `high`."""
        rows = []
        for each in self.differences:
            row = each.model_dump(exclude={"interval"})
            ends = (each.interval.low, each.interval.high) if each.interval else (None, None)
            rows.append(row | dict(zip(("low", "high"), ends, strict=True)))
        return pd.DataFrame(rows)

    def sentences(self) -> list[str]:
        """Return one sentence for each significant difference, the largest first."""
        found = [
            (each, each.effect)
            for each in self.differences
            if each.significant and each.effect is not None
        ]
        return [_sentence(*each) for each in sorted(found, key=lambda pair: -abs(pair[1] - 0.5))]


def measure_shift(
    table: pd.DataFrame,
    pixels: Stored,
    manifest_sha256: str,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Shift:
    """Return train against test and val, for each class and signal; at most 8,000 images of a split, whole patients.

    `pixels` is uint8 (n, side, side) in the order of `table`. Groups of fewer than five patients are not estimable.
    A patient in both splits counts in both, as if two.
    """
    on_step("sharpness and border of the pixels")
    patients = _patients(table, pixels, seed)
    on_step("differences between the splits")
    found = []
    for label_name in LABEL_NAMES:
        own = patients[patients["label_name"] == label_name]
        for compared in COMPARED:
            train, other = own[own["split"] == "train"], own[own["split"] == compared]
            found += [
                _difference(label_name, compared, name, train[name], other[name], seed)
                for name in SIGNALS
            ]
    return Shift(
        manifest_sha256=manifest_sha256,
        seed=seed,
        tests=sum(each.p is not None for each in found),
        differences=tuple(_corrected(found)),
    )


def _patients(table: pd.DataFrame, pixels: Stored, seed: int) -> pd.DataFrame:
    """Return one row per class, split and patient: the mean of each of SIGNALS over the patient's images."""
    parts = [
        np.flatnonzero((table["split"] == split).to_numpy(dtype=bool))
        for split in ("train", *COMPARED)
    ]
    chosen = np.sort(
        np.concatenate([sample_patients(table, part, _MOST_ROWS, seed) for part in parts])
    )
    rows = table.iloc[chosen]
    looks = np.array([_look(np.asarray(pixels[at])) for at in chosen], dtype=np.float64).reshape(
        -1, 2
    )
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
            "bytes_per_pixel": rows["bytes"] / (rows["width"] * rows["height"]),
            "sharpness": looks[:, 0],
            "border": looks[:, 1],
        }
    )
    means = measured.groupby(["label_name", "split", "patient"])[list(SIGNALS)].mean()
    return means.round(9).reset_index()  # else the last bit of a mean decides what is a tie


def _look(pixels: Vector) -> tuple[float, float]:
    """Return sharpness (variance of the Laplacian) and the mean gray of the border of one image, uint8 (side, side).

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000), for the sharpness.
    """
    from scipy.ndimage import laplace

    border = border_mask(*pixels.shape)
    return float(laplace(pixels.astype(np.float32)).var()), float(pixels[border].mean())


def _difference(
    label_name: str,
    compared: str,
    signal: str,
    train: "pd.Series[float]",
    other: "pd.Series[float]",
    seed: int,
) -> Difference:
    """Return one difference, not yet corrected: the values of the patients of train and of the other split."""
    start: dict[str, Any] = {
        "label_name": label_name,
        "compared": compared,
        "signal": signal,
        "n_train": len(train),
        "n_compared": len(other),
        "median_train": _median(train),
        "median_compared": _median(other),
    }
    fewest = min(len(train), len(other))
    if fewest < FEWEST_PATIENTS:
        return Difference(
            **start,
            note=f"not estimable (n = {fewest}): expected {FEWEST_PATIENTS} patients or more of each split",
        )
    values = np.concatenate([train.to_numpy(), other.to_numpy()])
    if np.ptp(values) == 0:
        return Difference(**start, effect=0.5, note="no difference: the same value in every image")
    return Difference(**start, **_tested(values, np.repeat([0, 1], [len(train), len(other)]), seed))


def _median(values: "pd.Series[float]") -> float | None:
    return float(values.median()) if len(values) else None


def _tested(values: Vector, other: Vector, seed: int) -> dict[str, Any]:
    """Return effect, interval and p of values float (n,), `other` int (n,) being 1 for the other split.

    Mann and Whitney (1947); the effect is U over the number of pairs, the AUROC of the value (Hanley & McNeil 1982).
    """
    from scipy.stats import mannwhitneyu, rankdata

    test = mannwhitneyu(values[other == 1], values[other == 0], alternative="two-sided")
    drawn = bootstrap_intervals(
        other, rankdata(values) / len(values), [""] * len(values), 0.5, DRAWS, seed
    )
    effect = float(test.statistic) / (int(other.sum()) * int((1 - other).sum()))
    note = (
        ""
        if drawn["auroc"]
        else "no interval: the effect is the same in every draw of the patients"
    )
    return {"effect": effect, "interval": drawn["auroc"], "p": float(test.pvalue), "note": note}


def _corrected(found: list[Difference]) -> list[Difference]:
    """Return the differences with `p_holm` and `significant` where there was a test."""
    out = []
    for each, p in zip(found, holm([each.p for each in found]), strict=True):
        far = each.effect is not None and abs(each.effect - 0.5) > TRIVIAL
        out.append(
            each.model_copy(
                update={"p_holm": p, "significant": far and p is not None and p < LEVEL}
            )
        )
    return out


def _sentence(each: Difference, effect: float) -> str:
    """Return e.g. "NORMAL, train against test: width is lower in test (median 1,640 to 1,312, ...)"."""
    return (
        f"{each.label_name}, train against {each.compared}: {SIGNALS[each.signal]} is "
        f"{'higher' if effect > 0.5 else 'lower'} in {each.compared} (median {format_value(each.median_train)} to "
        f"{format_value(each.median_compared)}, effect {effect:.2f}, {describe_p_value(each.p_holm)} after Holm, "
        f"n = {each.n_train:,} and {each.n_compared:,} patients)"
    )


def format_value(value: float | None) -> str:
    """Write a measured value for people."""
    return "none" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
