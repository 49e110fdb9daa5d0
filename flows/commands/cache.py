"""The commands `cxr cache list | prune`."""

from typing import Annotated

from cyclopts import App, Parameter, validators

from flows.commands.flags import Out

cache_app = App(
    name="cache",
    help="What is kept to save computing: pixels and features.",
    help_epilogue="",
)


@cache_app.command(name="list")
def list_caches(*, out: Out) -> None:
    """Show what is kept to save computing: decoded pixels and features, with size and last use.

    Example: `cxr cache list --out work`
    """
    from cxr.storage import arrays
    from cxr.storage.workspace import workspace
    from flows.commands import beforehand
    from flows.commands.summary import show_caches

    beforehand.require_work(out)
    show_caches(arrays.list_caches(workspace.local_copy_of(out) / "cache"))


@cache_app.command(name="prune")
def prune_caches(
    *,
    out: Out,
    unused_days: Annotated[
        float,
        Parameter(
            help="Remove what was not used for so many days.", validator=validators.Number(gte=0)
        ),
    ] = 30,
    keep_gb: Annotated[
        float | None,
        Parameter(
            help="Then the longest unused, until so much is left.",
            validator=validators.Number(gte=0),
        ),
    ] = None,
) -> None:
    """Remove what has not been used for long. It is made again when it is needed: that costs time, never results.

    Example: `cxr cache prune --out work --unused-days 7 --keep-gb 50`
    """
    from cxr.storage import arrays
    from cxr.storage.workspace import workspace
    from flows.commands import beforehand
    from flows.commands.summary import show_caches

    beforehand.require_work(out)
    with workspace.open_workspace(out) as work:
        show_caches(
            arrays.prune_caches(work / "cache", unused_days, keep_gb and keep_gb * 1e9), "removed"
        )
