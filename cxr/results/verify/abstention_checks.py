"""The check of what a run says of the test images that its model does not answer."""

from collections.abc import Iterator
from pathlib import Path

from cxr.core.files import file_sha256, read_table
from cxr.models.selection import Selection
from cxr.results.evaluation.abstention.measurement import (
    JUDGEMENTS_NAME,
    abstention_metrics,
    read_abstention,
    read_judgements,
)
from cxr.results.verify.differences import record_differences


def abstention_problems(run: Path, texts: bool = True) -> Iterator[str]:
    """Yield where abstention.json is not what scores and judgements of the test images give.

    Args:
        run: The run's folder.
        texts: Whether texts that are no names are compared, too.
    """
    stored = read_abstention(run)
    if stored is None:
        yield "abstention.json is missing: delete export.json, run again"
        return
    judgements = read_judgements(run)
    if judgements is None:
        yield f"{JUDGEMENTS_NAME} is missing: delete export.json, run again"
        return
    digests = {
        JUDGEMENTS_NAME: stored.judgements_sha256,
        "scores_test.csv": stored.scores_sha256,
    }
    for name, digest in digests.items():
        if file_sha256(run / name) != digest:
            yield f"{name} is not the file that was measured (SHA-256 differs)"
    selected = Selection.read(run / "selection.json").name
    recomputed = abstention_metrics(
        read_table(run / "scores_test.csv"),
        judgements,
        read_table(run / selected / "scores_val.csv"),
        stored.threshold,
    )
    stored_values = {name: getattr(stored, name) for name in recomputed}
    yield from record_differences(stored_values, recomputed, texts)
