"""Soft tissue of a phantom: lungs, heart and great vessels, trunk and belly.

Lengths are fractions of the image side. Numbers without a name only shape the drawing.
"""

import numpy as np

from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.shapes import (
    BodyGrid,
    Plane,
    bell,
    ellipse,
    fill,
    saturate,
)


def distance_from_chest_wall(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return how far inside the lungs' outer wall a pixel is, in fractions of a lung's width."""
    centre = 0.155  # of a lung, from the spine
    widening = np.clip(grid.y - 0.5, -0.5, 0.5)  # lungs are wider below
    half_width = anatomy.lung_width * (1 + 0.10 * widening)
    height = 0.42 - 0.2 * (anatomy.lung_top - 0.13)
    widest_at = anatomy.lung_top + height
    above = np.minimum(grid.y - widest_at, 0) / height
    sideways = (grid.from_spine - centre) / half_width
    # Between an ellipse and a rectangle. Below its widest place the wall is straight.
    wall = np.abs(sideways) ** 2.2 + np.abs(above) ** 2.4
    exponent = np.float32(1 / 2.3)
    inside: Plane = 1 - wall**exponent
    return inside


def diaphragm(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return the height of the diaphragm: two domes, the patient's right one a little higher."""
    is_right_side = grid.x < 0  # of the patient, who faces the reader
    extra = np.where(is_right_side, 0.02, 0.0)
    rise = anatomy.dome + extra.astype(np.float32)
    dome = bell(
        grid.from_spine - 0.13,
        width=0.125,
    )
    return anatomy.lung_base - rise * dome


def lungs(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return where the lungs are, 0 to 1."""
    within_wall = fill(
        distance_from_chest_wall(grid, anatomy),
        softness=0.055,
    )
    above_diaphragm = fill(
        diaphragm(grid, anatomy) - grid.y,
        softness=0.012,
    )
    beside_spine = fill(grid.from_spine - 0.05, softness=0.014)
    return within_wall * above_diaphragm * beside_spine


def mediastinum(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return the shadow of heart, aortic arch and great vessels, 0 to 1."""
    heart = _heart(grid, anatomy)
    arch = ellipse(
        x=grid.x - 0.035,
        y=grid.y - 0.34,
        half_width=0.055,
        half_height=0.06,
    )
    heart_shadow = fill(heart, softness=0.10)
    arch_shadow = fill(arch, softness=0.18)
    heart_and_arch = np.maximum(heart_shadow, arch_shadow)
    widening = saturate((grid.y - 0.3) / 0.3)
    inside_vessels = 0.062 + 0.03 * widening - grid.from_spine
    below_neck = fill(grid.y - 0.12, softness=0.05)
    vessels = fill(inside_vessels, softness=0.014) * below_neck
    shadow: Plane = np.maximum(heart_and_arch, vessels)
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
    scaled = grid.from_spine / (anatomy.torso + 0.12)
    roundness = np.sqrt(saturate(1 - scaled**2))
    thickness = 0.72 + 0.28 * roundness
    below_diaphragm = fill(
        grid.y - diaphragm(grid, anatomy),
        softness=0.03,
    )
    density = anatomy.tissue * thickness
    density = density + 0.13 * below_diaphragm
    density = density + 0.10 * mediastinum(grid, anatomy)
    gas_bubble = ellipse(
        x=grid.x - 0.15,
        y=grid.y - anatomy.lung_base - 0.02,
        half_width=0.10,
        half_height=0.07,
    )
    gas = anatomy.stomach_gas * fill(gas_bubble, softness=0.2)
    return 0.02 + _outline(grid, anatomy) * (density - gas)


def _outline(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return where the body is, 0 to 1."""
    neck = 0.11  # half its width
    # The arms are raised a little, out of the image.
    arms = 0.24 * bell(grid.y - 0.25, width=0.12)
    shoulders = fill(
        grid.y - 0.075 - 0.13 * grid.from_spine,
        softness=0.045,
    )
    below_neck = anatomy.torso - neck + arms
    half_width = neck + below_neck * shoulders
    return fill(half_width - grid.from_spine, softness=0.018)
