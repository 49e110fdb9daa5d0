"""Shapes that phantoms are composed of: planes of brightness from formulas."""

from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image

Plane = np.ndarray[Any, Any]


class BodyGrid(NamedTuple):
    """The place of every pixel on the body, in fractions of the image side.

    Attributes:
        x: From the spine, above 0 on the right of the image, float32 (size, size).
        y: From the top, float32 (size, size).
    """

    x: Plane
    y: Plane

    @property
    def from_spine(self) -> Plane:
        """Return the distance from the spine to either side."""
        return np.abs(self.x)


def pose_body(rng: Generator, size: int) -> BodyGrid:
    """Lay a body before the detector: a little turned, nearer or farther, and off the middle.

    Args:
        rng: What the pose is drawn from.
        size: Of the image, in pixels.
    """
    angle = np.radians(rng.uniform(-4, 4))
    scale = rng.uniform(0.92, 1.08)
    right = rng.uniform(-0.03, 0.03)
    down = rng.uniform(-0.03, 0.03)
    axis = pixel_axis(size) - 0.5
    shifted_x = axis - np.float32(right)
    shifted_y = axis - np.float32(down)
    x = shifted_x[None, :] / scale
    y = shifted_y[:, None] / scale
    cos = np.float32(np.cos(angle))
    sin = np.float32(np.sin(angle))
    turned_x = x * cos + y * sin
    turned_y = y * cos - x * sin
    return BodyGrid(turned_x, turned_y + np.float32(0.5))


def pixel_axis(size: int) -> Plane:
    """Return the middles of so many pixels in a row, in fractions of it, float32 (size,)."""
    positions = np.arange(size, dtype=np.float32)
    return (positions + 0.5) / size


def fill(distance: Plane, softness: float) -> Plane:
    """Fill a shape: 1 well inside, 0 well outside, and a smooth edge between.

    Args:
        distance: From the edge, above 0 inside.
        softness: Of the edge, in the unit of `distance`: larger is wider.
    """
    scaled = distance / np.float32(softness)
    return 0.5 + 0.5 * np.tanh(scaled)


def ellipse(
    x: Plane,
    y: Plane,
    half_width: float,
    half_height: float,
) -> Plane:
    """Return the distance from the edge of an ellipse, 1 in its centre and 0 on the edge.

    Args:
        x: From the centre.
        y: From the centre.
        half_width: In the unit of `x`.
        half_height: In the unit of `y`.
    """
    scaled_x = x / half_width
    scaled_y = y / half_height
    return 1 - np.sqrt(scaled_x**2 + scaled_y**2)


def saturate(plane: Plane) -> Plane:
    """Return the plane with values below 0 as 0 and above 1 as 1."""
    return np.clip(plane, 0, 1)


def bell(distance: Plane, width: float | Plane) -> Plane:
    """Return a bell curve: 1 at the distance 0, 1/e at `width`."""
    scaled = distance / width
    return np.exp(-(scaled**2))


def bone(distance: Plane, half_width: float) -> Plane:
    """Return the brightness across a bone, flat with slightly brighter rims.

    Args:
        distance: From the axis of the bone.
        half_width: In the unit of `distance`.
    """
    scaled = (distance / np.float32(half_width)) ** 2
    body = np.exp(-(scaled**2))
    rims = 0.75 + 0.4 * np.minimum(scaled, 1)
    return body * rims


def clouds(rng: Generator, size: int, patches: int) -> Plane:
    """Return smooth noise around 0 to 1, float32 (size, size).

    Args:
        rng: What the noise is drawn from.
        size: Of the image, in pixels.
        patches: How many there are on each side.
    """
    coarse = rng.random((patches, patches), dtype=np.float32)
    image = Image.fromarray(coarse)
    smooth = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(smooth)
