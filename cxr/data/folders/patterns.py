"""Which files and folders an --exclude pattern means."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from cxr.core.formatting import printable
from cxr.core.settings import FileSettings
from cxr.data.folders.names import normalise_name, parent_paths


def unfit_patterns(settings: FileSettings, keys: Sequence[str]) -> list[str]:
    """Return a sentence for each `--exclude` pattern that fits none of these keys."""
    return [
        f"--exclude {printable(pattern)} fits no file"
        for pattern in settings.exclude
        if not any(excluded_by(key, (pattern,), settings.backslash_folders) for key in keys)
    ]


def has_wildcard(pattern: str) -> bool:
    """Return whether a pattern has wildcards, so that it may well fit nothing today."""
    return not set("*?[").isdisjoint(pattern)


def matches_pattern(pattern: str, path: str) -> bool:
    """Return whether a pattern means the file or folder at the end of a path.

    Without a slash it is compared with the name, with one with the path from the top; a slash in front
    says that the name is at the top. Case, Unicode form and surrounding blanks do not matter.

    >>> [matches_pattern(pattern, "test/NORMAL") for pattern in ("normal", "test/*", "./Test/NORMAL", "/NORMAL")]
    [True, True, True, False]
    """
    wanted = pattern.replace("\\", "/").strip().rstrip("/")
    anchored = "/" in wanted
    given = _normal_path(path) if anchored else normalise_name(path.rpartition("/")[2])
    wanted = _normal_path(wanted.removeprefix("./").lstrip("/"))
    return given == wanted or fnmatchcase(given, wanted)


def _normal_path(path: str) -> str:
    return "/".join(map(normalise_name, path.split("/")))


def excluded_by(key: str, patterns: tuple[str, ...], backslash_folders: bool = False) -> str | None:
    """Return the first `--exclude` pattern that a key, or a folder above it, fits; None for none."""
    if not patterns:
        return None
    path = key.replace("\\", "/") if backslash_folders else key
    above = _excluded_folder(path.rpartition("/")[0], patterns)  # thousands of files share a folder
    return above or next((pattern for pattern in patterns if matches_pattern(pattern, path)), None)


@lru_cache(maxsize=100_000)
def _excluded_folder(folder: str, patterns: tuple[str, ...]) -> str | None:
    return next(
        (
            pattern
            for pattern in patterns
            if any(matches_pattern(pattern, path) for path in parent_paths(folder))
        ),
        None,
    )
