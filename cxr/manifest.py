"""From a place with files to the rows of clean_metadata.csv and rejects.csv: scan and inspect.

`scan` lists what is there and lays out shards; `inspect_shard` reads each file once; `inspected` joins the two.
What was inspected is remembered by key, size and version, so an unchanged file is never read again.
Left out: what a file is and what its folders mean (`survey`), which copies go (`duplicates`), who is in which split
(`splits`).
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import images
from cxr.account import File
from cxr.errors import ConflictError, DataError
from cxr.pixels import Writer
from cxr.records import LABEL_NAMES, Scan, Shard, publishing, read_table, write_table
from cxr.settings import FileSettings, PixelSettings, ReadingSettings
from cxr.storage_base import Storage
from cxr.survey import Survey, survey

INSPECTION_VERSION = (
    3  # raise it when a measured column changes meaning: everything is then read anew
)
ROW_COLUMNS = [
    "image", "label", "label_name", "split", "source_split", "patient_id", "etiology", "md5", "pixel_sha256",
    "phash", "width", "height", "mode", "bytes", "mean", "std", "format", "icc", "exif",
    "quantisation", "patient_group", "bit_depth", "inverted",
]  # fmt: skip
REJECT_COLUMNS = ["image", "reason", "detail"]
_CONTAINER = ["format", "icc", "exif", "quantisation"]
_MEASURED = [
    "md5",
    "pixel_sha256",
    "phash",
    "width",
    "height",
    "mode",
    "bytes",
    "mean",
    "std",
    "bit_depth",
    *_CONTAINER,
]
_VERSIONED = ["image", "size", "version"]  # by which an inspected file is known again
_LISTED = ["image", "label", "source_split", "etiology", "group", "size", "version"]
_INSPECTED = [*_LISTED, *_MEASURED, "reason", "detail", "thumbnail"]


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
    folder = inspection_folder(work, storage.uri, settings)
    found = survey(storage, settings, folder, own)
    on_survey(found)
    if found.question:
        raise DataError(found.question)
    laid_out = _lay_out(found, storage.uri, settings, folder, shard_size, most_shards)
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
    rejects = pd.DataFrame(found.rejects, columns=REJECT_COLUMNS)
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
    table = pd.DataFrame(rows, columns=_LISTED)
    write_table(table, folder / "listed.csv")
    new = _unknown(table, known(folder, [*_VERSIONED, "reason"]))
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


def inspection_folder(work: Path, data: str, settings: FileSettings) -> Path:
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
    return inspection_folder(work, scan.data, scan.settings)


def files(folder: Path) -> list[File]:
    """Return every file that the last scan found, as the account by folder wants it."""
    return [
        File(*row) for row in read_table(folder / "files.csv").itertuples(index=False, name=None)
    ]


def versions(folder: Path, keys: Iterable[str]) -> dict[str, str]:
    """Return the versions at which the last scan listed these images, as far as it did."""
    path = folder / "listed.csv"
    if not path.is_file():
        return {}
    listed = read_table(path)
    rows = listed[listed["image"].isin(set(keys))]
    return dict(zip(rows["image"], rows["version"], strict=True))


def known(folder: Path, columns: list[str]) -> pd.DataFrame:
    """Return these columns, _VERSIONED among them, of every shard inspected before, the latest row for each image."""
    tables = [
        read_table(path, columns)
        for path in sorted(folder.glob("inspected/*.csv"), key=lambda p: p.stat().st_mtime_ns)
    ]
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True).drop_duplicates(_VERSIONED, keep="last")


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


def inspect_shard(
    storage: Storage,
    folder: Path,
    name: str,
    settings: FileSettings | None = None,
    on_image: Callable[[], None] = lambda: None,
    writer: Writer | None = None,
) -> Shard:
    """Read, decode and measure each image of one shard once; publish rows, thumbnails and pixels.

    Writes the pixels into the cache, then inspected/<name>.npy (uint8, n x 64 x 64), and last
    inspected/<name>.csv, whose presence means done.

    Args:
        storage: Where DATA is.
        folder: Where the inspection is remembered.
        name: The shard's.
        settings: What a picture must be; the defaults where not given.
        on_image: Called after each image.
        writer: Keeps the pixels for training; None to keep none.
    """
    images.allow_large_headers()
    settings = settings or FileSettings()
    rows: list[dict[str, Any]] = []
    thumbnails: list[images.Pixels] = []
    table = read_table(folder / "shards" / f"{name}.csv")
    read = storage.read_many(zip(table["image"], table["version"], strict=True))
    for listed, (_, answer) in zip(table.to_dict("records"), read, strict=True):
        row: dict[str, Any] = {str(name): value for name, value in listed.items()}
        try:
            measured = images.measure(bytes_of(answer), settings)
            rows.append(
                row
                | measured.row
                | {"reason": "", "detail": "", "thumbnail": f"{name}:{len(thumbnails)}"}
            )
            thumbnails.append(measured.thumbnail)
            if writer is not None:
                writer.add(measured.row["pixel_sha256"], measured.image)
        except images.Rejected as reject:
            rows.append(
                row | _NOTHING | {"reason": reject.reason, "detail": reject.detail, "thumbnail": ""}
            )
        on_image()
    stack = np.stack(thumbnails) if thumbnails else np.empty((0, 64, 64), np.uint8)
    hashes = iter(images.perceptual_hashes(stack) if thumbnails else ())
    for row in rows:
        row["phash"] = "" if row["reason"] else next(hashes)
    if writer is not None:
        writer.publish()
    with publishing(folder / "inspected" / f"{name}.npy") as temporary:
        np.save(temporary, stack)
    write_table(pd.DataFrame(rows, columns=_INSPECTED), folder / "inspected" / f"{name}.csv")
    return Shard(name=name, images=len(thumbnails), rejected=len(rows) - len(thumbnails))


_COUNTS = ("width", "height", "bytes", "icc", "exif", "bit_depth")
_NOTHING: dict[str, Any] = dict.fromkeys(_MEASURED, "") | dict.fromkeys(
    (*_COUNTS, "mean", "std"), 0
)


def bytes_of(answer: bytes | Exception) -> bytes:
    """Return what reading a file gave; raises Rejected where it vanished, changed or may not be read.

    A storage that fails as a whole raises its StorageError: no image is rejected for that.
    """
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, FileNotFoundError):
        raise images.Rejected("vanished", "gone between listing and reading")
    if isinstance(answer, ConflictError):
        raise images.Rejected(
            "vanished", "changed between listing and reading: the next run reads it anew"
        )
    if isinstance(answer, OSError):
        raise images.Rejected("unreadable", answer.strerror or str(answer))
    raise answer


class Thumbnails:
    """The thumbnails of some inspected images, uint8 (k, 64, 64) by their positions; few are in memory at a time.

    `places` are values of the column `thumbnail`, "shard:index".
    """

    def __init__(self, folder: Path, places: Iterable[str]):
        self._folder = folder / "inspected"
        parts = [place.rsplit(":", 1) for place in places]
        self._shards = np.array([shard for shard, _ in parts], dtype=object)
        self._at = np.array([int(at) for _, at in parts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, positions: Any) -> images.Pixels:
        """Return the thumbnails at the int positions (k,), in their order."""
        positions = np.asarray(positions, np.int64)
        out = np.empty((len(positions), images.THUMBNAIL_SIDE, images.THUMBNAIL_SIDE), np.uint8)
        shards = self._shards[positions]
        for shard in np.unique(shards):
            own = np.flatnonzero(shards == shard)
            out[own] = np.load(self._folder / f"{shard}.npy", mmap_mode="r")[
                self._at[positions[own]]
            ]
        return out


def inspected(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (rows of good images, rejects) for exactly what the last scan listed.

    Raises DataError where a listed image has no inspection: a shard is missing.
    """
    listed = read_table(folder / "listed.csv")
    # What an image is used as is told by the last scan, whatever it was when the image was inspected.
    measured = [name for name in _INSPECTED if name in _VERSIONED or name not in _LISTED]
    both = listed.merge(known(folder, measured), on=_VERSIONED, how="left")
    missing = both["reason"].isna()
    if missing.any():
        raise DataError(
            f"{missing.sum()} listed images were not inspected: run the preprocessing again"
        )
    good = both[both["reason"] == ""].drop(columns=["reason", "detail"])
    good = good.astype(dict.fromkeys(_COUNTS, "int64"))
    good["label_name"] = [LABEL_NAMES[label] for label in good["label"]]
    rejects = pd.concat(
        [read_table(folder / "scan_rejects.csv"), both.loc[both["reason"] != "", REJECT_COLUMNS]]
    )
    return good.reset_index(drop=True), rejects.reset_index(drop=True)
