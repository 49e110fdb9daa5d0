"""Find copies of the data set inside itself, as archives often hold one.

A copy is told by its bytes, never by names alone.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cxr.core.errors import ConflictError, DataError
from cxr.data.folders.layout import Layout, Reading
from cxr.data.folders.names import parent_paths
from cxr.data.patients.hidden_names import PlainNames
from cxr.data.patients.hidden_storage import DataStorage
from cxr.data.survey import remembered
from cxr.data.survey.verdicts.verdict import Verdict
from cxr.storage.base import Entry
from cxr.storage.local import LocalStorage

_Pair = tuple[Entry, Entry]
_MEMORY_COLUMNS = ("image", "version", "twin", "twin_version", "same")


def reject_nested_copies(
    storage: DataStorage,
    verdicts: Sequence[Verdict],
    root: str,
    layout: Layout,
    names: PlainNames,
    memory: Path | None,
) -> list[Verdict]:
    """Reject the images of other data sets below `root`: as copies, or as of an unknown split.

    A copy has an original at the same place of the data set, with the same bytes.

    Args:
        storage: Where the files are.
        verdicts: One for each file.
        root: Folder of the data set.
        layout: How its folders are read.
        names: The real names, which a copy has in common with its original.
        memory: A table in which what was compared is remembered; None to remember nothing.

    Returns:
        One verdict for each file, in the same order.
    """
    pairs = _candidate_pairs(verdicts, root, layout, names)
    copies = _copies_among(storage, pairs, memory)
    originals = {copy.key: original.key for copy, original in pairs}
    final_verdicts = []
    for verdict in verdicts:
        key = verdict.entry.key
        if verdict.reading is None or verdict.reading.root == root:
            final_verdicts.append(verdict)
        elif key in copies:
            problem = ("nested_copy", f"copy of {originals[key]}")
            final_verdicts.append(verdict._replace(reading=None, problem=problem))
        else:
            rejected = _reject_unknown_split(verdict, verdict.reading, root, layout)
            final_verdicts.append(rejected)
    return final_verdicts


def _candidate_pairs(
    verdicts: Sequence[Verdict],
    root: str,
    layout: Layout,
    names: PlainNames,
) -> list[_Pair]:
    """Return each image that may be a copy, with its possible original.

    The original has the same size and lies at the same place of the data set in `root`.
    """
    original_paths = {}
    for verdict in verdicts:
        if verdict.reading and verdict.reading.root != root:
            path = layout.path(names.real_key(verdict.entry.key))
            copy_root = names.real_folder(verdict.reading.root)
            path_in_copy = path[len(copy_root) :].lstrip("/")
            original_path = _path_below(names.real_folder(root), path_in_copy)
            original_paths[verdict.entry.key] = original_path
    if not original_paths:
        return []
    wanted = set(original_paths.values())
    originals = {}
    for verdict in verdicts:
        path = layout.path(names.real_key(verdict.entry.key))
        if verdict.reading and path in wanted:
            originals[path] = verdict.entry
    pairs = []
    for verdict in verdicts:
        original = originals.get(original_paths.get(verdict.entry.key, ""))
        if original and original.size == verdict.entry.size:
            pairs.append((verdict.entry, original))
    return pairs


def _path_below(root: str, path: str) -> str:
    """Return a path below the folder of the data set."""
    return f"{root}/{path}" if root else path


def _copies_among(
    storage: DataStorage,
    pairs: Sequence[_Pair],
    memory: Path | None,
) -> set[str]:
    """Return the keys of the first files whose bytes are those of the second."""
    known = remembered.read_answers(memory, _MEMORY_COLUMNS)
    if not isinstance(storage.plain, LocalStorage):
        for entry, original in pairs:  # in a bucket, equal ETags of equal sizes are equal bytes
            if entry.version == original.version:
                known[_question((entry, original))] = "1"
    new = [pair for pair in pairs if _question(pair) not in known]
    wanted = [(entry.key, entry.version) for pair in new for entry in pair]
    answers = storage.read_many(wanted)
    digests = (_sha256(answer) for _, answer in answers)
    # One iterator given twice: each pair takes its two digests from it.
    for pair, digest, original_digest in zip(new, digests, digests, strict=True):
        is_same = digest is not None and digest == original_digest
        known[_question(pair)] = "1" if is_same else "0"
    questions = [_question(pair) for pair in pairs]
    if memory and new:
        rows = [(question, known[question]) for question in questions]
        remembered.write_answers(memory, _MEMORY_COLUMNS, rows)
    return {question[0] for question in questions if known[question] == "1"}


def _question(pair: _Pair) -> remembered.Question:
    """Return the names and versions of two files that are compared."""
    entry, original = pair
    return entry.key, entry.version, original.key, original.version


def _sha256(answer: bytes | Exception) -> bytes | None:
    """Return the SHA-256 of a file's bytes, None where it cannot be read."""
    if isinstance(answer, bytes):
        return hashlib.sha256(answer).digest()
    if isinstance(answer, OSError | DataError | ConflictError):
        return None
    raise answer


def _reject_unknown_split(
    verdict: Verdict,
    reading: Reading,
    root: str,
    layout: Layout,
) -> Verdict:
    """Reject an image of a folder beside the split folders, or below two of them."""
    prefix = _path_below(root, "")
    parents = [path for path in parent_paths(reading.root) if path and path.startswith(prefix)]
    if reading.split_folder and any(layout.split(path) for path in parents):
        about = reading.split_folder
        detail = f"{about}: below folders of two splits"
    else:
        about = parents[0] if parents else reading.root
        name = PurePosixPath(about).name
        detail = f"{name}: neither train, val nor test, and no copy of the data set beside it"
    return verdict._replace(
        reading=None,
        problem=("unknown_split", detail),
        about=about,
    )
