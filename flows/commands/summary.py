"""What the terminal shows at the end: who was compared, who was chosen and why, what it did on test, where it is."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cxr.core.files import read_table
from cxr.core.formatting import format_metric, printable
from cxr.data.survey import account_table
from cxr.data.survey.files import KINDS
from cxr.models import runs
from cxr.models.selection import Selection
from cxr.results.evaluation import Evaluation
from cxr.results.exporting import Export
from cxr.storage.arrays import CacheEntry, describe_recipe

if TYPE_CHECKING:
    from cxr.data.survey.survey import Survey
    from cxr.serving.registry_records import Champion, Event, Version


def show(work: Path) -> None:
    """Print the newest run's comparison, choice, test figures and paths."""
    folder = runs.latest_run(work).folder(work)
    console = Console() if sys.stdout.isatty() else Console(width=110)
    console.print(_comparison(folder))
    chosen, tested = (
        Selection.read(folder / "selection.json"),
        Evaluation.read(folder / "evaluation.json"),
    )
    console.print(f"[bold]Chosen:[/] {chosen.reason}", highlight=False)
    console.print(_test(tested))
    export = Export.read(folder / "export.json")
    for name in ("model", "card", "report"):
        console.print(f"{name:<7}{getattr(export, name)}", highlight=False, soft_wrap=True)


def show_folders(found: "Survey") -> None:
    """Print what a run would make of each folder, the ones with a question first."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    table = Table(title=f"{found.found:,} files found, {len(found.images):,} images to look at")
    for heading in account_table.HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in sorted(found.account.folders, key=lambda row: not row.asks):
        (cells,) = account_table.table_cells([row])
        table.add_row(
            *(escape(cell) for cell in cells.values()), style="yellow" if row.asks else None
        )
    console.print(table)
    for note in found.notes:
        console.print(escape(note), highlight=False, soft_wrap=True)
    quiet = sum(one.kind not in KINDS for one in found.files)
    if quiet:
        console.print(f"and {quiet:,} files that are no data: system files, texts", highlight=False)


def show_caches(held: list[CacheEntry], word: str = "kept") -> None:
    """Print a row for each cache, newest use first, and their size together."""
    table = Table(title=f"{len(held)} {word}, {sum(each.size for each in held) / 1e9:.2f} GB")
    for title in ("what", "made from", "rows", "GB", "last used"):
        table.add_column(
            title, justify="right" if title in {"rows", "GB"} else "left", overflow="fold"
        )
    for each in held:
        used = datetime.fromtimestamp(each.used).strftime("%Y-%m-%d %H:%M")
        table.add_row(
            each.name, describe_recipe(each.made), str(each.rows), f"{each.size / 1e9:.3f}", used
        )
    (Console() if sys.stdout.isatty() else Console(width=140)).print(table)


def _comparison(folder: Path) -> Table:
    table = Table(title="Validation figures at each operating point")
    names = ("auroc", "sensitivity", "specificity", "accuracy", "precision")
    for title in ("model", "weights", "epochs", *names, "minutes"):
        table.add_column(title, justify="left" if title in {"model", "weights"} else "right")
    for row in read_table(folder / "comparison.csv").to_dict("records"):
        if row["status"] == "failed":
            table.add_row(str(row["name"]), f"[red]failed:[/] {str(row['error'])[:60]}")
            continue
        figures = [format_metric(float(row[f"val_{name}"])) for name in names]
        minutes = f"{float(row['seconds']) / 60:.1f}"
        table.add_row(
            str(row["name"]),
            str(row["weights"])[:24],
            str(row["epochs"]).split(".")[0],
            *figures,
            minutes,
        )
    return table


def _test(found: Evaluation) -> Table:
    counts = found.test
    table = Table(
        title=f"{found.architecture} on the hold-out test set, n = {counts['n']}, threshold {found.threshold:.4f}"
    )
    for title in ("figure", "test", "95 % interval"):
        table.add_column(title)
    for name in ("sensitivity", "specificity", "auroc", "accuracy", "precision"):
        interval = found.intervals.get(name)
        table.add_row(
            name,
            format_metric(counts[name]),
            f"{format_metric(interval.low)} to {format_metric(interval.high)}" if interval else "",
        )
    table.add_row("missed pneumonia", f"{counts['fn']} of {counts['positives']}", "")
    return table


def show_retraining(state: Any) -> None:
    """Print how a retraining ended; raises its error where it failed."""
    found = state.result()
    console = Console() if sys.stdout.isatty() else Console(width=110)
    if found is None:
        console.print(state.message, highlight=False)
        return
    asked = found.challenge
    table = Table(title=f"Challenger and champion on the same {asked.compared} test images")
    names = ("auroc", "sensitivity", "specificity", "accuracy")
    for title in ("", "version", *names):
        table.add_column(title, justify="right" if title in names else "left")
    table.add_row(
        "challenger",
        asked.challenger,
        *(format_metric(asked.challenger_figures[name]) for name in names),
    )
    if asked.champion:
        table.add_row(
            "champion",
            asked.champion,
            *(format_metric(asked.champion_figures[name]) for name in names),
        )
    console.print(table)
    console.print(f"[bold]{found.outcome.capitalize()}:[/] {escape(found.why)}", highlight=False)
    console.print(f"[bold]Rule:[/] {asked.rule}", highlight=False)
    console.print(f"[bold]Champion now:[/] {found.champion or 'none'}", highlight=False)


def show_registry(
    versions: "list[Version]", champion: "Champion | None", events: "list[Event]"
) -> None:
    """Print the versions, the champion marked, and what was done last."""
    console = Console() if sys.stdout.isatty() else Console(width=140)
    table = Table(title="Versions, each with its figures on the test images of its time")
    names = ("auroc", "sensitivity", "specificity")
    for title in ("", "version", "registered (UTC)", "architecture", *names, "n"):
        table.add_column(
            title, justify="right" if title in (*names, "n") else "left", no_wrap=title == "version"
        )
    for each in versions:
        mark = "champion" if champion and champion.version == each.name else ""
        values = [format_metric(each.test[name]) for name in names]
        table.add_row(
            mark,
            each.name,
            f"{each.registered:%Y-%m-%d %H:%M}",
            each.architecture,
            *values,
            str(each.test["n"]),
        )
    console.print(table)
    for event in events:
        words = (
            f"{event.when:%Y-%m-%d %H:%M} {event.what} {event.version} by {event.who}: {event.why}"
        )
        console.print(escape(printable(words)), highlight=False, soft_wrap=True)
