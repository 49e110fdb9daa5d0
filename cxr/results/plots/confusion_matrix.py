"""The confusion matrix of the test set: confusion_matrix.png.

scikit-learn's ConfusionMatrixDisplay has one colour scale for all cells and one text in each. Here
the colour tells right from wrong, and a cell has its name, its count and its share of the row.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from cxr.core.plotting import CLASS_COLOURS
from cxr.core.settings import LABEL_NAMES
from cxr.results.evaluation import Evaluation
from cxr.results.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RIGHT_COLOUR = CLASS_COLOURS["NORMAL"]
_WRONG_COLOUR = CLASS_COLOURS["PNEUMONIA"]
_CELL_SIDE = 0.96


class _Cell(NamedTuple):
    """One cell of the matrix.

    Attributes:
        column: The prediction, 0 or 1.
        row: The label, 0 or 1.
        name: What its images are called.
        images: How many they are.
        row_total: The images of its row.
    """

    column: int
    row: int
    name: str
    images: int
    row_total: int

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the label."""
        return self.column == self.row

    @property
    def share(self) -> float:
        """The share of the row, 0 to 1."""
        if not self.row_total:
            return 0.0
        return self.images / self.row_total


def draw_confusion_matrix(evaluation: Evaluation) -> "Figure":
    """Return the four counts of the test set, each with its share of the images of its label."""
    true_negatives = _count(evaluation, "tn")
    false_positives = _count(evaluation, "fp")
    false_negatives = _count(evaluation, "fn")
    true_positives = _count(evaluation, "tp")
    negatives = true_negatives + false_positives
    positives = true_positives + false_negatives
    cells = (
        _Cell(0, 0, "True negatives", true_negatives, negatives),
        _Cell(1, 0, "False positives", false_positives, negatives),
        _Cell(0, 1, "False negatives", false_negatives, positives),
        _Cell(1, 1, "True positives", true_positives, positives),
    )
    images = negatives + positives
    title = f"Confusion matrix on test, n = {images}, threshold {evaluation.threshold:.4g}"
    figure = style.new_figure(*style.SINGLE_PLOT, title)
    axes = figure.subplots()
    for cell in cells:
        _draw_cell(axes, cell)
    columns = [f"predicted\n{name}" for name in LABEL_NAMES]
    rows = [
        f"labelled\n{LABEL_NAMES[0]}\n(n = {negatives})",
        f"labelled\n{LABEL_NAMES[1]}\n(n = {positives})",
    ]
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
    axes.set_xticks([0, 1], labels=columns, fontsize=11)
    axes.set_yticks([0, 1], labels=rows, fontsize=11)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _count(evaluation: Evaluation, name: str) -> int:
    """Return one of the four counts, which can always be estimated."""
    return int(evaluation.test[name] or 0)


def _draw_cell(axes: "Axes", cell: _Cell) -> None:
    """Draw one cell, blue where right and orange where wrong, deeper with its share of the row."""
    from matplotlib.patches import Rectangle

    colour = _RIGHT_COLOUR if cell.is_right else _WRONG_COLOUR
    corner = (cell.column - _CELL_SIDE / 2, cell.row - _CELL_SIDE / 2)
    fill = Rectangle(
        corner,
        _CELL_SIDE,
        _CELL_SIDE,
        facecolor=colour,
        alpha=0.08 + 0.32 * cell.share,
    )
    frame = Rectangle(
        corner,
        _CELL_SIDE,
        _CELL_SIDE,
        fill=False,
        edgecolor=colour,
        linewidth=1.5,
    )
    axes.add_patch(fill)
    axes.add_patch(frame)
    centred: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "color": style.INK,
    }
    share = f"{cell.share:.1%} of {cell.row_total}"
    axes.text(cell.column, cell.row - 0.24, cell.name, fontsize=12, **centred)
    axes.text(
        cell.column,
        cell.row + 0.02,
        str(cell.images),
        fontsize=26,
        fontweight="bold",
        **centred,
    )
    axes.text(cell.column, cell.row + 0.28, share, fontsize=11, **centred)
