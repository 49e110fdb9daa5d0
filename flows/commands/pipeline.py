"""The commands that run the whole pipeline (demo, run, retrain), and phantoms, which makes images.

Prefect, Keras and the flows are imported when a command runs, so that --help answers at once.
"""

import contextlib
import logging
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from flows.commands import session
from flows.commands.flags import (
    NO_FLAGS,
    Data,
    Images,
    Out,
    Pickle,
    PipelineFlags,
    RegistryPlace,
    Runner,
)

_IMPORTED = (
    "flows.pipeline",
    "sklearn.model_selection",
    "seaborn",
    "sklearn.ensemble",
)


def demo(*, out: Out = "work/demo", images: Images = 300) -> None:
    """Run the whole pipeline on made-up images: all three architectures, local, no downloads.

    Example: `cxr demo --images 600`
    """
    from cxr.data.phantoms import dataset
    from cxr.storage.workspace import workspace

    session.log_to_terminal()
    with workspace.open_workspace(out) as work:
        dataset.make_dataset(work / "phantom_images", images=images)
    logging.getLogger("cxr.demo").info(
        "random weights: the demo downloads nothing, so its metrics say nothing about the networks"
    )
    run(session.file_in(out, "phantom_images"), out=out, flags=PipelineFlags(preset="demo"))


def phantoms(
    folder: Annotated[str, Parameter(help="The folder to make.")],
    /,
    *,
    images: Images = 300,
    dicom: Annotated[
        bool,
        Parameter(
            negative="",
            help="Write DICOM files of five devices, one of which took films of pneumonia alone.",
        ),
    ] = False,
) -> None:
    """Make up chest X-rays in a folder, with broken files and duplicates, to try things out.

    Example: `cxr phantoms work/phantoms`
    """
    from cxr.core.errors import DataError
    from cxr.data.phantoms import dataset, dicom_films
    from cxr.storage.addresses import local_folder

    target = local_folder(folder)
    if dicom:
        if target.exists():
            raise DataError(f"{folder}: expected a new folder, found one: choose another")
        files = len(dicom_films.make_dicom_dataset(target, images=images, one_class=True))
    else:
        files = sum(dataset.make_dataset(target, images=images).values())
    print(f"{files} files in {folder}")  # noqa: T201


def run(
    data: Data,
    /,
    *,
    out: Out,
    flags: PipelineFlags = NO_FLAGS,
    pickle: Pickle = False,
    runner: Runner = "threads",
) -> None:
    """Run the whole pipeline. Started again with the same flags, it continues where it was.

    Example: `cxr run chest_xray --out work --arch MobileNetV2 VGG16 --epochs 8`
    """
    from flows.commands import preconditions

    training = flags.settings

    def call(work: Path) -> None:
        from flows.commands.summary import show_run
        from flows.pipeline import pipeline

        pipeline(
            data,
            out,
            flags.reading,
            flags.splits,
            training,
            pickle,
            runner,
            flags.key_map,
            flags.formats,
        )
        show_run(work)

    def meanwhile(work: Path) -> contextlib.AbstractContextManager[None]:
        from tasks.train import prestarted_workers

        return prestarted_workers(work, training, runner)

    preconditions.require_data(data, flags.reading)
    preconditions.require_key_map(flags.key_map, out)
    preconditions.require_init(training)
    session.run_with_server(call, out, _IMPORTED, meanwhile=meanwhile)


def retrain(
    data: Data,
    /,
    *,
    out: Out,
    flags: PipelineFlags = NO_FLAGS,
    registry: RegistryPlace = None,
    approval: Annotated[
        Literal["none", "required"],
        Parameter(help="Whether a person must agree to a promotion, in the Prefect UI."),
    ] = "none",
    approval_minutes: Annotated[
        float,
        Parameter(
            help="How many minutes to wait for that person; then the champion stays.",
            validator=validators.Number(gt=0),
        ),
    ] = 1440.0,
    policy: Annotated[
        Literal["refuse", "wait"],
        Parameter(help="What to do if another run is at work in the work folder."),
    ] = "refuse",
    runner: Runner = "threads",
) -> None:
    """Train if data, settings or code changed, compare with the champion, promote or keep.

    Both models are compared on the same test images.

    Example: `cxr retrain chest_xray --out work --preset quick`
    """
    from flows.commands import preconditions

    training = flags.settings

    def call(_: Path) -> None:
        from flows.commands.summary import show_retraining
        from flows.retrain import retrain as flow

        state = flow(
            data,
            out,
            flags.reading,
            flags.splits,
            training,
            registry,
            approval,
            approval_minutes,
            policy,
            runner,
            flags.key_map,
            flags.formats,
            return_state=True,
        )
        show_retraining(state)

    preconditions.require_data(data, flags.reading)
    preconditions.require_key_map(flags.key_map, out)
    preconditions.require_init(training)
    session.run_with_server(call, out, ("flows.retrain", *_IMPORTED), wait=policy == "wait")
