"""The commands that look at something and change nothing: verify, doctor, ui."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from cxr.core.errors import CxrError
from flows.commands import session


def verify(
    run: str,
    /,
    *,
    table: Annotated[
        Path | None, Parameter(help="A Markdown file whose table quotes the run.")
    ] = None,
) -> None:
    """Compute every figure of a finished run again from its scores, and compare every file with its digest.

    Example: `cxr verify work/runs/RUN --table README.md`
    """
    from cxr.results import recomputation
    from cxr.storage.workspace import workspace

    checks = recomputation.verify(
        workspace.fetch_folder(run.rstrip("/").removesuffix("/export")), table
    )
    for check in checks:
        word = "FAILED" if check.problem else "note" if check.note else "ok"
        why = check.problem or check.note
        print(f"{word:<7}{check.what}{': ' if why else ''}{why}")  # noqa: T201
    failed = sum(bool(check.problem) for check in checks)
    if failed:
        raise CxrError(f"{run}: {failed} of {len(checks)} checks failed: do not use its figures")


def doctor(
    *,
    data: Annotated[str | None, Parameter(help="Can these images be read?")] = None,
    out: Annotated[str, Parameter(help="Is there room here, and may it be written?")] = "work",
    weights: Annotated[str, Parameter(help="Are these at hand? As in `cxr run`.")] = "imagenet",
) -> None:
    """Check this machine: versions, disk, memory, GPU, Prefect's server, storage and weights. Exit 1: no work without a fix.

    Example: `cxr doctor --data s3://bucket/images --out s3://bucket/work`
    """
    from flows.commands.doctor import examine

    session.log_to_terminal()
    checks = examine(data, out, weights)
    for check in checks:
        word = "ok" if check.ok else "FAILED" if check.essential else "note"
        print(f"{word:<7}{check.what}: {check.advice}")  # noqa: T201
    if failed := sum(check.essential and not check.ok for check in checks):
        raise CxrError(
            f"{failed} of {len(checks)} checks failed: do what their lines say, then run cxr doctor again"
        )


def ui(
    *,
    port: Annotated[
        int,
        Parameter(
            help="Where the UI listens, on loopback.",
            validator=validators.Number(gte=1, lte=65535),
        ),
    ] = 4200,
) -> None:
    """Show past runs of the embedded server in the Prefect UI.

    Example: `cxr ui --port 4300`
    """
    from flows.server.embedded import show

    session.log_to_terminal()
    show(port)
