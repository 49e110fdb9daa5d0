"""What a person can do about a file that is not used, by a flag or otherwise."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr.core.settings import LABEL_NAMES
from cxr.data.folders.names import likely_split, normalise_name, split_of, usual_class
from cxr.data.survey.questions.wording import format_flag


class Remedy(NamedTuple):
    """One thing that a person can do.

    Attributes:
        what: A flag, or `do` for what no flag does.
        value: The flag's value, or what to do in words.
        name: What `--exclude` would leave out instead, "" for nothing.
    """

    what: str
    value: str = ""
    name: str = ""


# Images of such patients are kept in clean_metadata.csv with the split "excluded", and used
# nowhere.
SHARED = "patient_in_another_split"
_EXPORT_DICOM = "export DICOM as 8-bit gray PNG or JPEG"
_BY_KIND = {
    "dicom": Remedy("do", _EXPORT_DICOM, "*.dcm"),
    "gif": Remedy("do", "save GIF pictures as PNG", "*.gif"),
    "folder": Remedy("do", "make the folder readable"),
    "archive": Remedy("do", "unpack the archive"),
}
_COPY_AGAIN = Remedy("do", "copy the files again")
_BY_REASON = {
    "unsupported_mode": Remedy("do", "export 8-bit gray, or give --bit-depth for 16-bit gray"),
    "too_small": Remedy("do", "lower --min-side"),
    "extreme_shape": Remedy("do", "raise --max-aspect"),
    "flat": Remedy("do", "lower --min-contrast"),
    "negative": Remedy("do", "--negatives invert"),
    "too_large": Remedy("do", "export the film alone, as PNG or JPEG"),
    "truncated": _COPY_AGAIN,
    "unreadable": _COPY_AGAIN,
    "empty_file": _COPY_AGAIN,
    "vanished": _COPY_AGAIN,
    "not_an_image": Remedy("do", "replace what is no image, whatever its name says"),
    "label_conflict": Remedy("do", "correct the folders: the same pictures lie under both classes"),
    SHARED: Remedy(
        "do",
        "their patients are in another split, too: correct the split folders, or --patient-key",
    ),
}


def find_remedy(
    kind: str,
    reason: str,
    path: str,
    about: str,
    used_names: frozenset[str],
) -> Remedy:
    """Return what would make a file used.

    Args:
        kind: What it is, as in `file_kinds.JudgedFile`.
        reason: Its reject reason.
        path: Where it is, with slashes between the folders.
        about: The folder that its reason is about, "" where it lies in no folder of its own.
        used_names: Names, as `names.normalise_name` gives them, of the folders in which something
            is
            used: a flag with such a name would change more than this file.
    """
    if kind in {"link", "linked_folder"}:
        return _remedy_of_link(kind, reason, path, used_names)
    if kind == "dicom" and not path.lower().endswith(".dcm"):
        return Remedy("do", _EXPORT_DICOM)
    if kind == "foreign":
        pattern = f"*{PurePosixPath(path).suffix}"
        return Remedy("do", "save the pictures as PNG, JPEG or TIFF", pattern)
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    return _remedy_of_folder(reason, path, about, used_names)


def flag_value_for(
    folder: str,
    used_names: frozenset[str],
) -> str:
    """Return what names a folder in a flag.

    It is the folder's name, or its path from the top where the name would mean others, too.
    """
    name = PurePosixPath(folder).name
    is_used_elsewhere = normalise_name(name) in used_names
    if not name or not (is_used_elsewhere or split_of(name)):
        return name
    if is_used_elsewhere and "/" not in folder:
        return f"/{folder}"
    return folder


def _remedy_of_link(
    kind: str,
    reason: str,
    path: str,
    used_names: frozenset[str],
) -> Remedy:
    name = flag_value_for(path, used_names) if kind == "linked_folder" else ""
    if reason == "unreadable":
        return Remedy("do", "restore what the broken links point to", name)
    return Remedy("--follow-links", "", name)


def _remedy_of_folder(
    reason: str,
    path: str,
    about: str,
    used_names: frozenset[str],
) -> Remedy:
    """Return what would make the files of a folder used whose split or class is not known."""
    name = flag_value_for(about, used_names)
    if reason == "mask":
        flag = format_flag("--splits", [f"{name}=none"])
        return Remedy("do", f"{flag} reads it as films", name)
    if reason == "unknown_split":
        return Remedy("--splits", f"{name}={_split_to_propose(about)}", name)
    if "\\" in path and reason == "unknown_class":
        return Remedy("--backslash-folders")
    return _remedy_of_class_folder(about, name)


def _split_to_propose(folder: str) -> str:
    """Return the likely split; none where the name says one, which cannot be what is meant."""
    name = PurePosixPath(folder).name
    if split_of(name) in {"train", "val", "test"}:
        return "none"
    return likely_split(name)


def _remedy_of_class_folder(folder: str, flag_value: str) -> Remedy:
    """Return what would make the files of a folder used whose class is not known."""
    name = PurePosixPath(folder).name
    if not name or split_of(name):
        place = f"{folder}/" if folder else ""
        return Remedy("do", f"sort the images into {place}NORMAL and {place}PNEUMONIA", flag_value)
    class_name = usual_class(name)
    if not class_name:
        return Remedy("--exclude", flag_value, flag_value)
    if name.strip().upper() in LABEL_NAMES:
        parent = PurePosixPath(folder).parent
        advice = f"give {parent} as DATA, or move {folder} out of the folder of the other class"
        return Remedy("do", advice, flag_value)
    return Remedy("--classes", f"{class_name}={name}", flag_value)


def remedies_sentence(remedies: Iterable[Remedy]) -> str:
    """Return remedies in one sentence, each flag once.

    >>> virus = Remedy("--classes", "PNEUMONIA=virus", "virus")
    >>> covid = Remedy("--exclude", "COVID", "COVID")
    >>> remedies_sentence([virus, covid])
    '--classes PNEUMONIA=virus if that is what they show; --exclude virus COVID leaves them out'
    """
    values_by_flag: dict[str, list[str]] = {}
    excluded_names: dict[str, None] = {}
    for remedy in dict.fromkeys(remedies):
        values_by_flag.setdefault(remedy.what, []).append(remedy.value)
        if remedy.name:
            excluded_names[remedy.name] = None
    sentences = list(dict.fromkeys(values_by_flag.get("do", ())))
    if "--follow-links" in values_by_flag:
        sentences.append("--follow-links")
    if "--backslash-folders" in values_by_flag:
        sentences.append("--backslash-folders")
    if "--classes" in values_by_flag:
        flag = format_flag("--classes", _one_value_per_class(values_by_flag["--classes"]))
        sentences.append(f"{flag} if that is what they show")
    if "--splits" in values_by_flag:
        flag = format_flag("--splits", values_by_flag["--splits"])
        sentences.append(f"{flag} (or =train, =val, =test, =none)")
    if excluded_names:
        sentences.append(f"{format_flag('--exclude', list(excluded_names))} leaves them out")
    return "; ".join(sentences)


def _one_value_per_class(values: Sequence[str]) -> list[str]:
    """Return one `--classes` value for each class.

    >>> _one_value_per_class(["PNEUMONIA=bacteria", "NORMAL=0", "PNEUMONIA=virus"])
    ['NORMAL=0', 'PNEUMONIA=bacteria,virus']
    """
    spellings: dict[str, list[str]] = {}
    for value in values:
        label_name, _, spelling = value.partition("=")
        spellings.setdefault(label_name, []).append(spelling)
    return [
        f"{label_name}={','.join(dict.fromkeys(spellings[label_name]))}"
        for label_name in sorted(spellings)
    ]
