"""What other people's machines have set, and what a command makes of it before Prefect and Keras are imported.

Loopback never goes through a proxy; Prefect's folder is below the cache, and the user's own is read for profiles alone;
without a home that can be written to, what Keras and matplotlib write goes below the cache, too.
"""

import contextlib
import logging
import os
from collections.abc import MutableMapping
from pathlib import Path

from cxr.storage import object_cache

LOOPBACK = ("127.0.0.1", "localhost")
logger = logging.getLogger("cxr.surroundings")
_to_tell: list[str] = []
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def prepare(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what this process and its children need; done twice, it changes nothing more.

    Args:
        environment: What is changed.

    Raises:
        StorageError: No folder can be written to.
    """
    loopback_without_proxy(environment)
    _without_socks(environment)
    if stand_in := object_cache.substitute():
        environment["CXR_CACHE"] = str(stand_in)
        _to_tell.append(
            f"no home folder can be written to: cache and Prefect's database are in {stand_in}; CXR_CACHE names another"
        )
    _give_prefect_home(environment)
    _give_home(environment)


def tell() -> None:
    """Say, once, what was set otherwise than a person would expect."""
    while _to_tell:
        logger.warning(_to_tell.pop(0))


def loopback_without_proxy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add this machine's own addresses to NO_PROXY, in both spellings: which one is read differs by library."""
    given = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    names = [name.strip() for name in ",".join(given).split(",") if name.strip()]
    if (
        "*" in names
    ):  # nothing goes through a proxy; beside other names some libraries would not see it
        return
    value = ",".join(dict.fromkeys([*names, *LOOPBACK]))
    environment["NO_PROXY"] = value
    environment["no_proxy"] = value


def _without_socks(environment: MutableMapping[str, str]) -> None:
    """Set SOCKS proxies aside: Prefect's client does not even start where one is set, though it would not use it."""
    for name in [*_PROXIES, *map(str.upper, _PROXIES)]:
        if environment.get(name, "").lower().startswith("socks"):
            del environment[name]
            _to_tell.append(f"{name} names a SOCKS proxy, which cxr cannot use: it goes without")


def _give_home(environment: MutableMapping[str, str]) -> None:
    """Give Keras and matplotlib a folder that they can write to, where the home is none."""
    home = object_cache.user_home()
    if home and os.access(home, os.W_OK):
        return
    cache = object_cache.home()
    if home is None:
        environment["HOME"] = str(cache)  # some libraries fail at their import without one
    environment.setdefault("KERAS_HOME", str(cache / "keras"))
    environment.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))


def _give_prefect_home(environment: MutableMapping[str, str]) -> None:
    """Put Prefect's folder below the cache; the profiles stay those of the user's."""
    own = prefect_home()
    given = environment.get("PREFECT_HOME")
    if given == str(own):
        return
    home = object_cache.user_home()
    theirs = Path(given) if given else home / ".prefect" if home else None
    if theirs and "PREFECT_PROFILES_PATH" not in environment:
        profiles = theirs.expanduser() / "profiles.toml"
        with contextlib.suppress(OSError):  # it is not for this user to read
            if profiles.is_file():
                environment["PREFECT_PROFILES_PATH"] = str(profiles.absolute())
    environment["PREFECT_HOME"] = str(own)


def prefect_home() -> Path:
    """Return the folder below the cache in which the embedded server's database and logs are."""
    return object_cache.home() / "prefect"
