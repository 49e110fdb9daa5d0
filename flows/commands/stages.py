"""The commands of the stages, each alone: scan, preprocess, explore, train, export, predict.

Prefect, Keras and the flows are imported when a command runs, so that --help answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.core.errors import CxrError
from flows.commands import session
from flows.commands.flags import (
    NO_DICOM_OUTPUT,
    NO_FILES,
    NO_PIXELS,
    NO_READING,
    NO_SCOPE,
    NO_SPLITS,
    NO_TRAINING,
    Data,
    DicomOutput,
    Files,
    Formats,
    KeyMap,
    Out,
    Pickle,
    Pixels,
    Preset,
    Reading,
    Runner,
    Scope,
    Splits,
    Training,
    merge,
)

UNLIKE_TRAINING = 3  # exit status
_PREPROCESSING = (
    "flows.preprocess",
    "sklearn.model_selection",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)


def scan(
    data: Data,
    /,
    *,
    reading: Reading = NO_READING,
    key_map: KeyMap = None,
) -> None:
    """Show how a run would use each folder, and what it would ask. Nothing is decoded.

    Exit status 1 if a run would stop and ask.

    Example: `cxr scan chest_xray --classes PNEUMONIA=bacteria,virus`
    """
    from cxr.data.patients import hidden_names
    from cxr.data.patients.hidden_storage import open_data
    from cxr.data.survey import survey
    from flows.commands.listings import show_folders

    map_path = hidden_names.require_key_map(key_map) if key_map else None
    storage = open_data(data, reading.follow_links)
    surveyed = survey.survey_folders(storage, reading)
    if map_path:
        rows = ((file.key, surveyed.names.real_key(file.key)) for file in surveyed.files())
        hidden_names.write_key_map(map_path, rows)
    show_folders(surveyed)
    if surveyed.question:
        raise CxrError(surveyed.question)


def preprocess(
    data: Data,
    /,
    *,
    out: Out,
    reading: Reading = NO_READING,
    splits: Splits = NO_SPLITS,
    pixels: Pixels = NO_PIXELS,
    runner: Runner = "threads",
    key_map: KeyMap = None,
) -> None:
    """Scan, check, hash and split the images: clean_metadata.csv, rejects.csv, ingest.json.

    The pixels for training are cached on the way: give the --image-size of the training.

    Example: `cxr preprocess chest_xray --out work`
    """
    from flows.commands import preconditions

    def call(_: Path) -> None:
        from flows.preprocess import preprocess as flow

        ingest = flow(data, out, reading, splits, runner, pixels, key_map)
        table = session.file_in(out, "clean_metadata.csv")
        print(f"{ingest.kept} images kept of {ingest.found} files found: {table}")  # noqa: T201

    preconditions.require_data(data, reading)
    preconditions.require_key_map(key_map, out)
    session.run_with_server(call, out, _PREPROCESSING)


def explore(*, out: Out, preset: Preset = "standard", training: Training = NO_TRAINING) -> None:
    """Draw and measure what `cxr preprocess` left: pictures, shortcut audit, distribution shift.

    Example: `cxr explore --out work`
    """
    from flows.commands import preconditions

    def call(_: Path) -> None:
        from flows.explore import explore as flow

        exploration = flow(out, merge(preset, training))
        for name in exploration.figures:
            print(session.file_in(out, f"eda/{name}"))  # noqa: T201

    preconditions.require_work(out)
    session.run_with_server(call, out, ("flows.explore", "seaborn", "sklearn.ensemble"))


def train(
    *,
    out: Out,
    preset: Preset = "standard",
    training: Training = NO_TRAINING,
    runner: Runner = "threads",
) -> None:
    """Train the architectures on what `cxr explore` left, compare them, choose one on validation.

    `--ensemble` averages several of the networks, and chooses what comes out.

    Example: `cxr train --out work --arch MobileNetV2 --weights ~/weights --ensemble seeds`
    """
    from flows.commands import preconditions

    def call(_: Path) -> None:
        from flows.train import train as flow

        selection = flow(out, merge(preset, training), runner)
        print(selection.reason)  # noqa: T201

    preconditions.require_work(out)
    session.run_with_server(call, out, ("flows.train",))


def export(*, out: Out, pickle: Pickle = False, formats: Formats = ()) -> None:
    """Test the model that `cxr train` chose, once, and export it with its card and the report.

    Example: `cxr export --out work --format onnx litert`
    """
    from flows.commands import preconditions

    def call(work: Path) -> None:
        from flows.commands.summary import show_run
        from flows.export import export as flow

        flow(out, pickle, formats)
        show_run(work)

    preconditions.require_work(out)
    session.run_with_server(call, out, ("flows.export",))


def predict(
    model: Annotated[
        str, Parameter(help="An export folder, the model.keras in it, or a registry.")
    ],
    images: Annotated[
        tuple[str, ...],
        Parameter(
            help=(
                "Images, or folders (or s3://bucket/prefix) of images, or archives "
                "(dicomweb+http://host:port/path, with /studies/UID for one study)."
            )
        ),
    ],
    /,
    *,
    out: Annotated[str, Parameter(help="The CSV to write.")],
    files: Files = NO_FILES,
    key_map: KeyMap = None,
    dicom: DicomOutput = NO_DICOM_OUTPUT,
    scope: Scope = NO_SCOPE,
) -> None:
    """Score images with an exported model, or with the champion of a registry.

    With `--strict`, exit status 3 if the images as a whole are not like the training data; the table
    is written all the same.

    Example: `cxr predict work/registry new_images --out predictions.csv`
    """
    import cxr
    from tasks import progress

    session.log_to_terminal()
    # Without a server, which takes longer to start than a few images to score.
    with progress.following("images") as on_progress:
        predictions = cxr.predict(model, images, out, files, on_progress, key_map, dicom, scope)
    if predictions.verdict:
        print(f"{predictions.verdict_sentence}.")  # noqa: T201
    print(predictions.sentence())  # noqa: T201
    if scope.strict and predictions.is_unlike:
        sys.exit(UNLIKE_TRAINING)
