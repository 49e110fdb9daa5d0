"""Say which flag would use a file that is not used, or leave it out: for the account by folder and for errors."""

import shlex
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES
from cxr.data.folders.names import likely_split, normalise_name, split_of, usual_class

SHOWN = 6  # names in one flag of a sentence


class Remedy(NamedTuple):
    """One thing that a person can do: `what` is a flag or `do`, `value` its argument or the words.

    `name` is the folder that `--exclude` would leave out instead, "" for none.
    """

    what: str
    value: str = ""
    name: str = ""


SHARED = "patient_in_another_split"  # kept in clean_metadata.csv with the split "excluded", and used nowhere
_BY_KIND = {
    "dicom": Remedy("do", "export DICOM as 8-bit gray PNG or JPEG", "*.dcm"),
    "gif": Remedy("do", "save GIF pictures as PNG", "*.gif"),
    "folder": Remedy("do", "make the folder readable"),
    "archive": Remedy("do", "unpack the archive"),
}


_BY_REASON = {
    "unsupported_mode": Remedy("do", "export 8-bit gray, or give --bit-depth for 16-bit gray"),
    "too_small": Remedy("do", "lower --min-side"),
    "extreme_shape": Remedy("do", "raise --max-aspect"),
    "flat": Remedy("do", "lower --min-contrast"),
    "negative": Remedy("do", "--negatives invert"),
    "too_large": Remedy("do", "export the film alone, as PNG or JPEG"),
    **dict.fromkeys(
        ("truncated", "unreadable", "empty_file", "vanished"), Remedy("do", "copy the files again")
    ),
    "not_an_image": Remedy("do", "replace what is no image, whatever its name says"),
    "label_conflict": Remedy("do", "correct the folders: the same pictures lie under both classes"),
    SHARED: Remedy(
        "do",
        "their patients are in another split, too: correct the split folders, or --patient-key",
    ),
}


def find_remedy(kind: str, reason: str, key: str, about: str, used: frozenset[str]) -> Remedy:
    """Return what would make this file used.

    Args:
        kind: What it is, as in `scanning.Judged`.
        reason: Its reject reason.
        key: Where it is.
        about: The folder that its reason is about, "" where it lies in no folder of its own.
        used: Names of the folders, as `layout.normal` gives them, in which something is used: a flag with
            such a name would change more than this file.
    """
    if kind in {"link", "linked_folder"}:
        return _remedy_of_link(kind, reason, key, used)
    if kind == "dicom" and not key.lower().endswith(".dcm"):
        return Remedy("do", "export DICOM as 8-bit gray PNG or JPEG")
    if kind == "foreign":
        return Remedy(
            "do", "save the pictures as PNG, JPEG or TIFF", f"*{PurePosixPath(key).suffix}"
        )
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if reason == "mask":
        name = flag_value_for(about, used)
        return Remedy("do", f"{format_flag('--splits', [f'{name}=none'])} reads it as films", name)
    return _BY_REASON.get(reason) or _remedy_of_folder(reason, key, about, used)


def flag_value_for(folder: str, used: frozenset[str]) -> str:
    """Return what names a folder in a flag: its name, or its path where the name would mean others, too."""
    name = PurePosixPath(folder).name
    if not name or (normalise_name(name) not in used and not split_of(name)):
        return name
    return folder if "/" in folder else f"/{folder}" if normalise_name(name) in used else folder


def _remedy_of_folder(reason: str, key: str, about: str, used: frozenset[str]) -> Remedy:
    if "\\" in key and reason == "unknown_class":
        return Remedy("--backslash-folders")
    last = PurePosixPath(about).name
    name = flag_value_for(about, used)
    if reason == "unknown_split" and split_of(last) in {"train", "val", "test"}:
        return Remedy("--splits", f"{name}=none", name)
    if reason == "unknown_split":
        return Remedy("--splits", f"{name}={likely_split(last)}", name)
    if not last or split_of(last):
        place = f"{about}/" if about else ""
        return Remedy("do", f"sort the images into {place}NORMAL and {place}PNEUMONIA", name)
    usual = usual_class(last)
    if usual and last.strip().upper() in LABEL_NAMES:
        above = PurePosixPath(about).parent
        return Remedy(
            "do",
            f"give {above} as DATA, or move {about} out of the folder of the other class",
            name,
        )
    return (
        Remedy("--classes", f"{usual}={last}", name) if usual else Remedy("--exclude", name, name)
    )


def _remedy_of_link(kind: str, reason: str, key: str, used: frozenset[str]) -> Remedy:
    name = flag_value_for(key, used) if kind == "linked_folder" else ""
    if reason == "unreadable":
        return Remedy("do", "restore what the broken links point to", name)
    return Remedy("--follow-links", "", name)


def remedies_sentence(remedies: Iterable[Remedy]) -> str:
    """Return these remedies in one sentence, each flag once.

    >>> remedies_sentence([Remedy("--classes", "PNEUMONIA=virus", "virus"), Remedy("--exclude", "COVID", "COVID")])
    '--classes PNEUMONIA=virus if that is what they show; --exclude virus COVID leaves them out'
    """
    given = list(dict.fromkeys(remedies))
    values = {what: [one.value for one in given if one.what == what] for what, *_ in given}
    names = [one.name for one in given if one.name]
    words = list(dict.fromkeys(values.get("do", ())))
    words += [name for name in ("--follow-links", "--backslash-folders") if name in values]
    if "--classes" in values:
        words.append(
            f"{format_flag('--classes', _joined(values['--classes']))} if that is what they show"
        )
    if "--splits" in values:
        words.append(
            f"{format_flag('--splits', values['--splits'])} (or =train, =val, =test, =none)"
        )
    if names:
        words.append(f"{format_flag('--exclude', list(dict.fromkeys(names)))} leaves them out")
    return "; ".join(words)


def _joined(items: list[str]) -> list[str]:
    """Return one item a class.

    >>> _joined(["PNEUMONIA=bacteria", "NORMAL=0", "PNEUMONIA=virus"])
    ['NORMAL=0', 'PNEUMONIA=bacteria,virus']
    """
    names: dict[str, list[str]] = {}
    for item in items:
        label, _, name = item.partition("=")
        names.setdefault(label, []).append(name)
    return [f"{label}={','.join(dict.fromkeys(found))}" for label, found in sorted(names.items())]


def format_flag(name: str, values: list[str]) -> str:
    """Return a flag with its values, quoted for a shell; of many the first ones, and how many more there are.

    Bytes that are no text stand as `?`, which fits them as a pattern.
    """
    shown = [
        "".join("?" if "\udc80" <= c <= "\udcff" else c for c in value) for value in values[:SHOWN]
    ]
    more = (
        f" (and {len(values) - SHOWN:,} more; a pattern such as 'patient*' fits many)"
        if len(values) > SHOWN
        else ""
    )
    return " ".join([name, *(shlex.quote(printable(value)) for value in shown)]) + more
