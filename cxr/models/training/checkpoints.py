"""The checkpoints and the history of a training: all that a killed training resumes from.

history.csv has a row for each fit of the head (epoch 0) and one for each epoch of fine-tuning. The
checkpoint of an epoch is published before the history that includes it.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.files import atomic_write, read_table, write_table
from cxr.core.settings import TrainingSettings
from cxr.models.compute import keras_internals
from cxr.models.compute.worker import Progress
from cxr.models.training.session import Session

# The values of the column `phase`.
HEAD = "frozen"
FINE_TUNING = "fine_tune"
EPOCHS_AVERAGED = 3  # by an ensemble of epochs
Row = dict[str, Any]
History = list[Row]


def fine_tuning_rows(history: History) -> History:
    """Return the rows of the epochs of fine-tuning."""
    return [row for row in history if row["phase"] == FINE_TUNING]


def last_epoch(history: History) -> int:
    """Return the number of the last epoch of fine-tuning, 0 before the first."""
    return len(fine_tuning_rows(history))


def best_row(history: History) -> Row:
    """Return the row whose model is kept: the first with the highest validation score.

    If there was any fine-tuning, it is one of its epochs. The head alone can look as good on
    validation, which does not see the shift to other hospitals; a top tuned from a fitted head
    holds better there (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", ICLR 2022).
    """
    candidates = fine_tuning_rows(history) or history
    return max(candidates, key=validation_score)


def wants_epoch(history: History, settings: TrainingSettings) -> bool:
    """Return whether another epoch of fine-tuning follows."""
    scores = [validation_score(row) for row in fine_tuning_rows(history)]
    if len(scores) >= settings.tuning_epochs():
        return False
    if not scores:
        return True
    epochs_without_gain = len(scores) - 1 - int(np.argmax(scores))
    return epochs_without_gain < settings.patience


def resume(session: Session) -> tuple[History, Any]:
    """Read what an earlier attempt at the training left.

    Returns:
        The history and the head or top as it was after its last epoch; ([], None) where there is
        nothing to resume from.
    """
    path = session.folder / "history.csv"
    if not path.is_file():
        return [], None
    table = read_table(path)
    numeric = [name for name in table.columns if name != "phase"]
    records = table.astype(dict.fromkeys(numeric, float)).to_dict("records")
    history = [{str(name): value for name, value in record.items()} for record in records]
    epoch = last_epoch(history)
    if not checkpoint_path(session.folder, epoch).is_file():
        # The training came to its end, and its model was damaged since: it begins anew.
        return [], None
    return history, keras_internals.use_fast_conv_gradient(load_checkpoint(session, epoch))


def record_epoch(
    history: History,
    model: Any,
    note: str,
    session: Session,
) -> None:
    """Publish the checkpoint of the last epoch, then the history; tell the parent process.

    Args:
        history: All rows, those of the last epoch included.
        model: The head or top after it.
        note: What a person may want to know of it.
        session: The training.
    """
    epoch = last_epoch(history)
    with atomic_write(checkpoint_path(session.folder, epoch)) as temporary:
        model.save(temporary)
    table = pd.DataFrame(history).astype({"epoch": int})
    write_table(table, session.folder / "history.csv")
    needed = {epoch, int(best_row(history)["epoch"])}
    if session.settings.ensemble == "epochs":
        needed |= set(last_epochs(epoch))
    for earlier in set(range(epoch)) - needed:
        checkpoint_path(session.folder, earlier).unlink(missing_ok=True)
    session.emit(
        Progress(
            step="epochs",
            done=epoch,
            note=note,
        )
    )


def last_epochs(last: int) -> list[int]:
    """Return the epochs that an ensemble of epochs averages, the last one given.

    >>> last_epochs(12), last_epochs(2)
    ([10, 11, 12], [1, 2])
    """
    return list(range(max(1, last - EPOCHS_AVERAGED + 1), last + 1))


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Return where the head (epoch 0), or the top after an epoch of fine-tuning, is kept."""
    return folder / f"checkpoint-{epoch:04d}.keras"


def epoch_path(folder: Path, epoch: int) -> Path:
    """Return where an epoch that an ensemble averages is kept after the training has ended."""
    return folder / f"epoch-{epoch:04d}.keras"


def keep_last_epochs(history: History, folder: Path) -> None:
    """Copy the checkpoints that an ensemble of epochs averages to where they are published.

    The ensemble may be made on another machine, which sees published files alone.
    """
    for epoch in last_epochs(last_epoch(history)):
        with atomic_write(epoch_path(folder, epoch)) as temporary:
            shutil.copyfile(checkpoint_path(folder, epoch), temporary)


def load_checkpoint(session: Session, epoch: int) -> Any:
    """Return the head (epoch 0), or the top, as it was after that epoch."""
    import keras

    return keras.models.load_model(checkpoint_path(session.folder, epoch))


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a training that needs them no more."""
    for path in folder.glob("checkpoint-*.keras"):
        path.unlink(missing_ok=True)


def validation_score(row: Row) -> float:
    """Return by what an epoch is judged: clean validation and the stress worlds count alike.

    It is the mean of the AUROC on the images as they are and of the mean AUROC in the worlds.
    """
    return (float(row["val_auroc"]) + float(row["stress_auroc"])) / 2
