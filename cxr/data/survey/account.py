"""The account by folder: how many files each folder has, what became of them, and what to do.

The same rows feed the terminal, ingest.json, the page in Prefect's UI, the report and the sentence
with which a run stops. Folders are summed up: a class folder stands for all folders below it, and a
folder in which nothing is used for all below it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from cxr.core.formatting import format_count, format_names, printable
from cxr.core.settings import Strict
from cxr.data.folders.names import normalise_name, parent_paths
from cxr.data.survey.files import KINDS, TABLE_REASONS, File, count_alike
from cxr.data.survey.remedies import Remedy, find_remedy, flag_value_for, remedies_sentence

# Share of a folder's images: where a flag could bring in more, or more look like negatives, the run
# asks.
ASKING_SHARE = 0.05
# Share of a folder's images: where more cannot be used for what they are, the run asks.
LOST_SHARE = 0.5
# So many lost images in a folder are asked about by themselves: fewer may be one patient's.
SITE_IMAGES = 10


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
        """Return in one sentence what is not used and what to do; "" where nothing is asked."""
        asking = [f"{row.folder} ({_describe_unused(row)})" for row in self.folders if row.asks]
        if not asking:
            return ""
        folders = format_names(asking, "folders")
        advice = remedies_sentence(self.remedies)
        return f"this would not be used: {folders}. What to do: {advice}"


def _describe_unused(row: FolderAccount) -> str:
    """Return how many files of a folder are not used, and why."""
    if not row.files:
        return "empty"
    kinds = "files" if row.used else " and ".join(row.kinds)
    count = format_count(sum(row.left_out.values()), kinds)
    return f"{count}: {', '.join(row.left_out)}"


def account_by_folder(
    files: Iterable[File],
    places: Sequence[str] = (),
) -> Account:
    """Return the account of files.

    Args:
        files: Every file that was found.
        places: Folders, links and files that are called like a split or a class and stand where one
            is looked for; those in which nothing is used are asked about.

    Returns:
        One row a folder, in the order of their names; those of `places` follow.
    """
    return _account_of_counts(count_alike(files), places)


def _account_of_counts(
    files: Counter[File],
    places: Sequence[str] = (),
) -> Account:
    """Return the account of files, see `account_by_folder`."""
    used = _UsedFolders(files)
    members: dict[str, Counter[File]] = defaultdict(Counter)
    for file, count in files.items():
        if file.kind in KINDS:
            members[_shown_folder(file, used)][file] = count
    rows = []
    remedies: list[Remedy] = []
    for folder in sorted(members):
        row = _account_of_folder(folder, members[folder], used)
        rows.append(row)
        if row.asks:
            remedies += _remedies(members[folder], used)
    asking_folders = [row.folder for row in rows if row.asks]
    for place in places:
        is_asked_about = any(_overlap(folder, place) for folder in asking_folders)
        if not used.counts[place] and not is_asked_about:
            row, remedy = _account_of_place(place, files, used)
            rows = [other_row for other_row in rows if other_row.folder != row.folder]
            rows.append(row)
            remedies.append(remedy)
            asking_folders.append(place)
    return Account(tuple(rows), tuple(dict.fromkeys(remedies)))


def _overlap(folder: str, other_folder: str) -> bool:
    """Return whether one of two folders is the other, or lies in it."""
    return f"{folder}/".startswith(f"{other_folder}/") or f"{other_folder}/".startswith(
        f"{folder}/"
    )


class _UsedFolders:
    """Where images are used.

    Attributes:
        counts: How many are used in each folder or below it; "" is DATA itself.
        groups: The split and class folders of used images.
        names: Names of the folders in which something is used.
    """

    def __init__(self, files: Counter[File]):
        self.counts: Counter[str] = Counter()
        self.groups = set()
        images_by_folder: Counter[str] = Counter()
        for file, count in files.items():
            if file.used_as:
                self.groups.add(file.group)
                images_by_folder[file.folder] += count
        for folder, count in images_by_folder.items():
            for path in ("", *parent_paths(folder)):
                self.counts[path] += count
        names = (path.rpartition("/")[2] for path in self.counts if path)
        self.names = frozenset(normalise_name(name) for name in names)

    def holds_masks_alone(self, file: File) -> bool:
        """Return whether a file is a mask below a class folder in which nothing else is used."""
        return file.reason == "mask" and bool(file.group) and not self.counts[file.group]


def _shown_folder(file: File, used: _UsedFolders) -> str:
    """Return the row that counts a file: the folder in question, or its split or class folder.

    Where there is neither, it is the highest folder above the file in which nothing is used. Masks
    get a row of their own.
    """
    if file.about:
        return file.about
    if file.used_as or file.reason in TABLE_REASONS:
        return file.group
    if file.group and file.reason != "mask":
        return file.group
    paths = parent_paths(file.folder)
    for path in paths:
        if not used.counts[path]:
            return path
    for path in reversed(["", *paths]):  # DATA itself where a table says what images show
        if path in used.groups:
            return path
    return paths[-1] if paths else ""


def _account_of_folder(
    folder: str,
    files: Counter[File],
    used: _UsedFolders,
) -> FolderAccount:
    """Return the row of one folder."""
    uses = {file: count for file, count in files.items() if file.used_as}
    unused = {file: count for file, count in files.items() if not file.used_as}
    return FolderAccount(
        folder=printable(folder) or ".",
        files=files.total(),
        kinds=_by_count(files, lambda file: KINDS[file.kind]),
        used=dict(sorted(_by_count(uses, lambda file: file.used_as).items())),
        left_out=_by_count(unused, lambda file: file.reason),
        asks=_folder_asks(
            unused,
            used.counts[folder],
            used,
        ),
        advice=remedies_sentence(_remedies(unused, used)),
    )


def _by_count(
    files: Mapping[File, int],
    word: Callable[[File], str],
) -> dict[str, int]:
    """Return how many files have each word, the most frequent one first."""
    counts: Counter[str] = Counter()
    for file, count in files.items():
        counts[word(file)] += count
    return dict(counts.most_common())


def _folder_asks(
    unused: Mapping[File, int],
    used_count: int,
    used: _UsedFolders,
) -> bool:
    """Return whether what is left out of a folder would change what the results mean."""
    asking_count = sum(count for file, count in unused.items() if file.asks)
    if asking_count > ASKING_SHARE * (used_count + asking_count):
        return True
    lost_count = sum(count for file, count in unused.items() if file.is_lost)
    if lost_count > LOST_SHARE * (used_count + lost_count):
        return True
    return any(file.asks_alone or used.holds_masks_alone(file) for file in unused)


def _account_of_place(
    place: str,
    files: Counter[File],
    used: _UsedFolders,
) -> tuple[FolderAccount, Remedy]:
    """Return the row and the remedy of a split or class folder in which nothing is used."""
    inside = Counter(
        {file: count for file, count in files.items() if f"{file.path}/".startswith(f"{place}/")}
    )
    if any(file.path == place and file.kind == "archive" for file in inside):
        advice = "unpack the archive"
    elif any(file.reason in TABLE_REASONS for file in inside):
        advice = f"add rows for the images in {place} to the table of labels"
    elif inside:
        advice = f"put images into {place}"
    else:
        advice = f"fill {place}, or remove it"
    remedy = Remedy(
        "do",
        advice,
        flag_value_for(place, used.names),
    )
    row = FolderAccount(
        folder=printable(place),
        files=inside.total(),
        kinds=_by_count(inside, lambda file: KINDS.get(file.kind, "other files")),
        used={},
        left_out=_by_count(inside, lambda file: file.reason),
        asks=True,
        advice=remedies_sentence([remedy]),
    )
    return row, remedy


def _remedies(
    files: Iterable[File],
    used: _UsedFolders,
) -> list[Remedy]:
    """Return what would make files used, each remedy once."""
    remedies: dict[Remedy, None] = {}
    for file in files:
        if file.asks or file.is_lost or file.asks_alone or used.holds_masks_alone(file):
            remedies[_remedy(file, used)] = None
    return list(remedies)


def _remedy(file: File, used: _UsedFolders) -> Remedy:
    """Return what would make one file used."""
    if file.reason == "unknown_class":
        is_below_class = any(file.about.startswith(f"{group}/") for group in used.groups)
        if is_below_class:
            advice = f"move {file.about} out of the folder of the other class"
            return Remedy(
                "do",
                advice,
                flag_value_for(file.about, used.names),
            )
    return find_remedy(file.kind, file.reason, file.path, file.about, used.names)


def account_with_outcomes(
    files: Iterable[File],
    outcomes: Mapping[str, tuple[str, str]],
) -> Account:
    """Return the account after inspection.

    Args:
        files: As after the scan.
        outcomes: For the key of each image that is used otherwise than the scan had it, (used as,
            reason): one of the two is "".
    """
    final_files = count_alike(_with_outcome(file, outcomes) for file in files)
    return _account_of_counts(_name_lost_sites(final_files))


def _with_outcome(
    file: File,
    outcomes: Mapping[str, tuple[str, str]],
) -> File:
    """Return a file as it is used after inspection."""
    if not file.used_as or file.key not in outcomes:
        return file
    used_as, reason = outcomes[file.key]
    return file._replace(used_as=used_as, reason=reason)


def _name_lost_sites(files: Counter[File]) -> Counter[File]:
    """Give each site of which no image can be used a row of its own.

    A site is a folder right below a class folder. A few images, as of one patient, are no such
    folder.
    """
    used = _UsedFolders(files)
    lost_counts: Counter[str] = Counter()
    for file, count in files.items():
        if file.is_lost:
            lost_counts[_folder_below_group(file)] += count
    sites = {
        folder
        for folder, count in lost_counts.items()
        if folder and count >= SITE_IMAGES and not used.counts[folder]
    }
    if not sites:
        return files
    named: Counter[File] = Counter()
    for file, count in files.items():
        folder = _folder_below_group(file)
        is_of_site = file.is_lost and folder in sites
        named[file._replace(about=folder) if is_of_site else file] += count
    return named


def _folder_below_group(file: File) -> str:
    """Return the folder of a file right below its split or class folder, "" for none."""
    if not file.group or not file.path.startswith(f"{file.group}/"):
        return ""
    name, slash, _ = file.path.removeprefix(f"{file.group}/").partition("/")
    return f"{file.group}/{name}" if slash else ""
