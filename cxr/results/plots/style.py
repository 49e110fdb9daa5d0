"""How the pictures of results look: colours of the architectures, the frame and the marks."""

from typing import TYPE_CHECKING, Any

from cxr.core.settings import LABEL_NAMES
from cxr.core.settings.architectures import ARCHITECTURES
from cxr.stats.metrics import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b1f24"
GRAY = "#767c85"
# Inches. One size for single plots, so that two stand side by side in the report.
SINGLE_PLOT = (6.4, 5.4)

_GRID_COLOUR = "#e4e7eb"


def architecture_style(name: str) -> tuple[str, Any]:
    """Return the colour and the matplotlib line style of a training.

    Args:
        name: Of the training: its architecture, followed by "-seedN" where there are several, or
            that of an ensemble, which is drawn in the colour of text.
    """
    parts = name.split("-")
    architecture = next((ARCHITECTURES[part] for part in parts if part in ARCHITECTURES), None)
    if architecture is None:
        return INK, "-"
    colour = INK if parts[0] == "ensemble" else architecture.colour
    return colour, architecture.line_style


def new_figure(width: float, height: float, title: str) -> "Figure":
    """Return an empty white figure of width x height inches with a bold title at the left."""
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width, height),
        layout="constrained",
        facecolor="white",
    )
    figure.suptitle(
        title,
        fontsize=12,
        fontweight="bold",
        color=INK,
        x=0.01,
        ha="left",
    )
    return figure


def clean_frame(axes: "Axes") -> None:
    """Hide the upper and right frame lines and lay a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID_COLOUR, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK)


def point_style(colour: str) -> dict[str, Any]:
    """Return the arguments of `Axes.plot` for a marked point: an operating point, a kept epoch."""
    return {
        "marker": "o",
        "linestyle": "none",
        "markersize": 9,
        "markerfacecolor": colour,
        "markeredgecolor": INK,
        "markeredgewidth": 1.2,
        "zorder": 5,
    }


def class_counts(labels: Vector) -> str:
    """Return how many images each class has, for a title.

    >>> import numpy as np
    >>> class_counts(np.array([0, 1, 1]))
    '1 NORMAL, 2 PNEUMONIA'
    """
    counts = []
    for label, name in enumerate(LABEL_NAMES):
        images = (labels == label).sum()
        counts.append(f"{images} {name}")
    return ", ".join(counts)
