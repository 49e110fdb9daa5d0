"""The commands that look at something and change nothing: verify, doctor, ui."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from cxr.core.errors import CxrError, UsageError
from flows.commands import session


def verify(
    run: Annotated[
        str, Parameter(help="The folder of a finished run, or one that `cxr site` wrote.")
    ],
    /,
    *,
    table: Annotated[
        Path | None,
        Parameter(help="A Markdown file with a table that quotes the run's metrics."),
    ] = None,
) -> None:
    """Compute every metric of a run or a site again from its scores, and check the files' digests.

    Example: `cxr verify work/runs/RUN --table README.md`
    """
    from cxr.results.verify.checks import verify_run
    from cxr.serving.sites.verify import is_site, verify_site
    from cxr.storage.workspace import workspace

    folder = workspace.fetch_folder(run.rstrip("/").removesuffix("/export"))
    if is_site(folder):
        if table:
            raise UsageError(
                f"--table {table}: expected a run, whose metrics it quotes, found a site"
            )
        checks = verify_site(folder, run)
    else:
        checks = verify_run(folder, table)
    for check in checks:
        if check.problem:
            _print_check("FAILED", check.what, check.problem)
        elif check.note:
            _print_check("note", check.what, check.note)
        else:
            _print_check("ok", check.what)
    failed = sum(bool(check.problem) for check in checks)
    if failed:
        raise CxrError(f"{run}: {failed} of {len(checks)} checks failed: do not use its metrics")


def doctor(
    *,
    data: Annotated[
        str | None,
        Parameter(help="The images that a run will read: can they be listed?"),
    ] = None,
    out: Annotated[
        str,
        Parameter(help="The work folder: is there room, and may it be written to?"),
    ] = "work",
    weights: Annotated[
        str,
        Parameter(help="The starting weights, as in `cxr run`: are they available?"),
    ] = "imagenet",
) -> None:
    """Check this machine: versions, disk, memory, GPU, Prefect's server, storage and weights.

    Exit status 1 if something has to be corrected before a run can work.

    Example: `cxr doctor --data s3://bucket/images --out s3://bucket/work`
    """
    from flows.commands.doctor import examine

    session.log_to_terminal()
    checks = examine(data, out, weights)
    failed = 0
    for check in checks:
        if check.ok:
            _print_check("ok", check.what, check.advice)
        elif check.essential:
            _print_check("FAILED", check.what, check.advice)
            failed += 1
        else:
            _print_check("note", check.what, check.advice)
    if failed:
        raise CxrError(
            f"{failed} of {len(checks)} checks failed: "
            "do what their lines say, then run cxr doctor again"
        )


def salt(
    file: Annotated[str, Parameter(help="The file to make, outside every work folder.")],
    /,
) -> None:
    """Make the secret behind the names and patients of DICOM data, once and for all.

    Without it nobody can tell who is who. Another one gives another split: keep it.

    Example: `cxr salt ~/cxr-salt.txt`
    """
    from cxr.data.patients.pseudonyms import make_salt

    make_salt(file)
    path = Path(file).expanduser().absolute()
    print(f"{path} holds a new salt. Keep it, and set CXR_SALT_FILE={path}")  # noqa: T201


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


def _print_check(result: str, what: str, detail: str = "") -> None:
    """Print the result of one check."""
    sentence = f"{what}: {detail}" if detail else what
    print(f"{result:<7}{sentence}")  # noqa: T201
