"""Draw a made-up frontal chest X-ray from formulas, never from a person's image."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Plane = np.ndarray[Any, Any]


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
