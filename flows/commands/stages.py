"""The commands of the stages, each alone: scan, preprocess, explore, train, export, predict.

Prefect, Keras and the flows are imported when a command runs, so that --help answers at once.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.core.errors import CxrError
from flows.commands import session
from flows.commands.flags import (
    NO_FILES,
    NO_PIXELS,
    NO_READING,
    NO_SPLITS,
    NO_TRAINING,
    Data,
    Files,
    Out,
    Pickle,
    Pixels,
    Preset,
    Reading,
    Runner,
    Splits,
    Training,
    merge,
)

_PREPROCESSING = (
    "flows.preprocess",
    "pandera.pandas",
    "sklearn.model_selection",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)


def scan(data: Data, /, *, reading: Reading = NO_READING) -> None:
    """Show what a run would make of each folder, and what it would ask. Nothing is decoded, nothing is written.

    Exit status 1 where a run would stop and ask.

    Example: `cxr scan chest_xray --classes PNEUMONIA=bacteria,virus`
    """
    from cxr.data.survey import survey
    from cxr.storage.addresses import open_storage
    from flows.commands.summary import show_folders

    found = survey.survey_folders(open_storage(data, reading.follow_links), reading)
    show_folders(found)
    if found.question:
        raise CxrError(found.question)


def preprocess(
    data: Data,
    /,
    *,
    out: Out,
    reading: Reading = NO_READING,
    splits: Splits = NO_SPLITS,
    pixels: Pixels = NO_PIXELS,
    runner: Runner = "threads",
) -> None:
    """Scan, check, hash and split the images: clean_metadata.csv, rejects.csv, ingest.json.

    The pixels for training are cached on the way, of the size of --image-size: give the training's.

    Example: `cxr preprocess chest_xray --out work`
    """
    from flows.commands import beforehand

    def call(_: Path) -> None:
        from flows.preprocess import preprocess as flow

        found = flow(data, out, reading, splits, runner, pixels)
        table = session.file_in(out, "clean_metadata.csv")
        print(f"{found.kept} images kept of {found.found} files found: {table}")  # noqa: T201

    beforehand.require_data(data, reading)
    session.run_with_server(call, out, _PREPROCESSING)


def explore(*, out: Out, preset: Preset = "standard", training: Training = NO_TRAINING) -> None:
    """Draw the exploration of what `cxr preprocess` left in the work folder.

    Example: `cxr explore --out work`
    """
    from flows.commands import beforehand

    def call(_: Path) -> None:
        from flows.explore import explore as flow

        found = flow(out, merge(preset, training))
        print("\n".join(session.file_in(out, f"eda/{name}") for name in found.figures))  # noqa: T201

    beforehand.require_work(out)
    session.run_with_server(call, out, ("flows.explore", "seaborn", "sklearn.ensemble"))


def train(
    *,
    out: Out,
    preset: Preset = "standard",
    training: Training = NO_TRAINING,
    runner: Runner = "threads",
) -> None:
    """Train and compare the architectures on what `cxr explore` left in the work folder.

    Example: `cxr train --out work --arch MobileNetV2 --weights ~/weights`
    """
    from flows.commands import beforehand

    def call(_: Path) -> None:
        from flows.train import train_models

        print(train_models(out, merge(preset, training), runner).reason)  # noqa: T201

    beforehand.require_work(out)
    session.run_with_server(call, out, ("flows.train",))


def export(*, out: Out, pickle: Pickle = False) -> None:
    """Test the chosen model once and export it, from what `cxr train` left in the work folder.

    Example: `cxr export --out work`
    """
    from flows.commands import beforehand

    def call(work: Path) -> None:
        from flows.commands.summary import show
        from flows.export import export_model

        export_model(out, pickle)
        show(work)

    beforehand.require_work(out)
    session.run_with_server(call, out, ("flows.export",))


def predict(
    model: Annotated[
        str, Parameter(help="An export folder, the model.keras in it, or a registry.")
    ],
    images: Annotated[
        tuple[str, ...],
        Parameter(help="Images, or folders (or s3://bucket/prefix) of images."),
    ],
    /,
    *,
    out: Annotated[str, Parameter(help="The CSV to write.")],
    files: Files = NO_FILES,
) -> None:
    """Score images with an exported model (its folder, or the model.keras in it) or with a registry's champion.

    Example: `cxr predict work/registry new_images --out predictions.csv`
    """
    import cxr
    from tasks import progress

    session.log_to_terminal()
    # Without a server, which takes longer to start than a few images to score.
    with progress.counting("score images", "images") as on_images:
        found = cxr.predict(
            model, images, out, files, lambda _step, done, total: on_images(done, total)
        )
    print(found.sentence())  # noqa: T201
