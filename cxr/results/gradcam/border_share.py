"""How much of a Grad-CAM map lies at the border of the image, where no lung is."""

import numpy as np

from cxr.data.images.border import BORDER_FRACTION
from cxr.stats.metrics import Vector

MAP_SIDE = 224  # pixels: what maps are enlarged to before they are summed or drawn
_RESAMPLES = 2000


def border_share(maps: Vector, side_fraction: float = BORDER_FRACTION) -> Vector:
    """Return the share of each enlarged map's sum that lies in the border.

    Compare it with `uniform_share`: the coarser the maps, the closer to it they come.

    Args:
        maps: Not negative, (n, h, w).
        side_fraction: The width of the border as a share of each side, 0 to 0.5.

    Returns:
        Shares from 0 to 1, float64 (n,); NaN for a map that is all 0, which has no share.
    """
    every_pixel = np.ones(MAP_SIDE)
    total = _weighted_sums(maps, every_pixel)
    inner = _weighted_sums(maps, _inside_border(side_fraction))
    inner_share = np.full(len(maps), np.nan)
    np.divide(inner, total, out=inner_share, where=total > 0)
    share: Vector = (1 - inner_share).clip(0, 1)
    return share


def uniform_share(side_fraction: float = BORDER_FRACTION) -> float:
    """Return the border share of a map that is equal everywhere: the border's share of the area.

    >>> round(uniform_share(0.1), 6)  # 1 - 0.8 x 0.8
    0.36
    """
    inner_side = 1 - 2 * side_fraction
    return 1 - inner_side**2


def mean_interval(shares: Vector, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of the mean (Efron and Tibshirani, 1993).

    Images are resampled 2,000 times.

    Args:
        shares: Without NaN, (n,).
        seed: Of the resampling.

    Returns:
        The lower and the upper end; None for fewer than two images.
    """
    if len(shares) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(_RESAMPLES):
        resample = rng.choice(shares, len(shares))
        means.append(resample.mean())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def enlarge_maps(maps: Vector, side: int = MAP_SIDE) -> Vector:
    """Return maps enlarged bilinearly, as Pillow enlarges an image.

    Args:
        maps: (n, h, w).
        side: In pixels.

    Returns:
        float64, (n, side, side).
    """
    _, height, width = maps.shape
    enlarged: Vector = np.einsum(
        "yi,nij,xj->nyx",
        _interpolation(height, side),
        maps.astype(np.float64),
        _interpolation(width, side),
        optimize=True,
    )
    return enlarged


def _interpolation(cells: int, side: int) -> Vector:
    """Return the (side, cells) matrix that interpolates linearly between the centres of cells.

    Beyond the outer centres it is constant.
    """
    centres = (np.arange(side) + 0.5) * cells / side - 0.5
    numbers = np.arange(cells)
    columns = [np.interp(centres, numbers, unit) for unit in np.eye(cells)]
    return np.stack(columns, axis=1)


def _weighted_sums(maps: Vector, weights: Vector) -> Vector:
    """Return the sum of each enlarged map without enlarging it, its pixels weighted both ways."""
    _, height, width = maps.shape
    sums: Vector = np.einsum(
        "i,nij,j->n",
        weights @ _interpolation(height, MAP_SIDE),
        maps.astype(np.float64),
        weights @ _interpolation(width, MAP_SIDE),
    )
    return sums


def _inside_border(side_fraction: float) -> Vector:
    """Return how much of each pixel of a side lies within the border, 0 to 1.

    The border may end inside a pixel.
    """
    start = side_fraction * MAP_SIDE
    end = (1 - side_fraction) * MAP_SIDE
    left_edges = np.arange(MAP_SIDE)
    right_edges = left_edges + 1
    inside: Vector = np.minimum(right_edges, end) - np.maximum(left_edges, start)
    return inside.clip(0, 1)
