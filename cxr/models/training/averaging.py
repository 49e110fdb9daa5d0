"""An ensemble of trained networks: built, checked, saved and scored on validation like a training.

Its folder has what that of a training has, and members.csv with the logit of each network for each
validation image, from which `cxr verify` computes the raw scores again.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from scipy.special import expit

from cxr.core import timing
from cxr.core.errors import TrainingError
from cxr.core.files import atomic_write, file_sha256, read_table, write_table
from cxr.core.settings import Strict
from cxr.core.timing import Stage
from cxr.models import scoring, stress
from cxr.models.compute import backend
from cxr.models.compute.worker import Emit, Progress
from cxr.models.networks import ensembles, model_surgery
from cxr.models.training import checkpoints, publishing, validation
from cxr.models.training.records import Member, Training
from cxr.models.training.session import Session, TrainingInputs
from cxr.stats import metrics

MEMBERS = "members.csv"  # in the folder of an ensemble
TOLERANCE = 1e-6  # of the ensemble's scores against the mean of its members' logits
Array = np.ndarray[Any, Any]


class Source(Strict):
    """Where a member of an ensemble comes from.

    Attributes:
        training: The name of its training in the same run.
        epoch: The epoch of fine-tuning that it is; None: the published model.
    """

    training: str
    epoch: int | None = None


class EnsembleJob(TrainingInputs):
    """Average networks of a run; `architecture` says of which it is an ensemble.

    Attributes:
        sources: The members.
    """

    sources: tuple[Source, ...]

    def work(self, emit: Emit) -> None:
        """Publish model.keras, members.csv, scores_val.csv, those in the worlds, training.json."""
        session = Session(self, emit)
        session.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(session.folder / ".lock", timeout=60), backend.device_scope():
            _publish(self.sources, session)


class _Scores(NamedTuple):
    """What an ensemble makes of the validation images.

    Attributes:
        logits: Of each member, float64 (n, members).
        raw: The ensemble's raw scores, float64 (n,).
    """

    logits: Array
    raw: Array


def mean_score(logits: Array) -> Array:
    """Return the sigmoid of the mean of logits, float64 (n,).

    Args:
        logits: Of each member for each image, (n, members).

    >>> mean_score(np.array([[1.0, -1.0], [800.0, 800.0]])).tolist()
    [0.5, 1.0]
    """
    score: Array = expit(logits.astype(np.float64).mean(axis=1))
    return score


def member_figures(labels: Array, logits: Array) -> dict[str, float]:
    """Return the fields auroc and auprc of a Member, 0 where they are not estimable.

    They are of scores in the precision in which a network gives them, as those of its training are:
    where these round to 1, they are ties.

    Args:
        labels: 0 or 1 for each image, int (n,).
        logits: The member's logits, (n,).
    """
    scores = expit(logits).astype(np.float32)
    measured = metrics.compute_metrics(labels, scores.astype(np.float64), 0.5)
    return {name: float(measured[name] or 0.0) for name in ("auroc", "auprc")}


def read_logits(folder: Path, members: Sequence[Member]) -> Array:
    """Return the logits in members.csv of an ensemble, float64 (n, members).

    Args:
        folder: The ensemble's.
        members: Its members.
    """
    table = read_table(folder / MEMBERS, [member.name for member in members])
    return table.to_numpy(np.float64)


def _publish(sources: Sequence[Source], session: Session) -> None:
    """Build the ensemble and publish its files, training.json last.

    Raises:
        TrainingError: It is not the mean of its members.
    """
    started = time.perf_counter()
    run = session.folder.parent
    trainings = [Training.read(run / source.training / "training.json") for source in sources]
    networks = [_load(source, run) for source in sources]
    ensemble = ensembles.build_ensemble(networks)
    scores = _score_validation(ensemble.opened, session)
    _check(scores, sources, run, session)
    milliseconds = publishing.check_and_time(ensemble.model, scores.raw, session)
    model_path = session.folder / "model.keras"
    with atomic_write(model_path) as temporary:
        ensemble.model.save(temporary)
    members = _write_members(scores.logits, sources, trainings, session)
    averaging = Stage(
        name="ensemble",
        images=len(session.val),
        seconds=round(time.perf_counter() - started, 2),
        memory=timing.peak_memory(),
    )
    stages = (averaging, publishing.score_worlds(ensemble.model, session))

    rows = session.table.iloc[session.val]
    worlds = read_table(session.folder / stress.VAL_SCORES)
    fit = validation.fit_on_validation(rows.assign(raw_score=scores.raw), worlds, session.settings)
    calibrated = fit["calibration"].apply(scores.raw)
    scoring.write_scores(rows, scores.raw, calibrated, session.folder / "scores_val.csv")
    record = Training(
        name=session.name,
        architecture=session.architecture,
        seed=session.settings.seed,
        image_size=session.settings.image_size,
        epochs=0,
        best_epoch=0,
        stages=stages,
        milliseconds=milliseconds,
        **_origin(trainings),
        **_cost(trainings, stages),
        **fit,
        model_sha256=file_sha256(model_path),
        optimizer_sha256="",
        versions=publishing.versions(),
        members=members,
    )
    record.write(session.folder / "training.json")


def _write_members(
    logits: Array,
    sources: Sequence[Source],
    trainings: Sequence[Training],
    session: Session,
) -> tuple[Member, ...]:
    """Write members.csv; return the members with their metrics on validation."""
    labels = session.labels(session.val)
    members = []
    columns = {}
    for number, source in enumerate(sources):
        member = Member(
            training=source.training,
            epoch=source.epoch,
            **member_figures(labels, logits[:, number]),
            model_sha256=trainings[number].model_sha256,
        )
        members.append(member)
        columns[member.name] = logits[:, number]
    rows = session.table.iloc[session.val]
    write_table(rows[["image", "label"]].assign(**columns), session.folder / MEMBERS)
    return tuple(members)


def _origin(trainings: Sequence[Training]) -> dict[str, str]:
    """Return from which weights the members started; a digest only if it is that of all."""
    names = dict.fromkeys(training.weights for training in trainings)
    digests = {training.weights_sha256 for training in trainings}
    return {
        "weights": ", ".join(names),
        "weights_sha256": digests.pop() if len(digests) == 1 else "",
    }


def _cost(trainings: Sequence[Training], stages: Sequence[Stage]) -> dict[str, float]:
    """Return the seconds of the members' trainings and of averaging, and the images per second."""
    # Several members may be epochs of one training.
    distinct = {training.name: training for training in trainings}.values()
    learning = sum(training.seconds for training in distinct)
    images = sum(training.images_per_second * training.seconds for training in distinct)
    averaging = sum(stage.seconds for stage in stages)
    return {
        "seconds": round(learning + averaging, 2),
        "images_per_second": round(images / learning, 2),
    }


def _load(source: Source, run: Path) -> Any:
    """Return a member as a whole model with layers of its own."""
    import keras

    folder = run / source.training
    whole = keras.models.load_model(folder / "model.keras", compile=False)
    if source.epoch is not None:
        path = checkpoints.epoch_path(folder, source.epoch)
        if not path.is_file():
            raise TrainingError(
                f"{source.training}: expected {path.name} to average, "
                f"found none: remove {folder} and run again"
            )
        part = keras.models.load_model(path, compile=False)
        model_surgery.copy_weights(whole, part)  # below it nothing was trained
    return whole


def _score_validation(opened: Any, session: Session) -> _Scores:
    """Return the members' logits and the ensemble's raw scores of the validation images."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        session.emit(Progress(done=done))

    batches = scoring.model_outputs(opened, session.pixels, session.val, on_images=count)
    parts = [np.concatenate(outputs, axis=1, dtype=np.float64) for outputs in batches]
    table = np.concatenate(parts)
    return _Scores(table[:, :-1], table[:, -1])


def _check(
    scores: _Scores,
    sources: Sequence[Source],
    run: Path,
    session: Session,
) -> None:
    """Check the ensemble's scores by its members' logits, and these by the scores of their trainings.

    Raises:
        TrainingError: They differ.
    """
    difference = float(np.abs(scores.raw - mean_score(scores.logits)).max())
    if difference > TOLERANCE:
        raise TrainingError(
            f"{session.name}: its scores differ from the mean of its members' logits by up to "
            f"{difference:.2g} (expected at most {TOLERANCE}): remove {session.folder}, run again"
        )
    for number, source in enumerate(sources):
        if source.epoch is not None:
            continue  # the published model may be that of another epoch
        own = read_table(run / source.training / "scores_val.csv")["raw_score"].to_numpy()
        member = mean_score(scores.logits[:, number : number + 1])
        difference = float(np.abs(member - own).max())
        if difference > publishing.TOLERANCE:
            raise TrainingError(
                f"{session.name}: {source.training} scores validation otherwise than it did when it "
                f"was trained, by up to {difference:.2g} (expected at most {publishing.TOLERANCE}): "
                f"remove {run / source.training} and run again"
            )
