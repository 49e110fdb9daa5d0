"""Soft tissue of a phantom: lungs, heart and great vessels, trunk and belly.

Lengths are fractions of the image side. Numbers without a name were chosen by eye.
"""

import numpy as np

from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.shapes import BodyGrid, Plane, bell, ellipse, fill


def distance_from_chest_wall(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return how far inside the lungs' outer wall a pixel is, in fractions of a lung's width."""
    centre = 0.155  # of a lung, from the spine
    widening = np.clip(grid.y - 0.5, -0.5, 0.5)  # lungs are wider below
    half_width = anatomy.lung_width * (1 + 0.10 * widening)
    height = 0.42 - 0.2 * (anatomy.lung_top - 0.13)
    widest_at = anatomy.lung_top + height
    above = np.minimum(grid.y - widest_at, 0) / height
    sideways = np.abs((grid.from_spine - centre) / half_width)
    # Between an ellipse and a rectangle. Below its widest place the wall is straight.
    wall: Plane = (sideways**2.2 + np.abs(above) ** 2.4) ** np.float32(1 / 2.3)
    inside: Plane = 1 - wall
    return inside


def diaphragm(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return the height of the diaphragm: two domes, the patient's right one a little higher."""
    is_right_side = grid.x < 0  # of the patient, who faces the reader
    extra = np.where(is_right_side, 0.02, 0.0).astype(np.float32)
    rise = anatomy.dome + extra
    return anatomy.lung_base - rise * bell(grid.from_spine - 0.13, 0.125)


def lungs(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return where the lungs are, 0 to 1."""
    within_wall = fill(distance_from_chest_wall(grid, anatomy), 0.055)
    above_diaphragm = fill(diaphragm(grid, anatomy) - grid.y, 0.012)
    beside_spine = fill(grid.from_spine - 0.05, 0.014)
    return within_wall * above_diaphragm * beside_spine


def mediastinum(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return the shadow of heart, aortic arch and great vessels, 0 to 1."""
    heart = _heart(grid, anatomy)
    arch = ellipse(grid.x - 0.035, grid.y - 0.34, 0.055, 0.06)
    heart_and_arch = np.maximum(fill(heart, 0.10), fill(arch, 0.18))
    widening = np.clip((grid.y - 0.3) / 0.3, 0, 1)
    vessels = 0.062 + 0.03 * widening - grid.from_spine
    below_neck = fill(grid.y - 0.12, 0.05)
    shadow: Plane = np.maximum(heart_and_arch, fill(vessels, 0.014) * below_neck)
    return shadow


def _heart(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return the distance from the heart's edge: a tilted ellipse, 1 in its centre."""
    x = grid.x - 0.045
    y = grid.y - (anatomy.lung_base - 0.215)
    tilted_x = x - anatomy.heart_tilt * 0.35 * y
    half_width = 0.148 * anatomy.heart
    half_height = 0.185 * anatomy.heart
    return ellipse(tilted_x, y, half_width, half_height)


def body(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return the brightness of neck, shoulders and trunk, with the denser belly and heart."""
    thickness = np.clip(1 - (grid.from_spine / (anatomy.torso + 0.12)) ** 2, 0, 1)
    thickness = 0.72 + 0.28 * np.sqrt(thickness)
    belly = 0.13 * fill(grid.y - diaphragm(grid, anatomy), 0.03)
    density = anatomy.tissue * thickness
    density = density + belly
    density = density + 0.10 * mediastinum(grid, anatomy)
    gas_bubble = ellipse(grid.x - 0.15, grid.y - anatomy.lung_base - 0.02, 0.10, 0.07)
    gas = anatomy.stomach_gas * fill(gas_bubble, 0.2)
    return 0.02 + _outline(grid, anatomy) * (density - gas)


def _outline(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return where the body is, 0 to 1."""
    neck = 0.11  # half its width
    arms = 0.24 * bell(grid.y - 0.25, 0.12)  # raised a little, out of the image
    shoulders = fill(grid.y - 0.075 - 0.13 * grid.from_spine, 0.045)
    half_width = neck + (anatomy.torso - neck + arms) * shoulders
    return fill(half_width - grid.from_spine, 0.018)
