"""The checks of an ensemble: its scores and its members' metrics from the logits of its members."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.models.training import averaging
from cxr.models.training.records import Training
from cxr.results.verify.differences import record_differences


def member_problems(
    run: Path,
    training: Training,
    scores: pd.DataFrame,
) -> Iterator[str]:
    """Yield what is wrong with the members of an ensemble; nothing for a single network.

    Args:
        run: The run's folder.
        training: The ensemble.
        scores: Its scores_val.csv.
    """
    if not training.members:
        return
    logits = averaging.read_logits(run / training.name, training.members)
    difference = np.abs(averaging.mean_score(logits) - scores["raw_score"].to_numpy())
    if float(difference.max()) > averaging.TOLERANCE:
        yield f"raw_score is not the mean of the logits in {averaging.MEMBERS}"
    labels = scores["label"].to_numpy()
    for number, member in enumerate(training.members):
        stored = {"auroc": member.auroc, "auprc": member.auprc}
        recomputed = averaging.member_figures(labels, logits[:, number])
        yield from record_differences(stored, recomputed, path=member.name)
        source = Training.read(run / member.training / "training.json")
        if source.model_sha256 != member.model_sha256:
            yield f"{member.name}: it was made of another model than is in {member.training}"
