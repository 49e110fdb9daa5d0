"""The export folder: the model whole, its card for people and programs, its checksums."""

import os
import shutil
import subprocess
from pathlib import Path

from cxr.core import __version__
from cxr.core.errors import ModelError
from cxr.core.files import atomic_write, file_sha256
from cxr.core.formatting import printable as printable  # noqa: PLC0414 - others import it from here
from cxr.core.records import Versioned
from cxr.core.settings import LABEL_NAMES as LABEL_NAMES  # noqa: PLC0414 - others import it from here
from cxr.core.settings import TrainingSettings
from cxr.data.images.model_input import UNIFORM_QUALITY
from cxr.data.manifest.records import Ingest
from cxr.exploration.audit import Audit
from cxr.models.compute.worker import Emit, Job
from cxr.models.runs import Init
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results.evaluation import Evaluation
from cxr.results.gradcam.summary import Attention
from cxr.results.model_card import NAME as _CARD
from cxr.results.model_card import Card, read_card
from cxr.results.rendering import card_text
from cxr.storage.addresses import is_local, local_folder, open_storage
from cxr.storage.base import Storage
from cxr.storage.local import describe_missing
from cxr.storage.workspace import workspace


class Export(Versioned):
    """Where the finished run's outputs are."""

    run: str
    model: str
    card: str
    report: str
    sha256: str


PICKLE_WARNING = "model.pkl: loading a pickle runs whatever code is in it, and only these exact versions read it; prefer model.keras"
_GIVE = "give WORK/runs/RUN/export of a run, or a registry"


def stage_model(run: Path, training: Training) -> Path:
    """Copy the chosen architecture's model.keras to export/ and return its path; ModelError if it changed since."""
    source, target = run / training.name / "model.keras", run / "export" / "model.keras"
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
        if file_sha256(temporary) != training.model_sha256:
            raise ModelError(
                f"{source} is not the file that was trained (SHA-256 differs): delete its folder, run again"
            )
    return target


def find_export(model: str) -> Path:
    """Return the local folder of an exported model.

    Args:
        model: The export folder or the model.keras in it, a path or s3://….

    Raises:
        ModelError: Where it is neither, with what it is and what to give instead.
    """
    place = open_storage(model)
    if place.find(_CARD):
        return workspace.fetch_folder(model)
    parent, _, name = model.rstrip("/").rpartition("/")
    folder = parent or "."
    beside = open_storage(folder) if is_local(model) or not is_local(parent) else None
    if beside and name == "model.keras" and beside.find(_CARD) and beside.find(name):
        return workspace.fetch_folder(folder)
    found = _what_is_at(model, place)
    if not found and beside and beside.find(name):
        found = _what_file(name, folder, bool(beside.find(_CARD)))
    if not found and is_local(model) and not local_folder(model).is_dir():
        raise ModelError(f"{describe_missing(local_folder(model))}; {_GIVE}")
    found = found or f": {_GIVE}"
    raise ModelError(f"{model}: expected an export folder with model.keras and {_CARD}{found}")


def _what_is_at(model: str, place: Storage) -> str:
    """Return what a folder is instead of an export, and what to give; "" where that is not seen."""
    if place.find(f"export/{_CARD}"):
        return f", found a run: give {model.rstrip('/')}/export"
    ending = f"/export/{_CARD}"
    exports = [entry.key for entry in place.list("runs/") if entry.key.endswith(ending)]
    if exports:
        one = max(exports).removesuffix(f"/{_CARD}")
        return f", found a work folder with {len(exports)}: give {model.rstrip('/')}/{one}"
    if next(place.list("versions/"), None):
        return ", found a registry without a champion: `cxr registry promote` makes one"
    if place.find("saved_model.pb"):
        return f", found a SavedModel without the card that says how to use it: {_GIVE}"
    return ""


def _what_file(name: str, folder: str, is_export: bool) -> str:
    """Return what a file is instead of an exported model, and what to give."""
    if is_export:
        return f", found one file of it: give {folder}"
    if name.endswith(".keras"):
        return f", found a Keras model without {_CARD} beside it: {_GIVE}"
    if name.endswith((".h5", ".hdf5")):
        return f", found an HDF5 file: {_GIVE}"
    return f", found a file: {_GIVE}"


def find_init(settings: TrainingSettings) -> Init | None:
    """Return the exported model that a training starts from, or None where none was asked for.

    Raises:
        ModelError: It does not fit its card, or its architecture, image size or encoding is not
            one of those in `settings`.
    """
    if not settings.init:
        return None
    folder = find_export(settings.init)
    card = read_card(folder)
    expected = (card.architecture in settings.arch, card.image_size, card.settings.harmonise)
    if expected != (True, settings.image_size, settings.harmonise):
        raise ModelError(
            f"--init {settings.init}: it is a {card.architecture} of {card.image_size} pixels, "
            f"harmonise {card.settings.harmonise}; expected one of {', '.join(settings.arch)}, "
            f"{settings.image_size} pixels, harmonise {settings.harmonise}: give the same --arch, "
            "--image-size and --harmonise as it was trained with, or leave --init out"
        )
    return Init(
        model=str(folder / "model.keras"),
        architecture=card.architecture,
        sha256=card.model_sha256,
    )


DATA_FILES = ("ingest.json", "rejects.csv", "timings/*", "leakage/*", "eda/*.json", "eda/*.png")


def copy_data_files(work: Path, run: Path) -> Path:
    """Copy what the card and the report tell of the data into run/data/ and return it.

    The work folder goes on to other data; a run stays whole and can be moved.
    """
    folder = run / "data"
    shutil.rmtree(folder, ignore_errors=True)
    for path in sorted(path for pattern in DATA_FILES for path in work.glob(pattern)):
        with atomic_write(folder / path.name) as temporary:
            shutil.copyfile(path, temporary)
    return folder


def write_card(
    run: Path, settings: TrainingSettings, training: Training, selection: Selection
) -> Card:
    """Write model_card.json and MODEL_CARD.md into export/ and return the card.

    Reads evaluation.json, attention.json and data/ of the run.
    """
    evaluation, ingest = (
        Evaluation.read(run / "evaluation.json"),
        Ingest.read(run / "data" / "ingest.json"),
    )
    audit = Audit.read(run / "data" / "audit.json")
    card = Card(
        architecture=training.architecture,
        run=run.name,
        version=__version__,
        commit=_commit(),
        image_size=training.image_size,
        pixels=_pixels(settings),
        threshold=training.threshold,
        operating_point=training.operating_point,
        calibration=training.calibration,
        model_sha256=training.model_sha256,
        data=ingest,
        settings=settings,
        training=training,
        selection=selection,
        evaluation=evaluation,
        audit=audit,
        attention=Attention.read(run / "attention.json"),
    )
    card.write(run / "export" / _CARD)
    with atomic_write(run / "export" / "MODEL_CARD.md") as temporary:
        temporary.write_text(card_text(card))
    return card


def _pixels(settings: TrainingSettings) -> str:
    encoded = (
        f", encoded as JPEG of quality {UNIFORM_QUALITY} and decoded" if settings.harmonise else ""
    )
    return f"gray or RGB, 0..255; whole image resized to image_size squared, bilinear with antialiasing{encoded}"


def write_checksums(folder: Path) -> str:
    """Write SHA256SUMS of the folder's files (for `sha256sum -c`); return its own SHA-256."""
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.name != "SHA256SUMS" and not path.name.startswith(".")
    )
    with atomic_write(folder / "SHA256SUMS") as temporary:
        temporary.write_text("".join(f"{file_sha256(folder / name)}  {name}\n" for name in names))
    return file_sha256(folder / "SHA256SUMS")


class PickleJob(Job):
    """Write model.pkl beside the .keras file of the folder `export`. Nothing here ever loads one."""

    export: Path

    def work(self, emit: Emit) -> None:  # noqa: ARG002 - it is done in a moment
        """Load the model and pickle it."""
        import pickle

        import keras

        model = keras.models.load_model(self.export / "model.keras")
        with atomic_write(self.export / "model.pkl") as temporary, temporary.open("wb") as file:
            pickle.dump(model, file)


def _commit() -> str:
    """Return the commit of the code where it runs from a git checkout, else "unknown"."""
    here = Path(__file__).parent
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=10,
        )
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"
