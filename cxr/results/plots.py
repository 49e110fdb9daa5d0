"""Pictures of how well the architectures do: curves and histories on validation, counts and curves on test.

Left out: pictures of the data itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from cxr.core import plotting
from cxr.core.files import read_table
from cxr.core.settings import LABEL_NAMES
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results.evaluation import Evaluation
from cxr.stats import reliability
from cxr.stats.metrics import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES: dict[
    str, tuple[str, Any]
] = {  # Okabe-Ito colours; the dashes tell them apart in gray print
    "MobileNetV2": ("#009E73", "-"),
    "VGG16": ("#CC79A7", (0, (6, 2))),
    "DenseNet121": ("#E69F00", (0, (8, 2, 2, 2))),
}
_CLASS_COLOURS = {"NORMAL": "#0072B2", "PNEUMONIA": "#D55E00"}
_INK, _GRAY = "#1b1f24", "#767c85"
_PANEL = (6.4, 5.4)  # inches; one size, so that two stand side by side in the report
_WIDEST_ZOOM = 0.5  # a corner wider than this shows no more than the whole does
_BINS = np.linspace(0, 1, 51)


@dataclass(frozen=True)
class _Scored:
    """The scores of one architecture on one set, and its operating point."""

    name: str
    labels: Vector
    scores: Vector
    threshold: float

    @classmethod
    def read(cls, path: Path, name: str, threshold: float) -> Self:
        table = read_table(path)
        return cls(name, table["label"].to_numpy(), table["score"].to_numpy(), threshold)

    @property
    def colour_and_dashes(self) -> tuple[str, Any]:
        return STYLES.get(self.name.split("-")[0], (_INK, "-"))

    def point(self) -> tuple[float, float]:
        """Return (false-alarm rate, sensitivity) at the threshold."""
        positive = self.scores >= self.threshold
        return float(positive[self.labels == 0].mean()), float(positive[self.labels == 1].mean())


def draw_comparison(run: Path, names: Sequence[str]) -> list[Path]:
    """Draw roc_val.png and histories.png of the architectures `names` into `run`; return their paths.

    Reads training.json, scores_val.csv and history.csv of each; raises FileNotFoundError.
    """
    trained = {name: Training.read(run / name / "training.json") for name in names}
    scored = [
        _Scored.read(run / name / "scores_val.csv", name, each.threshold)
        for name, each in trained.items()
    ]
    histories = {
        name: (_history(run / name / "history.csv"), each.best_epoch)
        for name, each in trained.items()
    }
    title = f"ROC on validation, n = {len(scored[0].labels)} images ({_classes(scored[0].labels)})"
    return [
        plotting.save_png(_roc(scored, title), run / "roc_val.png"),
        plotting.save_png(_histories(histories), run / "histories.png"),
    ]


def draw_evaluation(run: Path) -> list[Path]:
    """Draw the test set's four pictures into `run`; return their paths.

    confusion_matrix.png, roc_test.png, precision_recall_test.png, scores_test.png and reliability.png, from
    evaluation.json, selection.json and the scores; raises FileNotFoundError where one of these is missing.
    """
    evaluation = Evaluation.read(run / "evaluation.json")
    scored = _Scored.read(run / "scores_test.csv", evaluation.architecture, evaluation.threshold)
    title = f"ROC on test, n = {len(scored.labels)} images ({_classes(scored.labels)})"
    return [
        plotting.save_png(_confusion_matrix(evaluation), run / "confusion_matrix.png"),
        plotting.save_png(_roc([scored], title), run / "roc_test.png"),
        plotting.save_png(_precision_recall(scored), run / "precision_recall_test.png"),
        plotting.save_png(_score_histograms(scored), run / "scores_test.png"),
        plotting.save_png(_reliability(run), run / "reliability.png"),
    ]


def _history(path: Path) -> pd.DataFrame:
    table = read_table(path)
    return table.astype({name: "float64" for name in table.columns if name != "phase"})


def _classes(labels: Vector) -> str:
    return ", ".join(f"{(labels == i).sum()} {name}" for i, name in enumerate(LABEL_NAMES))


def _figure(width: float, height: float, title: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=12, fontweight="bold", color=_INK, x=0.01, ha="left")
    return figure


def _bare(axes: "Axes") -> "Axes":
    """Take the upper and right frame lines away, lay a faint grid; return the axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK)
    return axes


def _roc(scored: Sequence[_Scored], title: str) -> "Figure":
    """Return the ROC curves; of several, also the upper left corner when it holds the operating points."""
    side = 1.6 * max(max(x, 1 - y) for x, y in (one.point() for one in scored))
    zoomed = len(scored) > 1 and side <= _WIDEST_ZOOM
    figure = _figure(*((10.5, 5.6) if zoomed else _PANEL), title)
    panels = figure.subplots(1, 2 if zoomed else 1, squeeze=False)[0]
    for axes in panels:
        _roc_curves(_bare(axes), scored)
    panels[0].set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    panels[0].legend(loc="lower right", fontsize=9, framealpha=1)
    if zoomed:
        side = max(side, 0.02)
        panels[1].set(xlim=(-side / 40, side), ylim=(1 - side, 1 + side / 40))
        panels[1].set_title("The upper left corner, enlarged", fontsize=10, color=_INK)
    return figure


def _roc_curves(axes: "Axes", scored: Sequence[_Scored]) -> None:
    from sklearn.metrics import auc, roc_curve

    for one in scored:
        false_alarms, sensitivity, _ = roc_curve(one.labels, one.scores)
        colour, dashes = one.colour_and_dashes
        words = f"{one.name}: AUROC {auc(false_alarms, sensitivity):.3f} (n = {len(one.labels)})"
        axes.plot(
            false_alarms, sensitivity, color=colour, linestyle=dashes, linewidth=2, label=words
        )
    for one in scored:
        axes.plot(*one.point(), **_point_style(one.colour_and_dashes[0]))
    axes.plot([], [], label="operating point", **_point_style("white"))
    axes.plot([0, 1], [0, 1], color=_GRAY, linestyle=":", linewidth=1.2, label="chance: AUROC 0.5")
    axes.set(
        xlabel="False alarms among NORMAL (1 - specificity)", ylabel="Sensitivity", aspect="equal"
    )


def _point_style(colour: str) -> dict[str, Any]:
    edge = {"markeredgecolor": _INK, "markeredgewidth": 1.2, "zorder": 5}
    return {"marker": "o", "linestyle": "none", "markersize": 9, "markerfacecolor": colour, **edge}


def _histories(histories: dict[str, tuple[pd.DataFrame, int]]) -> "Figure":
    """Return two rows (validation AUROC, training loss), a column per history and its kept epoch, on shared scales."""
    figure = _figure(
        max(3.6 * len(histories), 5.2), 5.8, "Training histories, one column per architecture"
    )
    panels = figure.subplots(2, len(histories), squeeze=False, sharey="row")
    for column, (name, (history, kept)) in enumerate(histories.items()):
        upper, lower = _bare(panels[0, column]), _bare(panels[1, column])
        best = _kept_row(history, kept)
        for axes, value in ((upper, "val_auroc"), (lower, "loss")):
            _line(axes, history, value, STYLES.get(name.split("-")[0], (_INK, "-"))[0])
            axes.plot(best["epoch"], best[value], **_point_style("white"))
        upper.set_title(f"{name}\nkept: {best['val_auroc']:.3f} at epoch {kept}", fontsize=10)
        lower.set_xlabel("Epoch (circle: the one kept)")
    panels[0, 0].set_ylabel("Validation AUROC")
    panels[1, 0].set_ylabel("Training loss")
    return figure


def _kept_row(history: pd.DataFrame, kept: int) -> "pd.Series[Any]":
    """Return the row of the epoch that was kept; at epoch 0 there is one for each regularisation, and the best was."""
    rows = history[history["epoch"] == kept]
    return rows.iloc[int(rows["val_auroc"].argmax())]


def _line(axes: "Axes", history: pd.DataFrame, value: str, colour: str) -> None:
    """Draw one value by epoch: a point for each fit of the head, a line from the best of them through fine-tuning."""
    from matplotlib.ticker import MaxNLocator

    fits = history[history["phase"] == "frozen"]
    tuned = history[history["phase"] == "fine_tune"]
    axes.plot(fits["epoch"], fits[value], color=colour, linestyle="none", marker=".", markersize=6)
    line = tuned
    if len(fits):
        start = _kept_row(fits, int(fits["epoch"].max()))
        line = pd.concat([start.to_frame().T, tuned])
    axes.plot(line["epoch"], line[value], color=colour, linewidth=2, marker=".", markersize=6)
    first = float(history["epoch"].min())
    last = float(history["epoch"].max())
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    if len(tuned):
        axes.axvspan(tuned["epoch"].min() - 0.5, last + 0.5, color="#eef1f5", zorder=0)
        axes.annotate(
            " fine-tuning",
            (tuned["epoch"].min() - 0.5, 0.02),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            color="#4a5058",
            va="bottom",
        )


def _confusion_matrix(evaluation: Evaluation) -> "Figure":
    """Return the four counts with their share of the row (the folder's label)."""
    test = {
        name: int(evaluation.test[name] or 0) for name in ("n", "positives", "tp", "fp", "tn", "fn")
    }
    figure = _figure(*_PANEL, f"Test, n = {test['n']}, at threshold {evaluation.threshold:.4g}")
    axes = figure.subplots()
    normals = test["n"] - test["positives"]
    cells = (
        (0, 0, test["tn"], normals, "normals left alone"),
        (1, 0, test["fp"], normals, "false alarms"),
        (0, 1, test["fn"], test["positives"], "missed pneumonia"),
        (1, 1, test["tp"], test["positives"], "pneumonia found"),
    )
    for x, y, count, of, words in cells:
        _cell(axes, x, y, words, count, of)
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), xticks=[0, 1], yticks=[0, 1])
    axes.set_xticklabels([f"model says\n{name}" for name in LABEL_NAMES], fontsize=11)
    rows = zip(LABEL_NAMES, (normals, test["positives"]), strict=True)
    axes.set_yticklabels([f"labelled\n{name}\n(n = {n})" for name, n in rows], fontsize=11)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _cell(axes: "Axes", x: int, y: int, words: str, count: int, of: int) -> None:
    """Draw one cell: right answers in blue and wrong ones in orange, deeper with their share of the row."""
    from matplotlib.patches import Rectangle

    share = count / of if of else 0.0
    colour = _CLASS_COLOURS["NORMAL" if x == y else "PNEUMONIA"]
    place, size = (x - 0.48, y - 0.48), 0.96
    axes.add_patch(Rectangle(place, size, size, facecolor=colour, alpha=0.08 + 0.32 * share))
    axes.add_patch(Rectangle(place, size, size, fill=False, edgecolor=colour, linewidth=1.5))
    axes.text(x, y - 0.24, words, ha="center", va="center", fontsize=12, color=_INK)
    axes.text(
        x,
        y + 0.02,
        f"{count}",
        ha="center",
        va="center",
        fontsize=26,
        fontweight="bold",
        color=_INK,
    )
    axes.text(
        x, y + 0.28, f"{share:.1%} of {of}", ha="center", va="center", fontsize=11, color=_INK
    )


def _precision_recall(scored: _Scored) -> "Figure":
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, sensitivity, _ = precision_recall_curve(scored.labels, scored.scores)
    average = average_precision_score(scored.labels, scored.scores)
    prevalence = float(scored.labels.mean())
    title = f"Precision and recall on test, n = {len(scored.labels)} images"
    figure = _figure(*_PANEL, title)
    axes = _bare(figure.subplots())
    colour, _ = scored.colour_and_dashes
    words = f"{scored.name}: AUPRC {average:.3f}"
    axes.plot(
        sensitivity, precision, color=colour, linewidth=2, drawstyle="steps-post", label=words
    )
    positive = scored.scores >= scored.threshold
    if positive.any():
        point = (scored.point()[1], float(scored.labels[positive].mean()))
        axes.plot(*point, label=f"operating point: PPV {point[1]:.3f}", **_point_style(colour))
    chance = f"prevalence {prevalence:.3f}: what chance reaches"
    axes.axhline(prevalence, color=_GRAY, linestyle=":", linewidth=1.4, label=chance)
    axes.set(
        xlabel="Sensitivity (recall)", ylabel="PPV (precision)", xlim=(-0.02, 1.02), ylim=(0, 1.03)
    )
    axes.legend(loc="lower left", fontsize=9, framealpha=1)
    return figure


def _reliability(run: Path) -> "Figure":
    """Return observed share against mean score in ten bins, raw and calibrated, on validation and on test."""
    name = Selection.read(run / "selection.json").name
    training = Training.read(run / name / "training.json")
    method = training.calibration.method
    figure = _figure(
        10.5, 6.7, f"Are the scores of {training.architecture} probabilities? Calibration: {method}"
    )
    tables = {
        "validation, where it was fitted": run / name / "scores_val.csv",
        "test": run / "scores_test.csv",
    }
    for axes, (words, path) in zip(figure.subplots(1, 2), tables.items(), strict=True):
        table = read_table(path)
        if method != "none":
            _reliability_curve(_bare(axes), table, "raw_score", _GRAY, "raw")
        _reliability_curve(
            _bare(axes), table, "score", "#0072B2", "raw" if method == "none" else "calibrated"
        )
        axes.plot([0, 1], [0, 1], color=_INK, linestyle=":", linewidth=1.2, label="perfect")
        axes.set(
            xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", xlabel="Mean score of the bin"
        )
        axes.set(ylabel="Share of PNEUMONIA in the bin")
        axes.set_title(f"{words}, n = {len(table)}", fontsize=10, color=_INK, pad=14)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=9, frameon=False)
    return figure


def _reliability_curve(
    axes: "Axes", table: pd.DataFrame, column: str, colour: str, title: str
) -> None:
    labels, scores = table["label"].to_numpy(), table[column].to_numpy()
    bins = reliability.reliability_bins(labels, scores)
    for each in bins:
        axes.plot(
            [each.mean_score] * 2,
            [each.interval.low, each.interval.high],
            color=colour,
            linewidth=1,
            alpha=0.6,
        )
        at = (each.mean_score, each.observed)
        axes.annotate(
            str(each.images),
            at,
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=7.5,
            color=colour,
        )
    words = f"{title}: ECE {reliability.ece(labels, scores):.3f}, Brier {reliability.brier(labels, scores):.3f}"
    x, y = [each.mean_score for each in bins], [each.observed for each in bins]
    axes.plot(x, y, color=colour, marker="o", markersize=5, linewidth=0.8, alpha=0.8, label=words)


def _score_histograms(scored: _Scored) -> "Figure":
    """Return the scores of each class in its own row; what the threshold gets wrong is drawn full."""
    figure = _figure(*_PANEL, f"Scores on test by label, n = {len(scored.labels)} images")
    panels = figure.subplots(2, 1, sharex=True)
    for label, (axes, words) in enumerate(
        zip(panels, ("false alarms", "missed pneumonia"), strict=True)
    ):
        scores = scored.scores[scored.labels == label]
        wrong = (scores >= scored.threshold) != bool(label)
        _histogram(_bare(axes), scores, wrong, LABEL_NAMES[label])
        axes.axvline(scored.threshold, color=_INK, linestyle="--", linewidth=1.4)
        title = f"{LABEL_NAMES[label]}: {wrong.sum()} of {len(scores)} are {words} (full colour)"
        axes.set_title(title, fontsize=10, loc="left", color=_INK)
        axes.set(ylabel="Images", xlim=(-0.01, 1.01))
    left = scored.threshold > 0.5
    panels[0].annotate(
        f"threshold {scored.threshold:.4g}",
        (scored.threshold, 0.93),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        fontsize=9,
        color=_INK,
        va="top",
        ha="right" if left else "left",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )
    panels[1].set_xlabel("Calibrated score (0: like NORMAL, 1: like PNEUMONIA)")
    return figure


def _histogram(axes: "Axes", scores: Vector, wrong: Vector, name: str) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.ticker import MaxNLocator

    colour = _CLASS_COLOURS[name]
    fills = [to_rgba(colour), to_rgba(colour, 0.3)]
    axes.hist([scores[wrong], scores[~wrong]], bins=list(_BINS), stacked=True, color=fills)
    axes.hist(scores, bins=list(_BINS), histtype="step", color=colour, linewidth=1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
