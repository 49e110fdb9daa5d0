"""Made-up frontal chest X-rays for the demo and the tests: drawn from formulas, never from a person's image.

Left out: anatomy beyond a sketch, projections other than frontal, any disease but focal opacities. What both
classes share (exposure, pose, size, encoding, the side marker) is drawn from the same
distributions, so that the opacity is the only thing to learn. Nothing measured on these images says
anything about real ones.
"""

import contextlib
import csv
import io
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr.errors import DataError
from cxr.records import LABEL_NAMES

Plane = np.ndarray[Any, Any]
_Places = dict[str, tuple[float, float] | None]
_NORMAL_SHARE = 1 / 2.6  # 1 NORMAL to 1.6 PNEUMONIA: a milder imbalance than the published 1 to 2.9
_TEST_SHARE = 0.25
_VAL_IMAGES = 8
_FEWEST_IMAGES = 20
_STATE, _OPACITIES = ".phantom.json", ".opacities.csv"


@dataclass(frozen=True)
class Anatomy:
    """What the images of one patient share. Lengths are fractions of the image side."""

    torso: float
    lung_width: float
    lung_top: float
    lung_base: float
    heart: float
    heart_tilt: float
    rib_gap: float
    rib_start: float
    rib_slope: float
    clavicle: float
    dome: float
    stomach_gas: float
    tissue: float
    markings: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Return the anatomy of a new patient."""
        return cls(
            torso=rng.uniform(0.39, 0.45),
            lung_width=rng.uniform(0.145, 0.172),
            lung_top=rng.uniform(0.10, 0.16),
            lung_base=rng.uniform(0.80, 0.90),
            heart=rng.uniform(0.88, 1.12),
            heart_tilt=rng.uniform(0.3, 0.8),
            rib_gap=rng.uniform(0.066, 0.082),
            rib_start=rng.uniform(0.10, 0.16),
            rib_slope=rng.uniform(1.7, 2.8),
            clavicle=rng.uniform(-0.03, 0.03),
            dome=rng.uniform(0.07, 0.12),
            stomach_gas=rng.choice([0.0, rng.uniform(0.05, 0.16)]),
            tissue=rng.uniform(0.46, 0.56),
            markings=int(rng.integers(2**31)),
        )


def chest(
    rng: np.random.Generator, anatomy: Anatomy, pneumonia: bool, size: int
) -> tuple[Plane, tuple[float, float] | None]:
    """Return a made-up frontal chest X-ray and where its opacity is.

    The image: uint8 (size, size), 0 black, the patient's left on the right. The place: centre (x, y) of the
    strongest opacity as fractions 0..1 of width and height from the top left; None without pneumonia.
    """
    u, y = _posed_grid(rng, size)
    lungs = _lungs(u, y, anatomy)
    air = lungs * (1 - 0.93 * _mediastinum(u, y, anatomy))
    plate = (
        _body(u, y, anatomy)
        - 0.37 * air
        + _bones(u, y, lungs, anatomy)
        + _vessels(u, y, anatomy) * air
    )
    plate += 0.13 * (_clouds(rng, size, 10) - 0.5)
    opacity, place = _opacities(rng, air, y) if pneumonia else (0.0, None)
    # Exposure is automatic: an opacity brightens its place, not the whole film, so the mean gives nothing away.
    return _developed(rng, np.maximum(plate, 0.02) + opacity - np.mean(opacity)), place


def _posed_grid(rng: np.random.Generator, size: int) -> tuple[Plane, Plane]:
    """Return body coordinates of every pixel: u from the spine (right is positive), y from the top."""
    angle, scale = np.radians(rng.uniform(-4, 4)), rng.uniform(0.92, 1.08)
    right, down = rng.uniform(-0.03, 0.03, 2)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x, y = (axis[None, :] - np.float32(right)) / scale, (axis[:, None] - np.float32(down)) / scale
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin + np.float32(0.5)


def _inside(distance: Plane, softness: float) -> Plane:
    """Return 1 where `distance` is well above 0, 0 well below, and a smooth edge `softness` wide between."""
    return 0.5 + 0.5 * np.tanh(distance / np.float32(softness))


def _thorax(u: Plane, y: Plane, anatomy: Anatomy) -> Plane:
    """Return how far from the lungs' outer wall: above 0 inside, in fractions of a lung's width."""
    centre, half = 0.155, anatomy.lung_width * (1 + 0.10 * np.clip(y - 0.5, -0.5, 0.5))
    height = 0.42 - 0.2 * (anatomy.lung_top - 0.13)
    rise = np.minimum(y - (anatomy.lung_top + height), 0) / height
    sideways = np.abs((np.abs(u) - centre) / half)
    wall: Plane = (sideways**2.2 + np.abs(rise) ** 2.4) ** np.float32(1 / 2.3)
    inside: Plane = 1 - wall
    return inside


def _dome(u: Plane, anatomy: Anatomy) -> Plane:
    """Return the diaphragm's height over u: two domes, the patient's right one a little higher."""
    high = anatomy.dome + np.where(u < 0, 0.02, 0.0).astype(np.float32)
    return anatomy.lung_base - high * np.exp(-(((np.abs(u) - 0.13) / 0.125) ** 2))


def _lungs(u: Plane, y: Plane, anatomy: Anatomy) -> Plane:
    wall = _inside(_thorax(u, y, anatomy), 0.055)
    return wall * _inside(_dome(u, anatomy) - y, 0.012) * _inside(np.abs(u) - 0.05, 0.014)


def _mediastinum(u: Plane, y: Plane, anatomy: Anatomy) -> Plane:
    """Return the shadow of heart, aortic arch and great vessels, 0..1."""
    size = anatomy.heart
    across, down = u - 0.045, y - (anatomy.lung_base - 0.215)
    along = across - anatomy.heart_tilt * 0.35 * down
    heart = 1 - np.sqrt((along / (0.148 * size)) ** 2 + (down / (0.185 * size)) ** 2)
    arch = 1 - np.sqrt(((u - 0.035) / 0.055) ** 2 + ((y - 0.34) / 0.06) ** 2)
    vessels = 0.062 + 0.03 * np.clip((y - 0.3) / 0.3, 0, 1) - np.abs(u)
    shadow = np.maximum(_inside(heart, 0.10), _inside(arch, 0.18))
    whole: Plane = np.maximum(shadow, _inside(vessels, 0.014) * _inside(y - 0.12, 0.05))
    return whole


def _body(u: Plane, y: Plane, anatomy: Anatomy) -> Plane:
    """Return the brightness of soft tissue: neck, shoulders, trunk, and the denser belly and heart."""
    across = np.abs(u)
    arms = 0.24 * np.exp(-(((y - 0.25) / 0.12) ** 2))  # raised a little, out of the frame
    outline = 0.11 + (anatomy.torso - 0.11 + arms) * _inside(y - 0.075 - 0.13 * across, 0.045)
    trunk = _inside(outline - across, 0.018)
    thickness = 0.72 + 0.28 * np.sqrt(np.clip(1 - (across / (anatomy.torso + 0.12)) ** 2, 0, 1))
    belly = 0.13 * _inside(y - _dome(u, anatomy), 0.03)
    gas = _inside(
        1 - np.sqrt(((u - 0.15) / 0.10) ** 2 + ((y - anatomy.lung_base - 0.02) / 0.07) ** 2), 0.2
    )
    density = anatomy.tissue * thickness + belly + 0.10 * _mediastinum(u, y, anatomy)
    return 0.02 + trunk * (density - anatomy.stomach_gas * gas)


def _bones(u: Plane, y: Plane, lungs: Plane, anatomy: Anatomy) -> Plane:
    across = np.abs(u)
    spine = _inside(0.042 - across, 0.010) * (0.085 + 0.022 * np.cos(2 * np.pi * y / 0.058))
    windpipe = 0.09 * _inside(0.017 - across, 0.007) * _inside(0.36 - y, 0.03)
    cage = _inside(_thorax(u, y, anatomy) + 0.10, 0.03) * _inside(
        anatomy.lung_base + 0.08 - y, 0.03
    )
    ribs = (0.45 + 0.55 * lungs) * cage * _ribs(across, y, anatomy)
    slant = 0.205 + anatomy.clavicle - 0.17 * across + 0.016 * np.sin(across * 20)
    ends = _inside(across - 0.035, 0.01) * _inside(0.36 - across, 0.02)
    clavicles = 0.10 * _stripe(y - slant, 0.012) * ends
    joint = _inside(1 - np.hypot((across - 0.43) / 0.055, (y - 0.20) / 0.055), 0.15)
    arm = _stripe(y - 0.20 - 0.45 * (across - 0.43), 0.034) * _inside(across - 0.43, 0.01)
    skeleton: Plane = spine - windpipe + ribs + clavicles + 0.09 * np.maximum(joint, arm)
    return skeleton


def _ribs(across: Plane, y: Plane, anatomy: Anatomy) -> Plane:
    """Return nine pairs of ribs: the backs arch out of the spine, the fainter fronts slope inwards."""
    back = -0.34 * across + anatomy.rib_slope * across**2
    end = float(-0.34 * 0.31 + anatomy.rib_slope * 0.31**2)
    front = end + 0.55 * (0.31 - across)
    fronts = _inside(across - 0.11, 0.02)
    ribs = np.zeros_like(y + across)
    for number in range(9):
        below = y - (anatomy.rib_start + anatomy.rib_gap * number)
        ribs += 0.085 * _stripe(below - back, 0.013)
        if number < 7:
            ribs += 0.042 * fronts * _stripe(below - front, 0.014)
    return ribs


def _stripe(distance: Plane, half: float) -> Plane:
    """Return a bone's profile over the distance from its axis: flat, with slightly brighter rims."""
    scaled = (distance / np.float32(half)) ** 2
    return np.exp(-(scaled**2)) * (0.75 + 0.4 * np.minimum(scaled, 1))


def _vessels(u: Plane, y: Plane, anatomy: Anatomy) -> Plane:
    """Return the lung markings of this patient: two hila and tapering branches from them."""
    rng = np.random.default_rng(anatomy.markings)
    across, marks = np.abs(u), np.zeros_like(y + u)
    marks += 0.11 * np.exp(-(((across - 0.085) / 0.035) ** 2) - ((y - 0.45) / 0.075) ** 2)
    for side in (-1, 1):
        for angle in np.linspace(-1.25, 1.35, 7) + rng.uniform(-0.16, 0.16, 7):
            right, down = (u * side - 0.06), (y - 0.44)
            along = right * np.float32(np.cos(angle)) + down * np.float32(np.sin(angle))
            off = down * np.float32(np.cos(angle)) - right * np.float32(np.sin(angle))
            bend = off - np.float32(rng.uniform(-2.0, 2.0)) * along**2
            width = 0.0025 + 0.004 * np.clip(1 - along / 0.25, 0, 1)
            reach = _inside(along - 0.02, 0.015) * np.clip(1 - along / 0.27, 0, 1)
            marks += 0.10 * reach * np.exp(-((bend / width) ** 2))
    return marks


def _clouds(rng: np.random.Generator, size: int, cells: int) -> Plane:
    """Return smooth noise of about `cells` patches a side: float32 (size, size), around 0..1."""
    coarse = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def _opacities(rng: np.random.Generator, air: Plane, y: Plane) -> tuple[Plane, tuple[float, float]]:
    """Return one or two patchy consolidations inside the lungs, and the centre of the stronger."""
    size = len(air)
    candidates = np.flatnonzero((air > 0.9) & (y > 0.27))
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    filled, places = np.zeros_like(air), []
    for strength in np.sort(rng.uniform(0.45, 0.65, int(rng.integers(1, 3))))[::-1]:
        row, column = divmod(int(rng.choice(candidates)), size)
        place = (float(axis[column]), float(axis[row]))
        across, down = rng.uniform(0.10, 0.16, 2)
        spread = ((axis[None, :] - place[0]) / across) ** 2 + (
            (axis[:, None] - place[1]) / down
        ) ** 2
        filled = np.maximum(filled, np.float32(strength) * np.exp(-0.5 * spread**1.4))
        places.append(place)
    return filled * air * (0.72 + 0.5 * _clouds(rng, size, 14)), places[0]


def _developed(rng: np.random.Generator, plate: Plane) -> Plane:
    """Return the plate as a radiographer might hand it over: exposure, gamma, grain, a side marker."""
    gain, offset, gamma = rng.uniform(0.98, 1.28), rng.uniform(-0.03, 0.05), rng.uniform(0.85, 1.2)
    size = len(plate)
    grain = rng.normal(0, 1, (size, size)).astype(np.float32) * rng.uniform(0.008, 0.018)
    light = np.clip(np.clip(plate * gain + offset, 0, 1) ** np.float32(gamma) + grain, 0, 1)
    film = Image.fromarray((light * 255).round().astype(np.uint8))
    at = (float(rng.uniform(0.03, 0.07)) * size, float(rng.uniform(0.03, 0.25)) * size)
    ImageDraw.Draw(film).text(at, "R", fill=235, font=ImageFont.load_default(size * 0.055))
    return np.asarray(film)


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
