"""Draw a contact sheet of near-duplicate pairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.core import plotting
from cxr.core.formatting import printable
from cxr.data.manifest.shard_inspection import Thumbnails

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS_SHOWN = 24
MOST_COLUMNS = 4
_GAP = 2  # white pixels between the two images of a pair
_NAME_LENGTH = 34  # characters of a file name that fit


def draw_pairs(
    pairs: pd.DataFrame,
    thumbnail_places: Mapping[str, str],
    inspection: Path,
    path: Path,
) -> Path:
    """Draw the first pairs of near-duplicates side by side.

    Args:
        pairs: The table of pairs.csv; its first PAIRS_SHOWN rows are drawn.
        thumbnail_places: The column `thumbnail` by image, of all images that are drawn.
        inspection: Folder of the inspection, which holds the thumbnails.
        path: The PNG.

    Returns:
        `path`.
    """
    shown = pairs.head(PAIRS_SHOWN)
    columns = min(MOST_COLUMNS, max(2, len(shown)))
    rows = -(-len(shown) // columns)
    title = f"Near-duplicates: {len(shown)} of {len(pairs)} pairs, as compared"
    figure = plotting.new_figure(
        title,
        3.3 * columns,
        0.7 + 2.2 * rows,
    )
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
    )
    for axes, pair in zip(grid.flat, shown.to_dict("records"), strict=False):
        places = [thumbnail_places[pair["image_a"]], thumbnail_places[pair["image_b"]]]
        _draw_pair(
            axes,
            pair,
            Thumbnails(inspection, places)[[0, 1]],
        )
    for axes in grid.flat:
        axes.set_axis_off()
    return plotting.save_png(figure, path)


def _draw_pair(
    axes: "Axes",
    pair: dict[Any, Any],
    pixels: "np.ndarray[Any, Any]",
) -> None:
    """Draw the two thumbnails, uint8 (2, h, w), with their splits and names above."""
    first, second = pixels
    gap = np.full(
        (len(first), _GAP),
        255,
        np.uint8,
    )
    axes.imshow(
        np.hstack([first, gap, second]),
        cmap="gray",
        vmin=0,
        vmax=255,
    )
    caption = [
        _describe_image(pair["split_a"], pair["image_a"]),
        _describe_image(pair["split_b"], pair["image_b"]),
        f"{pair['variant']}, correlation {pair['correlation']:.3f}",
    ]
    axes.set_title(
        "\n".join(caption),
        fontsize=7.5,
        loc="left",
        parse_math=False,
    )


def _describe_image(split: str, image: str) -> str:
    """Return e.g. "test: person1_virus_6.jpeg"."""
    name = Path(printable(image)).name
    return f"{split}: {name[:_NAME_LENGTH]}"
