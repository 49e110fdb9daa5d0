"""The pixel cache gives each row of the manifest the picture that was measured."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from cxr.core.errors import DataError
from cxr.core.settings import FileSettings
from cxr.data.images import measurement, pixel_cache
from cxr.data.images.decoding import decoder
from cxr.exploration import explore
from cxr.storage.addresses import open_storage
from tests.support.pictures import encoded, png16, soft

FILM = soft(96)
DEEP = np.asarray(FILM).astype(np.uint16) * 16
FILES = {
    "film.jpg": (encoded(FILM, "JPEG"), False),
    "negative.png": (encoded(ImageOps.invert(FILM)), True),
    "deep.png": (png16(DEEP), False),
    "deep negative.png": (png16(4095 - DEEP), True),
}


def rows(folder: Path) -> pd.DataFrame:
    measured_rows = []
    for name, (data, inverted) in FILES.items():
        (folder / name).write_bytes(data)
        row, _, _ = measurement.measure_image(data, FileSettings(bit_depth=12), inverted)
        measured_rows.append(row | {"image": name, "inverted": int(inverted)})
    return pd.DataFrame(measured_rows)


def test_deep_pictures_and_negatives_are_cached_as_films(tmp_path):
    """Whatever a film came as, the network sees the film; so does the picture of the exploration, read again for its size."""
    (tmp_path / "data").mkdir()
    table = rows(tmp_path / "data").drop_duplicates("pixel_sha256")
    storage = open_storage(str(tmp_path / "data"))
    held = pixel_cache.load_pixels(
        pixel_cache.fill_pixel_cache(table, storage, 64, False, tmp_path), table
    )
    expected = np.asarray(
        FILM.resize((64, 64), Image.Resampling.BILINEAR, reducing_gap=2.0)
    ).astype(int)
    for at, name in enumerate(table["image"]):
        assert np.abs(held[[at]][0].astype(int) - expected).mean() < 1.5, name
        shown = explore.OriginalImages(table, held, storage, tmp_path).read(name)
        assert np.abs(shown.astype(int) - np.asarray(FILM)).mean() < 3, name


def test_rows_of_earlier_manifests_are_taken_as_they_are():
    """Without bit_depth and inverted a row is of an 8-bit film."""
    data, _ = FILES["film.jpg"]
    row = pd.Series({"image": "film.jpg", "md5": hashlib.md5(data).hexdigest()})
    assert np.array_equal(
        np.asarray(pixel_cache.decode_row(data, row)), np.asarray(decoder.decode(data).image)
    )


def test_a_file_that_cannot_be_used_any_more_is_named():
    """A deep file in a row that says 8 bits is no film any more: the message names it and the remedy."""
    with pytest.raises(DataError, match=r"deep\.png: cannot be used any more.*preprocess again"):
        pixel_cache.decode_row(FILES["deep.png"][0], pd.Series({"image": "deep.png"}))


def test_pictures_to_look_at_come_from_the_cache_where_it_is_large_enough(tmp_path):
    """In the shape of the film, not in the square of the network; the files are not asked for again."""
    (tmp_path / "data").mkdir()
    table = rows(tmp_path / "data").drop_duplicates("pixel_sha256")
    storage = open_storage(str(tmp_path / "data"))
    held = pixel_cache.load_pixels(
        pixel_cache.fill_pixel_cache(table, storage, 224, False, tmp_path), table
    )
    for name in FILES:
        (tmp_path / "data" / name).unlink()
    originals = explore.OriginalImages(table, held, storage, tmp_path)
    width, height = FILM.size
    size = (round(width * 224 / max(FILM.size)), round(height * 224 / max(FILM.size)))
    expected = np.asarray(FILM.resize(size, Image.Resampling.BILINEAR)).astype(int)
    for name in table["image"]:
        shown = originals.read(name)
        assert shown.shape == expected.shape, name
        assert np.abs(shown.astype(int) - expected).mean() < 3, name
