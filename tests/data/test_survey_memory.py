"""The survey of a large data set keeps little of each image beside what the storage lists."""

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from cxr.core.files import PART_ROWS, write_table
from cxr.core.settings import ReadingSettings
from cxr.data.manifest import scanning
from cxr.data.survey.account import account_with_outcomes
from cxr.data.survey.files import File
from cxr.data.survey.survey import survey_folders
from cxr.storage.base import Entry

IMAGES = 20_000


class MadeUpBucket:
    """A storage that lists IMAGES images below train and test."""

    uri = "s3://made-up/data"
    place = uri

    def list(self, _prefix: str = "") -> Iterator[Entry]:
        """Yield the images."""
        for number in range(IMAGES):
            split = "test" if number % 4 == 0 else "train"
            label = "NORMAL" if number % 3 == 0 else "PNEUMONIA"
            key = f"chest_xray/{split}/{label}/person{number:06d}_bacteria_1.jpeg"
            yield Entry(key, 300_000 + number, f"{number:032x}")

    def peek_many(self, wanted, count):
        """Refuse to read: every name tells that the file is an image."""
        assert not list(wanted)
        return iter(())

    def read_many(self, wanted):
        """Refuse to read: no file may be a copy of another."""
        assert not list(wanted)
        return iter(())


def bytes_an_image(call: Callable[[], object]) -> tuple[float, float]:
    """Return the memory that a call's result takes, and the call's peak, in bytes an image."""
    tracemalloc.start()
    try:
        result = call()
        kept, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        tracemalloc.stop()
    return kept / IMAGES, peak / IMAGES


def test_a_survey_holds_few_objects_for_each_image():
    """At its peak it takes at most 200 bytes an image more than the listing, of about 310 bytes."""
    storage = MadeUpBucket()
    listing, _ = bytes_an_image(lambda: list(storage.list()))
    kept, peak = bytes_an_image(lambda: survey_folders(storage, ReadingSettings()))
    assert kept - listing < 100
    assert peak - listing < 200


def test_scanned_files_share_their_texts(tmp_path: Path):
    """Of the texts read back from files.csv, only the key is kept once for each image."""
    survey = survey_folders(MadeUpBucket(), ReadingSettings())
    write_table(pd.DataFrame(survey.files(), columns=File._fields), tmp_path / "files.csv")
    kept, _ = bytes_an_image(lambda: list(scanning.scanned_files(tmp_path)))
    assert kept < 300
    assert list(scanning.scanned_files(tmp_path)) == list(survey.files())


def test_the_account_after_inspection_holds_no_image(tmp_path: Path):
    """Images of a folder that are used alike are counted: its memory does not grow with them."""
    survey = survey_folders(MadeUpBucket(), ReadingSettings())
    write_table(pd.DataFrame(survey.files(), columns=File._fields), tmp_path / "files.csv")
    rejected = {survey.images[5].entry.key: ("", "truncated")}
    accounts = []

    def account() -> None:
        files = scanning.scanned_files(tmp_path)
        accounts.append(account_with_outcomes(files, rejected))

    _, peak = bytes_an_image(account)
    assert peak < PART_ROWS * 1500 / IMAGES  # what a part of files.csv takes
    folders = accounts[0].folders
    assert sum(folder.files for folder in folders) == IMAGES
    assert sum(folder.left_out.get("truncated", 0) for folder in folders) == 1
