"""Which files and folders a pattern of `--exclude` or `--splits` means."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from cxr.core.formatting import printable
from cxr.core.settings import FileSettings
from cxr.data.folders.names import normalise_name, parent_paths


def unfit_patterns(
    settings: FileSettings,
    keys: Sequence[str],
) -> list[str]:
    """Return a sentence for each `--exclude` pattern that fits none of the keys."""
    sentences = []
    backslash_folders = settings.backslash_folders
    for pattern in settings.exclude:
        patterns = (pattern,)
        if not any(excluded_by(key, patterns, backslash_folders) for key in keys):
            sentences.append(f"--exclude {printable(pattern)} fits no file")
    return sentences


def has_wildcard(pattern: str) -> bool:
    """Return whether a pattern has wildcards, so that it may well fit nothing today."""
    return not set("*?[").isdisjoint(pattern)


def matches_pattern(pattern: str, path: str) -> bool:
    """Return whether a pattern means the file or folder at the end of a path.

    A pattern without a slash is compared with the name, one with a slash with the path from the
    top; a leading slash says that the name is at the top. Case, Unicode form and surrounding blanks
    do not matter.

    >>> patterns = ("normal", "test/*", "./Test/NORMAL", "/NORMAL")
    >>> [matches_pattern(pattern, "test/NORMAL") for pattern in patterns]
    [True, True, True, False]
    """
    pattern = pattern.replace("\\", "/").strip().rstrip("/")
    compared_path = path if "/" in pattern else path.rpartition("/")[2]
    normal_pattern = _normalise_path(pattern.removeprefix("./").lstrip("/"))
    normal_path = _normalise_path(compared_path)
    return normal_path == normal_pattern or fnmatchcase(normal_path, normal_pattern)


def _normalise_path(path: str) -> str:
    """Return a path whose names are all in the form in which names are compared."""
    return "/".join(normalise_name(name) for name in path.split("/"))


def excluded_by(
    key: str,
    patterns: tuple[str, ...],
    backslash_folders: bool = False,
) -> str | None:
    """Return the first pattern that leaves a file out, None where none does.

    Args:
        key: The file's key; a pattern that fits a folder above the file fits the file.
        patterns: The `--exclude` patterns.
        backslash_folders: Whether a backslash in the key separates folders.
    """
    if not patterns:
        return None
    path = key.replace("\\", "/") if backslash_folders else key
    folder = path.rpartition("/")[0]
    folder_pattern = _folder_excluded_by(folder, patterns)
    if folder_pattern is not None:
        return folder_pattern
    return _first_match(patterns, [path])


@lru_cache(maxsize=100_000)  # thousands of files share a folder
def _folder_excluded_by(
    folder: str,
    patterns: tuple[str, ...],
) -> str | None:
    """Return the first pattern that fits a folder or one above it."""
    return _first_match(patterns, parent_paths(folder))


def _first_match(
    patterns: Iterable[str],
    paths: Sequence[str],
) -> str | None:
    """Return the first pattern that fits one of the paths."""
    for pattern in patterns:
        if any(matches_pattern(pattern, path) for path in paths):
            return pattern
    return None
