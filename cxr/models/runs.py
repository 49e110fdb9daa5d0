"""A run's folder, named by what goes into it: the same data, settings, weights and version.

A killed run that is started again with the same command therefore goes on where it was.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import BeforeValidator

from cxr.core import __version__
from cxr.core.errors import DataError
from cxr.core.files import file_sha256, read_table
from cxr.core.records import Record
from cxr.core.settings import TrainingSettings, upgrade_training_settings
from cxr.core.settings.architectures import ARCHITECTURES
from cxr.data.images.changes import augmentation, stress_worlds
from cxr.data.manifest import contract
from cxr.data.manifest.records import Ingest
from cxr.models.networks import pretrained_weights

# How many train together changes the time, and where weights lie changes nothing.
_SETTINGS_NOT_IN_NAME = {"concurrent", "weights", "init"}


class Member(Record):
    """One training of a run.

    Attributes:
        name: The name of the training and of its folder.
        architecture: Which network.
        seed: Its seed.
    """

    name: str
    architecture: str
    seed: int


class Init(Record):
    """The exported model that a run starts from.

    Attributes:
        model: Its model.keras.
        architecture: Its architecture.
        sha256: The SHA-256 of the file.
    """

    model: str
    architecture: str
    sha256: str


def _with_current_names(settings: Any) -> Any:
    """Return the settings of run.json with the names that this version gives them."""
    if not isinstance(settings, dict):
        return settings
    return upgrade_training_settings(settings)


class Run(Record):
    """run.json: what the run was asked for.

    Attributes:
        id: The name of its folder.
        manifest_sha256: The SHA-256 of the manifest that it trains on.
        settings: How it trains.
        weights: For each architecture what `build_model` takes and the SHA-256 of the weight file.
        init: The exported model that it starts from.
        version: The version of this product.
    """

    id: str
    manifest_sha256: str
    settings: Annotated[TrainingSettings, BeforeValidator(_with_current_names)]
    weights: dict[str, tuple[str | None, str]]
    init: Init | None = None
    version: str

    def members(self) -> list[Member]:
        """Return every training of the run: each architecture with each seed.

        The names of the first seed's trainings have no suffix.
        """
        first_seed = self.settings.seed
        members = []
        for seed in range(first_seed, first_seed + self.settings.seeds):
            suffix = "" if seed == first_seed else f"-seed{seed}"
            for architecture in self.settings.arch:
                name = f"{architecture}{suffix}"
                members.append(
                    Member(
                        name=name,
                        architecture=architecture,
                        seed=seed,
                    )
                )
        return members

    def folder(self, work: Path) -> Path:
        """Return the run's folder below the work folder."""
        return work / "runs" / self.id


def start_run(
    work: Path,
    settings: TrainingSettings,
    init: Init | None,
) -> Run:
    """Write run.json and return it.

    Args:
        work: The work folder, with preprocessed data.
        settings: What the run is asked for.
        init: The exported model that `settings.init` names.

    Raises:
        DataError: There are no preprocessed data.
        WeightsError: Weights that were asked for are not there.
    """
    manifest_sha256 = read_ingest(work).manifest_sha256
    weights = {
        name: pretrained_weights.find_weights(name, settings.weights) for name in settings.arch
    }
    run = Run(
        id=_run_id(manifest_sha256, settings, weights, init),
        manifest_sha256=manifest_sha256,
        settings=settings,
        weights=weights,
        init=init,
        version=__version__,
    )
    return run.write(run.folder(work) / "run.json")


def _run_id(
    manifest_sha256: str,
    settings: TrainingSettings,
    weights: dict[str, tuple[str | None, str]],
    init: Init | None,
) -> str:
    """Return 12 hex digits that change with anything that decides what a run gives."""
    decisive = settings.model_dump(mode="json", exclude=_SETTINGS_NOT_IN_NAME)
    origins = {name: digest or value or "none" for name, (value, digest) in weights.items()}
    init_sha256 = init.sha256 if init else None
    recipes = {
        name: [ARCHITECTURES[name].cut, settings.learning_rate(name)] for name in settings.arch
    }
    changes = [augmentation.VERSION, stress_worlds.VERSION]
    content = json.dumps(
        [manifest_sha256, decisive, origins, init_sha256, recipes, changes, __version__],
        sort_keys=True,
    )
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def read_ingest(work: Path) -> Ingest:
    """Return the counts of preprocessing in a work folder.

    Raises:
        DataError: There are none.
    """
    path = work / "ingest.json"
    if not path.is_file():
        raise DataError(
            f"{work}: expected ingest.json, found none: "
            f"run `cxr preprocess DATA --out {work}` first"
        )
    return Ingest.read(path)


def read_manifest(work: Path) -> pd.DataFrame:
    """Return clean_metadata.csv, checked against the counts of preprocessing.

    Raises:
        DataError: It is missing, was changed, or breaks its contract.
    """
    ingest = _require_unchanged(work)
    return contract.check_manifest(read_table(work / "clean_metadata.csv"), ingest)


def check_manifest(work: Path) -> Ingest:
    """Check clean_metadata.csv as `read_manifest` does, with a part of it in memory at a time.

    Raises:
        DataError: It is missing, was changed, or breaks its contract.
    """
    ingest = _require_unchanged(work)
    contract.check_file(work / "clean_metadata.csv", ingest)
    return ingest


def _require_unchanged(work: Path) -> Ingest:
    """Return the counts of preprocessing; DataError where the manifest was changed since."""
    ingest = read_ingest(work)
    path = work / "clean_metadata.csv"
    if file_sha256(path) != ingest.manifest_sha256:
        raise DataError(
            f"{path} was changed since it was written (SHA-256 differs): take the edit back, "
            "or preprocess again"
        )
    return ingest


def require_current_data(work: Path, run: Run) -> Run:
    """Return the run if it is of the data that are in the work folder.

    Raises:
        DataError: The data were preprocessed anew since.
    """
    if run.manifest_sha256 != read_ingest(work).manifest_sha256:
        raise DataError(
            f"{work}: run {run.id} is of other data than ingest.json now tells: "
            f"run `cxr train --out {work}` again"
        )
    return run


def latest_run(work: Path) -> Run:
    """Return the run whose selection was written last.

    Raises:
        DataError: No run is ready for export.
    """
    selections = list(work.glob("runs/*/selection.json"))
    if not selections:
        raise DataError(
            f"{work}: expected a run with selection.json, found none: "
            f"run `cxr train --out {work}` first"
        )
    latest = max(selections, key=lambda path: path.stat().st_mtime_ns)
    return Run.read(latest.parent / "run.json")
