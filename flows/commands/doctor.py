"""Check whether this machine can do the work; each check says what was found and what to do.

Nothing is changed except in the embedded server's folder: that server is started once, as each run
does. TensorFlow is not imported; the NVIDIA driver's own tool is asked for GPUs.
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
from cxr.data.patients.pseudonyms import find_salt
from cxr.models.compute import backend
from cxr.models.compute.hardware import query_driver
from cxr.models.networks.architectures import ARCHITECTURES
from cxr.models.networks.pretrained_weights import find_weights
from cxr.storage.addresses import is_local, open_storage
from flows.server import embedded, prefect_api

PACKAGE = "cxr-pipeline"
DISK_GIB = 5  # a run on the published images leaves about 1 GiB
MEMORY_GIB = 4  # one training needs 1 to 2 GiB
OLDEST_PYTHON = (3, 11)  # TensorFlow has wheels for these versions
NEWEST_PYTHON = (3, 13)


class Check(NamedTuple):
    """One check of this machine.

    Attributes:
        what: What was checked.
        ok: Whether it is as it must be.
        advice: What was found, or what to do.
        essential: Whether nothing works without it.
    """

    what: str
    ok: bool
    advice: str
    essential: bool = True


def examine(data: str | None, out: str, weights: str) -> list[Check]:
    """Check this machine.

    Args:
        data: The data that a run would read, if given.
        out: The work folder that it would write to.
        weights: The weights that training would start from.
    """
    checks = [
        check_python(),
        *check_packages(),
        check_keras(),
        *check_disk(out),
        check_memory(),
        check_cores(),
        check_gpu(),
    ]
    if data:
        checks.append(check_listing("DATA", data))
    if not is_local(out):  # a local one need not be there yet: see `check_disk`
        checks.append(check_listing("WORK", out))
    checks.append(check_salt())
    checks.extend(check_weights(weights))
    checks.extend(check_prefect())
    return checks


def check_python(version: tuple[int, ...] = sys.version_info[:2]) -> Check:
    """Check the interpreter against what TensorFlow has wheels for."""
    fits = OLDEST_PYTHON <= version <= NEWEST_PYTHON
    name = ".".join(map(str, version))
    return Check("Python", fits, f"found {name}; 3.11, 3.12 and 3.13 work")


def check_packages(requirements: list[str] | None = None) -> Iterator[Check]:
    """Check every installed package against the project's own bounds; name those that do not fit.

    Args:
        requirements: The bounds; those of the installed project if not given.
    """
    try:
        texts = requirements if requirements is not None else metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        advice = f"{PACKAGE} is not installed here: pip install --no-deps -e . (or make)"
        yield Check("packages", False, advice)
        return
    needed = [
        requirement
        for requirement in map(Requirement, texts)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]
    problems = list(filter(None, map(_describe_unmet, needed)))
    for problem in problems:
        yield Check("package", False, f"{problem}: install requirements.lock again")
    if not problems:
        advice = f"{len(needed)} are within the bounds of pyproject.toml"
        yield Check("packages", True, advice)


def _describe_unmet(requirement: Requirement) -> str:
    """Return how the installed package does not meet a requirement, "" if it does."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"expected {requirement}, found none"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"expected {requirement}, found {version}"


def check_disk(out: str, least: float = DISK_GIB) -> Iterator[Check]:
    """Check the free disk for a local work folder, which need not be there yet, and write access.

    Args:
        out: The work folder; nothing is checked if it is in S3.
        least: How many GiB must be free.
    """
    if not is_local(out):
        return
    folder = Path(out.removeprefix("file://")).expanduser().absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 2**30
    yield Check(
        "free disk",
        free >= least,
        f"{free:.1f} GiB at {existing}; a run needs {least} GiB: free some, or give another --out",
    )
    yield Check(
        "WORK",
        existing.is_dir() and os.access(existing, os.W_OK),
        f"{existing} must be a folder that this user may write to",
    )


def check_memory(least: float = MEMORY_GIB) -> Check:
    """Check the machine's memory against a least number of GiB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Check(
        "memory",
        total >= least,
        f"{total:.1f} GiB; each training at a time needs 2: see --concurrent",
        essential=False,
    )


def check_salt() -> Check:
    """Tell whether a salt is set, and never which: DICOM data are not read without one."""
    try:
        is_set = bool(find_salt())
    except CxrError as error:
        return Check("salt", False, str(error))
    advice = "set: the names and patients of DICOM data are hidden by it"
    if not is_set:
        advice = (
            "none, which DICOM data need: `cxr salt FILE` makes one, CXR_SALT_FILE=FILE sets it"
        )
    return Check("salt", is_set, advice, essential=False)


def check_cores() -> Check:
    """Tell how many cores this process may use."""
    return Check("cores", True, f"{usable_cores()} for this process", essential=False)


def check_gpu() -> Check:
    """Tell which GPUs the NVIDIA driver sees; without one, training runs on the cores."""
    try:
        gpus = query_driver("name,memory.total")
    except DeviceError as error:
        return Check("GPU", False, str(error), essential=False)
    advice = "; ".join(gpus) if gpus else "none: training runs on the cores"
    return Check("GPU", True, advice, essential=False)


def check_keras() -> Check:
    """Check that what Keras computes with is installed, and tell what it needs for a GPU."""
    try:
        (versions,) = backend.backend_version().items()
    except DeviceError as error:
        return Check("Keras", False, str(error))
    except metadata.PackageNotFoundError as error:
        name = backend.backend_name()
        advice = f"computes with {name}, which is not installed ({error}): pip install it"
        return Check("Keras", False, advice)
    name, version = versions
    gpu_package = backend.gpu_package()
    return Check("Keras", True, f"computes with {name} {version}; for a GPU it needs {gpu_package}")


def check_listing(name: str, uri: str) -> Check:
    """Check that an address can be listed, by its first page."""
    try:
        first = next(iter(open_storage(uri).list()), None)
    except (CxrError, OSError) as error:
        return Check(name, False, str(error))
    advice = f"{uri} can be listed"
    if first is None:
        advice += "; it is empty"
    return Check(name, True, advice)


def check_weights(weights: str) -> Iterator[Check]:
    """Check each architecture's starting weights: a folder's files, or Keras' cache for imagenet."""
    for architecture in ARCHITECTURES:
        what = f"weights {architecture}"
        try:
            value, digest = find_weights(architecture, weights)
        except CxrError as error:
            yield Check(what, False, str(error))
            continue
        if value != "imagenet":
            yield Check(what, True, f"{value or 'random'} {digest[:12]}".strip())
            continue
        advice = "Keras downloads them at first use"
        if _is_in_keras_cache(architecture):
            advice = "in Keras' cache"
        yield Check(what, True, advice, essential=False)


def _is_in_keras_cache(architecture: str) -> bool:
    """Return whether Keras has downloaded the ImageNet weights of an architecture."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    names = [path.name.lower().replace("_", "") for path in (home / "models").glob("*no*top*.h5")]
    return any(name.startswith(architecture.lower()) for name in names)


def check_prefect() -> Iterator[Check]:
    """Check that the configured API answers and lets us in; without one, that the embedded server starts."""
    try:
        url = prefect_api.configured()
        if not url:
            database = embedded.check_start()
            yield Check("Prefect", True, f"the embedded server starts; its database is {database}")
            return
        prefect_api.require_answer()
    except CxrError as error:
        yield Check("Prefect", False, str(error))
        return
    yield Check("Prefect", True, f"{url} answers")
    yield check_work_pools()


def check_work_pools() -> Check:
    """Check that the API has the pools of the deployments; a run from this command line needs none."""
    try:
        pools = prefect_api.pools()
    except CxrError as error:
        return Check("work pools", False, str(error), essential=False)
    missing = [name for name in prefect_api.WORK_POOLS if name not in pools]
    advice = ", ".join(sorted(pools))
    if missing:
        advice = (
            f"missing: {', '.join(missing)}; for deployments run python -m deployments.register"
        )
    return Check("work pools", not missing, advice, essential=False)
