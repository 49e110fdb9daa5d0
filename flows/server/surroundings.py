"""The environment variables that a command sets before Prefect and Keras are imported.

Loopback never goes through a proxy. Prefect's folder is below the cache; only profiles are read
from the user's own. Without a home that can be written to, what Keras and matplotlib write goes
below the cache, too.
"""

import contextlib
import logging
import os
from collections.abc import MutableMapping
from pathlib import Path

from cxr.storage import object_cache

LOOPBACK = ("127.0.0.1", "localhost")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
logger = logging.getLogger("cxr.surroundings")
_warnings: list[str] = []  # not logged yet


def prepare(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what this process and the processes that it starts need; a second call changes nothing.

    Args:
        environment: What is changed.

    Raises:
        StorageError: No folder can be written to.
    """
    loopback_without_proxy(environment)
    _without_socks(environment)
    substitute = object_cache.substitute()
    if substitute:
        environment["CXR_CACHE"] = str(substitute)
        _warnings.append(
            "no home folder can be written to: cache and Prefect's database are in "
            f"{substitute}; CXR_CACHE names another"
        )
    _set_prefect_home(environment)
    _set_home(environment)


def log_warnings() -> None:
    """Log, once, what was set differently from what a person would expect."""
    while _warnings:
        logger.warning(_warnings.pop(0))


def loopback_without_proxy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add this machine's own addresses to NO_PROXY, in both spellings, since libraries differ."""
    values = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    names = [name.strip() for name in ",".join(values).split(",") if name.strip()]
    # Nothing goes through a proxy; beside other names, some libraries would not see the star.
    if "*" in names:
        return
    value = ",".join(dict.fromkeys([*names, *LOOPBACK]))
    environment["NO_PROXY"] = value
    environment["no_proxy"] = value


def _without_socks(environment: MutableMapping[str, str]) -> None:
    """Remove SOCKS proxies: Prefect's client does not start with one, even where it needs none."""
    for name in [*_PROXIES, *map(str.upper, _PROXIES)]:
        if environment.get(name, "").lower().startswith("socks"):
            del environment[name]
            _warnings.append(f"{name} names a SOCKS proxy, which cxr cannot use: it goes without")


def _set_home(environment: MutableMapping[str, str]) -> None:
    """Set folders that Keras and matplotlib can write to, if the home is none."""
    home = object_cache.user_home()
    if home and os.access(home, os.W_OK):
        return
    cache = object_cache.home()
    if home is None:
        environment["HOME"] = str(cache)  # some libraries fail at their import without one
    environment.setdefault("KERAS_HOME", str(cache / "keras"))
    environment.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))


def _set_prefect_home(environment: MutableMapping[str, str]) -> None:
    """Put Prefect's folder below the cache; the profiles stay the user's."""
    own_home = str(prefect_home())
    users_home = environment.get("PREFECT_HOME")
    if users_home == own_home:
        return
    if "PREFECT_PROFILES_PATH" not in environment:
        profiles = _users_profiles(users_home)
        if profiles:
            environment["PREFECT_PROFILES_PATH"] = str(profiles.absolute())
    environment["PREFECT_HOME"] = own_home


def _users_profiles(prefect_home: str | None) -> Path | None:
    """Return the user's file of Prefect profiles, None if there is none that can be read.

    Args:
        prefect_home: The user's PREFECT_HOME.
    """
    home = object_cache.user_home()
    if prefect_home:
        folder = Path(prefect_home)
    elif home:
        folder = home / ".prefect"
    else:
        return None
    profiles = folder.expanduser() / "profiles.toml"
    with contextlib.suppress(OSError):  # this user may not read it
        if profiles.is_file():
            return profiles
    return None


def prefect_home() -> Path:
    """Return the folder below the cache in which the embedded server's database and logs are."""
    return object_cache.home() / "prefect"
