"""List DATA, find the one data set in it, and lay out shards of images to inspect.

What was inspected is remembered by key, size and version, so an unchanged file is never read again.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import PART_ROWS, read_parts, read_table, write_parts, write_table
from cxr.core.settings import FileSettings, PixelSettings, ReadingSettings
from cxr.data.labels.image_labels import ImageLabel
from cxr.data.manifest.columns import (
    INSPECTION_VERSION,
    LISTED_COLUMNS,
    PLACED_COLUMNS,
    REJECT_COLUMNS,
    VERSIONED,
)
from cxr.data.manifest.records import Scan
from cxr.data.patients.hidden_names import is_hidden_key
from cxr.data.patients.pseudonyms import require_same_salt
from cxr.data.survey.files import File
from cxr.data.survey.questions.questions import Image
from cxr.data.survey.survey import Survey, survey_folders
from cxr.storage.base import Storage

# An image rejected for one of these may be readable the next time.
_PASSING_REASONS = ("vanished", "unreadable")
_NOTHING_SAID = ImageLabel(None, "", "", "", "", "", "")
LABEL_ROWS = "label_rows.csv"  # rows of a table of labels that label no image alone
_NOWHERE = -1  # the shard of an image that was not inspected


def scan(
    storage: Storage,
    work: Path,
    settings: ReadingSettings | None = None,
    own: str | None = None,
    pixels: PixelSettings | None = None,
    on_survey: Callable[[Survey], None] = lambda _: None,
    shard_size: int = 200,
    most_shards: int = 400,
) -> Scan:
    """List a storage, find the one data set in it, and lay out shards of what is new.

    Writes listed.csv, scan_rejects.csv, files.csv, shards/*.csv and, where a table has the labels,
    label_rows.csv in the folder of the inspection.

    Args:
        storage: Where DATA is.
        work: The work folder.
        settings: How DATA is read.
        own: Key of the work folder where it lies inside DATA.
        pixels: Which pixels the inspection keeps.
        on_survey: Called with what was found, before anything is asked.
        shard_size: Images in a shard.
        most_shards: Where there are more images than fit, shards become larger, not more.

    Returns:
        The record of the scan.

    Raises:
        DataError: There is no data set, more than one, or folders of it would not be used; or the
            work folder was made with another salt.
    """
    settings = settings or ReadingSettings()
    inspection = inspection_folder(
        work,
        storage.uri,
        settings,
    )
    survey = survey_folders(
        storage,
        settings,
        inspection,
        own,
    )
    on_survey(survey)
    if survey.question:
        raise DataError(survey.question)
    if any(is_hidden_key(image.entry.key) for image in survey.images):
        require_same_salt(work / "inspection" / "salt_mark.txt")
    _write_rejects_and_files(survey, inspection)
    places = _Places(survey.images, inspection)
    new = places.new()
    rows_per_shard = max(shard_size, -(-len(new) // most_shards))
    shards = [
        _write_shard(survey.images, new[start : start + rows_per_shard], places, inspection)
        for start in range(0, len(new), rows_per_shard)
    ]
    write_parts(_list_images(survey.images, places), inspection / "listed.csv")
    return Scan(
        data=storage.uri,
        root=survey.root,
        found=survey.found,
        images=len(survey.images),
        new=len(new),
        shards=tuple(shards),
        settings=settings,
        pixels=pixels or PixelSettings(),
        folders=survey.account.folders,
        notes=survey.notes,
        labels=survey.labels.books if survey.labels else None,
    )


def _write_rejects_and_files(survey: Survey, inspection: Path) -> None:
    """Write what a survey found beside the images to inspect."""
    rejects = pd.DataFrame(survey.rejects, columns=REJECT_COLUMNS)
    write_table(rejects, inspection / "scan_rejects.csv")
    write_parts(_list_files(survey), inspection / "files.csv")
    if survey.labels:
        write_table(survey.labels.rows, inspection / LABEL_ROWS)


def _list_files(survey: Survey) -> Iterator[pd.DataFrame]:
    """Yield every file of a survey, in parts."""
    files = survey.files()
    for _ in _starts(survey.found):
        yield pd.DataFrame(islice(files, PART_ROWS), columns=File._fields)


def _starts(rows: int) -> range:
    """Return where the parts of a table begin; an empty table has one part."""
    return range(0, max(1, rows), PART_ROWS)


class _Places:
    """Where the inspected row of each image is: in which shard, and in which row of it.

    Args:
        images: The images of a survey, by key.
        inspection: Folder of the inspection. Of several rows of an image, as it was listed, the one
            in the latest shard counts; one that was rejected for a passing reason is none.
    """

    def __init__(self, images: Sequence[Image], inspection: Path):
        self._names: list[str] = []
        self._shards = np.full(len(images), _NOWHERE, np.int32)
        self._rows = np.zeros(len(images), np.int32)
        paths = sorted(
            inspection.glob("inspected/*.csv"),
            key=lambda path: path.stat().st_mtime_ns,
        )
        for path in paths:
            number = self._add_shard(path.stem)
            table = read_table(path, [*VERSIONED, "reason"])
            for row, (key, size, version, reason) in enumerate(table.itertuples(index=False)):
                position = bisect_left(images, key, key=lambda image: image.entry.key)
                if position == len(images) or images[position].entry[:3] != (key, size, version):
                    continue
                is_open = reason in _PASSING_REASONS or _is_view_known(images[position], reason)
                self._shards[position] = _NOWHERE if is_open else number
                self._rows[position] = row

    def _add_shard(self, name: str) -> int:
        """Return the number of a further shard."""
        self._names.append(name)
        return len(self._names) - 1

    def new(self) -> "np.ndarray[Any, Any]":
        """Return the positions of the images that have to be inspected, int (k,)."""
        return np.flatnonzero(self._shards == _NOWHERE)

    def set(self, positions: "np.ndarray[Any, Any]", shard: str) -> None:
        """Note that images will be the rows of a new shard, in this order."""
        self._shards[positions] = self._add_shard(shard)
        self._rows[positions] = np.arange(len(positions))

    def place(self, position: int) -> str:
        """Return where the row of an image is, "shard:row"."""
        return f"{self._names[self._shards[position]]}:{self._rows[position]}"


def _is_view_known(image: Image, reason: str) -> bool:
    """Return whether a film was set aside for its view by tags, and a table now says another one."""
    return reason == "other_view" and image.listed is not None and image.listed.view != ""


def _list_images(images: Sequence[Image], places: _Places) -> Iterator[pd.DataFrame]:
    """Yield the images to inspect, with what their folders say, in PLACED_COLUMNS."""
    for start in _starts(len(images)):
        part = range(start, min(start + PART_ROWS, len(images)))
        rows = [(*_listed(images[position]), places.place(position)) for position in part]
        yield pd.DataFrame(rows, columns=PLACED_COLUMNS)


def _listed(image: Image) -> tuple[Any, ...]:
    """Return the row of an image in LISTED_COLUMNS."""
    entry = image.entry
    reading = image.reading
    said = image.listed or _NOTHING_SAID
    return (
        entry.key,
        reading.label,
        reading.split,
        reading.etiology,
        reading.group,
        entry.size,
        entry.version,
        said.patient,
        said.age,
        said.sex,
        said.view,
    )


def _write_shard(
    images: Sequence[Image],
    positions: "np.ndarray[Any, Any]",
    places: _Places,
    inspection: Path,
) -> str:
    """Write the rows of a shard; return its name, a digest of its images and their versions."""
    rows = [_listed(images[position]) for position in positions]
    table = pd.DataFrame(rows, columns=LISTED_COLUMNS)
    columns = zip(table["image"], table["size"], table["version"], strict=True)
    lines = [f"{image}\t{size}\t{version}" for image, size, version in columns]
    content = "\n".join(lines).encode("utf-8", "surrogateescape")
    name = hashlib.sha256(content).hexdigest()[:16]
    write_table(table, inspection / "shards" / f"{name}.csv")
    places.set(positions, name)
    return name


def inspection_folder(
    work: Path,
    data: str,
    settings: FileSettings,
) -> Path:
    """Return the folder below the work folder in which the inspection of this DATA is remembered.

    Settings that change what the inspection finds have a folder of their own.
    """
    rules = settings.model_dump_json(
        include={"bit_depth", "min_side", "max_aspect", "min_contrast", "views", "window"}
    )
    identity = f"{INSPECTION_VERSION} {rules} {data}".encode("utf-8", "surrogateescape")
    return work / "inspection" / hashlib.sha256(identity).hexdigest()[:12]


def folder_of(scan: Scan, work: Path) -> Path:
    """Return the folder in which the inspection of a scan is remembered."""
    return inspection_folder(
        work,
        scan.data,
        scan.settings,
    )


def scanned_files(inspection: Path) -> Iterator[File]:
    """Yield every file that the last scan found, as the account by folder reads them."""
    for part in read_parts(inspection / "files.csv"):
        for row in part.itertuples(index=False, name=None):
            yield File.from_cells(row)


def versions(inspection: Path, keys: Iterable[str]) -> dict[str, str]:
    """Return the versions at which the last scan listed these images, as far as it did."""
    path = inspection / "listed.csv"
    if not path.is_file():
        return {}
    listed = read_table(path, ["image", "version"])
    rows = listed[listed["image"].isin(set(keys))]
    return dict(zip(rows["image"], rows["version"], strict=True))
