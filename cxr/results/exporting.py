"""The export folder of a run: the model, its card for programs and people, its checksums."""

import os
import shutil
import subprocess
from pathlib import Path

from cxr.core import __version__
from cxr.core.errors import ModelError
from cxr.core.files import atomic_write, file_sha256
from cxr.core.records import Versioned
from cxr.core.settings import TrainingSettings
from cxr.data.images.model_input import UNIFORM_QUALITY
from cxr.data.manifest.records import Ingest
from cxr.exploration.audit import Audit
from cxr.models.compute.worker import Emit, Job
from cxr.models.runs import Init
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results.cards.model_card import NAME as CARD_NAME
from cxr.results.cards.model_card import Card, read_card
from cxr.results.cards.rendering import write_card_pages
from cxr.results.cards.usefulness import measure_usefulness
from cxr.results.evaluation import Evaluation, read_stress_test
from cxr.results.evaluation.abstention.measurement import read_abstention
from cxr.results.evaluation.formats.records import read_formats
from cxr.results.evaluation.in_scope import summarise_scope
from cxr.results.gradcam.summary import Attention
from cxr.storage.addresses import is_local, local_folder, open_storage
from cxr.storage.base import Storage
from cxr.storage.local import describe_missing
from cxr.storage.workspace import workspace

PICKLE_WARNING = (
    "model.pkl: loading a pickle runs whatever code is in it, and only these exact versions read "
    "it; prefer model.keras"
)
# What the card and the report tell of the data, in the work folder.
DATA_FILES = (
    "ingest.json",
    "rejects.csv",
    "timings/*",
    "leakage/*",
    "eda/*.json",
    "eda/*.png",
)
CHECKSUMS_NAME = "SHA256SUMS"
_WHAT_TO_GIVE = "give WORK/runs/RUN/export of a run, or a registry"


class Export(Versioned):
    """Where the outputs of a finished run are.

    Attributes:
        run: The run's name.
        model: The address of model.keras.
        card: The address of MODEL_CARD.md.
        report: The address of report.html.
        sha256: Of SHA256SUMS.
    """

    run: str
    model: str
    card: str
    report: str
    sha256: str


class PickleJob(Job):
    """Write model.pkl beside model.keras. Nothing in this project ever loads one.

    Attributes:
        export: The export folder.
    """

    export: Path

    def work(self, emit: Emit) -> None:  # noqa: ARG002 - too short for progress
        """Load the model and pickle it."""
        import pickle

        import keras

        model = keras.models.load_model(self.export / "model.keras")
        with atomic_write(self.export / "model.pkl") as temporary, temporary.open("wb") as file:
            pickle.dump(model, file)


def stage_model(run: Path, training: Training) -> Path:
    """Copy the model.keras of a training to export/.

    Args:
        run: The run's folder.
        training: The record of the selected model.

    Returns:
        The path of the copy.

    Raises:
        ModelError: The file changed since it was trained.
    """
    source = run / training.name / "model.keras"
    target = run / "export" / "model.keras"
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
        if file_sha256(temporary) != training.model_sha256:
            raise ModelError(
                f"{source} is not the file that was trained (SHA-256 differs): "
                "delete its folder, run again"
            )
    return target


def find_export(model: str) -> Path:
    """Return the local folder of an exported model.

    Args:
        model: The export folder or the model.keras in it, a path or s3://….

    Raises:
        ModelError: It is neither; the message says what it is and what to give instead.
    """
    place = open_storage(model)
    if place.find(CARD_NAME):
        return workspace.fetch_folder(model)
    parent, _, name = model.rstrip("/").rpartition("/")
    folder = parent or "."
    # What is before the last slash of s3://bucket is no address.
    may_be_file = is_local(model) or not is_local(parent)
    if may_be_file and name == "model.keras":
        siblings = open_storage(folder)
        if siblings.find(CARD_NAME) and siblings.find(name):
            return workspace.fetch_folder(folder)
    description = _describe_folder(model, place)
    if not description and may_be_file:
        description = _describe_file(name, folder)
    if not description and is_local(model) and not local_folder(model).is_dir():
        raise ModelError(f"{describe_missing(local_folder(model))}; {_WHAT_TO_GIVE}")
    if not description:
        description = f": {_WHAT_TO_GIVE}"
    raise ModelError(
        f"{model}: expected an export folder with model.keras and {CARD_NAME}{description}"
    )


def _describe_folder(model: str, place: Storage) -> str:
    """Return what a folder is instead of an export, and what to give; empty if not known."""
    if place.find(f"export/{CARD_NAME}"):
        return f", found a run: give {model.rstrip('/')}/export"
    card_key = f"/export/{CARD_NAME}"
    exports = [entry.key for entry in place.list("runs/") if entry.key.endswith(card_key)]
    if exports:
        newest = max(exports).removesuffix(f"/{CARD_NAME}")
        return f", found a work folder with {len(exports)}: give {model.rstrip('/')}/{newest}"
    if next(place.list("versions/"), None):
        return ", found a registry without a champion: `cxr registry promote` makes one"
    if place.find("saved_model.pb"):
        return f", found a SavedModel without the card that says how to use it: {_WHAT_TO_GIVE}"
    return ""


def _describe_file(name: str, folder: str) -> str:
    """Return what a file is instead of an exported model, and what to give; empty if no file."""
    siblings = open_storage(folder)
    if not siblings.find(name):
        return ""
    if siblings.find(CARD_NAME):
        return f", found one file of it: give {folder}"
    if name.endswith(".keras"):
        return f", found a Keras model without {CARD_NAME} beside it: {_WHAT_TO_GIVE}"
    if name.endswith((".h5", ".hdf5")):
        return f", found an HDF5 file: {_WHAT_TO_GIVE}"
    return f", found a file: {_WHAT_TO_GIVE}"


def find_init(settings: TrainingSettings) -> Init | None:
    """Return the exported model that a training starts from, or None if `settings` name none.

    Raises:
        ModelError: It does not fit its card, is an ensemble, or its architecture, image size or
            encoding is not one of those in `settings`.
    """
    if not settings.init:
        return None
    folder = find_export(settings.init)
    card = read_card(folder)
    if card.training.members:
        raise ModelError(
            f"--init {settings.init}: it is an {card.architecture}, and a training starts from one "
            "network: leave --init out, which trains as many again, or give an export of one network"
        )
    if (
        card.architecture not in settings.arch
        or card.image_size != settings.image_size
        or card.settings.harmonise != settings.harmonise
    ):
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


def copy_data_files(work: Path, run: Path) -> Path:
    """Copy what the card and the report tell of the data into run/data/.

    The work folder goes on to other data; a run stays whole and can be moved.

    Args:
        work: The work folder.
        run: The run's folder.

    Returns:
        The folder data/, which holds these files and nothing else.
    """
    folder = run / "data"
    shutil.rmtree(folder, ignore_errors=True)
    sources: list[Path] = []
    for pattern in DATA_FILES:
        sources.extend(work.glob(pattern))
    for source in sorted(sources):
        with atomic_write(folder / source.name) as temporary:
            shutil.copyfile(source, temporary)
    return folder


def write_card(
    run: Path,
    settings: TrainingSettings,
    training: Training,
    selection: Selection,
) -> Card:
    """Write model_card.json into export/, and the pages made of it.

    Args:
        run: The run's folder, with evaluation.json, attention.json, robustness.json,
            abstention.json and data/.
        settings: Of the run.
        training: The record of the selected model.
        selection: Why it was selected.

    Returns:
        The card.
    """
    card = Card(
        architecture=training.architecture,
        run=run.name,
        version=__version__,
        commit=_code_commit(),
        image_size=training.image_size,
        pixels=_pixel_contract(settings),
        threshold=training.threshold,
        operating_point=training.operating_point,
        calibration=training.calibration,
        model_sha256=training.model_sha256,
        data=Ingest.read(run / "data" / "ingest.json"),
        settings=settings,
        training=training,
        selection=selection,
        evaluation=Evaluation.read(run / "evaluation.json"),
        robustness=read_stress_test(run),
        abstention=read_abstention(run),
        scope=summarise_scope(run),
        formats=read_formats(run),
        usefulness=measure_usefulness(run, settings, training),
        audit=Audit.read(run / "data" / "audit.json"),
        attention=Attention.read(run / "attention.json"),
    )
    card.write(run / "export" / CARD_NAME)
    write_card_pages(card, run / "export")
    return card


def _pixel_contract(settings: TrainingSettings) -> str:
    """Return what pixels the model takes, for the card."""
    encoding = ""
    if settings.harmonise:
        encoding = f", encoded as JPEG of quality {UNIFORM_QUALITY} and decoded"
    return (
        "gray or RGB, 0..255; whole image resized to image_size squared, "
        f"bilinear with antialiasing{encoding}"
    )


def write_checksums(folder: Path) -> str:
    """Write SHA256SUMS of the files of a folder, for `sha256sum -c`.

    Args:
        folder: The export folder.

    Returns:
        The SHA-256 of SHA256SUMS itself.
    """
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in checksum_names(folder)]
    with atomic_write(folder / CHECKSUMS_NAME) as temporary:
        temporary.write_text("".join(lines))
    return file_sha256(folder / CHECKSUMS_NAME)


def checksum_names(folder: Path) -> list[str]:
    """Return the names of the files that SHA256SUMS lists: all but itself and hidden files.

    Those in a folder, which a SavedModel is, are named from the export folder.
    """
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix() for path in files if path.name[0] != "."}
    return sorted(names - {CHECKSUMS_NAME})


def _code_commit() -> str:
    """Return the commit of the code where it runs from a git checkout, else "unknown"."""
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
            # Git must not write to its index while it only looks.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            timeout=10,
        )
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"
