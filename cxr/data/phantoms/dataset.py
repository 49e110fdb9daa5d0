"""Write a made-up data set: patients, splits, duplicates and broken files."""

import contextlib
import csv
import io
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cxr.core.errors import DataError
from cxr.core.settings import LABEL_NAMES
from cxr.data.phantoms.anatomy import Anatomy, chest

_Places = dict[str, tuple[float, float] | None]
_NORMAL_SHARE = 1 / 2.6  # 1 NORMAL to 1.6 PNEUMONIA: a milder imbalance than the published 1 to 2.9
_TEST_SHARE = 0.25
_VAL_IMAGES = 8
_FEWEST_IMAGES = 20
_STATE, _OPACITIES = ".phantom.json", ".opacities.csv"


class _Planned(NamedTuple):
    """One image to draw: its key, the number of its patient, its label and its own number."""

    key: str
    patient: int
    label: int
    number: int


def make_dataset(
    folder: Path, images: int = 300, seed: int = 0, size: int = 256, broken: bool = True
) -> dict[str, int]:
    """Return the number of files of each kind in `folder`, after writing the data set there if it is new.

    The layout is the published one: {train,val,test}/{NORMAL,PNEUMONIA}/, 1 to 3 images per patient, val
    shares patients with train, test has its own. `images` good files (kind "good", about `size` pixels a
    side, 8-bit gray JPEG); with `broken` also files that preprocessing has to reject, counted by reason.
    Beside them, hidden: `.opacities.csv` (image, x, y as in `chest`) and `.phantom.json`. Equal arguments
    give equal bytes. Nothing appears at `folder` until all is written. Raises DataError when `folder` holds
    something else or was made with other arguments, and when fewer than 20 images are asked for.
    """
    asked = {"images": images, "seed": seed, "size": size, "broken": broken}
    if folder.exists():
        return _counts_of(folder, asked)
    if images < _FEWEST_IMAGES:
        raise DataError(f"expected at least {_FEWEST_IMAGES} images, got {images}: ask for more")
    with _appearing(folder) as root:
        planned = _plan(np.random.default_rng([seed, 0]), images)
        places = {one.key: _write_good(root, one, seed, size) for one in planned}
        counts = {"good": images}
        if broken:
            _reencode(root, planned)
            counts |= _write_duplicates(root, planned, places) | _write_near_copies(
                root, planned, places
            )
            counts |= _write_broken(root, seed, size)
        _write_places(root / _OPACITIES, places)
        (root / _STATE).write_text(json.dumps(asked | {"counts": counts}, indent=2) + "\n")
    return counts


def _counts_of(folder: Path, asked: dict[str, int]) -> dict[str, int]:
    try:
        made: dict[str, Any] = json.loads((folder / _STATE).read_text())
        counts: dict[str, int] = made.pop("counts")
    except (OSError, ValueError, KeyError):
        raise DataError(
            f"expected a new folder or a phantom data set at {folder}, found something else: choose another"
        ) from None
    if made != asked:
        raise DataError(
            f"expected {asked} at {folder}, found {made}: choose another folder or remove it"
        )
    return counts


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`; rename it there at the end, or remove it on an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
    try:
        root.chmod(0o755)
        yield root
        root.rename(folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _plan(rng: np.random.Generator, images: int) -> list[_Planned]:
    """Return every good image; patients are numbered through both classes and all splits."""
    test, val = round(images * _TEST_SHARE), min(_VAL_IMAGES, images // 5)
    planned: list[_Planned] = []
    for split, total, in_val in (("train", images - test, val), ("test", test, 0)):
        normal = in_val // 2 + round((total - in_val) * _NORMAL_SHARE)
        for label, count, shared in (
            (0, normal, in_val // 2),
            (1, total - normal, in_val - in_val // 2),
        ):
            for nth, size in enumerate(_sizes(rng, count, shared)):
                patient = planned[-1].patient + 1 if planned else 1
                splits = [split] * (size - 1) + ["val" if nth < shared else split]
                for place, name in zip(
                    splits, _names(rng, label, patient, len(planned) + 1, size), strict=True
                ):
                    key = f"{place}/{LABEL_NAMES[label]}/{name}"
                    planned.append(_Planned(key, patient, label, len(planned) + 1))
    return planned


def _sizes(rng: np.random.Generator, total: int, shared: int) -> list[int]:
    """Return how many images each patient has: 1 to 3, `total` in all; the first `shared` have at least 2."""
    sizes: list[int] = []
    while (left := total - sum(sizes)) > 0:
        sizes.append(min(left, int(rng.integers(2 if len(sizes) < shared else 1, 4))))
    return sizes


def _names(rng: np.random.Generator, label: int, patient: int, first: int, count: int) -> list[str]:
    """Return the published file names of one patient's images, the first being image number `first`."""
    if label:
        cause = rng.choice(["bacteria", "bacteria", "virus"])
        return [f"person{patient}_{cause}_{first + index}.jpeg" for index in range(count)]
    prefix = rng.choice(["", "NORMAL2-"])
    return [f"{prefix}IM-{patient:04d}-{index:04d}.jpeg" for index in range(1, count + 1)]


def _film(one: _Planned, seed: int, size: int) -> tuple[Image.Image, tuple[float, float] | None]:
    """Return the planned image, 8-bit gray, and the place of its opacity."""
    rng = np.random.default_rng([seed, 2, one.number])
    anatomy = Anatomy.draw(np.random.default_rng([seed, 1, one.patient]))
    pixels, place = chest(rng, anatomy, bool(one.label), size)
    shape = (round(size * rng.uniform(1.0, 1.3)), round(size * rng.uniform(0.85, 1.1)))
    return Image.fromarray(pixels).resize(shape, Image.Resampling.BICUBIC), place


def _encoded(film: Image.Image, kind: str = "JPEG") -> bytes:
    written = io.BytesIO()
    film.save(written, kind, quality=92)
    return written.getvalue()


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _write_good(root: Path, one: _Planned, seed: int, size: int) -> tuple[float, float] | None:
    film, place = _film(one, seed, size)
    _put(root / one.key, _encoded(film))
    return place


def _write_places(path: Path, places: _Places) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "x", "y"])
        rows.writerows(
            [key, f"{at[0]:.4f}", f"{at[1]:.4f}"] for key, at in sorted(places.items()) if at
        )


def _write_duplicates(root: Path, planned: list[_Planned], places: _Places) -> dict[str, int]:
    """Return the number of exact copies written: three within a split, three of a held-out image in train.

    Their opacities join `places`: whichever copy preprocessing keeps can be looked up.
    """
    of = {
        split: [one for one in planned if one.key.startswith(split)]
        for split in ("train", "val", "test")
    }
    within = [of["train"][2], of["train"][-1], of["test"][-1]]
    across = [of["test"][0], of["test"][-2], of["val"][-1]]
    for number, one in enumerate(within + across):
        split, folder, name = one.key.split("/")
        if one in across:
            copy = f"train/{folder}/{name}"
        else:
            [other] = _names(
                np.random.default_rng(number), one.label, 9001 + number, 9001 + number, 1
            )
            copy = f"{split}/{folder}/{other}"
        _put(root / copy, (root / one.key).read_bytes())
        places[copy] = places[one.key]
    return {"duplicate": len(within + across)}


def _write_near_copies(root: Path, planned: list[_Planned], places: _Places) -> dict[str, int]:
    """Return the number of near copies of test images written to train: one mirrored, one made smaller."""
    normal, pneumonia = (
        next(one for one in planned if one.key.startswith(f"test/{name}/")) for name in LABEL_NAMES
    )
    for one, key in (
        (normal, "train/NORMAL/IM-9201-0001.jpeg"),
        (pneumonia, "train/PNEUMONIA/person9202_virus_9202.jpeg"),
    ):
        with Image.open(root / one.key) as film:
            smaller = film.resize(
                (film.width * 4 // 5, film.height * 4 // 5), Image.Resampling.LANCZOS
            )
            _put(
                root / key,
                _encoded(
                    smaller if one is pneumonia else film.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                ),
            )
        places[key] = places[
            one.key
        ]  # NORMAL has none, and a smaller film has its opacity at the same fractions
    return {"near_duplicate": 2}


def _reencode(root: Path, planned: list[_Planned]) -> None:
    """Turn one train image into a PNG that is named .jpeg and another into an RGB JPEG: both stay good."""
    normal, pneumonia = (next(one for one in planned if one.label == label) for label in (0, 1))
    for one, mode, kind in ((normal, "L", "PNG"), (pneumonia, "RGB", "JPEG")):
        with Image.open(root / one.key) as film:
            data = _encoded(film.convert(mode), kind)
        _put(root / one.key, data)


def _write_broken(root: Path, seed: int, size: int) -> dict[str, int]:
    """Return how many files were written for each reason to reject, the pair with two labels included."""
    films = [_film(_Planned("", 9100 + n, 1, 9100 + n), seed, size)[0] for n in range(5)]
    pair, whole, unknown, cmyk, deep = films
    jpeg = _encoded(whole)
    sixteen = Image.fromarray(np.asarray(deep, dtype=np.uint16) * 257)
    page = b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"
    files = (
        ("label_conflict", "train/NORMAL/IM-9100-0001.jpeg", _encoded(pair)),
        ("label_conflict", "train/PNEUMONIA/person9100_bacteria_9100.jpeg", _encoded(pair)),
        ("truncated", "train/PNEUMONIA/person9101_virus_9101.jpeg", jpeg[: len(jpeg) // 2]),
        ("empty_file", "train/NORMAL/IM-9105-0001.jpeg", b""),
        ("not_an_image", "test/NORMAL/IM-9106-0001.jpeg", page),
        ("ignored", "train/.DS_Store", b"\0\0\0\1Bud1"),
        ("ignored", "__MACOSX/train/NORMAL/._IM-0001-0001.jpeg", b"\0\5\x16\7"),
        ("ignored", "train/NORMAL/._IM-0001-0001.jpeg", b"\0\5\x16\7"),
        ("unknown_class", "train/person9102_bacteria_9102.jpeg", _encoded(unknown)),
        (
            "unsupported_mode",
            "train/PNEUMONIA/person9103_bacteria_9103.jpeg",
            _encoded(cmyk.convert("CMYK")),
        ),
        (
            "unsupported_mode",
            "train/PNEUMONIA/person9104_bacteria_9104.png",
            _encoded(sixteen, "PNG"),
        ),
    )
    for _, key, data in files:
        _put(root / key, data)
    return dict(Counter(reason for reason, _, _ in files))
