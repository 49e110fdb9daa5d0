"""Write a made-up data set: patients, splits, duplicates and broken files."""

import contextlib
import csv
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxr.core.errors import DataError
from cxr.data.phantoms import flaws
from cxr.data.phantoms.films import draw_film, encode, write_file
from cxr.data.phantoms.plan import PlannedImage, plan_images

_FEWEST_IMAGES = 20
_PLAN_STREAM = 0  # of the seed, see `films`
_STATE_FILE = ".phantom.json"
_OPACITIES_FILE = ".opacities.csv"


def make_dataset(
    folder: Path,
    images: int = 300,
    seed: int = 0,
    size: int = 256,
    broken: bool = True,
) -> dict[str, int]:
    """Write a phantom data set, unless the same one is already there.

    Its layout is the published one: {train,val,test}/{NORMAL,PNEUMONIA}/. A patient has 1 to 3
    images; val shares patients with train, test has its own. Beside the images there are two hidden
    files: `.opacities.csv` (image, x, y as in `draw_chest`) and `.phantom.json`, the arguments.
    Equal arguments give equal bytes. The folder appears when all is written.

    Args:
        folder: Where it is written.
        images: How many good images there are, as 8-bit gray JPEG.
        seed: What everything is drawn from.
        size: Of the sides of the images, in pixels; each varies around it.
        broken: Add files that preprocessing has to reject.

    Returns:
        How many files there are of each kind: "good", or the reason to reject them.

    Raises:
        DataError: `folder` holds something else or was made with other arguments, or fewer than 20
            images are asked for.
    """
    arguments = {
        "images": images,
        "seed": seed,
        "size": size,
        "broken": broken,
    }
    if folder.exists():
        return _read_counts(folder, arguments)
    if images < _FEWEST_IMAGES:
        raise DataError(f"expected at least {_FEWEST_IMAGES} images, got {images}: ask for more")
    rng = np.random.default_rng([seed, _PLAN_STREAM])
    planned = plan_images(rng, images)
    with _atomic_folder(folder) as root:
        places = _write_good_images(root, planned, seed, size)
        counts = {"good": images}
        if broken:
            flaws.reencode_two(root, planned)
            counts |= flaws.write_duplicates(root, planned, places)
            counts |= flaws.write_near_duplicates(root, planned, places)
            counts |= flaws.write_broken(root, seed, size)
        _write_places(root / _OPACITIES_FILE, places)
        state = json.dumps(
            arguments | {"counts": counts},
            indent=2,
        )
        (root / _STATE_FILE).write_text(state + "\n")
    return counts


def _read_counts(folder: Path, arguments: dict[str, int]) -> dict[str, int]:
    """Return the counts of a data set that was made with these arguments."""
    try:
        text = (folder / _STATE_FILE).read_text()
        state: dict[str, Any] = json.loads(text)
        counts: dict[str, int] = state.pop("counts")
    except (OSError, ValueError, KeyError):
        expected = f"expected a new folder or a phantom data set at {folder}"
        raise DataError(f"{expected}, found something else: choose another") from None
    if state != arguments:
        found = f"expected {arguments} at {folder}, found {state}"
        raise DataError(f"{found}: choose another folder or remove it")
    return counts


@contextlib.contextmanager
def _atomic_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`; rename it at the end, or remove it on an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    name = tempfile.mkdtemp(dir=folder.parent, prefix=".writing-")
    temporary = Path(name)
    try:
        temporary.chmod(0o755)  # mkdtemp's folders are private
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_good_images(
    root: Path,
    planned: list[PlannedImage],
    seed: int,
    size: int,
) -> flaws.Places:
    """Write the planned images; return the places of their opacities."""
    places: flaws.Places = {}
    for image in planned:
        film, place = draw_film(image, seed, size)
        write_file(root / image.key, encode(film))
        places[image.key] = place
    return places


def _write_places(path: Path, places: flaws.Places) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "x", "y"])
        for key, place in sorted(places.items()):
            if place is not None:
                x, y = place
                writer.writerow([key, f"{x:.4f}", f"{y:.4f}"])
