"""Which networks of a run are averaged, by the setting `ensemble`."""

from typing import NamedTuple

from cxr.core.settings import TrainingSettings
from cxr.models.training import checkpoints
from cxr.models.training.averaging import Source
from cxr.models.training.records import Training


class Plan(NamedTuple):
    """An ensemble to make.

    Attributes:
        name: Its name and that of its folder.
        architecture: Of which networks it is an ensemble, for a person to read.
        seed: The seed of its first member.
        sources: Its members; with fewer than two it cannot be made.
    """

    name: str
    architecture: str
    seed: int
    sources: tuple[Source, ...]


def plan_ensembles(settings: TrainingSettings, trained: list[Training]) -> list[Plan]:
    """Return the ensembles that a run makes.

    Args:
        settings: Of the run.
        trained: Its trainings that came to their end.
    """
    if settings.ensemble == "seeds":
        return [_of_seeds(name, trained) for name in settings.arch]
    if settings.ensemble == "architectures":
        return [_of_architectures(settings, trained)]
    if settings.ensemble == "epochs":
        return [_of_epochs(training) for training in trained]
    return []


def _of_seeds(architecture: str, trained: list[Training]) -> Plan:
    """Return the ensemble of all seeds of an architecture."""
    members = [training for training in trained if training.architecture == architecture]
    members.sort(key=lambda training: training.seed)
    return Plan(
        name=f"ensemble-seeds-{architecture}",
        architecture=f"ensemble of {len(members)} seeds of {architecture}",
        seed=min((training.seed for training in members), default=0),
        sources=tuple(Source(training=training.name) for training in members),
    )


def _of_architectures(settings: TrainingSettings, trained: list[Training]) -> Plan:
    """Return the ensemble of the best network of each architecture."""
    best: dict[str, Training] = {}
    for training in sorted(trained, key=lambda one: (-one.validation_score, one.seed)):
        best.setdefault(training.architecture, training)
    members = [best[name] for name in settings.arch if name in best]
    names = [training.architecture for training in members]
    return Plan(
        name="ensemble-architectures",
        architecture=f"ensemble of {', '.join(names)}",
        seed=min((training.seed for training in members), default=0),
        sources=tuple(Source(training=training.name) for training in members),
    )


def _of_epochs(training: Training) -> Plan:
    """Return the ensemble of the last epochs of a training."""
    epochs = checkpoints.last_epochs(training.epochs)
    return Plan(
        name=f"ensemble-epochs-{training.name}",
        architecture=f"ensemble of the last epochs of {training.architecture}",
        seed=training.seed,
        sources=tuple(Source(training=training.name, epoch=epoch) for epoch in epochs),
    )
