"""Versions and aliases in MLflow follow a registry. What MLflow says is reported and never obeyed.

A version in MLflow has the tag `cxr.version`, the name of the registry's own. The alias `champion` is the
registry's champion, `challenger` the version that was registered last, if it never was champion.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cxr.core.errors import TrackingError
from cxr.serving.registry import Registry
from cxr.serving.registry.records import What
from cxr.serving.tracking.server.connection import Connection, find_run
from cxr.serving.tracking.server.models import log_export
from cxr.storage.addresses import is_local, local_folder

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

NAME = "CXR_MLFLOW_MODEL"  # the environment variable with the name of the registered model
DEFAULT_NAME = "cxr-pneumonia"
OWNER = "cxr.registry"  # the tag with the address of the registry that a model follows
VERSION = "cxr.version"
MOST_ROUNDS = 5  # of setting aliases while the champion changes again and again
READY = "READY"
NONE = "none"  # in the place of a version's number
CHANGES: tuple[What, ...] = ("promote", "promote against the rule", "rollback")  # of the champion


class _Followed(NamedTuple):
    """A registered model and the registry that it follows.

    Attributes:
        server: Where the model is.
        registry: What it follows.
        name: The model's name.
        numbers: The numbers of the registry's versions in MLflow, by their names.
        done: What was done, in sentences.
    """

    server: Connection
    registry: Registry
    name: str
    numbers: dict[str, str]
    done: list[str]


def sync(server: Connection, registry: Registry) -> tuple[str, ...]:
    """Add the versions that are missing, and set the aliases.

    Champion and challenger come first, so that a process that is ended here leaves the aliases right.

    Args:
        server: Where to.
        registry: What is followed.

    Returns:
        What was done, in sentences.

    Raises:
        TrackingError: The model of that name follows another registry.
    """
    followed = _Followed(server, registry, os.environ.get(NAME) or DEFAULT_NAME, {}, [])
    _own(followed)
    _find_versions(followed)
    for _ in range(MOST_ROUNDS):
        wanted = wanted_aliases(registry)
        _set_aliases(followed, wanted)
        if wanted == wanted_aliases(registry):  # else the champion changed in the meantime
            break
    for version in registry.versions():
        _number(followed, version.name)
    if not followed.done:
        followed.done.append("as in the registry, nothing to do")
    return tuple(f"{followed.name}: {sentence}" for sentence in followed.done)


def wanted_aliases(registry: Registry) -> dict[str, str | None]:
    """Return the name of the version that each alias shall name, None where there is none.

    Args:
        registry: The registry.
    """
    champion = registry.champion()
    versions = registry.versions()
    once_champion = {event.version for event in registry.log() if event.what in CHANGES}
    challenger = None
    if versions and versions[-1].name not in once_champion:
        challenger = versions[-1].name
    return {"champion": champion.version if champion else None, "challenger": challenger}


def _own(followed: _Followed) -> None:
    """Make the registered model if it is not there, and note whom it follows.

    Raises:
        TrackingError: It follows another registry.
    """
    from mlflow.exceptions import MlflowException

    client = followed.server.client
    address = followed.registry.uri
    if is_local(address):
        address = str(local_folder(address).resolve())
    try:
        owner = client.get_registered_model(followed.name).tags.get(OWNER)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(followed.name, {OWNER: address})
        return
    if owner is None:
        client.set_registered_model_tag(followed.name, OWNER, address)
    elif owner != address:
        raise TrackingError(
            f"the model {followed.name} follows the registry {owner}, not {address}: set {NAME} to "
            f"another name, or, where the registry was moved, remove the model's tag {OWNER}"
        )


def _find_versions(followed: _Followed) -> None:
    """Find which of the registry's versions MLflow has, and which of its own the registry has not."""
    own = {version.name for version in followed.registry.versions()}
    found = followed.server.client.search_model_versions(f"name = '{followed.name}'")
    for each in sorted(found, key=lambda version: int(version.version)):
        name = each.tags.get(VERSION)
        if name not in own:
            followed.done.append(
                f"version {each.version} is not in the registry, and is left alone"
            )
        elif each.status == READY:
            followed.numbers.setdefault(name, str(each.version))


def _number(followed: _Followed, name: str) -> str:
    """Return the number of a version in MLflow, to which it is added if it is not there."""
    known = followed.numbers.get(name)
    if known:
        return known
    server = followed.server
    version = followed.registry.version(name)
    run = find_run(server, version.run)
    run_id = run.info.run_id if run else None
    with tempfile.TemporaryDirectory(prefix="cxr-version-") as folder:
        model = log_export(server, followed.registry.restore(name, Path(folder)), run_id)
    added = server.client.create_model_version(
        followed.name,
        f"models:/{model}",
        run_id,
        {VERSION: name, "cxr.run": version.run, "cxr.model_sha256": version.model_sha256},
        model_id=model,
    )
    number = str(added.version)
    followed.numbers[name] = number
    followed.done.append(f"{name} is version {number} now")
    return number


def _set_aliases(followed: _Followed, wanted: dict[str, str | None]) -> None:
    """Let the aliases name the wanted versions, which are added if they are not there."""
    targets = {alias: _number(followed, name) if name else NONE for alias, name in wanted.items()}
    model = followed.server.client.get_registered_model(followed.name)
    for alias, target in targets.items():
        _set_alias(followed, model, alias, target)


def _set_alias(
    followed: _Followed,
    model: "RegisteredModel",
    alias: str,
    target: str,
) -> None:
    """Let an alias name a version.

    A tag of the model has the numbers that were set here: while an alias is moved the old and the new
    one. What an alias names beside these was set by hand.

    Args:
        followed: The model and its registry.
        model: The model as MLflow has it.
        alias: The alias.
        target: The number of the version, NONE for none.
    """
    client = followed.server.client
    tag = f"cxr.{alias}"
    found = str(model.aliases.get(alias, NONE))
    ours = model.tags.get(tag, NONE).split()
    if found != target:
        client.set_registered_model_tag(followed.name, tag, f"{found} {target}")
        if target == NONE:
            client.delete_registered_model_alias(followed.name, alias)
        else:
            client.set_registered_model_alias(followed.name, alias, target)
        moved = f"the alias {alias} named version {found}, names {target} now"
        if found not in ours:
            moved = f"the alias {alias} had been moved by hand to version {found}, is put back to {target}"
        followed.done.append(moved)
    if ours != [target]:
        client.set_registered_model_tag(followed.name, tag, target)
