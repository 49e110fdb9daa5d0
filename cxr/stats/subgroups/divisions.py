"""How a test set is divided: by what file names, image sizes, DICOM tags and tables say."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# Columns of the manifest that some data have, by which a test set is divided.
ATTRIBUTES = ("age", "sex", "view", "year", "manufacturer", "device_model")
UNKNOWN = "not known"
AGE_BANDS = {
    "0-4 years": 0,
    "5-17 years": 5,
    "18-39 years": 18,
    "40-64 years": 40,
    "65 years or more": 65,
}
_MOST_GROUPS = 8  # of one division; the rarest become one group
_OTHERS = "others"
_YEARS = 5  # in a group, where there are more years than groups
# How file names of the published data set begin, by the series that the image was taken in.
_SERIES = re.compile(r"(NORMAL2-IM|IM|person)", re.IGNORECASE)
_SIZE_NAMES = {2: ("small", "large"), 3: ("small", "medium", "large")}


class Division(NamedTuple):
    """One way to divide a set of images.

    Attributes:
        groups: The group of each image, "" for those that are in none.
        names: The groups that occur, in the order in which they are shown.
    """

    groups: "pd.Series[str]"
    names: tuple[str, ...]


def divide(scores: pd.DataFrame) -> dict[str, Division]:
    """Return every division of a set of images, by its name.

    Image sizes are divided at the terciles of width x height; where these coincide, into fewer
    parts. Of ATTRIBUTES only those divide that some image has; the others of its images are then
    in a group of their own, UNKNOWN.

    Args:
        scores: One row per image, with image, etiology, width, height and what there is of
            ATTRIBUTES.

    Returns:
        The divisions in a fixed order.
    """
    divisions = {
        "cause": _sorted_division(scores["etiology"]),
        "image size": _sorted_division(_size_groups(scores)),
        "series": _sorted_division(scores["image"].map(_series)),
    }
    groupings: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series[str]]]] = {
        "age": ("age", _age_bands),
        "sex": ("sex", lambda rows: _texts(rows["sex"])),
        "view": ("view", lambda rows: _texts(rows["view"])),
        "manufacturer": ("manufacturer", lambda rows: _texts(rows["manufacturer"])),
        "device": ("device_model", _devices),
        "year": ("year", _years),
    }
    for name, (column, group) in groupings.items():
        if column not in scores:
            continue
        groups = group(scores)
        if (groups != "").any():
            divisions[name] = _sorted_division(_join_rare(groups.replace("", UNKNOWN)))
    if "device" in divisions and "manufacturer" in divisions:
        # One model of each manufacturer: the same division twice would be tested twice.
        by_device = divisions["device"].groups
        by_manufacturer = divisions["manufacturer"].groups
        if (pd.factorize(by_device)[0] == pd.factorize(by_manufacturer)[0]).all():
            del divisions["device"]
    return divisions


def _sorted_division(groups: "pd.Series[str]") -> Division:
    """Return a division whose groups stand in the order of their numbers, then their names."""
    names = sorted((name for name in groups.unique() if name), key=_place)
    return Division(groups, tuple(names))


def _place(name: str) -> tuple[bool, bool, int, str]:
    """Return by what a group is sorted: bands by their first number, what is not known last."""
    number = re.match(r"\d+", name)
    return name == UNKNOWN, name.startswith(_OTHERS), int(number[0]) if number else 0, name


def _texts(column: "pd.Series[Any]") -> "pd.Series[str]":
    """Return a column as texts, "" where there is no value."""
    return column.fillna("").astype(str)


def _numbers(column: "pd.Series[Any]") -> "pd.Series[float]":
    """Return a column of texts as numbers, NaN where there is none."""
    return pd.to_numeric(column, errors="coerce").astype(float)


def _age_bands(scores: pd.DataFrame) -> "pd.Series[str]":
    """Return the band of AGE_BANDS of each age in years, "" where it is not known."""
    bands = pd.cut(
        _numbers(scores["age"]),
        [*AGE_BANDS.values(), np.inf],
        right=False,
        labels=list(AGE_BANDS),
    )
    return bands.astype(object).fillna("").astype(str)


def _devices(scores: pd.DataFrame) -> "pd.Series[str]":
    """Return the model of each device after its manufacturer, "" where it is not known."""
    model = _texts(scores["device_model"])
    if "manufacturer" not in scores:
        return model
    names = _texts(scores["manufacturer"]) + " " + model
    return names.str.strip().where(model != "", "")


def _years(scores: pd.DataFrame) -> "pd.Series[str]":
    """Return the year of each image, or years of five where there are many; "" where unknown."""
    years = _numbers(scores["year"])
    names = years.map(lambda year: "" if np.isnan(year) else f"{year:.0f}")
    if names.nunique() <= _MOST_GROUPS:
        return names
    starts = years // _YEARS * _YEARS
    return starts.map(
        lambda start: "" if np.isnan(start) else f"{start:.0f}-{start + _YEARS - 1:.0f}"
    )


def _join_rare(groups: "pd.Series[str]") -> "pd.Series[str]":
    """Return at most _MOST_GROUPS known groups: of more, the rarest become one."""
    counts = groups[groups != UNKNOWN].value_counts()
    if len(counts) <= _MOST_GROUPS:
        return groups
    rare = counts.index[_MOST_GROUPS - 1 :]
    return groups.mask(groups.isin(rare), f"{_OTHERS} ({len(rare)})")


def _size_groups(scores: pd.DataFrame) -> "pd.Series[str]":
    """Return the size group of each image; the names sort from small to large."""
    area = scores["width"] * scores["height"]
    if area.nunique() == 1:
        size = f"all {scores['width'].iloc[0]}x{scores['height'].iloc[0]}"
        return pd.Series(size, index=scores.index)
    terciles = np.unique(np.quantile(area, [1 / 3, 2 / 3]))
    edges = [edge for edge in terciles if edge < area.max()]
    if not edges:
        # Two thirds of the images have the largest size: divide that from all others.
        edges = [np.unique(area)[-2]]
    bounds = [f"up to {edges[0] / 1e6:.2f} MP"]
    bounds += [f"over {edge / 1e6:.2f} MP" for edge in edges]
    names = []
    for number, bound in enumerate(bounds):
        size = _SIZE_NAMES[len(bounds)][number]
        names.append(f"{number + 1}: {size} ({bound})")
    places = np.searchsorted(edges, area, side="left")
    return pd.Series([names[place] for place in places], index=scores.index)


def _series(image: str) -> str:
    """Return how the file name begins if that is a known series, or an empty text."""
    match = _SERIES.match(PurePosixPath(image).name)
    return match[0] if match else ""
