"""Planned images as films, and as files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.chest import draw_chest
from cxr.data.phantoms.drawing.lung_markings import Place
from cxr.data.phantoms.plan import PlannedImage

_QUALITY = 92  # of JPEG files
# The first number of a seed says what is drawn from it. 0 is taken by the plan.
_ANATOMY_STREAM = 1
_IMAGE_STREAM = 2


def draw_film(
    planned: PlannedImage,
    seed: int,
    size: int,
) -> tuple[Image.Image, Place | None]:
    """Draw a planned image.

    Args:
        planned: The image.
        seed: Of the data set.
        size: Of the sides, in pixels; each varies around it.

    Returns:
        The image, 8-bit gray, and the place of its opacity, see `draw_chest`.
    """
    patient_seed = [seed, _ANATOMY_STREAM, planned.patient]
    image_seed = [seed, _IMAGE_STREAM, planned.number]
    anatomy = Anatomy.draw(np.random.default_rng(patient_seed))
    rng = np.random.default_rng(image_seed)
    pixels, place = draw_chest(
        rng,
        anatomy,
        pneumonia=planned.label == 1,
        size=size,
    )
    width = round(size * rng.uniform(1.0, 1.3))
    height = round(size * rng.uniform(0.85, 1.1))
    square = Image.fromarray(pixels)
    film = square.resize((width, height), Image.Resampling.BICUBIC)
    return film, place


def encode(film: Image.Image, file_format: str = "JPEG") -> bytes:
    """Return an image as a file."""
    buffer = io.BytesIO()
    film.save(buffer, file_format, quality=_QUALITY)
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
