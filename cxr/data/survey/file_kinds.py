"""Decide by name, size and first bytes what a listed file is, before any of it is decoded.

One rule for training and prediction. What the folders mean is in `layout`, what the pixels are in
`images`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import ConflictError, DataError
from cxr.core.files import read_table, write_table
from cxr.core.formatting import printable
from cxr.core.settings import FileSettings
from cxr.data.folders.patterns import excluded_by
from cxr.data.images.decoding import formats
from cxr.storage.base import Entry, Storage

Problem = tuple[str, str]  # reject reason, detail
_SYSTEM_NAMES = {"thumbs.db", "desktop.ini"}
# Endings that are never looked into: nobody gives an image such a name.
_KINDS_BY_SUFFIX = {
    **dict.fromkeys((".csv", ".tsv", ".xls", ".xlsx", ".ods", ".parquet"), "table"),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar"), "archive"),
    **dict.fromkeys(
        (".txt", ".md", ".pdf", ".html", ".htm", ".json", ".xml", ".yaml", ".yml", ".doc", ".docx", ".py",
         ".ipynb", ".log", ".h5", ".keras", ".pkl", ".db", ".sqlite", ".ini", ".cfg", ".sh",
         ".mp4", ".avi", ".toml", ".lock", ".svg"),
        "other",
    ),
    **dict.fromkeys(
        (".jp2", ".j2k", ".jpx", ".heic", ".heif", ".avif", ".jxl", ".npy", ".npz", ".nii", ".mha", ".mhd", ".nrrd",
         ".pgm", ".ppm", ".tga", ".exr", ".icloud"),
        "foreign",
    ),
    ".gif": "gif",
}  # fmt: skip
_ARCHIVES = {"zip", "gzip", "tar", "bzip2", "xz", "7z", "rar"}
_FOREIGN = {
    "jpeg2000",
    "nrrd",
    "numpy",
    "hdf5",
}  # formats that hold pictures, found by their first bytes
_WORDS = {
    "dicom": "DICOM file: expected an image; export it as 8-bit gray with the display window applied",
    "table": "table: expected an image; --patient-key csv:FILE reads patients from one",
    "archive": "archive: expected an image; unpack it",
    "gif": "GIF: expected an image in a format for films",
    "foreign": "a format that is not read: save it as PNG, JPEG or TIFF",
}
SHOWN = 4  # folders, endings or names in one sentence


class JudgedFile(NamedTuple):
    """A listed file, what it is, and why it is not looked at any further (None: it is a candidate).

    `kind` is image, link, linked_folder, dicom, table, archive, gif, foreign (pictures in other formats), system,
    folder or other.
    """

    entry: Entry
    kind: str
    problem: Problem | None


def judge_files(
    storage: Storage, entries: Iterable[Entry], files: FileSettings, remembered: Path | None = None
) -> list[JudgedFile]:
    """Return what each listed file is, in the order of the keys.

    Files without an ending, or with one that says nothing, are judged by their first bytes.

    Args:
        storage: Where the files are.
        entries: What it listed.
        files: What is left out, and how names are read.
        remembered: A table in which the kinds found by first bytes are kept, so that an unchanged file
            is not asked again.
    """
    ordered = sorted(entries, key=lambda entry: entry.key)
    judged = {entry.key: _judge_by_name(entry, files) for entry in ordered}
    unknown = [entry for entry in ordered if judged[entry.key] is None]
    kinds = _kinds_by_content(storage, unknown, remembered)
    return [judged[entry.key] or _judge_by_kind(entry, kinds[entry.key]) for entry in ordered]


def _judge_by_name(entry: Entry, files: FileSettings) -> JudgedFile | None:
    """Return what is known without a look into the file, None where its first bytes have to say."""
    pattern = excluded_by(entry.key, files.exclude, files.backslash_folders)
    if pattern is not None:
        return JudgedFile(entry, "image", ("excluded", f"fits --exclude {pattern}"))
    parts = (
        entry.key.replace("\\", "/").split("/") if files.backslash_folders else entry.key.split("/")
    )
    hidden = any(part.startswith(".") and part not in {".", ".."} for part in parts)
    if hidden or "__MACOSX" in parts or parts[-1].lower() in _SYSTEM_NAMES:
        return JudgedFile(entry, "system", ("ignored", "system file"))
    if entry.problem:
        return JudgedFile(entry, _kind_of_problem(entry), entry.problem)
    suffix = PurePosixPath(parts[-1]).suffix.lower()
    if parts[-1].lower().endswith(".nii.gz"):
        suffix = ".nii"
    if suffix in formats.KNOWN_SUFFIXES:
        return JudgedFile(entry, "image", formats.too_many_bytes(entry.size))
    if suffix in _KINDS_BY_SUFFIX:
        return _judge_by_kind(entry, _KINDS_BY_SUFFIX[suffix])
    return None


def _kind_of_problem(entry: Entry) -> str:
    assert entry.problem
    _, detail = entry.problem
    if detail.startswith("link"):
        return "linked_folder" if "folder" in detail.partition(" out of ")[0] else "link"
    if detail == "broken link":
        return "link"
    return "folder" if entry.key.endswith("/") else "other"


def _judge_by_kind(entry: Entry, kind: str) -> JudgedFile:
    if kind == "image":
        return JudgedFile(entry, kind, formats.too_many_bytes(entry.size))
    suffix = PurePosixPath(entry.key).suffix
    expected = f"extension {suffix or 'missing'}: expected {', '.join(formats.KNOWN_SUFFIXES)}"
    return JudgedFile(entry, kind, ("not_an_image", _WORDS.get(kind, expected)))


def _kinds_by_content(
    storage: Storage, entries: Sequence[Entry], remembered: Path | None
) -> dict[str, str]:
    """Return the kind of each file by its first bytes; what was found is kept in the table `remembered`."""
    known = _remembered(remembered)
    new = [entry for entry in entries if (entry.key, entry.version) not in known]
    wanted = [(entry.key, entry.version) for entry in new]
    for version, (key, answer) in zip(
        (entry.version for entry in new),
        storage.peek_many(wanted, formats.FIRST_BYTES),
        strict=True,
    ):
        known[key, version] = _kind(answer)
    found = {entry.key: known[entry.key, entry.version] for entry in entries}
    if remembered and new:
        rows = [(entry.key, entry.version, found[entry.key]) for entry in entries]
        write_table(pd.DataFrame(rows, columns=["image", "version", "kind"]), remembered)
    return found


def _remembered(path: Path | None) -> dict[tuple[str, str], str]:
    if path is None or not path.is_file():
        return {}
    table = read_table(path)
    keys = zip(table["image"], table["version"], strict=True)
    return dict(zip(keys, table["kind"], strict=True))


def _kind(answer: bytes | Exception) -> str:
    if isinstance(answer, ConflictError):
        return "image"  # it changed since it was listed: inspection says so
    if isinstance(answer, OSError | DataError):
        return "other"  # its first bytes cannot be read, so nobody can say that it is an image
    if isinstance(answer, Exception):
        raise answer
    kind = formats.kind_of(answer)
    if kind in _ARCHIVES:
        return "archive"
    if kind in _FOREIGN:
        return "foreign"
    return kind if kind in {"image", "dicom", "gif"} else "other"


def explain_no_images(judged: Sequence[JudgedFile]) -> str:
    """Return one sentence on what was found instead of images, and what to do about it."""
    looked = [one for one in judged if one.kind != "system"]
    if judged and not looked:
        return f"expected images, found {len(judged):,} hidden or system files alone: rename their folders"
    if not looked:
        return "expected images, found no file at all: check the address"
    counts = Counter(one.kind for one in looked)
    counts["excluded"] = sum(
        one.problem is not None and one.problem[0] == "excluded" for one in looked
    )
    counts["backslash"] = sum("\\" in one.entry.key for one in looked)
    found = Counter(_name_of_kind(one) for one in looked)
    named = ", ".join(f"{count} {printable(name)}" for name, count in found.most_common(SHOWN))
    hints = [words for kind, words in _HINTS.items() if counts[kind]]
    hint = "; ".join(hints) or f"give {', '.join(formats.KNOWN_SUFFIXES)} files"
    return f"expected images, found {named} and no image among {len(looked)} files: {hint}"


def _name_of_kind(one: JudgedFile) -> str:
    """Return what a file is called in a count: its kind where that says more than its ending."""
    names = {"link": "links", "linked_folder": "linked folders", "dicom": "DICOM files"}
    return names.get(one.kind) or PurePosixPath(one.entry.key).suffix.lower() or "without an ending"


_HINTS = {
    "excluded": "--exclude leaves some of them out",
    "linked_folder": "links are not followed: --follow-links does",
    "link": "links are not followed: --follow-links does",
    "dicom": "DICOM is not read: export 8-bit gray PNG or JPEG with the display window applied",
    "archive": "unpack the archive",
    "backslash": "--backslash-folders reads backslashes in names as folders",
    "table": "labels in tables are not read: sort the images into NORMAL/ and PNEUMONIA/",
}
