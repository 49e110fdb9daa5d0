"""The commands that run the whole pipeline: demo, run, retrain; and phantoms, which makes images.

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
    "pandera.pandas",
    "sklearn.model_selection",
    "seaborn",
    "sklearn.ensemble",
)


def demo(*, out: Out = "work/demo", images: Images = 300) -> None:
    """Make phantom images and run the whole pipeline on them: all three architectures, local, no downloads.

    Example: `cxr demo --images 600`
    """
    from cxr.data.phantoms import dataset
    from cxr.storage.workspace import workspace

    session.log_to_terminal()
    with workspace.open_workspace(out) as work:
        dataset.make_dataset(work / "phantom_images", images=images)
    logging.getLogger("cxr.demo").info(
        "random weights: the demo downloads nothing, so its figures say nothing of the networks"
    )
    run(session.file_in(out, "phantom_images"), out=out, flags=PipelineFlags(preset="demo"))


def phantoms(
    folder: Annotated[str, Parameter(help="The folder to make.")], /, *, images: Images = 300
) -> None:
    """Make phantom images in a folder, broken files and copies among them, to try things on.

    Example: `cxr phantoms work/phantoms`
    """
    from cxr.data.phantoms import dataset
    from cxr.storage.addresses import local_folder

    counts = dataset.make_dataset(local_folder(folder), images=images)
    print(f"{sum(counts.values())} files in {folder}")  # noqa: T201


def run(
    data: Data,
    /,
    *,
    out: Out,
    flags: PipelineFlags = NO_FLAGS,
    pickle: Pickle = False,
    runner: Runner = "threads",
) -> None:
    """Run the whole pipeline. Started again with the same flags, it goes on where it was.

    Example: `cxr run chest_xray --out work --arch MobileNetV2 VGG16 --epochs 8`
    """
    from flows.commands import beforehand

    training = flags.settings

    def call(work: Path) -> None:
        from flows.commands.summary import show
        from flows.pipeline import pipeline

        pipeline(data, out, flags.reading, flags.splits, training, pickle, runner)
        show(work)

    def meanwhile(work: Path) -> contextlib.AbstractContextManager[None]:
        from tasks.train import readied

        return readied(work, training, runner)

    beforehand.require_data(data, flags.reading)
    beforehand.require_init(training)
    session.run_with_server(call, out, _IMPORTED, meanwhile=meanwhile)


def retrain(
    data: Data,
    /,
    *,
    out: Out,
    flags: PipelineFlags = NO_FLAGS,
    registry: RegistryPlace = None,
    approval: Annotated[
        Literal["none", "required"], Parameter(help="A person must agree, in the Prefect UI.")
    ] = "none",
    approval_minutes: Annotated[
        float,
        Parameter(
            help="After so many without an answer the champion stays.",
            validator=validators.Number(gt=0),
        ),
    ] = 1440.0,
    policy: Annotated[
        Literal["refuse", "wait"], Parameter(help="Where another retraining is at work.")
    ] = "refuse",
    runner: Runner = "threads",
) -> None:
    """Train where data, settings or code are new, compare with the champion on the same test images, promote or keep.

    Example: `cxr retrain chest_xray --out work --preset quick`
    """
    from flows.commands import beforehand

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
            return_state=True,
        )
        show_retraining(state)

    beforehand.require_data(data, flags.reading)
    beforehand.require_init(training)
    session.run_with_server(call, out, ("flows.retrain", *_IMPORTED), wait=policy == "wait")
