"""Images that no model of children's chest films was made for, and changes that make such ones of films.

Photographs are scikit-learn's two, and those of scikit-image where it is installed; slices are
pydicom's own test files, drawn from their lowest to their highest value.
"""

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

Array = np.ndarray[Any, Any]
SIDE = 224
_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".tif"}


def photographs() -> list[Image.Image]:
    """Return photographs and drawings: scikit-learn's, and scikit-image's where it is installed."""
    from sklearn.datasets import load_sample_images

    found = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        return found
    for path in sorted((Path(spec.origin).parent / "data").iterdir()):
        if path.suffix not in _PICTURES:
            continue
        try:
            with Image.open(path) as image:
                found.append(image.convert("RGB"))
        except OSError:  # a kind of TIFF that Pillow does not read
            continue
    return found


def blank_plates() -> list[Image.Image]:
    """Return plates of one gray, and of one gray with a little noise."""
    rng = np.random.default_rng(0)
    plates = [np.full((SIDE, SIDE), gray) for gray in (0, 20, 64, 128, 200, 255)]
    plates += [rng.normal(gray, 6, (SIDE, SIDE)) for gray in (30, 90, 128, 180, 220)]
    return [_image(plate) for plate in plates]


def noise() -> list[Image.Image]:
    """Return noise from pixel to pixel, and smooth noise of several scales."""
    rng = np.random.default_rng(1)
    found = [_image(rng.uniform(0, 255, (SIDE, SIDE))) for _ in range(4)]
    for scale in (2, 8, 20, 40):
        for _ in range(4):
            coarse = rng.normal(0, 1, (SIDE // scale, SIDE // scale)).astype(np.float32)
            smooth = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            found.append(_image(_spread(np.asarray(smooth))))
    return found


def slices() -> list[Image.Image]:
    """Return what pydicom's own test files show that is no film: CT, MR, ultrasound, pictures."""
    import pydicom

    folder = Path(pydicom.__file__).parent / "data" / "test_files"  # what comes with the package
    found: dict[bytes, Image.Image] = {}
    for path in sorted(folder.glob("*.dcm")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pixels = pydicom.dcmread(path).pixel_array.astype(np.float64)
        except Exception:  # noqa: BLE001 - many of these files are broken on purpose
            continue
        while pixels.ndim > 3 or (pixels.ndim == 3 and pixels.shape[-1] != 3):
            pixels = pixels[len(pixels) // 2]  # the middle one of a run of frames
        if pixels.ndim >= 2 and min(pixels.shape[:2]) >= 28:
            found[pixels.tobytes()] = _image(_spread(pixels))
    return list(found.values())


def films_of(folder: Path, most: int | None) -> list[Image.Image]:
    """Return films of a folder, gray; of more than `most` some at random."""
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in {".jpeg", ".jpg", ".png"}
    )
    if most is not None and len(paths) > most:
        chosen = np.random.default_rng(0).choice(len(paths), most, replace=False)
        paths = [paths[place] for place in sorted(chosen)]
    return [Image.open(path).convert("L") for path in paths]


def negatives(films: list[Image.Image]) -> Iterator[Image.Image]:
    """Yield the negative of each film."""
    for film in films:
        yield _image(255 - np.asarray(film))


def quarter_turns(films: list[Image.Image]) -> Iterator[Image.Image]:
    """Yield each film turned by 90 degrees, either way."""
    for number, film in enumerate(films):
        yield film.transpose(
            Image.Transpose.ROTATE_90 if number % 2 else Image.Transpose.ROTATE_270
        )


def corners(films: list[Image.Image]) -> Iterator[Image.Image]:
    """Yield a corner of each film: 14 to 25 % of its area."""
    for number, film in enumerate(films):
        share = 0.375 if number % 8 < 4 else 0.5
        width = round(share * film.width)
        height = round(share * film.height)
        left = (film.width - width) * (number % 2)
        top = (film.height - height) * (number // 2 % 2)
        yield film.crop((left, top, left + width, top + height))


def blurred(films: list[Image.Image]) -> Iterator[Image.Image]:
    """Yield each film blurred by a Gaussian of 6 of 224 pixels, four times as wide as in the worlds."""
    for film in films:
        yield film.filter(ImageFilter.GaussianBlur(6 / SIDE * film.width))


def all_made() -> dict[str, list[Image.Image]]:
    """Return all kinds that need no films."""
    return {
        "photographs": photographs(),
        "blank plates": blank_plates(),
        "noise": noise(),
        "slices and other files of pydicom": slices(),
    }


def _image(pixels: Array) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _spread(pixels: Array) -> Array:
    """Return gray values from 0 to 255."""
    spread: Array = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-9) * 255
    return spread
