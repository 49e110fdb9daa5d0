"""Say which flag would use a file that is not used, or leave it out: for the account by folder and for errors."""

import shlex
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr.layout import split_of, usual_class
from cxr.text import printable


class Remedy(NamedTuple):
    """One thing that a person can do: `what` is a flag or `do`, `value` its argument or the words.

    `name` is the folder that `--exclude` would leave out instead, "" for none.
    """

    what: str
    value: str = ""
    name: str = ""


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
    **dict.fromkeys(("truncated", "unreadable", "empty_file", "vanished"), Remedy("do", "copy the files again")),
    "not_an_image": Remedy("do", "give images"),
}


def remedy(kind: str, reason: str, key: str, about: str) -> Remedy:
    """Return what would make this file used.

    Args:
        kind: What it is, as in `scanning.Judged`.
        reason: Its reject reason.
        key: Where it is.
        about: The folder that its reason is about, "" where it lies in no folder of its own.
    """
    if kind in {"link", "linked_folder"}:
        return _remedy_of_link(kind, reason, key)
    if kind == "dicom" and not key.lower().endswith(".dcm"):
        return Remedy("do", "export DICOM as 8-bit gray PNG or JPEG")
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    return _BY_REASON.get(reason) or _remedy_of_folder(reason, key, about)


def _remedy_of_folder(reason: str, key: str, about: str) -> Remedy:
    if "\\" in key and reason == "unknown_class":
        return Remedy("--backslash-folders")
    name = PurePosixPath(about).name
    if reason == "unknown_split":
        return Remedy("--splits", name, name)
    if not name or split_of(name):
        place = f"{about}/" if about else ""
        return Remedy("do", f"sort the images into {place}NORMAL and {place}PNEUMONIA", name)
    usual = usual_class(name)
    return Remedy("--classes", f"{usual}={name}", name) if usual else Remedy("--exclude", name, name)


def _remedy_of_link(kind: str, reason: str, key: str) -> Remedy:
    name = PurePosixPath(key).name if kind == "linked_folder" else ""
    if reason == "unreadable":
        return Remedy("do", "restore what the broken links point to", name)
    return Remedy("--follow-links", "", name)


def sentence(remedies: Iterable[Remedy]) -> str:
    """Return these remedies in one sentence, each flag once.

    >>> sentence([Remedy("--classes", "PNEUMONIA=virus", "virus"), Remedy("--exclude", "COVID", "COVID")])
    '--classes PNEUMONIA=virus if that is what they show; --exclude virus COVID leaves them out'
    """
    given = list(dict.fromkeys(remedies))
    values = {what: [one.value for one in given if one.what == what] for what, *_ in given}
    names = [one.name for one in given if one.name]
    words = list(values.get("do", ()))
    words += [flag for flag in ("--follow-links", "--backslash-folders") if flag in values]
    if "--classes" in values:
        words.append(f"{_flag('--classes', _joined(values['--classes']))} if that is what they show")
    if "--splits" in values:
        words.append(f"{_flag('--splits', [f'{name}=test' for name in values['--splits']])} (or =train, =val, =none)")
    if names:
        words.append(f"{_flag('--exclude', list(dict.fromkeys(names)))} leaves them out")
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


def _flag(flag: str, values: list[str]) -> str:
    return " ".join([flag, *(shlex.quote(printable(value)) for value in values)])
