"""The CXR_* environment variables: each is read and checked here and nowhere else.

They say how a machine is used, never what is computed. Whatever decides a result is a setting,
which records keep. Variables are read anew each time, because a command sets some of them for its
worker processes. `CXR_RUNNER` is not here: it is another way to give the flag `--runner`, and
belongs to the command line.
"""

import os

from cxr.core.errors import UsageError

GIB = 1024**3


def cache_folder() -> str:
    """Return CXR_CACHE, the folder of all caches, or an empty text if it is not set."""
    return os.environ.get("CXR_CACHE", "")


def cache_limit() -> int:
    """Return CXR_CACHE_GB (by default 10) in bytes: how much the object cache may hold.

    0 keeps nothing.

    Raises:
        UsageError: It is not a number.
    """
    text = os.environ.get("CXR_CACHE_GB", "10")
    try:
        return int(float(text) * GIB)
    except (ValueError, OverflowError):
        raise UsageError(f"CXR_CACHE_GB: expected a number, found {text!r}") from None


def s3_connections() -> int:
    """Return CXR_S3_CONNECTIONS (by default 16): how many objects a process reads at a time.

    Raises:
        UsageError: It is not a whole number.
    """
    text = os.environ.get("CXR_S3_CONNECTIONS", "16")
    try:
        return max(1, int(text))
    except ValueError:
        raise UsageError(f"CXR_S3_CONNECTIONS: expected a number, found {text!r}") from None


def s3_path_style() -> bool | None:
    """Return CXR_S3_PATH_STYLE: whether addresses hold the bucket in their path.

    Returns:
        False for "0", True for any other text, None if it is not set.
    """
    text = os.environ.get("CXR_S3_PATH_STYLE", "")
    if not text:
        return None
    return text != "0"


def allotted_threads() -> int:
    """Return CXR_THREADS: how many threads a process may compute with; 0 if it is not set."""
    return int(os.environ.get("CXR_THREADS", "0"))


def webhook_url() -> str:
    """Return CXR_WEBHOOK_URL: where notifications go, an empty text if it is not set."""
    return os.environ.get("CXR_WEBHOOK_URL", "")


def salt() -> str:
    """Return CXR_SALT: the secret behind all pseudonyms, an empty text if it is not set."""
    return os.environ.get("CXR_SALT", "")


def salt_file() -> str:
    """Return CXR_SALT_FILE: a file that holds the salt, an empty text if it is not set."""
    return os.environ.get("CXR_SALT_FILE", "")
