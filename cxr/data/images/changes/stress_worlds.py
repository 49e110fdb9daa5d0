"""The stress worlds: how films look from other machines, departments and networks.

A model that is judged on clean validation alone is judged on the folder that it comes from. Each
world changes all images in one way that is plausible for a chest film and leaves the diagnosis as
it is. The table is fixed, so that figures of different days and models can be compared.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from cxr.data.images.changes.geometry import Window, cut_window
from cxr.data.images.decoding.rejection import Pixels

VERSION = 1  # raise it when a world changes
CLEAN = "clean"  # how the images as they are stand beside the worlds in tables

Kind = Literal["stretch", "frame", "gray", "detail"]
_TURN = np.deg2rad(8)
_CROP_SIDE = 0.85  # 72 % of the area
_COARSE_SIDE = 96 / 224
_BLUR = 1.5 / 224  # standard deviation, as a share of the side
_NOISE = 10.0  # standard deviation, in gray levels
_JPEG_QUALITY = 25


@dataclass(frozen=True)
class World:
    """One way in which all images are changed.

    Attributes:
        name: What it is called in tables and files.
        kind: What it changes: the ratio of width to height ("stretch"), which part of the patient
            is in the frame ("frame"), the gray levels ("gray"), or how fine details are ("detail").
        description: What it is, for a person to read.
        change: Makes the image, uint8 (side, side), of the image and the digest of its pixels, from
            which anything random is drawn.
    """

    name: str
    kind: Kind
    description: str
    change: Callable[[Pixels, str], Pixels]


def _stretch(factor: float) -> Callable[[Pixels, str], Pixels]:
    """Return a change of width over height by this factor, about the middle; the area stays."""
    window = Window(x=0.5, y=0.5, width=1 / np.sqrt(factor), height=np.sqrt(factor))
    return lambda pixels, _: cut_window(pixels, window)


def _grade(gamma: float, contrast: float) -> Callable[[Pixels, str], Pixels]:
    """Return a change of the gray levels: by gamma, then contrast about the middle gray."""
    levels = ((np.arange(256) / 255) ** gamma - 0.5) * contrast + 0.5
    table = np.clip(255 * levels + 0.5, 0, 255).astype(np.uint8)
    return lambda pixels, _: table[pixels]


def _turn(pixels: Pixels, key: str) -> Pixels:
    """Turn an image by 8 degrees, each in its own direction."""
    direction = _rng(key, "turned").choice([-1, 1])
    return cut_window(pixels, Window(0.5, 0.5, 1.0, 1.0, direction * _TURN))


def _crop(pixels: Pixels, key: str) -> Pixels:
    """Show 72 % of the area, each at a place of its own."""
    room = (1 - _CROP_SIDE) / 2
    x, y = _rng(key, "cropped").uniform(0.5 - room, 0.5 + room, 2)
    return cut_window(pixels, Window(x, y, _CROP_SIDE, _CROP_SIDE))


def _coarsen(pixels: Pixels, _: str) -> Pixels:
    """Take an image through 96 of 224 pixels and back."""
    side = pixels.shape[0]
    small = round(_COARSE_SIDE * side)
    image = Image.fromarray(pixels).resize((small, small), Image.Resampling.BILINEAR)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def _blur(pixels: Pixels, _: str) -> Pixels:
    """Blur an image by a Gaussian of 1.5 of 224 pixels."""
    radius = _BLUR * pixels.shape[0]
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _add_noise(pixels: Pixels, key: str) -> Pixels:
    """Add Gaussian noise of 10 gray levels, as of too low a dose."""
    noise = _rng(key, "noisy").normal(0, _NOISE, pixels.shape)
    noisy: Pixels = np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)
    return noisy


def _encode(pixels: Pixels, _: str) -> Pixels:
    """Take an image through a JPEG of quality 25."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY)
    return np.asarray(Image.open(file))


def _rng(key: str, name: str) -> np.random.Generator:
    """Return the random generator of one image in one world."""
    seed = hashlib.sha256(f"{key} {name}".encode()).digest()
    return np.random.default_rng(list(seed))


_WORLDS = (
    World("stretched 0.8", "stretch", "width over height times 0.8", _stretch(0.8)),
    World("stretched 0.89", "stretch", "width over height times 0.89", _stretch(0.89)),
    World("stretched 1.12", "stretch", "width over height times 1.12", _stretch(1.12)),
    World("stretched 1.25", "stretch", "width over height times 1.25", _stretch(1.25)),
    World("turned", "frame", "turned by 8 degrees, either way", _turn),
    World("cropped", "frame", "72 % of the area, anywhere", _crop),
    World("darker", "gray", "gamma 1.6", _grade(1.6, 1)),
    World("lighter", "gray", "gamma 0.6", _grade(0.6, 1)),
    World("less contrast", "gray", "contrast 0.6", _grade(1, 0.6)),
    World("coarser", "detail", "through 96 of 224 pixels", _coarsen),
    World("blurred", "detail", "Gaussian blur of 1.5 of 224 pixels", _blur),
    World("noisy", "detail", "Gaussian noise of 10 gray levels", _add_noise),
    World("re-encoded", "detail", "through a JPEG of quality 25", _encode),
)
WORLDS = {world.name: world for world in _WORLDS}
"""All worlds by name, in the order of tables and figures."""
