"""The picture of the test images that are referred to a person: referred.png."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.core import plotting
from cxr.core.formatting import describe_p_value
from cxr.core.settings import LABEL_NAMES
from cxr.results.plots import style
from cxr.storage.arrays import Stored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = "referred.png"
_COLUMNS = 6
_MOST_IMAGES = 12
_PANEL = 1.75  # inches
_LARGEST_PNG = 390_000  # bytes: a report carries its pictures inside it


def draw_referred(
    pixels: Stored,
    scores: pd.DataFrame,
    judgements: pd.DataFrame,
    run: Path,
) -> Path | None:
    """Draw up to twelve of the test images that the model abstains from, the least likely first.

    Args:
        pixels: uint8 (n, side, side).
        scores: Their image, label and score, in the same order.
        judgements: Of each image scope_p, status and reason, in any order.
        run: Where to publish referred.png. One that is there is removed where no image is referred.

    Returns:
        The path; None where no image is referred.
    """
    path = run / PICTURE
    judged = judgements.set_index("image").loc[scores["image"]].reset_index(drop=True)
    referred = judged[judged["status"] == "abstained"].sort_values("scope_p", kind="stable")
    if referred.empty:
        path.unlink(missing_ok=True)
        return None
    shown = referred.head(_MOST_IMAGES)
    title = f"Test images that are referred to a person: {len(referred)} of {len(scores)}"
    if len(referred) > len(shown):
        title += f", the {len(shown)} least like those of the training"
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    # At least as wide as the title.
    width = max(_PANEL * columns, 0.085 * len(title))
    figure = style.new_figure(width, 0.5 + 1.35 * _PANEL * rows, title)
    plots = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (position, judgement) in zip(plots, shown.iterrows(), strict=False):
        number = int(str(position))
        _draw_image(axes, np.asarray(pixels[number]), scores.iloc[number], judgement)
    for axes in plots[len(shown) :]:
        axes.axis("off")
    return plotting.save_png(figure, path, _LARGEST_PNG)


def _draw_image(
    axes: "Axes",
    image: Any,
    row: "pd.Series[Any]",
    judgement: "pd.Series[Any]",
) -> None:
    """Draw one image with its label, its score and why it is referred."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    label = LABEL_NAMES[int(row["label"])]
    kind = str(judgement["reason"]).partition(":")[0]
    axes.set_xlabel(
        f"{label}, score {row['score']:.3f}\n{kind}\n{describe_p_value(judgement['scope_p'])}",
        fontsize=8,
        color=style.INK,
        parse_math=False,
    )
