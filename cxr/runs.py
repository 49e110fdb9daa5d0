"""A run's folder, named by what goes into it: the same data, settings, weights and version give the same run.

That is why a killed run, started again with the same command, goes on where it was.
"""

import hashlib
import json
from pathlib import Path

import pandas as pd

import cxr
from cxr import architectures, contract, export
from cxr.card import read_card
from cxr.errors import DataError, ModelError
from cxr.records import Ingest, Record, file_sha256, read_table
from cxr.settings import TrainingSettings


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


class Run(Record):
    """run.json: what the run was asked for. `weights` maps each architecture to (value for Keras, SHA-256)."""

    id: str
    manifest_sha256: str
    settings: TrainingSettings
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


def start(work: Path, settings: TrainingSettings) -> Run:
    """Write run.json and return it. Raises DataError without preprocessed data, WeightsError without weights."""
    manifest = ingest(work).manifest_sha256
    weights: dict[str, tuple[str | None, str]] = {
        name: architectures.find_weights(name, settings.weights) for name in settings.arch
    }
    init = find_init(settings)
    # How many train together changes the time, and where the weights lie changes nothing: neither names the run.
    decisive = settings.model_dump(mode="json", exclude={"concurrent", "weights", "init"})
    origin = {name: digest or value or "none" for name, (value, digest) in weights.items()}
    named = json.dumps(
        [manifest, decisive, origin, init and init.sha256, cxr.__version__], sort_keys=True
    )
    run = Run(
        id=hashlib.sha256(named.encode()).hexdigest()[:12],
        manifest_sha256=manifest,
        settings=settings,
        weights=weights,
        init=init,
        version=cxr.__version__,
    )
    return run.write(run.folder(work) / "run.json")


def find_init(settings: TrainingSettings) -> Init | None:
    """Return the exported model to go on from, or None where none was asked for.

    Raises ModelError where it does not fit its card, or fits none of the architectures or the image size.
    """
    if not settings.init:
        return None
    folder = export.located(settings.init)
    card = read_card(folder)
    asked = (card.architecture in settings.arch, card.image_size, card.settings.harmonise)
    if asked != (True, settings.image_size, settings.harmonise):
        raise ModelError(
            f"--init {settings.init}: it is a {card.architecture} of {card.image_size} pixels, harmonise {card.settings.harmonise}; "
            f"expected one of {', '.join(settings.arch)}, {settings.image_size} pixels, harmonise {settings.harmonise}: "
            "give the same --arch, --image-size and --harmonise as it was trained with, or leave --init out"
        )
    return Init(
        model=str(folder / "model.keras"), architecture=card.architecture, sha256=card.model_sha256
    )


def ingest(work: Path) -> Ingest:
    """Return the books of preprocessing in this work folder; DataError where there are none."""
    path = work / "ingest.json"
    if not path.is_file():
        raise DataError(
            f"{work}: expected ingest.json, found none: run `cxr preprocess DATA --out {work}` first"
        )
    return Ingest.read(path)


def manifest(work: Path) -> pd.DataFrame:
    """Return clean_metadata.csv, its contract checked against the books; DataError where it is broken or missing."""
    books, path = ingest(work), work / "clean_metadata.csv"
    if file_sha256(path) != books.manifest_sha256:
        raise DataError(
            f"{path} was changed since it was written (SHA-256 differs): take the edit back, or preprocess again"
        )
    return contract.check(read_table(path), books)


def of_these_data(work: Path, run: Run) -> Run:
    """Return the run where it is of the data now in the work folder; DataError where they were preprocessed anew since."""
    if run.manifest_sha256 != ingest(work).manifest_sha256:
        raise DataError(
            f"{work}: run {run.id} is of other data than ingest.json now tells: run `cxr train --out {work}` again"
        )
    return run


def latest(work: Path) -> Run:
    """Return the run whose selection was written last; DataError where none is ready for export."""
    chosen = sorted(work.glob("runs/*/selection.json"), key=lambda path: path.stat().st_mtime_ns)
    if not chosen:
        raise DataError(
            f"{work}: expected a run with selection.json, found none: run `cxr train --out {work}` first"
        )
    return Run.read(chosen[-1].parent / "run.json")
