"""List DATA, find the one data set in it, and lay out shards of images to inspect.

What was inspected is remembered by key, size and version, so an unchanged file is never read again.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.core.settings import FileSettings, PixelSettings, ReadingSettings
from cxr.data.manifest.columns import (
    INSPECTION_VERSION,
    LISTED_COLUMNS,
    REJECT_COLUMNS,
    VERSIONED,
)
from cxr.data.manifest.records import Scan
from cxr.data.manifest.shard_inspection import known_rows
from cxr.data.survey.files import File
from cxr.data.survey.survey import Survey, survey_folders
from cxr.storage.base import Storage

# An image rejected for one of these may be readable the next time.
_PASSING_REASONS = ("vanished", "unreadable")


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

    Writes listed.csv, scan_rejects.csv, files.csv and shards/*.csv in the folder of the inspection.

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
        DataError: There is no data set, more than one, or folders of it would not be used.
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
    listed = _write_listing(survey, inspection)
    new = _select_new(listed, inspection)
    rows_per_shard = max(shard_size, -(-len(new) // most_shards))
    shards = [
        _write_shard(new.iloc[start : start + rows_per_shard], inspection)
        for start in range(0, len(new), rows_per_shard)
    ]
    return Scan(
        data=storage.uri,
        root=survey.root,
        found=survey.found,
        images=len(listed),
        new=len(new),
        shards=tuple(shards),
        settings=settings,
        pixels=pixels or PixelSettings(),
        folders=survey.account.folders,
        notes=survey.notes,
    )


def _write_listing(survey: Survey, inspection: Path) -> pd.DataFrame:
    """Write what a survey found; return the images to inspect."""
    rejects = pd.DataFrame(survey.rejects, columns=REJECT_COLUMNS)
    write_table(rejects, inspection / "scan_rejects.csv")
    files = pd.DataFrame(survey.files, columns=File._fields)
    write_table(files, inspection / "files.csv")
    listed = _list_images(survey)
    write_table(listed, inspection / "listed.csv")
    return listed


def _list_images(survey: Survey) -> pd.DataFrame:
    """Return the images to inspect, with what their folders say, in LISTED_COLUMNS."""
    rows = [
        (
            entry.key,
            reading.label,
            reading.split,
            reading.etiology,
            reading.group,
            entry.size,
            entry.version,
        )
        for entry, reading, _ in survey.images
    ]
    return pd.DataFrame(rows, columns=LISTED_COLUMNS)


def _select_new(listed: pd.DataFrame, inspection: Path) -> pd.DataFrame:
    """Return the rows that were not inspected at this size and version, or failed in passing."""
    inspected = known_rows(inspection, [*VERSIONED, "reason"])
    lasting = inspected[~inspected["reason"].isin(_PASSING_REASONS)]
    known = set(
        lasting[VERSIONED].itertuples(
            index=False,
            name=None,
        )
    )
    files = listed[VERSIONED].itertuples(
        index=False,
        name=None,
    )
    is_new = [file not in known for file in files]
    return listed[
        pd.Series(
            is_new,
            listed.index,
            dtype=bool,
        )
    ]


def _write_shard(rows: pd.DataFrame, inspection: Path) -> str:
    """Write the rows of a shard; return its name, a digest of its images and their versions."""
    columns = zip(rows["image"], rows["size"], rows["version"], strict=True)
    lines = [f"{image}\t{size}\t{version}" for image, size, version in columns]
    content = "\n".join(lines).encode("utf-8", "surrogateescape")
    name = hashlib.sha256(content).hexdigest()[:16]
    write_table(rows, inspection / "shards" / f"{name}.csv")
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
        include={"bit_depth", "min_side", "max_aspect", "min_contrast"}
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


def scanned_files(inspection: Path) -> list[File]:
    """Return every file that the last scan found, as the account by folder reads them."""
    table = read_table(inspection / "files.csv")
    return [File.from_cells(row) for row in table.itertuples(index=False, name=None)]


def versions(inspection: Path, keys: Iterable[str]) -> dict[str, str]:
    """Return the versions at which the last scan listed these images, as far as it did."""
    path = inspection / "listed.csv"
    if not path.is_file():
        return {}
    listed = read_table(path, ["image", "version"])
    rows = listed[listed["image"].isin(set(keys))]
    return dict(zip(rows["image"], rows["version"], strict=True))
