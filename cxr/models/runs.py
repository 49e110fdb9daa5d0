"""A run's folder, named by what goes into it: the same data, settings, weights and version give the same run.

That is why a killed run, started again with the same command, goes on where it was.
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
from cxr.core.settings import TrainingSettings, with_epochs_of_fine_tuning
from cxr.data.manifest import contract
from cxr.data.manifest.records import Ingest
from cxr.models import pretrained_weights


class Member(Record):
    """One training of a run, and the name of its folder."""

    name: str
    architecture: str
    seed: int


class Init(Record):
    """The exported model that a run goes on from."""

    model: str
    architecture: str
    sha256: str


def _of_any_version(settings: Any) -> Any:
    """Return the settings of run.json with the names of today; they are a dictionary in a file."""
    return with_epochs_of_fine_tuning(settings) if isinstance(settings, dict) else settings


class Run(Record):
    """run.json: what the run was asked for. `weights` maps each architecture to (value for Keras, SHA-256)."""

    id: str
    manifest_sha256: str
    settings: Annotated[TrainingSettings, BeforeValidator(_of_any_version)]
    weights: dict[str, tuple[str | None, str]]
    init: Init | None = None
    version: str

    def members(self) -> list[Member]:
        """Return every training of the run: each architecture with each seed, the first seed's without a suffix."""
        first = self.settings.seed
        return [
            Member(
                name=name if seed == first else f"{name}-seed{seed}", architecture=name, seed=seed
            )
            for seed in range(first, first + self.settings.seeds)
            for name in self.settings.arch
        ]

    def folder(self, work: Path) -> Path:
        """Return the run's folder below the work folder."""
        return work / "runs" / self.id


def start_run(work: Path, settings: TrainingSettings, init: Init | None) -> Run:
    """Write run.json and return it.

    Args:
        work: The work folder, with preprocessed data.
        settings: What the run is asked for.
        init: The exported model that `settings.init` names, as `export.find_init` returns it.

    Raises:
        DataError: There are no preprocessed data.
        WeightsError: Weights that were asked for are not there.
    """
    manifest = read_ingest(work).manifest_sha256
    weights: dict[str, tuple[str | None, str]] = {
        name: pretrained_weights.find_weights(name, settings.weights) for name in settings.arch
    }
    # How many train together changes the time, and where the weights lie changes nothing: neither names the run.
    decisive = settings.model_dump(mode="json", exclude={"concurrent", "weights", "init"})
    origin = {name: digest or value or "none" for name, (value, digest) in weights.items()}
    named = json.dumps(
        [manifest, decisive, origin, init and init.sha256, __version__], sort_keys=True
    )
    run = Run(
        id=hashlib.sha256(named.encode()).hexdigest()[:12],
        manifest_sha256=manifest,
        settings=settings,
        weights=weights,
        init=init,
        version=__version__,
    )
    return run.write(run.folder(work) / "run.json")


def read_ingest(work: Path) -> Ingest:
    """Return the books of preprocessing in this work folder; DataError where there are none."""
    path = work / "ingest.json"
    if not path.is_file():
        raise DataError(
            f"{work}: expected ingest.json, found none: run `cxr preprocess DATA --out {work}` first"
        )
    return Ingest.read(path)


def read_manifest(work: Path) -> pd.DataFrame:
    """Return clean_metadata.csv, its contract checked against the books; DataError where it is broken or missing."""
    books, path = read_ingest(work), work / "clean_metadata.csv"
    if file_sha256(path) != books.manifest_sha256:
        raise DataError(
            f"{path} was changed since it was written (SHA-256 differs): take the edit back, or preprocess again"
        )
    return contract.check_manifest(read_table(path), books)


def require_current_data(work: Path, run: Run) -> Run:
    """Return the run where it is of the data now in the work folder; DataError where they were preprocessed anew since."""
    if run.manifest_sha256 != read_ingest(work).manifest_sha256:
        raise DataError(
            f"{work}: run {run.id} is of other data than ingest.json now tells: run `cxr train --out {work}` again"
        )
    return run


def latest_run(work: Path) -> Run:
    """Return the run whose selection was written last; DataError where none is ready for export."""
    chosen = sorted(work.glob("runs/*/selection.json"), key=lambda path: path.stat().st_mtime_ns)
    if not chosen:
        raise DataError(
            f"{work}: expected a run with selection.json, found none: run `cxr train --out {work}` first"
        )
    return Run.read(chosen[-1].parent / "run.json")
