"""The tables that commands print of what there is: folders of a data set, caches, versions."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from cxr.core.formatting import format_metric, printable
from flows.commands.summary import open_console

if TYPE_CHECKING:
    from cxr.data.survey.survey import Survey
    from cxr.serving.registry.records import Champion, Event, Version
    from cxr.storage.arrays import CacheEntry

VERSION_METRICS = ("auroc", "sensitivity", "specificity")


def show_folders(survey: "Survey") -> None:
    """Print how a run would use each folder, the ones with a question first."""
    from cxr.data.survey import account_table
    from cxr.data.survey.files import KINDS

    console = open_console(width=160)
    images = len(survey.images)
    table = Table(title=f"{survey.found:,} files found, {images:,} images to look at")
    for heading in account_table.HEADINGS:
        table.add_column(heading, overflow="fold")
    for folder in sorted(survey.account.folders, key=lambda folder: not folder.asks):
        (cells,) = account_table.table_cells([folder])
        style = "yellow" if folder.asks else None
        table.add_row(*map(escape, cells.values()), style=style)
    console.print(table)
    for note in survey.notes:
        console.print(escape(note), highlight=False, soft_wrap=True)
    others = sum(file.kind not in KINDS for file in survey.unused)
    if others:
        console.print(f"and {others:,} other files: system files, texts", highlight=False)


def show_caches(entries: Sequence["CacheEntry"], what: str = "kept") -> None:
    """Print a row for each cache, newest use first, and their size together.

    Args:
        entries: The caches.
        what: What became of them.
    """
    from cxr.storage.arrays import describe_recipe

    total = sum(entry.size for entry in entries)
    table = Table(title=f"{len(entries)} {what}, {total / 1e9:.2f} GB")
    table.add_column("what", overflow="fold")
    table.add_column("made from", overflow="fold")
    table.add_column("rows", overflow="fold", justify="right")
    table.add_column("GB", overflow="fold", justify="right")
    table.add_column("last used", overflow="fold")
    for entry in entries:
        last_used = datetime.fromtimestamp(entry.used)
        table.add_row(
            entry.name,
            describe_recipe(entry.made),
            str(entry.rows),
            f"{entry.size / 1e9:.3f}",
            f"{last_used:%Y-%m-%d %H:%M}",
        )
    open_console(width=140).print(table)


def show_registry(
    versions: Sequence["Version"],
    champion: "Champion | None",
    events: Sequence["Event"],
) -> None:
    """Print the versions with the champion marked, and the last events of the log.

    Args:
        versions: The versions, the first registered first.
        champion: The present champion.
        events: The events to show.
    """
    console = open_console(width=140)
    table = Table(title="Versions, each with its metrics on the test images of its time")
    table.add_column("")
    table.add_column("version", no_wrap=True)
    table.add_column("registered (UTC)")
    table.add_column("architecture")
    table.add_column("scope")
    for title in (*VERSION_METRICS, "n"):
        table.add_column(title, justify="right")
    for version in versions:
        is_champion = champion is not None and champion.version == version.name
        table.add_row(
            "champion" if is_champion else "",
            version.name,
            f"{version.registered:%Y-%m-%d %H:%M}",
            version.architecture,
            "known" if version.knows_scope else "not known",
            *(format_metric(version.test[name]) for name in VERSION_METRICS),
            str(version.test["n"]),
        )
    console.print(table)
    for event in events:
        sentence = (
            f"{event.when:%Y-%m-%d %H:%M} {event.what} {event.version} by {event.who}: {event.why}"
        )
        console.print(escape(printable(sentence)), highlight=False, soft_wrap=True)
