"""The account by folder: how many files each folder has, what became of them, and what to do.

The same rows feed the terminal, ingest.json, the page in Prefect's UI, the report and the sentence
with which a run stops. Folders are summed up: a class folder stands for all folders below it, and a
folder in which nothing is used for all below it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr.core.formatting import printable
from cxr.core.settings import Strict
from cxr.data.folders.names import normalise_name, parent_paths, split_of, usual_class
from cxr.data.survey.remedies import Remedy, find_remedy, flag_value_for, remedies_sentence

ASKING_SHARE = (
    0.05  # of a folder's images: where a flag could bring in more than these, the run asks
)
LOST_SHARE = 0.5  # of a folder's images: where more cannot be used for what they are, the run asks
FOLDER_IMAGES = 10  # so many make a folder of its own: fewer may be one patient's
SHOWN = 6  # folders in one sentence
# Kinds of files that a person may have meant to be used. System files and READMEs stay quiet.
KINDS = {
    "image": "images",
    "gif": "GIF pictures",
    "dicom": "DICOM files",
    "link": "links",
    "linked_folder": "linked folders",
    "folder": "unreadable folders",
    "table": "tables",
    "archive": "archives",
    "foreign": "pictures of other kinds",
}
# Reject reasons that come from how the data are laid out: a flag can change them.
LAYOUT_REASONS = ("unknown_class", "unknown_split", "outside_root")
# Reasons by which nothing is lost: the picture is kept elsewhere, or a person left it out.
EXPLAINED = (
    "duplicate",
    "near_duplicate",
    "nested_copy",
    "excluded",
    "ignored",
    "mask",
    "negative",
)


class File(NamedTuple):
    """One found file: what it is, what it is used as ("train NORMAL", or ""), else why not.

    `group` is the lower one of its split and class folders, "" where they cannot be read; `about` the
    folder that a question would be about; `path` the key as its folders are read, with slashes.
    """

    key: str
    kind: str
    used_as: str = ""
    reason: str = ""
    group: str = ""
    about: str = ""
    path: str = ""

    @property
    def asks(self) -> bool:
        """Return whether a flag, or another form of this file, would let it be used."""
        if self.used_as or self.reason in EXPLAINED:
            return False
        return self.reason in LAYOUT_REASONS or self.kind in {"dicom", "foreign", "link", "folder"}

    @property
    def is_lost(self) -> bool:
        """Return whether this is an image that is not used, and its picture is nowhere else."""
        return self.kind in {"image", "gif"} and not self.used_as and self.reason not in EXPLAINED

    @property
    def asks_alone(self) -> bool:
        """Return whether this file alone stops a run: a linked folder stands for any number of images."""
        if self.kind != "linked_folder" or self.reason == "excluded":
            return False
        name = PurePosixPath(self.path).name
        return (
            self.reason == "outside_root" or bool(split_of(name)) or usual_class(name) is not None
        )


class FolderAccount(Strict):
    """What became of the files of one folder, those of the folders below it included.

    Attributes:
        folder: Path below DATA; "." is DATA itself.
        files: How many files a person may have meant to be used.
        kinds: How many of each kind (images, links, DICOM files, tables, archives ...).
        used: How many images are used, by what they are used as ("train NORMAL").
        left_out: How many are not, by reject reason.
        negatives: How many of the used images look like negatives of films.
        asks: Whether a run stops here until a flag says what is meant.
        advice: What to do; "" where nothing is to be done.
    """

    folder: str
    files: int
    kinds: dict[str, int]
    used: dict[str, int]
    left_out: dict[str, int]
    negatives: int = 0
    asks: bool = False
    advice: str = ""


class Account(NamedTuple):
    """The rows of all folders, and what would make the files of the asking ones used."""

    folders: tuple[FolderAccount, ...]
    remedies: tuple[Remedy, ...]

    def question(self) -> str:
        """Return what is not used and what to do, in one sentence; "" where nothing has to be asked."""
        asking = [row for row in self.folders if row.asks]
        if not asking:
            return ""
        named = [f"{row.folder} ({_unused(row)})" for row in asking]
        more = f" and {len(named) - SHOWN:,} more folders" if len(named) > SHOWN else ""
        return f"this would not be used: {', '.join(named[:SHOWN])}{more}. What to do: {remedies_sentence(self.remedies)}"


def account_by_folder(files: Sequence[File], places: Sequence[str] = ()) -> Account:
    """Return the account of these files, in the order of the folders' names.

    Args:
        files: Every file that was found.
        places: Folders, links and files that are called like a split or a class and stand where one is
            looked for; those in which nothing is used are asked about.
    """
    used = _Used(files)
    members: dict[str, list[File]] = defaultdict(list)
    for one in files:
        if one.kind in KINDS:
            members[_shown_folder(one, used)].append(one)
    rows = []
    remedies: list[Remedy] = []
    for folder, own in sorted(members.items()):
        row = _row(folder, own, used)
        rows.append(row)
        remedies += _remedies(own, used) if row.asks else []
    asking = [row.folder for row in rows if row.asks]
    for place in places:
        if not used.below[place] and not any(_overlap(folder, place) for folder in asking):
            row, advice = _unused_place(place, files, used)
            rows = [other for other in rows if other.folder != row.folder] + [row]
            remedies.append(advice)
            asking.append(place)
    return Account(tuple(rows), tuple(dict.fromkeys(remedies)))


def _overlap(one: str, other: str) -> bool:
    """Return whether one of two folders is the other, or lies in it."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


class _Used:
    """Where images are used: how many in each folder or below it ("" is DATA itself), class folders, names."""

    def __init__(self, files: Sequence[File]):
        self.below = _used_below(files)
        self.groups = {one.group for one in files if one.used_as}
        self.names = frozenset(
            normalise_name(path.rpartition("/")[2]) for path in self.below if path
        )


def _unused_place(place: str, files: Sequence[File], used: _Used) -> tuple[FolderAccount, Remedy]:
    """Return the row and the remedy of a split or class folder in which nothing is used."""
    inside = [one for one in files if f"{one.path}/".startswith(f"{place}/")]
    packed = [one for one in inside if one.path == place and one.kind == "archive"]
    words = (
        "unpack the archive"
        if packed
        else f"put images into {place}"
        if inside
        else f"fill {place}, or remove it"
    )
    advice = Remedy("do", words, flag_value_for(place, used.names))
    row = FolderAccount(
        folder=printable(place),
        files=len(inside),
        kinds=dict(Counter(KINDS.get(one.kind, "other files") for one in inside).most_common()),
        used={},
        left_out=dict(Counter(one.reason for one in inside).most_common()),
        asks=True,
        advice=remedies_sentence([advice]),
    )
    return row, advice


def _used_below(files: Iterable[File]) -> Counter[str]:
    """Return how many used images lie in each folder or below it; "" is DATA itself."""
    parents = Counter(_folder(one) for one in files if one.used_as)
    below: Counter[str] = Counter()
    for folder, count in parents.items():
        for path in ("", *parent_paths(folder)):
            below[path] += count
    return below


def _folder(one: File) -> str:
    """Return the folder that a file lies in, or the one that it is."""
    return (
        one.path.rstrip("/")
        if one.kind in {"linked_folder", "folder"}
        else one.path.rpartition("/")[0]
    )


def _shown_folder(one: File, used: _Used) -> str:
    """Return the row that counts a file: the folder in question, or the split or class folder around it.

    Where there is neither, the highest folder above the file in which nothing is used. Masks get a row of
    their own.
    """
    if one.about:
        return one.about
    if one.group and one.reason != "mask":
        return one.group
    above = parent_paths(_folder(one))
    unused = next((path for path in above if not used.below[path]), None)
    if unused is not None:
        return unused
    return next(
        (path for path in reversed(above) if path in used.groups), above[-1] if above else ""
    )


def _row(folder: str, files: list[File], used: _Used) -> FolderAccount:
    left = [one for one in files if not one.used_as]
    return FolderAccount(
        folder=printable(folder) or ".",
        files=len(files),
        kinds=dict(Counter(KINDS[one.kind] for one in files).most_common()),
        used=dict(sorted(Counter(one.used_as for one in files if one.used_as).items())),
        left_out=dict(Counter(one.reason for one in left).most_common()),
        asks=_row_asks(left, used.below[folder], used),
        advice=remedies_sentence(_remedies(left, used)),
    )


def _row_asks(left: list[File], used_below: int, used: _Used) -> bool:
    """Return whether what is left out of a folder would change what the figures mean."""
    asking = sum(one.asks for one in left)
    lost = sum(one.is_lost for one in left)
    return (
        asking > ASKING_SHARE * (used_below + asking)
        or lost > LOST_SHARE * (used_below + lost)
        or any(one.asks_alone or _is_lost_mask(one, used) for one in left)
    )


def _is_lost_mask(one: File, used: _Used) -> bool:
    """Return whether a mask lies below a class folder in which nothing but masks would be."""
    return one.reason == "mask" and bool(one.group) and not used.below[one.group]


def _remedies(files: Iterable[File], used: _Used) -> list[Remedy]:
    asking = (
        one
        for one in files
        if one.asks or one.is_lost or one.asks_alone or _is_lost_mask(one, used)
    )
    return list(dict.fromkeys(_remedy(one, used) for one in asking))


def _remedy(one: File, used: _Used) -> Remedy:
    below_class = any(one.about.startswith(f"{group}/") for group in used.groups)
    if below_class and one.reason == "unknown_class":
        return Remedy(
            "do",
            f"move {one.about} out of the folder of the other class",
            flag_value_for(one.about, used.names),
        )
    return find_remedy(one.kind, one.reason, one.path, one.about, used.names)


def _unused(row: FolderAccount) -> str:
    if not row.files:
        return "empty"
    kinds = " and ".join(row.kinds) if not row.used else "files"
    return f"{format_count(sum(row.left_out.values()), kinds)}: {', '.join(row.left_out)}"


def format_count(count: int, things: str) -> str:
    """Return a number of things in words.

    >>> format_count(1, "linked folders")
    '1 linked folder'
    """
    one, _, kind = things.partition(" of ")
    singular = f"{one.removesuffix('s')}{' of ' if kind else ''}{kind}"
    return f"{count:,} {singular if count == 1 else things}"


def account_with_outcomes(files: Sequence[File], outcomes: dict[str, tuple[str, str]]) -> Account:
    """Return the account after inspection.

    Args:
        files: As after the scan.
        outcomes: For each image that was used then, (used as, reason): one of the two is "".
    """
    final = [
        one._replace(used_as=outcomes[one.key][0], reason=outcomes[one.key][1])
        if one.used_as
        else one
        for one in files
    ]
    return account_by_folder(_lost_folders_named(final))


def _lost_folders_named(files: Sequence[File]) -> list[File]:
    """Return the files, those of a folder right below a class folder of which no image can be used about that folder.

    A few images, as of one patient, are no such folder.
    """
    used = _used_below(files)
    lost = Counter(_folder_below(one) for one in files if one.is_lost)
    named = {
        folder
        for folder, count in lost.items()
        if folder and count >= FOLDER_IMAGES and not used[folder]
    }
    return [
        one._replace(about=_folder_below(one))
        if one.is_lost and _folder_below(one) in named
        else one
        for one in files
    ]


def _folder_below(one: File) -> str:
    """Return the folder of a file right below its class folder, "" where it lies in that itself."""
    if not one.group or not one.path.startswith(f"{one.group}/"):
        return ""
    name, _, rest = one.path.removeprefix(f"{one.group}/").partition("/")
    return f"{one.group}/{name}" if rest else ""
