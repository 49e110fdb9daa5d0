"""The commands `cxr registry list | promote | rollback | restore | sync`."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from cxr.core.errors import CxrError, DataError, UsageError

if TYPE_CHECKING:
    from cxr.serving.registry import Registry
    from cxr.serving.registry.records import Champion

registry_app = App(
    name="registry",
    help="The registry of exported models: versions, the champion, the log.",
    help_epilogue="",
)
Place = Annotated[
    str | None, Parameter(name="--registry", help="Folder or s3://bucket/prefix of the registry.")
]
Work = Annotated[
    str | None,
    Parameter(name="--out", help="The work folder, whose registry is in its registry/."),
]
Why = Annotated[str, Parameter(help="The reason, for the log.")]
Who = Annotated[
    str | None,
    Parameter(help="Who does it, for the log; the account's name if not given."),
]
MOST_EVENTS = 12  # shown by `list`


@registry_app.command(name="list")
def list_versions(*, registry: Place = None, out: Work = None) -> None:
    """Show the versions, which of them is the champion, and the last events of the log.

    Example: `cxr registry list --out work`
    """
    from cxr.storage.local import LocalStorage, describe_no_folder
    from flows.commands.listings import show_registry

    opened = _open_registry(registry, out)
    storage = opened.storage
    if isinstance(storage, LocalStorage) and not storage.folder.is_dir():
        problem = describe_no_folder(storage.folder, "a registry")
        raise DataError(f"{problem}; `cxr retrain` makes one")
    show_registry(opened.versions(), opened.champion(), opened.log()[-MOST_EVENTS:])


@registry_app.command
def promote(
    version: str,
    /,
    *,
    why: Why,
    registry: Place = None,
    out: Work = None,
    who: Who = None,
    against_the_rule: Annotated[
        bool,
        Parameter(
            negative="",
            help="Promote it even if it lost to the champion or was never compared; the log says so.",
        ),
    ] = False,
) -> None:
    """Make a version the champion, if its comparison with the present one allows it.

    Example: `cxr registry promote VERSION --out work --why "agreed on Monday"`
    """
    opened = _open_registry(registry, out)
    before = opened.champion()
    champion = opened.promote(version, who or getpass.getuser(), why, against_the_rule)
    _tell(opened, champion, before)


@registry_app.command
def rollback(*, why: Why, registry: Place = None, out: Work = None, who: Who = None) -> None:
    """Make the previous champion the champion again; its files are verified first.

    Example: `cxr registry rollback --out work --why "false alarms on ward 3"`
    """
    opened = _open_registry(registry, out)
    before = opened.champion()
    champion = opened.rollback(who or getpass.getuser(), why)
    _tell(opened, champion, before)


@registry_app.command
def restore(version: str, folder: Path, /, *, registry: Place = None, out: Work = None) -> None:
    """Write a version's export folder, byte for byte as registered, to an empty folder.

    Example: `cxr registry restore VERSION exported --out work`
    """
    if folder.exists() and any(folder.iterdir()):
        raise CxrError(f"{folder}: expected an empty folder or none: give another")
    print(_open_registry(registry, out).restore(version, folder))  # noqa: T201


@registry_app.command
def sync(*, registry: Place = None, out: Work = None) -> None:
    """Let MLflow follow the registry: add missing versions, set the aliases, say what was otherwise.

    The server is the one that MLFLOW_TRACKING_URI names.

    Example: `cxr registry sync --out work`
    """
    from cxr.serving.tracking import calls

    for sentence in calls.sync_registry(_open_registry(registry, out).uri):
        print(sentence)  # noqa: T201


def _tell(
    registry: "Registry",
    champion: "Champion",
    before: "Champion | None",
) -> None:
    """Print the champion, and tell MLflow and Prefect of it where their servers are named."""
    print(f"champion: {champion.version} ({champion.what})")  # noqa: T201
    _let_mlflow_follow(registry)
    if champion != before:
        _send_event(registry.uri, champion, before.version if before else None)


def _send_event(
    registry: str,
    champion: "Champion",
    before: str | None,
) -> None:
    """Send cxr.champion.changed to the Prefect API of the settings; nothing where they name none.

    No server is started for it, and the champion has changed already: one that does not answer is
    a warning.
    """
    from flows.server import prefect_api

    try:
        url = prefect_api.configured()
        problem = prefect_api.find_problem() if url else ""
    except CxrError as error:
        url = ""
        problem = str(error)
    if problem:
        print(f"cxr: no event was sent: {problem}", file=sys.stderr)  # noqa: T201
    elif url:
        from tasks import events

        events.champion_switched(registry, champion, before)
        print(f"event: {events.CHAMPION_CHANGED}, sent to {url}")  # noqa: T201


def _let_mlflow_follow(registry: "Registry") -> None:
    """Tell MLflow of a new champion where MLFLOW_TRACKING_URI is set; a failure is a warning."""
    from cxr.serving.tracking import calls

    calls.track_registry(registry.uri)


def _open_registry(registry: str | None, out: str | None) -> "Registry":
    """Return the registry that one of the two flags names."""
    from cxr.serving.registry import Registry

    if (registry is None) == (out is None):
        raise UsageError(
            "expected either --registry URI or --out WORK (for its registry/): give one of them"
        )
    return Registry(registry or f"{str(out).rstrip('/')}/registry")
