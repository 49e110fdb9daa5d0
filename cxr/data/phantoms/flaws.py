"""The flaws of a phantom data set: duplicates, near-duplicates, and files that are rejected.

Functions that add files return how many there are for each reject reason.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cxr.data.phantoms.drawing.lung_markings import Place
from cxr.data.phantoms.films import draw_film, encode, write_file
from cxr.data.phantoms.plan import PlannedImage, draw_file_names

Places = dict[str, Place | None]  # of the opacity of each image, by its key

_FIRST_DUPLICATE = 9001  # the number of its patient; those of good images are lower
_FIRST_BROKEN = 9100


def reencode_two(root: Path, planned: list[PlannedImage]) -> None:
    """Encode two train images in other ways; both stay good.

    A NORMAL one becomes a PNG that is named .jpeg, a PNEUMONIA one a JPEG in RGB.
    """
    normal, pneumonia = _first_of_each_class(planned)
    _reencode(root / normal.key, "L", "PNG")
    _reencode(root / pneumonia.key, "RGB", "JPEG")


def _first_of_each_class(
    planned: list[PlannedImage],
) -> tuple[PlannedImage, PlannedImage]:
    normal = next(image for image in planned if image.label == 0)
    pneumonia = next(image for image in planned if image.label == 1)
    return normal, pneumonia


def _reencode(
    path: Path,
    mode: str,
    file_format: str,
) -> None:
    with Image.open(path) as film:
        data = encode(film.convert(mode), file_format)
    write_file(path, data)


def write_duplicates(
    root: Path,
    planned: list[PlannedImage],
    places: Places,
) -> dict[str, int]:
    """Write exact copies: three within a split, three of a test or val image in train.

    Args:
        root: The folder of the data set.
        planned: Its good images.
        places: Those of the copies are added: whichever of the two preprocessing keeps can be
            looked up.
    """
    train = _of_split(planned, "train")
    val = _of_split(planned, "val")
    test = _of_split(planned, "test")
    within_split = [
        train[2],
        train[-1],
        test[-1],
    ]
    across_splits = [
        test[0],
        test[-2],
        val[-1],
    ]
    copies: dict[str, PlannedImage] = {}
    for index, image in enumerate(within_split):
        copies[_key_of_copy(image, index)] = image
    for image in across_splits:
        _, class_folder, name = image.key.split("/")
        copies[f"train/{class_folder}/{name}"] = image
    for key, image in copies.items():
        write_file(
            root / key,
            (root / image.key).read_bytes(),
        )
        places[key] = places[image.key]
    return {"duplicate": len(copies)}


def _of_split(planned: list[PlannedImage], split: str) -> list[PlannedImage]:
    """Return the images whose final split this is."""
    prefix = f"{split}/"
    return [image for image in planned if image.key.startswith(prefix)]


def _key_of_copy(image: PlannedImage, index: int) -> str:
    """Return a key in the same folder, of a patient of its own."""
    split, class_folder, _ = image.key.split("/")
    number = _FIRST_DUPLICATE + index
    rng = np.random.default_rng(index)
    [name] = draw_file_names(
        rng,
        image.label,
        number,
        number,
        1,
    )
    return f"{split}/{class_folder}/{name}"


def write_near_duplicates(
    root: Path,
    planned: list[PlannedImage],
    places: Places,
) -> dict[str, int]:
    """Write near-duplicates of two test images to train: one mirrored, one made smaller.

    Args:
        root: The folder of the data set.
        planned: Its good images.
        places: Those of the near-duplicates are added.
    """
    normal, pneumonia = _first_of_each_class(_of_split(planned, "test"))
    with Image.open(root / normal.key) as film:
        mirrored = film.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    with Image.open(root / pneumonia.key) as film:
        width = film.width * 4 // 5
        height = film.height * 4 // 5
        smaller = film.resize((width, height), Image.Resampling.LANCZOS)
    mirrored_key = "train/NORMAL/IM-9201-0001.jpeg"
    smaller_key = "train/PNEUMONIA/person9202_virus_9202.jpeg"
    write_file(root / mirrored_key, encode(mirrored))
    write_file(root / smaller_key, encode(smaller))
    places[mirrored_key] = None  # NORMAL has no opacity
    places[smaller_key] = places[pneumonia.key]  # a fraction of the image, whatever its size
    return {"near_duplicate": 2}


class _File(NamedTuple):
    """A file to write, and the reason for which it is to be rejected."""

    reason: str
    key: str
    data: bytes


def write_broken(
    root: Path,
    seed: int,
    size: int,
) -> dict[str, int]:
    """Write files that preprocessing rejects, and a pair of equal images with two labels.

    Args:
        root: The folder of the data set.
        seed: Of the data set.
        size: Of the images, in pixels.
    """
    files = [
        *_conflicting_files(seed, size),
        *_damaged_files(seed, size),
        *_ignored_files(),
        *_unsuitable_files(seed, size),
    ]
    for file in files:
        write_file(root / file.key, file.data)
    return dict(Counter(file.reason for file in files))


def _draw_extra(
    number: int,
    seed: int,
    size: int,
) -> Image.Image:
    """Return a film with pneumonia of a patient who is nowhere else."""
    planned = PlannedImage(
        key="",
        patient=number,
        label=1,
        number=number,
    )
    film, _ = draw_film(planned, seed, size)
    return film


def _conflicting_files(seed: int, size: int) -> list[_File]:
    """Return the same image under both classes."""
    data = encode(_draw_extra(_FIRST_BROKEN, seed, size))
    return [
        _File("label_conflict", "train/NORMAL/IM-9100-0001.jpeg", data),
        _File("label_conflict", "train/PNEUMONIA/person9100_bacteria_9100.jpeg", data),
    ]


def _damaged_files(seed: int, size: int) -> list[_File]:
    """Return half a JPEG, an empty file, and a web page that was saved as an image."""
    whole = encode(_draw_extra(_FIRST_BROKEN + 1, seed, size))
    half = whole[: len(whole) // 2]
    web_page = b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"
    return [
        _File("truncated", "train/PNEUMONIA/person9101_virus_9101.jpeg", half),
        _File("empty_file", "train/NORMAL/IM-9105-0001.jpeg", b""),
        _File("not_an_image", "test/NORMAL/IM-9106-0001.jpeg", web_page),
    ]


def _ignored_files() -> list[_File]:
    """Return what macOS leaves in folders and archives."""
    folder_settings = b"\0\0\0\1Bud1"
    resource_fork = b"\0\5\x16\7"
    return [
        _File("ignored", "train/.DS_Store", folder_settings),
        _File("ignored", "__MACOSX/train/NORMAL/._IM-0001-0001.jpeg", resource_fork),
        _File("ignored", "train/NORMAL/._IM-0001-0001.jpeg", resource_fork),
    ]


def _unsuitable_files(seed: int, size: int) -> list[_File]:
    """Return a film outside the class folders, one in CMYK and one of 16 bits."""
    outside_classes = _draw_extra(_FIRST_BROKEN + 2, seed, size)
    film_in_gray = _draw_extra(_FIRST_BROKEN + 3, seed, size)
    film_in_cmyk = film_in_gray.convert("CMYK")
    film_of_8_bits = _draw_extra(_FIRST_BROKEN + 4, seed, size)
    values = np.asarray(film_of_8_bits, dtype=np.uint16)
    film_of_16_bits = Image.fromarray(values * 257)  # 255 becomes 65,535
    pneumonia = "train/PNEUMONIA"
    return [
        _File(
            "unknown_class",
            "train/person9102_bacteria_9102.jpeg",
            encode(outside_classes),
        ),
        _File(
            "unsupported_mode",
            f"{pneumonia}/person9103_bacteria_9103.jpeg",
            encode(film_in_cmyk),
        ),
        _File(
            "unsupported_mode",
            f"{pneumonia}/person9104_bacteria_9104.png",
            encode(film_of_16_bits, "PNG"),
        ),
    ]
