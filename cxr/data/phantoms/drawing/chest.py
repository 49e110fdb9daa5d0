"""Draw a made-up frontal chest X-ray from formulas, never from a person's image."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from cxr.data.phantoms.drawing import skeleton, soft_tissue
from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.lung_markings import Place, draw_opacities, vessels
from cxr.data.phantoms.drawing.shapes import (
    BodyGrid,
    Plane,
    clouds,
    pose_body,
    saturate,
)

_DARKEST = 0.02  # of a plate before exposure


def draw_chest(
    rng: Generator,
    anatomy: Anatomy,
    pneumonia: bool,
    size: int,
) -> tuple[Plane, Place | None]:
    """Draw a frontal chest X-ray.

    Args:
        rng: What differs between the images of a patient is drawn from it.
        anatomy: Of the patient.
        pneumonia: Whether there are opacities in the lungs.
        size: Of the image, in pixels.

    Returns:
        The image, uint8 (size, size): 0 is black, and the patient's left is on the right. And the
        centre (x, y) of the strongest opacity, in fractions 0 to 1 of the image from its top left,
        or None without pneumonia.
    """
    grid = pose_body(rng, size)
    lungs = soft_tissue.lungs(grid, anatomy)
    mediastinum = soft_tissue.mediastinum(grid, anatomy)
    air = lungs * (1 - 0.93 * mediastinum)
    plate = _plate(grid, lungs, air, anatomy)
    unevenness = clouds(rng, size, 10) - 0.5
    plate = plate + 0.13 * unevenness
    plate = np.maximum(plate, _DARKEST)
    place = None
    if pneumonia:
        opacities, place = draw_opacities(rng, air, grid.y)
        # Exposure is automatic: an opacity brightens its place, not the whole film, so that the
        # mean brightness gives nothing away.
        plate = plate + opacities - np.mean(opacities)
    return _expose(rng, plate), place


def _plate(
    grid: BodyGrid,
    lungs: Plane,
    air: Plane,
    anatomy: Anatomy,
) -> Plane:
    """Return what the body of a patient absorbs, about 0 to 1."""
    tissue = soft_tissue.body(grid, anatomy) - 0.37 * air
    bones = skeleton.bones(grid, lungs, anatomy)
    markings = vessels(grid, anatomy) * air
    plate: Plane = tissue + bones + markings
    return plate


def _expose(rng: Generator, plate: Plane) -> Plane:
    """Return the plate as a film: with exposure, gamma, grain and a side marker.

    Returns:
        uint8 (size, size).
    """
    size = len(plate)
    gain = rng.uniform(0.98, 1.28)
    offset = rng.uniform(-0.03, 0.05)
    gamma = rng.uniform(0.85, 1.2)
    noise = rng.normal(0, 1, (size, size))
    coarseness = rng.uniform(0.008, 0.018)
    grain = noise.astype(np.float32) * coarseness
    exposed = saturate(plate * gain + offset)
    light = saturate(exposed ** np.float32(gamma) + grain)
    levels = (light * 255).round()
    return _with_side_marker(rng, levels.astype(np.uint8))


def _with_side_marker(rng: Generator, film: Plane) -> Plane:
    """Write an R beside the patient's right shoulder, as radiographers do."""
    size = len(film)
    left = rng.uniform(0.03, 0.07) * size
    top = rng.uniform(0.03, 0.25) * size
    image = Image.fromarray(film)
    font = ImageFont.load_default(size * 0.055)
    ImageDraw.Draw(image).text(
        (left, top),
        "R",
        fill=235,
        font=font,
    )
    return np.asarray(image)
