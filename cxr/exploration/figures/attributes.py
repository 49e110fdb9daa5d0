"""Draw what tags and tables say of the patients and devices: age, sex, view, device, year."""

import textwrap
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr.core import plotting
from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES, SPLITS
from cxr.stats.subgroups.divisions import ATTRIBUTES, UNKNOWN, Division, divide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = {
    "age": "Age",
    "sex": "Sex",
    "view": "View",
    "manufacturer": "Manufacturer",
    "device": "Device",
    "year": "Year",
}
_ORDERED = ("age", "year")  # their groups have an order, which their colours show
# Light enough for black numbers, and not the two colours of the classes.
_COLOURS = (
    "#3FB68F", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#B2DF8A", "#CAB2D6", "#D9B38C",
)  # fmt: skip
_UNKNOWN_COLOUR = "#CCCCCC"
_LONGEST_NAME = 34  # characters of a device's name
_SMALLEST_SHARE = 0.07  # a number in a narrower part would not fit


def draw_attributes(table: pd.DataFrame) -> "Figure | None":
    """Draw the shares of each group by split and class, a panel for each division.

    Args:
        table: The rows of the manifest in train, val and test.

    Returns:
        The figure, None where no image has an age, a sex, a view, a device or a year.
    """
    if not set(ATTRIBUTES) & set(table.columns):
        return None
    divisions = divide(table)
    shown = [name for name in _PANELS if name in divisions]
    if not shown:
        return None
    title = "Patients and devices by split and class: where the classes differ, a model can cheat"
    figure = plotting.new_figure(title, 12, 0.8 + 2.9 * -(-len(shown) // 2))
    panels = figure.subplots(-(-len(shown) // 2), 2, squeeze=False).ravel()
    for axes, name in zip(panels, shown, strict=False):
        _draw_shares(axes, table, divisions[name], _PANELS[name], name in _ORDERED)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    return figure


def _draw_shares(
    axes: "Axes",
    table: pd.DataFrame,
    division: Division,
    title: str,
    is_ordered: bool,
) -> None:
    """Draw a bar for each split and class, divided by the shares of the groups."""
    parts = [(split, label_name) for split in SPLITS for label_name in LABEL_NAMES]
    counts = pd.crosstab(
        [table["split"], table["label_name"]],
        division.groups,
    ).reindex(index=parts, columns=list(division.names), fill_value=0)
    sizes = counts.sum(axis=1)
    shares = counts.div(sizes.clip(lower=1), axis=0)
    starts = pd.Series(0.0, index=shares.index)
    colours = _choose_colours(division.names, is_ordered)
    heights = range(len(parts))
    for name in division.names:
        bars = axes.barh(
            heights,
            shares[name],
            left=starts,
            height=0.8,
            color=colours[name],
            edgecolor="white",
            linewidth=0.6,
            label=textwrap.shorten(printable(name), _LONGEST_NAME, placeholder=" ..."),
        )
        texts = [f"{share:.0%}" if share >= _SMALLEST_SHARE else "" for share in shares[name]]
        axes.bar_label(bars, texts, label_type="center", fontsize=7)
        starts = starts + shares[name]
    ticks = [
        f"{split} {label_name}, n = {size:,}"
        for (split, label_name), size in zip(parts, sizes, strict=True)
    ]
    axes.set_yticks(heights, ticks)
    for tick, (_, label_name) in zip(axes.get_yticklabels(), parts, strict=True):
        tick.set_color(plotting.CLASS_COLOURS[label_name])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.set_title(title, fontsize=11, loc="left")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        fontsize=8,
        frameon=False,
    )
    plotting.despine(axes)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=8)


def _choose_colours(names: tuple[str, ...], is_ordered: bool) -> dict[str, Any]:
    """Return the colour of each group: from light to dark where groups have an order."""
    from matplotlib import colormaps

    known = [name for name in names if name != UNKNOWN]
    colours: dict[str, Any] = {UNKNOWN: _UNKNOWN_COLOUR}
    for place, name in enumerate(known):
        colours[name] = _COLOURS[place % len(_COLOURS)]
        if is_ordered:
            # Its dark end would hide the numbers.
            colours[name] = colormaps["YlGn"](0.1 + 0.55 * place / max(1, len(known) - 1))
    return colours
