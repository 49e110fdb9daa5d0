"""The account by folder as lines of text and as rows for pages."""

from collections.abc import Sequence

from cxr.core.formatting import format_count
from cxr.data.survey.account import FolderAccount

HEADINGS = ("folder", "files", "used as", "not used", "what to do")


def format_table(
    folders: Sequence[FolderAccount],
    rows: int = 40,
) -> str:
    """Return the account as lines of text, in columns.

    Args:
        folders: The rows of the account.
        rows: How many to show: those with a question first, marked with `?`.
    """
    urgent_first = sorted(folders, key=lambda row: (not row.asks, not row.left_out, row.folder))
    lines = [("", *HEADINGS)]
    for row in urgent_first[:rows]:
        mark = "?" if row.asks else ""
        lines.append((mark, *_cells(row)))
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    texts = []
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        texts.append("  ".join(padded).rstrip())
    if len(folders) > rows:
        texts.append(f"and {len(folders) - rows:,} more folders")
    return "\n".join(texts)


def table_cells(folders: Sequence[FolderAccount]) -> list[dict[str, str]]:
    """Return the account as rows of texts by HEADINGS, for tables on pages."""
    return [dict(zip(HEADINGS, _cells(row), strict=True)) for row in folders]


def _cells(row: FolderAccount) -> tuple[str, str, str, str, str]:
    """Return the texts of one row, in the order of HEADINGS."""
    kinds = [format_count(count, things) for things, count in row.kinds.items()]
    used = [f"{count:,} {use}" for use, count in row.used.items()]
    left_out = [f"{count:,} {reason}" for reason, count in row.left_out.items()]
    if row.negatives:
        left_out.append(f"{row.negatives:,} look like negatives")
    return row.folder, ", ".join(kinds), ", ".join(used), ", ".join(left_out), row.advice
