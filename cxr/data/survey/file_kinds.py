"""Decide by name, size and first bytes what a listed file is, before any of it is decoded.

Training and prediction share this rule. What the folders mean is in `folders.layout`, what the
pixels are in `images`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cxr.core.errors import ConflictError, DataError
from cxr.core.formatting import NAMES_SHOWN, printable
from cxr.core.settings import FileSettings
from cxr.data.folders.patterns import excluded_by
from cxr.data.images.decoding import formats
from cxr.data.patients.pseudonyms import find_salt, pseudonym
from cxr.data.survey import remembered
from cxr.storage.base import Entry, Storage
from cxr.storage.local import ARCHIVE_SUFFIXES

Problem = tuple[str, str]  # reject reason, detail

_SYSTEM_NAMES = {"thumbs.db", "desktop.ini"}
# Files with these suffixes are never looked into: nobody gives an image such a name.
_SUFFIXES_BY_KIND = {
    "table": (".csv", ".tsv", ".xls", ".xlsx", ".ods", ".parquet"),
    "archive": ARCHIVE_SUFFIXES,
    "other": (
        ".txt", ".md", ".pdf", ".html", ".htm", ".json", ".xml", ".yaml", ".yml", ".doc", ".docx",
        ".py", ".ipynb", ".log", ".h5", ".keras", ".pkl", ".db", ".sqlite", ".ini", ".cfg", ".sh",
        ".mp4", ".avi", ".toml", ".lock", ".svg",
    ),
    "foreign": (
        ".jp2", ".j2k", ".jpx", ".heic", ".heif", ".avif", ".jxl", ".npy", ".npz", ".nii", ".mha",
        ".mhd", ".nrrd", ".pgm", ".ppm", ".tga", ".exr", ".icloud",
    ),
    "gif": (".gif",),
    "dicom": (".dcm", ".dicom"),
}  # fmt: skip
_KINDS_BY_SUFFIX = {
    suffix: kind for kind, suffixes in _SUFFIXES_BY_KIND.items() for suffix in suffixes
}
# What the first bytes say, in the kinds of `JudgedFile`; whatever is not listed is "other".
_KINDS_BY_SIGNATURE = {
    "image": "image",
    "dicom": "dicom",
    "gif": "gif",
    **dict.fromkeys(("zip", "gzip", "tar", "bzip2", "xz", "7z", "rar"), "archive"),
    **dict.fromkeys(("jpeg2000", "nrrd", "numpy", "hdf5"), "foreign"),
}
_DETAILS = {
    "table": "table: expected an image; --labels reads labels from one, --patient-key patients",
    "archive": "archive: expected an image; unpack it",
    "gif": "GIF: expected an image in a format for films",
    "foreign": "a format that is not read: save it as PNG, JPEG or TIFF",
}
_MEMORY_COLUMNS = ("image", "version", "kind")


class JudgedFile(NamedTuple):
    """A listed file, and what it is.

    Attributes:
        entry: As listed.
        kind: image, link, linked_folder, dicom, table, archive, gif, foreign (a picture in another
            format), system, folder or other.
        problem: Why it is not looked at any further; None where it is a candidate.
    """

    entry: Entry
    kind: str
    problem: Problem | None


def judge_files(
    storage: Storage,
    entries: Iterable[Entry],
    files: FileSettings,
    memory: Path | None = None,
) -> list[JudgedFile]:
    """Judge what each listed file is; a file without a telling suffix is judged by its first bytes.

    Args:
        storage: Where the files are.
        entries: What it listed.
        files: What is left out, and how names are read.
        memory: A table in which the kinds found by first bytes are kept, so that an unchanged file
            is not looked into again; None to remember nothing.

    Returns:
        The judged files, in the order of their keys.
    """
    ordered = sorted(entries, key=lambda entry: entry.key)
    by_name = [_judge_by_name(entry, files) for entry in ordered]
    unknown = [entry for entry, judged in zip(ordered, by_name, strict=True) if judged is None]
    kinds = _kinds_by_content(storage, unknown, memory)
    return [
        judged or _judge_by_kind(entry, kinds[entry.key])
        for entry, judged in zip(ordered, by_name, strict=True)
    ]


def _judge_by_name(
    entry: Entry,
    files: FileSettings,
) -> JudgedFile | None:
    """Judge a file without a look into it; None where its first bytes have to say what it is."""
    pattern = excluded_by(
        entry.key,
        files.exclude,
        files.backslash_folders,
    )
    if pattern is not None:
        return JudgedFile(entry, "image", _problem_of_excluded(pattern))
    path = entry.key.replace("\\", "/") if files.backslash_folders else entry.key
    parts = path.split("/")
    ignored = _why_ignored(parts)
    if ignored:
        return JudgedFile(entry, "system", ("ignored", ignored))
    if entry.problem:
        return JudgedFile(
            entry,
            _kind_of_problem(entry.key, entry.problem),
            entry.problem,
        )
    name = parts[-1].lower()
    suffix = ".nii" if name.endswith(".nii.gz") else _suffix(name)
    if suffix in formats.KNOWN_SUFFIXES:
        return _judge_by_kind(entry, "image")
    if suffix in _KINDS_BY_SUFFIX:
        return _judge_by_kind(entry, _KINDS_BY_SUFFIX[suffix])
    return None


def _why_ignored(parts: Sequence[str]) -> str:
    """Return why a file is no data whatever it holds: hidden, or made by a system; "" if it may be."""
    # "." and ".." are possible names of folders in a bucket.
    is_hidden = any(part.startswith(".") and part not in {".", ".."} for part in parts)
    if is_hidden or "__MACOSX" in parts or parts[-1].lower() in _SYSTEM_NAMES:
        return "system file"
    if parts[-1].upper() == "DICOMDIR":
        return "DICOMDIR: a list of DICOM files, which are read themselves"
    return ""


def _suffix(name: str) -> str:
    """Return the suffix of a file's name as pathlib does, "" for none.

    pathlib interns every part of every path, which costs 100 bytes for each of 100,000 files.

    >>> [_suffix(name) for name in ("a.tar.gz", ".hidden", "a.")]
    ['.gz', '', '']
    """
    place = name.rfind(".")
    return name[place:] if 0 < place < len(name) - 1 else ""


def _kind_of_problem(key: str, problem: Problem) -> str:
    """Return the kind of an entry that the storage could not list as a plain file."""
    _, detail = problem
    if detail == "broken link":
        return "link"
    if detail.startswith("link"):
        subject = detail.partition(" out of ")[0]
        return "linked_folder" if "folder" in subject else "link"
    return "folder" if key.endswith("/") else "other"


def _judge_by_kind(entry: Entry, kind: str) -> JudgedFile:
    """Judge a file whose kind is known: a film of a readable size is a candidate."""
    if kind in {"image", "dicom"}:
        return JudgedFile(
            entry,
            kind,
            formats.too_many_bytes(entry.size),
        )
    suffix = PurePosixPath(entry.key).suffix
    return JudgedFile(entry, kind, _problem_of_kind(kind, suffix))


# Thousands of files may share a problem: each is written once.
@lru_cache(maxsize=10_000)
def _problem_of_kind(kind: str, suffix: str) -> Problem:
    expected = ", ".join(formats.KNOWN_SUFFIXES)
    unknown_suffix = f"extension {suffix or 'missing'}: expected {expected}"
    return "not_an_image", _DETAILS.get(kind, unknown_suffix)


@lru_cache(maxsize=10_000)
def _problem_of_excluded(pattern: str) -> Problem:
    return "excluded", f"fits --exclude {pattern}"


def _kinds_by_content(
    storage: Storage,
    entries: Sequence[Entry],
    memory: Path | None,
) -> dict[str, str]:
    """Return the kind of each file, by key, from its first bytes; remember the answers.

    Names of DICOM files are remembered as pseudonyms, without a salt not at all.
    """
    salt = find_salt()
    known = remembered.read_answers(memory, _MEMORY_COLUMNS)
    questions = {entry.key: _question(entry, salt) for entry in entries}
    new = [entry for entry in entries if questions[entry.key] not in known]
    wanted = [(entry.key, entry.version) for entry in new]
    answers = storage.peek_many(wanted, formats.FIRST_BYTES)
    for entry, (_, answer) in zip(new, answers, strict=True):
        known[questions[entry.key]] = _kind_of_answer(answer)
    kinds = {key: known[question] for key, question in questions.items()}
    if memory and new and (salt or "dicom" not in kinds.values()):
        rows = [(question, known[question]) for question in questions.values()]
        remembered.write_answers(memory, _MEMORY_COLUMNS, rows)
    return kinds


def _question(entry: Entry, salt: str) -> remembered.Question:
    """Return the name and version of a file that is looked into; a pseudonym where there is a salt."""
    name = pseudonym("file", entry.key, salt) if salt else entry.key
    return name, entry.version


def _kind_of_answer(answer: bytes | Exception) -> str:
    """Return the kind of a file by its first bytes, or by the error of reading them."""
    if isinstance(answer, ConflictError):
        return "image"  # it changed since it was listed: inspection says so
    if isinstance(answer, OSError | DataError):
        return "other"  # its first bytes cannot be read, so nobody can say that it is an image
    if isinstance(answer, Exception):
        raise answer
    return _KINDS_BY_SIGNATURE.get(formats.kind_of(answer), "other")


def explain_no_images(judged: Sequence[JudgedFile]) -> str:
    """Return one sentence on what was found instead of images, and what to do about it."""
    if not judged:
        return "expected images, found no file at all: check the address"
    visible = [file for file in judged if file.kind != "system"]
    if not visible:
        found = f"{len(judged):,} hidden or system files alone"
        return f"expected images, found {found}: rename their folders"
    names = Counter(_name_of_kind(file) for file in visible)
    counts = [f"{count} {printable(name)}" for name, count in names.most_common(NAMES_SHOWN)]
    found = f"{', '.join(counts)} and no image among {len(visible)} files"
    return f"expected images, found {found}: {_hint_for_no_images(visible)}"


def _name_of_kind(file: JudgedFile) -> str:
    """Return what a file is called in a count: its kind where that says more than its suffix."""
    names = {"link": "links", "linked_folder": "linked folders", "dicom": "DICOM files"}
    if file.kind in names:
        return names[file.kind]
    return PurePosixPath(file.entry.key).suffix.lower() or "without an ending"


_HINTS = {
    "excluded": "--exclude leaves some of them out",
    "linked_folder": "links are not followed: --follow-links does",
    "link": "links are not followed: --follow-links does",
    "archive": "unpack the archive",
    "backslash": "--backslash-folders reads backslashes in names as folders",
    "table": "give the folder of the images; --labels csv:FILE reads labels from a table",
}


def _hint_for_no_images(files: Sequence[JudgedFile]) -> str:
    """Return what to do about files none of which is an image."""
    causes = {file.kind for file in files}
    if any(file.problem is not None and file.problem[0] == "excluded" for file in files):
        causes.add("excluded")
    if any("\\" in file.entry.key for file in files):
        causes.add("backslash")
    hints = [hint for cause, hint in _HINTS.items() if cause in causes]
    return "; ".join(hints) or f"give {', '.join(formats.KNOWN_SUFFIXES)} files"
