"""From a place with files to the rows of clean_metadata.csv and rejects.csv: scan and inspect.

`scan` lists what is there and lays out shards; `inspect_shard` reads each file once; `inspected` joins the two.
What was inspected is remembered by key, size and version, so an unchanged file is never read again.
Left out: what a file is and what its folders mean (`survey`), which copies go (`duplicates`), who is in which split
(`splits`).
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.core.settings import FileSettings, PixelSettings, ReadingSettings
from cxr.data.manifest.columns import INSPECTION_VERSION, LISTED_COLUMNS, REJECT_COLUMNS, VERSIONED
from cxr.data.manifest.records import Scan
from cxr.data.manifest.shard_inspection import known_rows
from cxr.data.survey.account import File
from cxr.data.survey.survey import Survey, survey_folders
from cxr.storage.base import Storage


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
    """List `storage`, find the one data set in it, and lay out shards of what was not inspected before.

    Writes listed.csv, scan_rejects.csv, files.csv and shards/*.csv under work/inspection.

    Args:
        storage: Where DATA is.
        work: The work folder.
        settings: How DATA is read.
        own: Key of the work folder where it lies inside DATA.
        pixels: Which pixels inspection is to keep.
        on_survey: Called with what was found, before anything is asked.
        shard_size: Images of one shard.
        most_shards: More images than fit make larger shards, not more of them.

    Raises:
        DataError: There is no data set, more than one, or folders of it would not be used.
    """
    settings = settings or ReadingSettings()
    folder = inspection_folder(
        work,
        storage.uri,
        settings,
    )
    found = survey_folders(
        storage,
        settings,
        folder,
        own,
    )
    on_survey(found)
    if found.question:
        raise DataError(found.question)
    laid_out = _lay_out(
        found,
        storage.uri,
        settings,
        folder,
        shard_size,
        most_shards,
    )
    return laid_out.model_copy(update={"pixels": pixels or PixelSettings()})


def _lay_out(
    found: Survey,
    data: str,
    settings: ReadingSettings,
    folder: Path,
    shard_size: int,
    most_shards: int,
) -> Scan:
    """Write what a survey found below `folder`, in shards what is new of it; return the record."""
    rejects = pd.DataFrame(
        found.rejects,
        columns=REJECT_COLUMNS,
    )
    write_table(rejects, folder / "scan_rejects.csv")
    write_table(pd.DataFrame(found.files, columns=File._fields), folder / "files.csv")
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
        for entry, reading, _ in found.images
    ]
    table = pd.DataFrame(rows, columns=LISTED_COLUMNS)
    write_table(table, folder / "listed.csv")
    new = _unknown(table, known_rows(folder, [*VERSIONED, "reason"]))
    size = max(shard_size, -(-len(new) // most_shards))
    shards = tuple(
        _write_shard(new.iloc[at : at + size], folder) for at in range(0, len(new), size)
    )
    return Scan(
        data=data,
        root=found.root,
        found=found.found,
        images=len(table),
        new=len(new),
        shards=shards,
        settings=settings,
        folders=found.account.folders,
        notes=found.notes,
    )


def inspection_folder(
    work: Path,
    data: str,
    settings: FileSettings,
) -> Path:
    """Return where the inspection of this DATA is remembered below the work folder.

    Settings that change what inspection finds have a folder of their own.
    """
    rules = settings.model_dump_json(
        include={"bit_depth", "min_side", "max_aspect", "min_contrast"}
    )
    named = f"{INSPECTION_VERSION} {rules} {data}".encode("utf-8", "surrogateescape")
    return work / "inspection" / hashlib.sha256(named).hexdigest()[:12]


def folder_of(scan: Scan, work: Path) -> Path:
    """Return the folder in which a scan's inspection is remembered."""
    return inspection_folder(
        work,
        scan.data,
        scan.settings,
    )


def scanned_files(folder: Path) -> list[File]:
    """Return every file that the last scan found, as the account by folder wants it."""
    return [
        File(*row)
        for row in read_table(folder / "files.csv").itertuples(
            index=False,
            name=None,
        )
    ]


def versions(folder: Path, keys: Iterable[str]) -> dict[str, str]:
    """Return the versions at which the last scan listed these images, as far as it did."""
    path = folder / "listed.csv"
    if not path.is_file():
        return {}
    listed = read_table(path)
    rows = listed[listed["image"].isin(set(keys))]
    return dict(zip(rows["image"], rows["version"], strict=True))


def _unknown(listed: pd.DataFrame, inspected: pd.DataFrame) -> pd.DataFrame:
    """Return the listed rows whose image, size and version were not inspected, or failed in passing."""
    lasting = inspected[~inspected["reason"].isin(["vanished", "unreadable"])]
    seen = set(zip(lasting["image"], lasting["size"], lasting["version"], strict=True))
    keys = zip(listed["image"], listed["size"], listed["version"], strict=True)
    return listed[[key not in seen for key in keys]]


def _write_shard(rows: pd.DataFrame, folder: Path) -> str:
    keys = "\n".join(f"{row.image}\t{row.size}\t{row.version}" for row in rows.itertuples())
    name = hashlib.sha256(keys.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    write_table(rows, folder / "shards" / f"{name}.csv")
    return name
