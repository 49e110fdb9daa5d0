"""The account by folder as lines of text and as rows for pages."""

from collections.abc import Sequence

from cxr.data.survey.account import FolderAccount, format_count

HEADINGS = ("folder", "files", "used as", "not used", "what to do")


def format_table(folders: Sequence[FolderAccount], rows: int = 40) -> str:
    """Return the account as lines of text, in columns: first the folders with a question, marked with `?`."""
    shown = sorted(folders, key=lambda row: (not row.asks, not row.left_out, row.folder))[:rows]
    lines = [("", *HEADINGS), *(("?" if row.asks else "", *_cells(row)) for row in shown)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    if len(folders) > rows:
        padded.append(f"and {len(folders) - rows:,} more folders")
    return "\n".join(line.rstrip() for line in padded)


def table_cells(folders: Sequence[FolderAccount]) -> list[dict[str, str]]:
    """Return the account as rows of texts by HEADINGS, for tables on pages."""
    return [dict(zip(HEADINGS, _cells(row), strict=True)) for row in folders]


def _cells(row: FolderAccount) -> tuple[str, ...]:
    negatives = f"{row.negatives:,} look like negatives" if row.negatives else ""
    unused = ", ".join(
        filter(None, [*(f"{count:,} {name}" for name, count in row.left_out.items()), negatives])
    )
    used = ", ".join(f"{count:,} {name}" for name, count in row.used.items())
    kinds = ", ".join(format_count(count, things) for things, count in row.kinds.items())
    return (row.folder, kinds, used, unused, row.advice)
