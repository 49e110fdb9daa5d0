"""Films and their negatives: told apart by what the films of train look like, border and centre.

On a film the surround and the lungs are dark, the spine, the heart and the belly bright. Each
picture is brought to 16x16 cells and correlated with the typical film of train: a negative
correlates as strongly, with the other sign. What counts is where it is bright, so neither exposure
nor contrast matters. The centre alone is compared, too, and both must disagree: the surround
depends on how a film was cropped, the middle on how the patient lay. (The mean of the border less
that of the centre, with no template, calls all three adult films at hand negatives.)

A typical film can be learnt from train because negatives are like films but for the sign: what the
pictures have in common is the same, however many of them are negatives. Which sign is the film is a
matter of anatomy, drawn below, where train is like enough to it; else it is what most pictures are.
"""

import math
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pydantic import Field

from cxr.core.settings import Strict

Pixels = np.ndarray[Any, Any]
SIDE = 16  # cells a side
_THUMBNAIL_SIDE = 64
_OUTER = 2  # cells around the centre
_SCALE = 1000  # of the whole numbers that a template is written in
_FRAME_RANGE = 8  # gray levels within a row or column of a frame around the picture
_WIDEST_FRAME = 24  # rows or columns of a thumbnail
_FEWEST = 8  # images to learn from
_MOST = 4096  # images to learn from: more say the same
# Pictures of a kind are alike: 99 in 100 films of children correlate at 0.53 or more with the
# typical one. Random pictures have nothing in common.
_LEAST_AGREEMENT = 0.4
_AGREEING_SHARE = 0.9
_STEPS = 50  # towards what pictures have in common: films are there after five
_SURE_OF_ANATOMY = 0.5  # correlation with the drawn film: 0.79 for train's typical film
# The lowest correlation of a film of train with its typical one is 0.25, of its centre 0.08.
_THRESHOLD = -0.05

# The mean of made-up films (cxr/data/phantoms/dataset.py), no person's; positive is brighter than the mean.
_DRAWN_FILM = (
    (-118, -119, -118, -117, -107,  -63,   17,   49,   50,   15,  -63, -106, -116, -118, -119, -118),
    (-111, -102,  -89,  -61,  -33,   -2,   31,   56,   57,   31,   -4,  -34,  -64,  -91, -107, -114),
    ( -46,  -14,    3,   17,   -9,  -30,    1,   66,   66,    0,  -31,   -9,   15,    1,  -23,  -54),
    (  24,   39,   31,    6,  -47,  -57,  -28,   69,   67,  -30,  -60,  -46,    7,   31,   37,   22),
    (  21,   28,   26,  -14,  -52,  -54,  -33,   68,   70,  -27,  -56,  -53,  -13,   25,   27,   21),
    (   2,   22,   23,  -25,  -46,  -44,  -20,   76,   83,    0,  -45,  -47,  -25,   21,   21,    1),
    ( -51,   10,   18,  -32,  -42,  -36,    3,   87,   86,    4,  -38,  -43,  -31,   17,    8,  -51),
    ( -94,  -14,   14,  -35,  -40,  -32,   18,   91,   90,   28,  -28,  -43,  -34,   13,  -16,  -92),
    (-102,  -25,   11,  -36,  -40,  -34,   26,   92,   93,   58,    2,  -42,  -37,   10,  -29, -102),
    (-103,  -27,   11,  -36,  -41,  -36,   31,   93,   93,   73,   38,  -35,  -39,    8,  -31, -104),
    (-103,  -28,    9,  -37,  -43,  -38,   25,   93,   93,   75,   55,  -28,  -42,    7,  -32, -103),
    (-103,  -28,    5,  -42,  -36,   -9,   38,   95,   94,   79,   58,  -28,  -45,    5,  -32, -103),
    (-101,  -26,    9,  -22,   13,   54,   81,  110,  105,   90,   65,   -2,  -29,    8,  -30, -102),
    ( -98,  -15,   37,   38,   65,   79,   98,  125,  120,   88,   68,   48,   28,   33,  -21,  -99),
    ( -95,   -4,   61,   72,   78,   81,  100,  130,  126,   88,   69,   69,   69,   57,  -11,  -97),
    ( -92,   -1,   66,   76,   79,   82,  100,  129,  128,   95,   77,   76,   75,   62,   -9,  -95),
)  # fmt: skip


class Thumbnails(Protocol):
    """Thumbnails by position: an array, or what reads them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Any) -> Pixels: ...


class Reference(Strict):
    """What a film of train looks like.

    Attributes:
        template: The typical film, 16 rows of 16 numbers around 0; brighter is higher.
        threshold: The correlation below which a picture looks like a negative.
        images: How many thumbnails it was learnt from.
        agreement: The median correlation of one of them with the mean of the others.
        negatives: How many of them look like negatives.
        whole_is_negative: Whether most of train are negatives, by anatomy: it was exported wrongly.
    """

    template: tuple[tuple[int, ...], ...]
    threshold: float = Field(ge=-1, le=1)
    images: int
    agreement: float
    negatives: int
    whole_is_negative: bool


def learn_reference(thumbnails: Thumbnails, positions: Pixels | None = None) -> Reference | None:
    """Return what the films among these thumbnails look like; None where they are too unlike.

    A part of them may be negatives; where they look like chest films, even most or all.

    Args:
        thumbnails: uint8 (n, 64, 64), or anything that gives them by positions.
        positions: Which of them, int (m,); all where not given. Of many, 4,096 are used.
    """
    chosen = np.arange(len(thumbnails)) if positions is None else np.asarray(positions)
    if len(chosen) < _FEWEST:
        return None
    spread = np.linspace(0, len(chosen) - 1, min(len(chosen), _MOST))
    chosen = chosen[spread.round().astype(np.int64)]
    pictures = _standardised(_cells(thumbnails[chosen]))
    signs = np.sign(pictures @ _direction(pictures))
    typical = signs @ pictures
    others = typical - signs[:, None] * pictures
    agreements = signs * np.sum(pictures * others, axis=1) / (np.linalg.norm(others, axis=1) + 1e-9)
    if np.quantile(agreements, 1 - _AGREEING_SHARE) < _LEAST_AGREEMENT:
        return None
    anatomy = _anatomy(typical)
    sure = abs(anatomy) >= _SURE_OF_ANATOMY
    upright = np.sign(anatomy) if sure else np.where(signs.sum() >= 0, 1, -1)
    template = _standardised(upright * typical.reshape(1, SIDE, SIDE)) * _SCALE
    negatives = int((signs * upright < 0).sum())
    return Reference(
        template=template.round().astype(int).reshape(SIDE, SIDE).tolist(),
        threshold=_THRESHOLD,
        images=len(chosen),
        agreement=round(float(np.median(agreements)), 3),
        negatives=negatives,
        whole_is_negative=negatives > len(chosen) / 2,
    )


def find_suspects(reference: Reference, thumbnails: Pixels) -> Pixels:
    """Return which thumbnails, uint8 (k, 64, 64), look like negatives of films: bool (k,)."""
    cells = _cells(thumbnails)
    template = np.array(reference.template, np.float64)[None]
    unlike = _correlations(cells, template) < reference.threshold
    return unlike & (_correlations(_centres(cells), _centres(template)) < reference.threshold)


def _cells(thumbnails: Pixels) -> Pixels:
    """Return the mean gray in 16x16 cells of each picture inside its frame, float64 (k, 16, 16)."""
    lefts, tops, rights, bottoms = _without_frames(thumbnails)
    out = np.empty((len(thumbnails), SIDE, SIDE))
    for at, thumbnail in enumerate(thumbnails):
        box = (int(lefts[at]), int(tops[at]), int(rights[at]), int(bottoms[at]))
        image = Image.fromarray(thumbnail)
        out[at] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, box=box))
    return out


def _without_frames(thumbnails: Pixels) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Return left, top, right and bottom of each picture inside its plain frame, int (k,) each.

    A white margin is no sign of a negative, and a black one no sign of a film.
    """
    plain_rows = np.ptp(thumbnails, axis=2) <= _FRAME_RANGE
    plain_columns = np.ptp(thumbnails, axis=1) <= _FRAME_RANGE
    return (
        _run(plain_columns),
        _run(plain_rows),
        _THUMBNAIL_SIDE - _run(plain_columns[:, ::-1]),
        _THUMBNAIL_SIDE - _run(plain_rows[:, ::-1]),
    )


def _run(plain: Pixels) -> Pixels:
    """Return how many values before the first false one each row of bool (k, 64) has, int (k,)."""
    ended = np.pad(plain, ((0, 0), (0, 1)))
    lengths: Pixels = np.minimum(np.argmin(ended, axis=1), _WIDEST_FRAME)
    return lengths


def _standardised(cells: Pixels) -> Pixels:
    """Return each picture as a vector of mean 0 and length 1, float64 (k, cells), or of zeros."""
    vectors = cells.reshape(len(cells), math.prod(cells.shape[1:]))
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    standardised: Pixels = vectors / np.maximum(lengths, 1e-9)
    return standardised


def _correlations(cells: Pixels, template: Pixels) -> Pixels:
    """Return each picture's correlation with a template of the same shape, float64 (k,)."""
    correlations: Pixels = _standardised(cells) @ _standardised(template)[0]
    return correlations


def _centres(cells: Pixels) -> Pixels:
    """Return the cells but the outermost two on each side."""
    return cells[:, _OUTER:-_OUTER, _OUTER:-_OUTER]


def _direction(pictures: Pixels) -> Pixels:
    """Return what the pictures have most in common but for the sign, float64 (cells,).

    By repeated multiplication: it converges at once where they have much in common.
    """
    products = pictures.T @ pictures
    direction: Pixels = products[:, np.argmax(np.diag(products))]
    for _ in range(_STEPS):
        direction = products @ direction
        direction /= max(float(np.linalg.norm(direction)), 1e-9)
    return direction


def _anatomy(typical: Pixels) -> float:
    """Return the correlation with a drawn film: of whole and centre the one nearer to 0."""
    cells = typical.reshape(1, SIDE, SIDE)
    drawn = np.array(_DRAWN_FILM, np.float64)[None]
    both = (
        float(_correlations(cells, drawn)[0]),
        float(_correlations(_centres(cells), _centres(drawn))[0]),
    )
    return min(both, key=abs) if both[0] * both[1] > 0 else 0.0
