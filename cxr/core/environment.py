"""The CXR_* variables, each read and checked here and nowhere else.

They say how a machine is used, never what is computed: what decides a result is a setting (`settings`), which records
keep. They are read anew each time, because a command sets some of them for its children.
`CXR_RUNNER` is not here: it is another way to give the flag `--runner`, and belongs to the command line.
"""

import os

from cxr.core.errors import UsageError

GIB = 1024**3


def cache_folder() -> str:
    """Return CXR_CACHE, the folder of everything cached, "" where it is not set."""
    return os.environ.get("CXR_CACHE", "")


def cache_limit() -> int:
    """Return the most bytes of objects to keep, from CXR_CACHE_GB (10 where it is not set); 0 keeps none.

    Raises:
        UsageError: It is no number.
    """
    given = os.environ.get("CXR_CACHE_GB", "10")
    try:
        return int(float(given) * GIB)
    except (ValueError, OverflowError):
        raise UsageError(f"CXR_CACHE_GB: expected a number, found {given!r}") from None


def s3_connections() -> int:
    """Return how many objects a process reads at the same time, from CXR_S3_CONNECTIONS (16 where it is not set).

    Raises:
        UsageError: It is no whole number.
    """
    given = os.environ.get("CXR_S3_CONNECTIONS", "16")
    try:
        return max(1, int(given))
    except ValueError:
        raise UsageError(f"CXR_S3_CONNECTIONS: expected a number, found {given!r}") from None


def s3_path_style() -> bool | None:
    """Return whether buckets stand in the path of an address, from CXR_S3_PATH_STYLE; None where it is not set."""
    given = os.environ.get("CXR_S3_PATH_STYLE", "")
    return None if given == "" else given != "0"


def allotted_threads() -> int:
    """Return how many threads a process was told to compute with (CXR_THREADS), 0 where it was told nothing."""
    return int(os.environ.get("CXR_THREADS", "0"))
