"""Whether this machine can do the work: each check says what was found and what to do.

Nothing is changed but for the embedded server's folder: that server is started once, as each run does. TensorFlow is not
imported (a GPU is asked for at its driver's own tool).
"""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from cxr.core.errors import CxrError, DeviceError
from cxr.core.parallel import usable_cores
from cxr.models.architectures import ARCHITECTURES
from cxr.models.compute import backend
from cxr.models.compute.hardware import query_driver
from cxr.models.pretrained_weights import find_weights
from cxr.storage.addresses import is_local, open_storage
from flows.server import embedded, prefect_api

PACKAGE = "cxr-pipeline"
DISK_GIB, MEMORY_GIB = (
    5,
    4,
)  # a run on the published images leaves about 1 GiB; one training holds 1 to 2 GiB


class Check(NamedTuple):
    """What was looked at, whether it is as it must be, what was found or what to do; essential: no work without it."""

    what: str
    ok: bool
    advice: str
    essential: bool = True


def examine(data: str | None, out: str, weights: str) -> list[Check]:
    """Return every check of this machine for runs that read `data`, write to `out` and start from `weights`."""
    checks = [python(), *packages(), keras_backend(), *room(out), memory(), processors(), gpu()]
    checks += [
        place(name, uri)
        for name, uri in (("DATA", data), ("WORK", out))
        if uri and _is_asked(name, uri)
    ]
    return [*checks, *starting_weights(weights), *prefect_server()]


def _is_asked(name: str, uri: str) -> bool:
    """Return whether a place has to be listed: DATA always; a local WORK need not be there yet, see `room`."""
    return name == "DATA" or not is_local(uri)


def python(version: tuple[int, ...] = sys.version_info[:2]) -> Check:
    """Check the interpreter against what TensorFlow has wheels for."""
    found = ".".join(map(str, version))
    return Check(
        "Python", (3, 11) <= version <= (3, 13), f"found {found}; 3.11, 3.12 and 3.13 work"
    )


def packages(requirements: list[str] | None = None) -> Iterator[Check]:
    """Check every installed package against the project's own bounds; only what does not fit is told one by one."""
    try:
        given = requirements if requirements is not None else metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield Check(
            "packages",
            False,
            f"{PACKAGE} is not installed here: pip install --no-deps -e . (or make)",
        )
        return
    wanted = [
        need
        for need in map(Requirement, given)
        if need.marker is None or need.marker.evaluate({"extra": ""})
    ]
    problems = [problem for need in wanted if (problem := _unmet(need))]
    for problem in problems:
        yield Check("package", False, f"{problem}: install requirements.lock again")
    if not problems:
        yield Check("packages", True, f"{len(wanted)} are within the bounds of pyproject.toml")


def _unmet(need: Requirement) -> str:
    try:
        found = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        return f"expected {need}, found none"
    return (
        ""
        if need.specifier.contains(found, prereleases=True)
        else f"expected {need}, found {found}"
    )


def room(out: str, least: float = DISK_GIB) -> Iterator[Check]:
    """Check the free disk below a local WORK, which need not be there yet, and that it can be written to."""
    if not is_local(out):
        return
    folder = Path(out.removeprefix("file://")).expanduser().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    yield Check(
        "free disk",
        free >= least,
        f"{free:.1f} GiB at {there}; a run wants {least} GiB: free some, or another --out",
    )
    yield Check(
        "WORK",
        there.is_dir() and os.access(there, os.W_OK),
        f"{there} must be a folder that this user may write to",
    )


def memory(least: float = MEMORY_GIB) -> Check:
    """Check the machine's memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Check(
        "memory",
        total >= least,
        f"{total:.1f} GiB; each training at a time wants 2: see --concurrent",
        False,
    )


def processors() -> Check:
    """Tell the cores that this process may use."""
    return Check("cores", True, f"{usable_cores()} for this process", False)


def gpu() -> Check:
    """Tell the GPUs that the NVIDIA driver sees; without one, training runs on the cores."""
    try:
        found = query_driver("name,memory.total")
    except DeviceError as error:
        return Check("GPU", False, str(error), False)
    if not found:
        return Check("GPU", True, "none: training runs on the cores", False)
    return Check("GPU", True, "; ".join(found), False)


def keras_backend() -> Check:
    """Check that what Keras computes with is installed, and tell what it needs for a GPU."""
    try:
        (found,) = backend.backend_version().items()
    except DeviceError as error:
        return Check("Keras", False, str(error))
    except metadata.PackageNotFoundError as error:
        return Check(
            "Keras",
            False,
            f"computes with {backend.backend_name()}, which is not installed ({error}): pip install it",
        )
    return Check(
        "Keras",
        True,
        f"computes with {' '.join(found)}; to use a GPU it wants {backend.gpu_package()}",
    )


def place(name: str, uri: str) -> Check:
    """Check that an S3 address can be listed, by its first page."""
    try:
        first = next(iter(open_storage(uri).list()), None)
    except (CxrError, OSError) as error:
        return Check(name, False, str(error))
    return Check(name, True, f"{uri} can be listed{'' if first else '; it is empty'}")


def starting_weights(weights: str) -> Iterator[Check]:
    """Check each architecture's starting weights: the files of a folder; Keras' cache for imagenet."""
    for name in ARCHITECTURES:
        try:
            value, digest = find_weights(name, weights)
        except CxrError as error:
            yield Check(f"weights {name}", False, str(error))
            continue
        if value != "imagenet":
            yield Check(f"weights {name}", True, f"{value or 'random'} {digest[:12]}".strip())
            continue
        home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
        cached = any(
            path.name.lower().replace("_", "").startswith(name.lower())
            for path in home.glob("*no*top*.h5")
        )
        yield Check(
            f"weights {name}",
            True,
            "in Keras' cache" if cached else "Keras downloads them at first use",
            False,
        )


def prefect_server() -> Iterator[Check]:
    """Check that the API that is set answers and lets us in; where none is, that the embedded server starts."""
    try:
        url = prefect_api.configured()
        if not url:
            yield Check(
                "Prefect",
                True,
                f"the embedded server starts; its database is {embedded.check_start()}",
            )
            return
        prefect_api.require_answer()
    except CxrError as error:
        yield Check("Prefect", False, str(error))
        return
    yield Check("Prefect", True, f"{url} answers")
    yield work_pools()


def work_pools() -> Check:
    """Check that the API has the pools of the deployments; a run from this command line needs none."""
    try:
        found = prefect_api.pools()
    except CxrError as error:
        return Check("work pools", False, str(error), False)
    missing = [name for name in prefect_api.WORK_POOLS if name not in found]
    words = f"missing: {', '.join(missing)}; for deployments run python -m deployments.register"
    return Check("work pools", not missing, words if missing else ", ".join(sorted(found)), False)
