"""The commands `cxr cache list | prune`."""

from typing import Annotated

from cyclopts import App, Parameter, validators

from flows.commands.flags import Out

cache_app = App(
    name="cache",
    help="The pixels and features that are kept to save computing.",
    help_epilogue="",
)


@cache_app.command(name="list")
def list_caches(*, out: Out) -> None:
    """Show the cached pixels and features of a work folder, with size and last use.

    Example: `cxr cache list --out work`
    """
    from cxr.storage import arrays
    from cxr.storage.workspace import workspace
    from flows.commands import preconditions
    from flows.commands.listings import show_caches

    preconditions.require_work(out)
    folder = workspace.local_copy_of(out) / "cache"
    show_caches(arrays.list_caches(folder))


@cache_app.command(name="prune")
def prune_caches(
    *,
    out: Out,
    unused_days: Annotated[
        float,
        Parameter(
            help="Remove what was not used for this many days.",
            validator=validators.Number(gte=0),
        ),
    ] = 30,
    keep_gb: Annotated[
        float | None,
        Parameter(
            help="Then remove what was unused longest, until this many GB are left.",
            validator=validators.Number(gte=0),
        ),
    ] = None,
) -> None:
    """Remove cached pixels and features that were not used for long.

    They are computed again when they are needed: that costs time, never results.

    Example: `cxr cache prune --out work --unused-days 7 --keep-gb 50`
    """
    from cxr.storage import arrays
    from cxr.storage.workspace import workspace
    from flows.commands import preconditions
    from flows.commands.listings import show_caches

    preconditions.require_work(out)
    keep_bytes = None if keep_gb is None else keep_gb * 1e9
    with workspace.open_workspace(out) as work:
        removed = arrays.prune_caches(work / "cache", unused_days, keep_bytes)
    show_caches(removed, "removed")
