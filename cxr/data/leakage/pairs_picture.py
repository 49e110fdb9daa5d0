"""A contact sheet of near-duplicate pairs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core import plotting
from cxr.core.formatting import printable
from cxr.data.manifest.shard_inspection import Thumbnails

SHOWN = 24  # pairs on a contact sheet
Pairs = pd.DataFrame  # with PAIR_COLUMNS


def draw_pairs(pairs: Pairs, places: dict[str, str], inspection: Path, path: Path) -> Path:
    """Publish a contact sheet of the first SHOWN pairs, side by side; `places` has each image's `thumbnail`."""
    shown = pairs.head(SHOWN)
    columns = min(4, max(2, len(shown)))
    rows = -(-len(shown) // columns)
    figure = plotting.new_figure(
        f"Near copies: {len(shown)} of {len(pairs)} pairs, as compared",
        3.3 * columns,
        0.7 + 2.2 * rows,
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, one in zip(grid.flat, shown.to_dict("records"), strict=False):
        _draw_pair(
            axes,
            one,
            Thumbnails(inspection, [places[one["image_a"]], places[one["image_b"]]])[[0, 1]],
        )
    for axes in grid.flat:
        axes.set_axis_off()
    return plotting.save_png(figure, path)


def _draw_pair(axes: Any, one: dict[Any, Any], both: "np.ndarray[Any, Any]") -> None:
    axes.imshow(
        np.hstack([both[0], np.full((64, 2), 255, np.uint8), both[1]]),
        cmap="gray",
        vmin=0,
        vmax=255,
    )
    names = [
        f"{one[f'split_{x}']}: {Path(printable(one[f'image_{x}'])).name[:34]}" for x in ("a", "b")
    ]
    words = "\n".join([*names, f"{one['variant']}, correlation {one['correlation']:.3f}"])
    axes.set_title(words, fontsize=7.5, loc="left", parse_math=False)
