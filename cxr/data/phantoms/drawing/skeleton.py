"""Bones of a phantom: spine, ribs, clavicles and shoulders; and the windpipe before the spine.

Lengths are fractions of the image side. Numbers without a name only shape the drawing.
"""

import numpy as np

from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.shapes import BodyGrid, Plane, bone, fill
from cxr.data.phantoms.drawing.soft_tissue import distance_from_chest_wall

_RIBS = 9  # pairs
_FRONT_RIBS = 7  # pairs that reach the breastbone


def bones(
    grid: BodyGrid,
    lungs: Plane,
    anatomy: Anatomy,
) -> Plane:
    """Return the brightness that bones add, with the darker windpipe.

    Args:
        grid: The place of every pixel.
        lungs: Where the lungs are, 0 to 1: ribs show best before them.
        anatomy: Of the patient.
    """
    skeleton: Plane = _spine(grid) - _windpipe(grid)
    skeleton = skeleton + _rib_cage(grid, lungs, anatomy)
    skeleton = skeleton + _clavicles(grid, anatomy)
    return skeleton + _shoulders(grid)


def _spine(grid: BodyGrid) -> Plane:
    column = fill(0.042 - grid.from_spine, softness=0.010)
    vertebra = 0.058  # its height with the disc below
    phase = 2 * np.pi * grid.y / vertebra
    vertebrae = np.cos(phase)
    return column * (0.085 + 0.022 * vertebrae)


def _windpipe(grid: BodyGrid) -> Plane:
    tube = fill(0.017 - grid.from_spine, softness=0.007)
    above_fork = fill(0.36 - grid.y, softness=0.03)
    return 0.09 * tube * above_fork


def _rib_cage(
    grid: BodyGrid,
    lungs: Plane,
    anatomy: Anatomy,
) -> Plane:
    within_wall = fill(
        distance_from_chest_wall(grid, anatomy) + 0.10,
        softness=0.03,
    )
    above_base = fill(
        anatomy.lung_base + 0.08 - grid.y,
        softness=0.03,
    )
    cage = within_wall * above_base
    visibility = 0.45 + 0.55 * lungs
    rib_cage: Plane = visibility * cage * _ribs(grid, anatomy)
    return rib_cage


def _ribs(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    """Return pairs of ribs: the backs arch out of the spine, the fainter fronts slope inwards."""
    across = grid.from_spine
    turn = 0.31  # from the spine: where a rib turns from the back to the front
    back = -0.34 * across + anatomy.rib_slope * across**2
    height_at_turn = -0.34 * turn + anatomy.rib_slope * turn**2
    front = height_at_turn + 0.55 * (turn - across)
    beside_breastbone = fill(across - 0.11, softness=0.02)
    ribs = np.zeros_like(across)
    for number in range(_RIBS):
        start = anatomy.rib_start + anatomy.rib_gap * number
        below_start = grid.y - start
        ribs += 0.085 * bone(below_start - back, half_width=0.013)
        if number < _FRONT_RIBS:
            front_bone = bone(below_start - front, half_width=0.014)
            ribs += 0.042 * beside_breastbone * front_bone
    return ribs


def _clavicles(grid: BodyGrid, anatomy: Anatomy) -> Plane:
    across = grid.from_spine
    height = 0.205 + anatomy.clavicle - 0.17 * across
    height = height + 0.016 * np.sin(across * 20)  # a slight double bend
    inner_end = fill(across - 0.035, softness=0.01)
    outer_end = fill(0.36 - across, softness=0.02)
    ends = inner_end * outer_end
    shaft = bone(grid.y - height, half_width=0.012)
    clavicles: Plane = 0.10 * shaft * ends
    return clavicles


def _shoulders(grid: BodyGrid) -> Plane:
    x = grid.from_spine - 0.43
    y = grid.y - 0.20
    radius = 0.055
    inside_joint = 1 - np.hypot(x / radius, y / radius)
    joint = fill(inside_joint, softness=0.15)
    outside_joint = fill(x, softness=0.01)
    shaft = bone(y - 0.45 * x, half_width=0.034)
    arm = shaft * outside_joint
    shoulders: Plane = 0.09 * np.maximum(joint, arm)
    return shoulders
