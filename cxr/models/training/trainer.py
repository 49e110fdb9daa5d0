"""Train one architecture in one process, on features that are computed once.

First the head alone is fitted on pooled features. Then the head and the top of the network learn
together from activations at the architecture's cut (`fine_tuning`); or, without these steps, the
whole network learns from images. The saved model is whole again (`publishing`). The history on disk
is the only state beside the checkpoint (`checkpoints`), so a training that was killed goes on to the
result of an undisturbed one.
"""

from typing import Any

import numpy as np
from filelock import FileLock

from cxr.models.compute import backend
from cxr.models.compute.worker import Emit
from cxr.models.networks import architectures
from cxr.models.training import checkpoints, feature_extraction, publishing, validation
from cxr.models.training.checkpoints import History, Row
from cxr.models.training.feature_extraction import TrainingData, TrainingFeatures
from cxr.models.training.learning import fine_tuning, head_fitting
from cxr.models.training.learning.head_fitting import Fit, Solution
from cxr.models.training.session import Session, TrainingInputs
from cxr.stats import metrics


class TrainingJob(TrainingInputs):
    """Train one architecture with one seed."""

    def work(self, emit: Emit) -> None:
        """Train to the end; publish model.keras, history.csv, scores_val.csv and training.json."""
        train(Session(self, emit))


def train(session: Session) -> None:
    """Train to the end and publish what came out; go on where an earlier attempt was killed."""
    session.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(session.folder / ".lock", timeout=60), backend.device_scope():
        whole = feature_extraction.starting_model(session)
        features = _features(whole, session)
        history, model = checkpoints.resume(session)
        if not history and session.job.fits_head():
            history, model = _fit_head(whole, features.head, session)
        while checkpoints.wants_epoch(history, session.settings):
            if checkpoints.last_epoch(history) == 0:
                model = fine_tuning.build_learner(history, whole, session)
            history = fine_tuning.fine_tune_epoch(history, model, features.top, session)
        publishing.publish(history, model, whole, features, session)


def _features(whole: Any, session: Session) -> TrainingFeatures:
    """Return what the network learns from."""
    if session.settings.learns == "whole":
        return feature_extraction.whole_images(session)
    return feature_extraction.compute_features(whole, session)


def _fit_head(
    whole: Any,
    data: TrainingData[Any],
    session: Session,
) -> tuple[History, Any]:
    """Fit the head with each penalty; publish the one of the highest validation score as epoch 0.

    Returns:
        The history, a row for each penalty, and the best head.
    """
    head = _new_head(whole, session)
    score_layer = head.get_layer("score")
    kernel, bias = score_layer.get_weights()

    def measure(solution: Solution) -> Row:
        score_layer.set_weights([solution.kernel, solution.bias])
        return validation.epoch_metrics(head, data, checkpoints.HEAD, session)

    def validate(solution: Solution) -> float:
        score_layer.set_weights([solution.kernel, solution.bias])
        scores = validation.raw_scores(head, data.val, checkpoints.HEAD, session)
        measured = metrics.compute_metrics(session.labels(session.val), scores, 0.5)
        return float(measured["auroc"] or 0)

    # Each pass has all train images, so labels repeat.
    train_labels = session.labels(session.train)
    labels = np.tile(train_labels, len(data.train))
    fits = head_fitting.fit(
        start=Solution(kernel, bias, np.inf),
        features=np.concatenate([rows[:] for rows in data.train]),
        labels=labels,
        weights=session.class_weights[labels],
        validate=validate,
        patience=session.settings.patience,
    )
    history = [_history_row(fit, measure(fit.solution)) for fit in fits]
    best = max(range(len(fits)), key=lambda number: checkpoints.validation_score(history[number]))
    solution = fits[best].solution
    score_layer.set_weights([solution.kernel, solution.bias])
    note = f"last layer, val AUROC {fits[best].auroc:.4f}"
    checkpoints.record_epoch(history, head, note, session)
    return history, head


def _new_head(whole: Any, session: Session) -> Any:
    """Return a head for the features of this model, with random weights."""
    width = whole.get_layer("features").output.shape[-1]
    head = architectures.build_head(width, session.settings)
    # Nothing uses this optimizer, but a saved model has one.
    head.compile("adam", "binary_crossentropy", jit_compile=False)
    head.optimizer.build(head.trainable_variables)
    return head


def _history_row(fit: Fit, measured: Row) -> Row:
    """Return the row of history.csv for a fit of the head."""
    return {
        "epoch": 0,
        "phase": checkpoints.HEAD,
        "penalty": fit.penalty,
        "loss": fit.solution.loss,
        **measured,
        "seconds": round(fit.seconds, 3),
    }
