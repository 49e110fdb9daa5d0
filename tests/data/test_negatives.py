"""Negatives of films in a data set: named by folder, asked about, rejected or inverted."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.settings import ReadingSettings
from cxr.data.phantoms import dataset
from tests.conftest import preprocess
from tests.data.test_real_folders import tree


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """Phantoms without broken files: read only."""
    folder = tmp_path_factory.mktemp("clean") / "data"
    dataset.make_dataset(folder, images=120, size=96, broken=False)
    return folder


@pytest.fixture
def data(clean, tmp_path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "data"))


def invert(paths) -> list[Path]:
    """Write the negatives of these films in their place, without loss."""
    negatives = []
    for path in paths:
        film = ImageOps.invert(Image.open(path).convert("L"))
        path.unlink()
        film.save(path.with_suffix(".png"))
        negatives.append(path.with_suffix(".png"))
    return negatives


def test_clean_films_are_no_negatives(data, tmp_path):
    """Nothing is reported where there is nothing."""
    ingest = preprocess(data, tmp_path / "work")
    assert ingest.polarity is not None and not ingest.notes
    assert not any(row.negatives for row in ingest.folders)


@pytest.mark.parametrize("folder", ["test/NORMAL", "train/PNEUMONIA"])
def test_many_in_a_folder_stop_the_run_and_two_flags_go_on(folder, data, tmp_path):
    """More than 5 %: the folder and the number are named; rejected they are in rejects.csv; inverted they are films."""
    films = sorted((data / folder).iterdir())[::2]
    originals = {path.stem: np.asarray(Image.open(path).convert("L")) for path in films}
    negatives = invert(films)
    with pytest.raises(
        DataError, match=rf"negatives.*{folder} \({len(films)} of \d+\).*--negatives invert"
    ):
        preprocess(data, tmp_path / "work")
    rejected = preprocess(data, tmp_path / "work", reading=ReadingSettings(negatives="reject"))
    assert rejected.rejected == {"ignored": 2, "negative": len(films)}
    kept = preprocess(data, tmp_path / "work", reading=ReadingSettings(negatives="invert"))
    assert kept.rejected == {"ignored": 2}, "the phantoms' own notes"
    table = read_table(tmp_path / "work" / "clean_metadata.csv").set_index("image")
    assert set(table.index[table["inverted"] == 1]) == {
        path.relative_to(data).as_posix() for path in negatives
    }
    for path in negatives:
        row = table.loc[path.relative_to(data).as_posix()]
        assert row["mean"] == pytest.approx(originals[path.stem].mean(), abs=0.01)


def test_a_folder_of_negatives_alone_can_be_rejected(data, tmp_path):
    """The flag decides, however many there are; where it cannot be obeyed, it is refused."""
    films = sorted((data / "train" / "PNEUMONIA").iterdir())
    invert(films[: len(films) * 3 // 4])
    ingest = preprocess(data, tmp_path / "work", reading=ReadingSettings(negatives="reject"))
    assert ingest.rejected["negative"] == len(films) * 3 // 4
    tree(tmp_path / "patches", images=10)
    with pytest.raises(DataError, match="cannot be learnt from these images"):
        preprocess(
            tmp_path / "patches", tmp_path / "other", reading=ReadingSettings(negatives="reject")
        )
    (note,) = preprocess(tmp_path / "patches", tmp_path / "other").notes
    assert note.startswith("negatives of films were not looked for")


def test_few_in_a_folder_are_reported_and_kept(data, tmp_path):
    """One of more than twenty: a note and a number in the account, no stop."""
    films = sorted((data / "train" / "PNEUMONIA").iterdir())
    assert len(films) > 20
    invert(films[:1])
    ingest = preprocess(data, tmp_path / "work")
    (note,) = ingest.notes
    assert note.startswith("negatives of films") and note.endswith("train/PNEUMONIA 1")
    assert {row.folder: row.negatives for row in ingest.folders if row.negatives} == {
        "train/PNEUMONIA": 1
    }


def test_an_inverted_negative_is_the_copy_of_its_film(data, tmp_path):
    """The negative of a film that is there, too: inverted it has the same pixels, and one of the two is removed."""
    film = sorted((data / "train" / "NORMAL").iterdir())[0]
    negative = film.with_name("IM-9999-0001.png")
    ImageOps.invert(Image.open(film).convert("L")).save(negative)
    ingest = preprocess(data, tmp_path / "work", reading=ReadingSettings(negatives="invert"))
    assert ingest.rejected == {"duplicate": 1, "ignored": 2}


def test_later_stages_see_the_inverted_pixels(data, tmp_path):
    """The pixel cache holds the film, not the negative."""
    from cxr.data.images import model_input, pixel_cache
    from cxr.storage.addresses import open_storage

    films = sorted((data / "test" / "NORMAL").iterdir())
    original = np.asarray(Image.open(films[0]).convert("L"))
    invert(films)
    preprocess(data, tmp_path / "work", reading=ReadingSettings(negatives="invert"))
    table = read_table(tmp_path / "work" / "clean_metadata.csv")
    row = table[table["image"] == f"test/NORMAL/{films[0].stem}.png"]
    folder = pixel_cache.fill_pixel_cache(
        row, open_storage(str(data)), 64, False, tmp_path / "work"
    )
    assert np.array_equal(
        pixel_cache.load_pixels(folder, row)[0], model_input.resize(Image.fromarray(original), 64)
    )
