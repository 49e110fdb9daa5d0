"""Films and their negatives, told apart by what the films of train look like.

On a film the surround and the lungs are dark, the spine, the heart and the belly bright. Each image
is reduced to 16 x 16 cells and correlated with the typical film of train: a negative correlates as
strongly, with the other sign. What counts is where an image is bright, so neither exposure nor
contrast matters. The centre is compared on its own, too, and both must disagree with the film: the
surround depends on how a film was cropped, the centre on how the patient lay. (Comparing the mean
of the border with that of the centre, without a template, calls all three adult films at hand
negatives.)

A typical film can be learnt although some images are negatives: except for the sign they have the
same in common. Which sign is the film is told by the anatomy (see `drawn_film`) if train is like
enough to it, else by the majority.
"""

from typing import Any, Protocol

import numpy as np
from pydantic import Field, model_validator

from cxr.core.settings import Strict
from cxr.data.images.decoding.rejection import Pixels
from cxr.data.inverted_films.cells import (
    SIDE,
    centres,
    correlate,
    mean_cells,
    standardise,
)
from cxr.data.inverted_films.drawn_film import correlate_with_drawn_film

_TEMPLATE_SCALE = 1000  # the template is kept in whole numbers
_FEWEST_IMAGES = 8  # to learn from
_MOST_IMAGES = 4096  # to learn from: more say the same
# Films are alike: 99 in 100 films of children correlate with the typical one at 0.53 or more.
# Random images have nothing in common.
_LEAST_CORRELATION = 0.4
_CORRELATED_SHARE = 0.9  # of the images must reach it
_ITERATIONS = 50  # towards what images have in common; with films it is found after five
_SURE_OF_ANATOMY = 0.5  # correlation with the drawn film; train's typical film has 0.79
# The lowest correlation of a film of train with the typical one is 0.25, of its centre 0.08.
_THRESHOLD = -0.05
_FORMER_FIELDS = {"agreement", "whole_is_negative"}  # of version 0.1; nothing has read them


class Thumbnails(Protocol):
    """Thumbnails by position: an array, or a reader that loads them when they are indexed."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Any) -> Pixels: ...


class Reference(Strict):
    """What a film of train looks like.

    Attributes:
        template: The typical film, 16 rows of 16 numbers around 0; brighter is higher.
        threshold: An image whose correlation with the template is lower looks like a negative.
        images: How many images it was learnt from.
        negatives: How many of them are negatives.
    """

    template: tuple[tuple[int, ...], ...]
    threshold: float = Field(ge=-1, le=1)
    images: int
    negatives: int

    @model_validator(mode="before")
    @classmethod
    def _without_former_fields(cls, values: Any) -> Any:
        """Accept records of version 0.1."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if name not in _FORMER_FIELDS}


def learn_reference(
    thumbnails: Thumbnails,
    positions: Pixels | None = None,
) -> Reference | None:
    """Learn what the films among these images look like.

    Some of the images may be negatives; if they look like chest films, even most or all.

    Args:
        thumbnails: uint8 (n, 64, 64), or a reader that gives them by position.
        positions: Which of them to learn from, int (m,); all by default. Of more than 4,096 as many
            are taken, evenly spread.

    Returns:
        None if the images are too few or too unlike each other.
    """
    if positions is None:
        positions = np.arange(len(thumbnails))
    if len(positions) < _FEWEST_IMAGES:
        return None
    chosen = _thin_out(np.asarray(positions))
    images = standardise(mean_cells(thumbnails[chosen]))
    # Relative to what they have in common, films have one sign and negatives the other.
    signs = np.sign(images @ _common_direction(images))
    typical = signs @ images
    if not _are_alike(images, signs, typical):
        return None
    typical_cells = typical.reshape(1, SIDE, SIDE)
    film_sign = _sign_of_films(typical_cells, signs)
    template = standardise(film_sign * typical_cells) * _TEMPLATE_SCALE
    rows = template.round().astype(int).reshape(SIDE, SIDE)
    is_negative = signs * film_sign < 0
    return Reference(
        template=rows.tolist(),
        threshold=_THRESHOLD,
        images=len(chosen),
        negatives=int(is_negative.sum()),
    )


def _thin_out(positions: Pixels) -> Pixels:
    """Return at most _MOST_IMAGES of the positions, evenly spread."""
    count = min(len(positions), _MOST_IMAGES)
    spread = np.linspace(0, len(positions) - 1, count)
    indices = spread.round().astype(np.int64)
    thinned: Pixels = positions[indices]
    return thinned


def _common_direction(images: Pixels) -> Pixels:
    """Return what standardised images have most in common except for the sign, float64 (cells,).

    It is their first principal component, by power iteration.
    """
    products = images.T @ images
    most_varied_cell = np.argmax(np.diag(products))
    direction: Pixels = products[:, most_varied_cell]
    for _ in range(_ITERATIONS):
        direction = products @ direction
        length = float(np.linalg.norm(direction))
        direction /= max(length, 1e-9)
    return direction


def _are_alike(
    images: Pixels,
    signs: Pixels,
    typical: Pixels,
) -> bool:
    """Return whether enough of the images correlate with the mean of the others.

    Args:
        images: Standardised, float64 (n, cells).
        signs: -1, 0 or 1 for each, float64 (n,).
        typical: The sum of the images with their signs, float64 (cells,).
    """
    others = typical - signs[:, None] * images
    products = signs * np.sum(images * others, axis=1)
    lengths = np.linalg.norm(others, axis=1) + 1e-9
    correlations = products / lengths
    low_correlation = np.quantile(correlations, 1 - _CORRELATED_SHARE)
    return bool(low_correlation >= _LEAST_CORRELATION)


def _sign_of_films(typical: Pixels, signs: Pixels) -> int:
    """Return the sign that the films among the images have, 1 or -1.

    Args:
        typical: What the images have in common, float64 (1, 16, 16).
        signs: -1, 0 or 1 for each image, float64 (n,).
    """
    correlation = correlate_with_drawn_film(typical)
    is_sure = abs(correlation) >= _SURE_OF_ANATOMY
    evidence = correlation if is_sure else signs.sum()
    return 1 if evidence >= 0 else -1


def find_suspects(reference: Reference, thumbnails: Pixels) -> Pixels:
    """Find the images that look like negatives of films.

    Args:
        reference: What a film looks like.
        thumbnails: uint8 (n, 64, 64).

    Returns:
        bool (n,).
    """
    cells = mean_cells(thumbnails)
    template = np.array([reference.template], np.float64)
    of_whole = correlate(cells, template)
    of_centre = correlate(centres(cells), centres(template))
    suspects: Pixels = np.maximum(of_whole, of_centre) < reference.threshold
    return suspects


def find_turned(reference: Reference, thumbnails: Pixels) -> Pixels:
    """Find the images that look like films that lie on their side, rather than like negatives.

    The dark surround above and below a lying film is where a film is bright, so its correlation is
    below 0, as that of a negative. Turned back it is a film, which a negative is not.

    Args:
        reference: What a film looks like.
        thumbnails: uint8 (n, 64, 64).

    Returns:
        bool (n,).
    """
    cells = mean_cells(thumbnails)
    template = np.array([reference.template], np.float64)
    turned_back = [correlate(np.rot90(cells, turns, (1, 2)), template) for turns in (1, 3)]
    best = np.max(turned_back, axis=0)
    turned: Pixels = (best >= _LEAST_CORRELATION) & (best > -correlate(cells, template))
    return turned
