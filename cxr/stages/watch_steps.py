"""Whether DATA changed, told by its listing alone: keys, sizes and versions. No file is read.

Files arrive one after the other, a thousand at a time. A change counts once the listing has been the
same twice in a row, so however many files come, they are one change.
"""

import hashlib
from typing import Literal

from cxr.core.records import Versioned
from cxr.core.settings import Strict
from cxr.storage.addresses import open_storage
from cxr.storage.workspace import workspace

Finding = Literal["changed", "changing", "unchanged", "empty"]


class Listing(Strict):
    """What a place holds, in three figures.

    Attributes:
        sha256: Of keys, sizes and versions of all files.
        files: How many files there are.
        bytes: Their size.
    """

    sha256: str
    files: int
    bytes: int


class Watched(Versioned):
    """What is remembered of a place between two looks at it.

    Attributes:
        data: Its address.
        seen: The listing of the last look.
        announced: The last listing that was said to be a change, None before the first.
    """

    data: str
    seen: Listing
    announced: Listing | None = None


def list_files(data: str, out: str | None = None) -> Listing:
    """Return the listing of DATA.

    Args:
        data: The address of DATA.
        out: The address of a work folder; where it lies inside DATA its files do not count, because
            each run changes them.

    Raises:
        StorageError: The place cannot be listed.
        DataError: There is none.
    """
    storage = open_storage(data)
    own = workspace.key_of(out, storage) if out else None
    lines = []
    size = 0
    for entry in storage.list():
        if own is None or not entry.key.startswith(f"{own}/"):
            lines.append(f"{entry.key}\0{entry.size}\0{entry.version}\n")
            size += entry.size
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return Listing(sha256=digest.hexdigest(), files=len(lines), bytes=size)


def look(
    data: str,
    listing: Listing,
    before: Watched | None,
) -> tuple[Finding, Watched]:
    """Return what a listing means after the last one, and what is to be remembered.

    Args:
        data: The address of DATA.
        listing: The listing of now.
        before: What was remembered at the last look, None at the first.

    Returns:
        "changed" once for each change, when it has been quiet since the last look; "changing" while
        files come or go; "unchanged"; "empty" where there is no file, which nobody can train on
        (and which a disk that is not mounted looks like).
    """
    announced = before.announced if before else None
    seen_twice = before is not None and before.seen == listing
    finding: Finding = "changing"
    if not listing.files:
        finding = "empty"
    elif listing == announced:
        finding = "unchanged"
    elif seen_twice:
        finding = "changed"
        announced = listing
    return finding, Watched(data=data, seen=listing, announced=announced)


def describe(
    finding: Finding,
    data: str,
    listing: Listing,
    before: Watched | None,
) -> str:
    """Return what a look at a place found, in words.

    Args:
        finding: As `look` returned it.
        data: The address of DATA.
        listing: The listing of now.
        before: What was remembered at the last look.
    """
    there = f"{data}: {listing.files:,} files, {listing.bytes / 1e9:.3f} GB"
    if finding == "empty":
        return f"{data}: expected files, found none: is the place mounted, is the address right?"
    if finding == "unchanged":
        return f"{there}, as before"
    if finding == "changing":
        return f"{there}: new since the last look, and perhaps not complete: looked at again"
    if before is None or before.announced is None:
        return f"{there}, for the first time"
    difference = listing.files - before.announced.files
    return f"{there}, {difference:+,} files since the last change, and quiet since the last look"
