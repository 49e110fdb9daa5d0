"""How figures are made and kept: a plain frame, and PNG files small enough for a report to carry them inside it.

Figures are drawn without pyplot, so nothing global is opened or kept. Left out: what is drawn.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
import io
from typing import TYPE_CHECKING

from cxr.core.files import atomic_write

CLASS_COLOURS = {
    "NORMAL": "#0072B2",
    "PNEUMONIA": "#D55E00",
}  # Okabe and Ito: told apart by colour-blind eyes
CAUSE_COLOURS = {"bacteria": "#E69F00", "virus": "#009E73", "not stated": "#999999"}
DPI = 110
LARGEST_PNG = 300_000  # bytes


def new_figure(title: str, width: float, height: float) -> "Figure":
    """Return an empty figure of width x height inches with a title over all of it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=13)
    return figure


def despine(axes: "Axes") -> None:
    """Take away the upper and right frame lines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def save_png(figure: "Figure", path: Path, largest: int = LARGEST_PNG) -> Path:
    """Return `path` with the figure as a PNG there, in as many colours as fit into `largest` bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    with Image.open(drawn) as picture:
        whole = picture.convert("RGB")
    for colours in (256, 128, 64, 32):
        if drawn.tell() <= largest:
            break
        drawn = io.BytesIO()
        _with_palette(whole, colours).save(drawn, "PNG", optimize=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(drawn.getvalue())
    return path


def _with_palette(picture: Image.Image, colours: int) -> Image.Image:
    """Return the picture in evenly spaced grays and, in two of three colours, the commonest of what is not gray.

    Left to itself Pillow's search spends nearly all colours on the grays, which are most of the picture.
    """
    values = np.asarray(picture)
    gray = values.min(axis=2) == values.max(axis=2)
    count = colours // 3 if not gray.all() else colours
    grays = np.repeat(np.linspace(0, 255, count).round().astype(np.uint8), 3).tobytes()
    indices = np.zeros(gray.shape, np.uint8)
    indices[gray] = (values[gray, 0] * ((count - 1) / 255)).round()  # white stays exactly white
    if not gray.all():
        own = Image.fromarray(values[~gray][np.newaxis]).quantize(colours - count, kmeans=2)
        indices[~gray] = count + np.asarray(own)[0]
        grays += bytes(own.getpalette() or [])
    small = Image.fromarray(indices)
    small.putpalette(grays)
    return small
