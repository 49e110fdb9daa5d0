"""The contact sheet of a label review: numbered films, ten on a printed page, in one HTML file."""

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.files import atomic_write
from cxr.data.images import pixel_cache
from cxr.results.cards.rendering import load_templates
from cxr.results.label_review.records import LabelReview

PAGE = "label_review.html"
FILMS_A_SHEET = 10
_JPEG_QUALITY = 90


class Film(NamedTuple):
    """One film of the contact sheet.

    Attributes:
        number: Its rank; that of a test film begins with T.
        image: The image's key.
        patient: Its patient, "" where none is known.
        split: The split that it is in.
        given_label: The label that it has.
        suggested_label: The label that its score speaks for.
        confidence: The probability of the given label, 0 to 1.
        disputed: Whether confident learning takes the label for wrong.
        burned_in: Whether text may be burned into the film.
        uri: The picture, as a data URI.
        width: Of the film, in pixels, which the square picture is stretched to.
        height: Likewise.
    """

    number: str
    image: str
    patient: str
    split: str
    given_label: str
    suggested_label: str
    confidence: float
    disputed: bool
    burned_in: bool
    uri: str
    width: int
    height: int


def write_page(
    record: LabelReview,
    review: pd.DataFrame,
    test: pd.DataFrame | None,
    manifest: pd.DataFrame,
    pixels: Path,
    folder: Path,
) -> Path:
    """Publish the contact sheet, and return its path.

    The films are shown by the pixels that networks see, as in the other pictures of this product:
    what is burned into a film in small letters is not made legible here.

    Args:
        record: The review.
        review: The table of train and validation.
        test: The table of test, if there is one.
        manifest: clean_metadata.csv.
        pixels: The folder of the pixel cache.
        folder: Where the page goes.
    """
    parts = [(review, record.films)]
    if test is not None:
        parts.append((test, record.test_films))
    sheets = [
        _sheets(_films(table.head(count), manifest, pixels)) for table, count in parts if count
    ]
    template = load_templates().get_template("label_review.html.j2")
    text = template.render(
        record=record,
        sheets=sheets[0] if record.films else [],
        test_sheets=sheets[-1] if record.test_films else [],
    )
    path = folder / PAGE
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _sheets(films: list[Film]) -> list[list[Film]]:
    """Return films in parts of a printed page each."""
    return [films[start : start + FILMS_A_SHEET] for start in range(0, len(films), FILMS_A_SHEET)]


def _films(
    rows: pd.DataFrame,
    manifest: pd.DataFrame,
    pixels: Path,
) -> list[Film]:
    """Return the films of some rows of a review."""
    known = manifest.set_index("image").loc[rows["image"]]
    pictures = pixel_cache.load_pixels(pixels, rows)
    burned_in = known["burned_in"] if "burned_in" in known else pd.Series("", known.index)
    return [
        Film(
            number=row["rank"],
            image=row["image"],
            patient=row["patient"],
            split=row["split"],
            given_label=row["given_label"],
            suggested_label=row["suggested_label"],
            confidence=float(row["self_confidence"]),
            disputed=row["disputed"] == "yes",
            burned_in=burned_in.iloc[place] != "",
            uri=_as_uri(pictures[place]),
            width=int(known["width"].iloc[place]),
            height=int(known["height"].iloc[place]),
        )
        for place, row in enumerate(rows.to_dict("records"))
    ]


def _as_uri(pixels: "np.ndarray[Any, Any]") -> str:
    """Return a gray picture, uint8 (side, side), as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
