"""What differs between train and the other splits within each class: intensity, size, sharpness and border.

A test set that was photographed otherwise is another question than the one that was learned. Patients are compared,
not images: those of one patient are no independent draws. Left out: why splits differ, and whether it matters to a
network; and differences in spread alone, which the test used does not see.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr import drawing, eda, splits
from cxr.audit import sampled
from cxr.cache import Stored
from cxr.intervals import Interval, bootstrap
from cxr.paired import holm
from cxr.records import LABEL_NAMES, Record
from cxr.settings import Strict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
_RING = 0.08  # of the side
_COLOURS = {"test": "#000000", "val": "#999999"}

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


def shift(
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
    chosen = np.sort(np.concatenate([sampled(table, part, _MOST_ROWS, seed) for part in parts]))
    rows = table.iloc[chosen]
    looks = np.array([_look(np.asarray(pixels[at])) for at in chosen], dtype=np.float64).reshape(
        -1, 2
    )
    measured = pd.DataFrame(
        {
            "label_name": rows["label_name"],
            "split": rows["split"],
            "patient": splits.groups(rows),
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
    """Return sharpness (variance of the Laplacian) and the mean of the outer 8 % of one image, uint8 (side, side).

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000), for the sharpness.
    """
    from scipy.ndimage import laplace

    width = max(1, round(_RING * len(pixels)))
    ring = np.ones(pixels.shape, bool)
    ring[width:-width, width:-width] = False
    return float(laplace(pixels.astype(np.float32)).var()), float(pixels[ring].mean())


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
    drawn = bootstrap(other, rankdata(values) / len(values), [""] * len(values), 0.5, DRAWS, seed)
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
        f"{'higher' if effect > 0.5 else 'lower'} in {each.compared} (median {_short(each.median_train)} to "
        f"{_short(each.median_compared)}, effect {effect:.2f}, p {_chance(each.p_holm)} after Holm, "
        f"n = {each.n_train:,} and {each.n_compared:,} patients)"
    )


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _chance(p: float | None) -> str:
    if p is None:
        return "none"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.9995 else "= 1"


def draw(found: Shift, path: Path) -> Path:
    """Return `path` with a forest plot of the effects as a PNG: a panel for each class, train against the others."""
    count = sum(each.significant for each in found.differences)
    said = (
        f"{count or 'No'} significant difference{'' if count == 1 else 's'} in {found.tests} tests"
    )
    title = said if found.tests else "No difference could be tested"
    figure = drawing.framed(f"Train against the other splits, within each class: {title}", 13, 5.8)
    for axes, label_name in zip(figure.subplots(1, 2, sharey=True), LABEL_NAMES, strict=True):
        own = [each for each in found.differences if each.label_name == label_name]
        _panel(axes, own)
        many = ", ".join(f"{split} {n:,}" for split, n in _numbers(own).items())
        axes.set_title(
            f"{label_name}, patients: {many}", fontsize=11, color=eda.COLOURS[label_name], pad=18
        )
    _legend(figure)
    return drawing.publish(figure, path)


def _numbers(differences: list[Difference]) -> dict[str, int]:
    """Return the number of patients of each split."""
    return {"train": differences[0].n_train} | {
        each.compared: each.n_compared for each in differences
    }


def _panel(axes: "Axes", differences: list[Difference]) -> None:
    names = list(SIGNALS)
    axes.axvspan(0.5 - TRIVIAL, 0.5 + TRIVIAL, color="0.94", zorder=0, linewidth=0)
    axes.axvline(0.5, color="0.7", linewidth=1, zorder=0)
    for each in differences:
        offset = 0.34 * COMPARED.index(each.compared) - 0.17
        _mark(axes, names.index(each.signal) + offset, each)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), list(SIGNALS.values()))
    axes.set_xticks(
        [0, 0.25, 0.4, 0.5, 0.6, 0.75, 1], ["0", "0.25", "0.4", "0.5", "0.6", "0.75", "1"]
    )
    axes.set_xlabel("effect: chance that a patient of the other split is higher")
    for at, words, side in (
        (0.01, "lower than in train", "left"),
        (0.99, "higher than in train", "right"),
    ):
        axes.text(at, -0.58, words, ha=side, va="bottom", fontsize=8, color="0.4")
    drawing.plain(axes)
    axes.tick_params(axis="y", length=0, labelsize=10)


def _mark(axes: "Axes", at: float, each: Difference) -> None:
    """Draw one effect and its interval, filled where significant; words where there is none."""
    colour = _COLOURS[each.compared]
    style: dict[str, Any] = {"fontsize": 8, "va": "center", "color": colour, "clip_on": False}
    if each.effect is None or each.p is None:
        axes.text(1.02, at, f"{each.compared}: {each.note.split(':')[0]}", **style)
        return
    if each.interval:
        axes.plot(
            [each.interval.low, each.interval.high], [at, at], color=colour, linewidth=1.8, zorder=1
        )
    face = colour if each.significant else "white"
    axes.plot(
        [each.effect], [at], "o", markersize=6.5, color=colour, markerfacecolor=face, zorder=2
    )
    medians = f"{_short(each.median_train)} to {_short(each.median_compared)}"
    axes.text(1.02, at, f"{each.compared}: {medians}, p {_chance(each.p_holm)}", **style)


def _legend(figure: "Figure") -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    dot: dict[str, Any] = {"marker": "o", "linewidth": 1.8, "markersize": 6.5}
    keys = [
        Line2D(
            [], [], color=_COLOURS["test"], label="train against test: medians, p after Holm", **dot
        ),
        Line2D([], [], color=_COLOURS["val"], label="train against val", **dot),
        Line2D(
            [],
            [],
            color="black",
            markerfacecolor="white",
            label="hollow: not significant or trivial",
            **dot,
        ),
        Patch(color="0.94", label=f"trivial: within {TRIVIAL} of 0.5"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
