"""What is inside the lungs of a phantom: vessels and, with pneumonia, opacities."""

import numpy as np
from numpy.random import Generator

from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.shapes import (
    BodyGrid,
    Plane,
    bell,
    clouds,
    fill,
    pixel_axis,
    saturate,
)

Place = tuple[float, float]

_BRANCHES = 7  # on each side


def vessels(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return the lung markings of a patient: two hila, and branches that taper away from them."""
    rng = np.random.default_rng(anatomy.markings)
    markings = np.zeros_like(grid.y)
    markings += 0.11 * _hila(grid)
    for side in (-1, 1):
        x = grid.x * side - 0.06
        y = grid.y - 0.44
        even_angles = np.linspace(-1.25, 1.35, _BRANCHES)
        deviations = rng.uniform(-0.16, 0.16, _BRANCHES)
        for angle in even_angles + deviations:
            curvature = np.float32(rng.uniform(-2.0, 2.0))
            markings += _branch(x, y, angle, curvature)
    return markings


def _hila(grid: BodyGrid) -> Plane:
    x = (grid.from_spine - 0.085) / 0.035
    y = (grid.y - 0.45) / 0.075
    return np.exp(-(x**2) - y**2)


def _branch(
    x: Plane,
    y: Plane,
    angle: float,
    curvature: np.float32,
) -> Plane:
    """Return one branch of the vessels.

    Args:
        x: From its root, away from the spine.
        y: From its root, down.
        angle: Of its direction, in radians; above 0 is down.
        curvature: How much it bends.
    """
    cos = np.float32(np.cos(angle))
    sin = np.float32(np.sin(angle))
    along = x * cos + y * sin
    across = y * cos - x * sin
    from_axis = across - curvature * along**2
    tapering = saturate(1 - along / 0.25)
    half_width = 0.0025 + 0.004 * tapering
    fading = saturate(1 - along / 0.27)
    outside_hilum = fill(along - 0.02, softness=0.015)
    brightness = 0.10 * (outside_hilum * fading)
    return brightness * bell(from_axis, half_width)


def draw_opacities(
    rng: Generator,
    air: Plane,
    y: Plane,
) -> tuple[Plane, Place]:
    """Draw one or two patchy consolidations inside the lungs.

    Args:
        rng: What they are drawn from.
        air: Where there is air, 0 to 1, float (size, size).
        y: From the top of the body, float (size, size).

    Returns:
        The brightness that they add, and the centre (x, y) of the stronger one, in fractions of the
        image.
    """
    size = len(air)
    in_lungs = (air > 0.9) & (y > 0.27)
    candidates = np.flatnonzero(in_lungs)
    count = int(rng.integers(1, 3))
    strengths = rng.uniform(0.45, 0.65, count)
    opacities = np.zeros_like(air)
    places: list[Place] = []
    for strength in sorted(strengths, reverse=True):
        chosen = int(rng.choice(candidates))
        row, column = divmod(chosen, size)
        patch, place = _patch(rng, row, column, size)
        opacity = np.float32(strength) * patch
        opacities = np.maximum(opacities, opacity)
        places.append(place)
    texture = 0.72 + 0.5 * clouds(rng, size, 14)
    return opacities * air * texture, places[0]


def _patch(
    rng: Generator,
    row: int,
    column: int,
    size: int,
) -> tuple[Plane, Place]:
    """Return a patch of random width and height, 0 to 1, about one pixel, and the pixel's place."""
    axis = pixel_axis(size)
    centre_x = float(axis[column])
    centre_y = float(axis[row])
    half_width, half_height = rng.uniform(0.10, 0.16, 2)
    x = (axis - centre_x) / half_width
    y = (axis - centre_y) / half_height
    distance = x[None, :] ** 2 + y[:, None] ** 2
    patch = np.exp(-0.5 * distance**1.4)
    return patch, (centre_x, centre_y)
