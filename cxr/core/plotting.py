"""How figures are started and saved: one look, and PNG files small enough to embed in a report.

Figures are drawn without pyplot, so no global state is opened or kept. What they show is drawn
where it is known.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cxr.core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# From the palette of Okabe and Ito, which colour-blind people can tell apart.
CLASS_COLOURS = {
    "NORMAL": "#0072B2",
    "PNEUMONIA": "#D55E00",
}
CAUSE_COLOURS = {
    "bacteria": "#E69F00",
    "virus": "#009E73",
    "not stated": "#999999",
}
DPI = 110
LARGEST_PNG = 300_000  # bytes


def new_figure(title: str, width: float, height: float) -> "Figure":
    """Return an empty figure with a title above all of its axes.

    Args:
        title: The title.
        width: Width in inches.
        height: Height in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=13)
    return figure


def despine(axes: "Axes") -> None:
    """Remove the upper and right frame lines of the axes, and make their tick labels small."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def save_png(figure: "Figure", path: Path, largest: int = LARGEST_PNG) -> Path:
    """Save a figure as a PNG, with fewer colours where that is needed to keep the file small.

    Args:
        figure: The figure.
        path: The file.
        largest: The size in bytes that the file should not exceed. With 32 colours, the fewest,
            it is saved whatever its size.

    Returns:
        The path.
    """
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    with Image.open(png) as opened:
        picture = opened.convert("RGB")
    for colours in (256, 128, 64, 32):
        if png.tell() <= largest:
            break
        png = io.BytesIO()
        _with_palette(picture, colours).save(png, "PNG", optimize=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(png.getvalue())
    return path


def _with_palette(picture: Image.Image, colours: int) -> Image.Image:
    """Return an RGB picture in a palette: a third evenly spaced grays, the rest other colours.

    Pillow's own search spends nearly all colours on the grays, which are most of a figure of
    X-rays. A picture of grays alone gets them all.
    """
    pixels = np.asarray(picture)
    is_gray = pixels.min(axis=2) == pixels.max(axis=2)
    gray_count = colours if is_gray.all() else colours // 3
    grays = np.linspace(0, 255, gray_count).round().astype(np.uint8)
    palette = np.repeat(grays, 3).tobytes()
    indices = np.zeros(is_gray.shape, np.uint8)
    scale = (gray_count - 1) / 255  # the last gray is exactly white
    indices[is_gray] = (pixels[is_gray, 0] * scale).round()
    if not is_gray.all():
        coloured = Image.fromarray(pixels[~is_gray][np.newaxis])
        coloured = coloured.quantize(colours - gray_count, kmeans=2)
        indices[~is_gray] = gray_count + np.asarray(coloured)[0]
        palette += bytes(coloured.getpalette() or [])
    indexed = Image.fromarray(indices)
    indexed.putpalette(palette)
    return indexed
