"""From a place with files to the rows of clean_metadata.csv and rejects.csv: scan, inspect, account.

`scan` lists and decides by name alone; `inspect_shard` reads each file once; `assemble` balances the books.
What was inspected is remembered by key, size and version, so an unchanged file is never read again.
Left out: which copies go (`duplicates`) and who is in which split (`splits`).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from cxr import images
from cxr.errors import ConflictError, DataError
from cxr.records import LABEL_NAMES, Scan, Shard, publishing, read_table, write_table
from cxr.storage import Entry, Storage

INSPECTION_VERSION = 2  # raise it when a measured column changes meaning: everything is then read anew
ROW_COLUMNS = [
    "image", "label", "label_name", "split", "source_split", "patient_id", "etiology", "md5", "pixel_sha256",
    "phash", "width", "height", "mode", "bytes", "mean", "std", "format", "icc", "exif",
    "quantisation", "patient_group",
]  # fmt: skip
REJECT_COLUMNS = ["image", "reason", "detail"]
_CONTAINER = ["format", "icc", "exif", "quantisation"]
_MEASURED = ["md5", "pixel_sha256", "phash", "width", "height", "mode", "bytes", "mean", "std", *_CONTAINER]
_LISTED = ["image", "label", "source_split", "size", "version"]
_INSPECTED = [*_LISTED, *_MEASURED, "reason", "detail", "thumbnail"]
_SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_CLASS_WORDS = {name.lower(): label for label, name in enumerate(LABEL_NAMES)}
_SYSTEM_NAMES = {"thumbs.db", "desktop.ini"}


def locate(key: str) -> tuple[str, str, int] | None:
    """Return (root, split, label) read from a key's folders, or None where no one class folder is there.

    The split is the nearest split folder above the class folder; the root is what stands before it.

    >>> locate("chest_xray/train/NORMAL/IM-0001-0001.jpeg")
    ('chest_xray', 'train', 0)
    """
    folders = [part.lower() for part in PurePosixPath(key).parts[:-1]]
    below = max((i + 1 for i, part in enumerate(folders) if _split_above_class(folders, i)), default=0)
    labels = {_CLASS_WORDS[part] for part in folders[below:] if part in _CLASS_WORDS}
    if len(labels) != 1:
        return None
    start = below - 1 if below else next(i for i, part in enumerate(folders) if part in _CLASS_WORDS)
    root = "/".join(PurePosixPath(key).parts[:start])
    return root, _SPLIT_WORDS[folders[below - 1]] if below else "", labels.pop()


def _split_above_class(folders: list[str], i: int) -> bool:
    return folders[i] in _SPLIT_WORDS and any(part in _CLASS_WORDS for part in folders[i + 1 :])


def scan(storage: Storage, work: Path, shard_size: int = 200, most_shards: int = 400) -> Scan:
    """List `storage`, decide by name what is an image, and lay out shards of what was not inspected before.

    Writes listed.csv, scan_rejects.csv and shards/*.csv under work/inspection, then returns the record.
    Raises DataError where there is no data set, more than one, or none of its files is an image.
    """
    folder = inspection_folder(work, storage.uri)
    entries = sorted(storage.list(), key=lambda entry: entry.key)
    judged = [(entry, entry.problem or by_name(entry.key)) for entry in entries]
    candidates = [entry for entry, problem in judged if problem is None]
    root = _choose_root(candidates, storage.uri)
    rejects = [(entry.key, *problem) for entry, problem in judged if problem]
    listed, elsewhere = _under_root(candidates, root)
    rejects += elsewhere
    write_table(pd.DataFrame(rejects, columns=REJECT_COLUMNS), folder / "scan_rejects.csv")
    table = pd.DataFrame(listed, columns=_LISTED)
    write_table(table, folder / "listed.csv")
    new = _unknown(table, known(folder))
    size = max(shard_size, -(-len(new) // most_shards))
    shards = tuple(_write_shard(new.iloc[at : at + size], folder) for at in range(0, len(new), size))
    return Scan(data=storage.uri, root=root, found=len(entries), images=len(table), new=len(new), shards=shards)


def inspection_folder(work: Path, data: str) -> Path:
    """Return where the inspection of this DATA is remembered below the work folder."""
    return work / "inspection" / hashlib.sha256(f"{INSPECTION_VERSION} {data}".encode()).hexdigest()[:12]


def by_name(key: str) -> tuple[str, str] | None:
    """Return (reason, detail) for a key that its name alone rules out, else None."""
    path = PurePosixPath(key)
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts) or path.name.lower() in _SYSTEM_NAMES:
        return "ignored", "system file"
    if path.suffix.lower() not in images.SUFFIXES:
        return "not_an_image", f"extension {path.suffix or 'missing'}: expected {', '.join(images.SUFFIXES)}"
    return None


def _choose_root(candidates: Iterable[Entry], uri: str) -> str:
    """Return the shallowest folder that holds split or class folders; nested copies lie below it."""
    counts = Counter(found[0] for entry in candidates if (found := locate(entry.key)))
    if not counts:
        raise DataError(
            f"{uri}: no image below a folder named NORMAL or PNEUMONIA was found. Expected "
            "train/NORMAL/x.jpeg, train/PNEUMONIA/…, test/…: give the folder that holds them, or one above"
        )
    root = min(counts, key=lambda name: (len(PurePosixPath(name).parts), name))
    beside = [name for name in counts if not _is_below(name, root)]
    if beside:
        named = ", ".join(f"{name or '.'} ({counts[name]} images)" for name in [root, *beside])
        raise DataError(f"{uri}: expected one data set, found several: {named}. Give the folder of one of them")
    return root


def _is_below(name: str, root: str) -> bool:
    return not root or name == root or name.startswith(root + "/")


def _under_root(candidates: list[Entry], root: str) -> tuple[list[tuple[Any, ...]], list[tuple[str, str, str]]]:
    """Return the rows of images of the data set at `root`, and the rejects of all others."""
    prefix = f"{root}/" if root else ""
    sizes = {entry.key: entry.size for entry in candidates}
    rows, rejects = [], []
    for entry in candidates:
        found = locate(entry.key)
        if found is None:
            rejects.append((entry.key, "unknown_class", "not below one folder named NORMAL or PNEUMONIA"))
        elif found[0] == root:
            rows.append((entry.key, found[2], found[1], entry.size, entry.version))
        else:
            twin = prefix + entry.key[len(found[0]) + 1 :]
            same = f"copy of {twin}" if sizes.get(twin) == entry.size else f"no file of that size at {twin}: check"
            rejects.append((entry.key, "nested_copy", same))
    return rows, rejects


def known(folder: Path) -> pd.DataFrame:
    """Return the rows of every shard inspected before, the latest for each image."""
    tables = [read_table(path) for path in sorted(folder.glob("inspected/*.csv"), key=lambda p: p.stat().st_mtime_ns)]
    if not tables:
        return pd.DataFrame(columns=_INSPECTED)
    return pd.concat(tables, ignore_index=True).drop_duplicates(["image", "size", "version"], keep="last")


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


def inspect_shard(storage: Storage, folder: Path, name: str, on_image: Callable[[], None] = lambda: None) -> Shard:
    """Read, decode and measure each image of one shard once; publish its rows and thumbnails.

    Writes inspected/<name>.npy (uint8, n x 64 x 64) and then inspected/<name>.csv, whose presence means done.
    """
    images.allow_large_headers()
    rows: list[dict[str, Any]] = []
    thumbnails: list[images.Pixels] = []
    table = read_table(folder / "shards" / f"{name}.csv")
    read = storage.read_many(zip(table["image"], table["version"], strict=True))
    for listed, (_, answer) in zip(table.to_dict("records"), read, strict=True):
        row: dict[str, Any] = {str(name): value for name, value in listed.items()}
        try:
            measured, thumbnail = images.measure(bytes_of(answer))
            rows.append(row | measured | {"reason": "", "detail": "", "thumbnail": f"{name}:{len(thumbnails)}"})
            thumbnails.append(thumbnail)
        except images.Rejected as reject:
            rows.append(row | _NOTHING | {"reason": reject.reason, "detail": reject.detail, "thumbnail": ""})
        on_image()
    stack = np.stack(thumbnails) if thumbnails else np.empty((0, 64, 64), np.uint8)
    hashes = iter(images.perceptual_hashes(stack) if thumbnails else ())
    for row in rows:
        row["phash"] = "" if row["reason"] else next(hashes)
    with publishing(folder / "inspected" / f"{name}.npy") as temporary:
        np.save(temporary, stack)
    write_table(pd.DataFrame(rows, columns=_INSPECTED), folder / "inspected" / f"{name}.csv")
    return Shard(name=name, images=len(thumbnails), rejected=len(rows) - len(thumbnails))


_COUNTS = ("width", "height", "bytes", "icc", "exif")
_NOTHING: dict[str, Any] = dict.fromkeys(_MEASURED, "") | dict.fromkeys((*_COUNTS, "mean", "std"), 0)


def read_bytes(storage: Storage, key: str) -> bytes:
    """Return a file's bytes; raises Rejected where it vanished or may not be read."""
    ((_, answer),) = storage.read_many([(key, None)])
    return bytes_of(answer)


def bytes_of(answer: bytes | Exception) -> bytes:
    """Return what reading a file gave; raises Rejected where it vanished, changed or may not be read.

    A storage that fails as a whole raises its StorageError: no image is rejected for that.
    """
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, FileNotFoundError):
        raise images.Rejected("vanished", "gone between listing and reading")
    if isinstance(answer, ConflictError):
        raise images.Rejected("vanished", "changed between listing and reading: the next run reads it anew")
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
            out[own] = np.load(self._folder / f"{shard}.npy", mmap_mode="r")[self._at[positions[own]]]
        return out


def inspected(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (rows of good images, rejects) for exactly what the last scan listed.

    Raises DataError where a listed image has no inspection: a shard is missing.
    """
    listed, found = read_table(folder / "listed.csv"), known(folder)
    both = listed.merge(found.drop(columns=["label", "source_split"]), on=["image", "size", "version"], how="left")
    missing = both["reason"].isna()
    if missing.any():
        raise DataError(f"{missing.sum()} listed images were not inspected: run the preprocessing again")
    good = both[both["reason"] == ""].drop(columns=["reason", "detail"])
    good = good.astype(dict.fromkeys(_COUNTS, "int64"))
    good["label_name"] = [LABEL_NAMES[label] for label in good["label"]]
    rejects = pd.concat([read_table(folder / "scan_rejects.csv"), both.loc[both["reason"] != "", REJECT_COLUMNS]])
    return good.reset_index(drop=True), rejects.reset_index(drop=True)
