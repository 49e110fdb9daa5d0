"""The command line `cxr`: reads the flags, starts the embedded server where none is set, runs the flows.

Prefect, Keras and the flows are imported when a command runs, so that --help answers at once.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import pydantic
from cyclopts import App, CycloptsError, Parameter, validators

from cxr import __version__
from cxr.errors import CxrError, UsageError
from cxr.settings import (
    FileSettings,
    PixelSettings,
    ReadingSettings,
    SplitSettings,
    TrainingSettings,
    known_runner,
    training_settings,
)
from cxr.text import printable
from flows import usage
from flows.registry_command import registry_app

EXAMPLES = """
Examples:

- `cxr demo` runs everything on made-up images, in about 3 minutes
- `cxr run chest_xray --out work` runs the whole pipeline with ImageNet weights
- `cxr run chest_xray --out work --arch MobileNetV2 --weights ~/weights --epochs 5`
- `cxr scan chest_xray` shows what a run would make of each folder, and changes nothing
- `cxr run data --out work --classes PNEUMONIA=bacteria,virus --splits holdout=test --exclude COVID`
- `cxr predict work/runs/RUN/export new_images --out predictions.csv`
- `cxr verify work/runs/RUN` computes every figure of a run again from its scores
- `cxr retrain chest_xray --out work` trains where there is news, and promotes what is not worse
- `cxr registry list --out work` shows the versions and the champion
"""
app = App(
    name="cxr",
    version=__version__,
    help="Chest X-ray pneumonia classification, from a folder of images to a tested, exported model.",
    help_epilogue=EXAMPLES,
    help_format="markdown",
    default_parameter=Parameter(negative_iterable=(), negative_none=(), consume_multiple=1),
)
caches = App(name="cache", help="What is kept to save computing: pixels and features.")
app.command(caches)
Out = Annotated[
    str,
    Parameter(
        name="--out",
        help="The work folder (or s3://bucket/prefix): everything is written below it.",
    ),
]
Data = Annotated[
    str,
    Parameter(
        help="Folder (or s3://bucket/prefix) with train/, test/ and NORMAL/, PNEUMONIA/ in it."
    ),
]
Preset = Annotated[
    Literal["standard", "quick", "demo"],
    Parameter(
        help="Named settings; flags given beside it win. quick: 160 pixels, the last layer alone. demo: 64 pixels, random weights."
    ),
]
Reading = Annotated[ReadingSettings, Parameter(name="*", group="Data")]
Files = Annotated[FileSettings, Parameter(name="*", group="Files")]
Splits = Annotated[SplitSettings, Parameter(name="*", group="Splits")]
Pixels = Annotated[PixelSettings, Parameter(name="*", group="Pixels")]
Training = Annotated[TrainingSettings, Parameter(name="*", group="Training")]
Images = Annotated[
    int, Parameter(help="How many phantom images.", validator=validators.Number(gte=20))
]
RegistryPlace = Annotated[
    str | None,
    Parameter(help="Folder or s3://bucket/prefix of the registry; OUT/registry where not given."),
]
Runner = Annotated[
    str,
    Parameter(
        help="Where tasks run: threads, processes (for images), or a Dask scheduler such as tcp://host:8786.",
        env_var="CXR_RUNNER",
        validator=lambda _, value: known_runner(value),
    ),
]
Pickle = Annotated[
    bool, Parameter(help="Also write model.pkl (not recommended: loading one runs code).")
]
_NO_FILES = FileSettings()
_NO_READING = ReadingSettings()
_NO_SPLITS = SplitSettings()
_NO_PIXELS = PixelSettings()
_NO_TRAINING = TrainingSettings()
app.command(registry_app)


@app.command
def demo(*, out: Out = "work/demo", images: Images = 300) -> None:
    """Make phantom images and run the whole pipeline on them: all three architectures, local, no downloads.

    Example: `cxr demo --images 600`
    """
    from cxr import phantom, workspace

    _log_to_terminal()
    with workspace.opened(out) as work:
        phantom.make_dataset(work / "phantom_images", images=images)
    logging.getLogger("cxr.demo").info(
        "random weights: the demo downloads nothing, so its figures say nothing of the networks"
    )
    _pipeline(
        _below(out, "phantom_images"), out, _NO_READING, _NO_SPLITS, training_settings("demo")
    )


@app.command
def phantoms(
    folder: Annotated[str, Parameter(help="The folder to make.")], /, *, images: Images = 300
) -> None:
    """Make phantom images in a folder, broken files and copies among them, to try things on.

    Example: `cxr phantoms work/phantoms`
    """
    from cxr import phantom
    from cxr.storage import local_folder

    counts = phantom.make_dataset(local_folder(folder), images=images)
    print(f"{sum(counts.values())} files in {folder}")  # noqa: T201


@app.command
def run(
    data: Data,
    /,
    *,
    out: Out,
    preset: Preset = "standard",
    reading: Reading = _NO_READING,
    splits: Splits = _NO_SPLITS,
    training: Training = _NO_TRAINING,
    pickle: Pickle = False,
    runner: Runner = "threads",
) -> None:
    """Run the whole pipeline. Started again with the same flags, it goes on where it was.

    Example: `cxr run chest_xray --out work --arch MobileNetV2 VGG16 --epochs 8`
    """
    _pipeline(data, out, reading, splits, _merged(preset, training), pickle, runner)


@app.command
def scan(data: Data, /, *, reading: Reading = _NO_READING) -> None:
    """Show what a run would make of each folder, and what it would ask. Nothing is decoded, nothing is written.

    Exit status 1 where a run would stop and ask.

    Example: `cxr scan chest_xray --classes PNEUMONIA=bacteria,virus`
    """
    from cxr import survey
    from cxr.storage import open_storage
    from flows.summary import show_folders

    found = survey.survey(open_storage(data, reading.follow_links), reading)
    show_folders(found)
    if found.question:
        raise CxrError(found.question)


@app.command
def preprocess(
    data: Data,
    /,
    *,
    out: Out,
    reading: Reading = _NO_READING,
    splits: Splits = _NO_SPLITS,
    pixels: Pixels = _NO_PIXELS,
    runner: Runner = "threads",
) -> None:
    """Scan, check, hash and split the images: clean_metadata.csv, rejects.csv, ingest.json.

    The pixels for training are cached on the way, of the size of --image-size: give the training's.

    Example: `cxr preprocess chest_xray --out work`
    """
    from flows import beforehand

    def call(_: Path) -> None:
        from flows.preprocess import preprocess as flow

        found = flow(data, out, reading, splits, runner, pixels)
        table = _below(out, "clean_metadata.csv")
        print(f"{found.kept} images kept of {found.found} files found: {table}")  # noqa: T201

    beforehand.require_data(data, reading)
    _with_server(call, out)


@app.command
def eda(*, out: Out, preset: Preset = "standard", training: Training = _NO_TRAINING) -> None:
    """Draw the exploration of what `cxr preprocess` left in the work folder.

    Example: `cxr eda --out work`
    """
    from flows import beforehand

    def call(_: Path) -> None:
        from flows.explore import explore

        found = explore(out, _merged(preset, training))
        print("\n".join(_below(out, f"eda/{name}") for name in found.figures))  # noqa: T201

    beforehand.require_work(out)
    _with_server(call, out)


@app.command
def train(
    *,
    out: Out,
    preset: Preset = "standard",
    training: Training = _NO_TRAINING,
    runner: Runner = "threads",
) -> None:
    """Train and compare the architectures on what `cxr eda` left in the work folder.

    Example: `cxr train --out work --arch MobileNetV2 --weights ~/weights`
    """
    from flows import beforehand

    def call(_: Path) -> None:
        from flows.train_models import train_models

        print(train_models(out, _merged(preset, training), runner).reason)  # noqa: T201

    beforehand.require_work(out)
    _with_server(call, out)


@app.command
def export(*, out: Out, pickle: Pickle = False) -> None:
    """Test the chosen model once and export it, from what `cxr train` left in the work folder.

    Example: `cxr export --out work`
    """
    from flows import beforehand

    def call(work: Path) -> None:
        from flows.export_model import export_model
        from flows.summary import show

        export_model(out, pickle)
        show(work)

    beforehand.require_work(out)
    _with_server(call, out)


@app.command
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
    files: Files = _NO_FILES,
) -> None:
    """Score images with an exported model (its folder, or the model.keras in it) or with a registry's champion.

    Example: `cxr predict work/registry new_images --out predictions.csv`
    """
    from cxr import prediction
    from tasks import progress

    _log_to_terminal()
    # Without a server, which takes longer to start than a few images to score.
    with progress.counting("score images", "images") as on_images:
        found = prediction.predict(model, images, out, on_images, files)
    print(found.sentence())  # noqa: T201


@app.command
def retrain(  # noqa: PLR0913
    data: Data,
    /,
    *,
    out: Out,
    preset: Preset = "standard",
    reading: Reading = _NO_READING,
    splits: Splits = _NO_SPLITS,
    training: Training = _NO_TRAINING,
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
    from flows import beforehand

    def call(_: Path) -> None:
        from flows.retrain import retrain as flow
        from flows.summary import show_retraining

        settings = _merged(preset, training)
        state = flow(
            data,
            out,
            reading,
            splits,
            settings,
            registry,
            approval,
            approval_minutes,
            policy,
            runner,
            return_state=True,
        )
        show_retraining(state)

    beforehand.require_data(data, reading)
    beforehand.require_init(_merged(preset, training))
    _with_server(call, out, wait=policy == "wait")


@app.command
def verify(
    run: str,
    /,
    *,
    table: Annotated[
        Path | None, Parameter(help="A Markdown file whose table quotes the run.")
    ] = None,
) -> None:
    """Compute every figure of a finished run again from its scores, and compare every file with its digest.

    Example: `cxr verify work/runs/RUN --table README.md`
    """
    from cxr import verification, workspace

    checks = verification.verify(workspace.fetched(run.rstrip("/").removesuffix("/export")), table)
    for check in checks:
        word = "FAILED" if check.problem else "note" if check.note else "ok"
        why = check.problem or check.note
        print(f"{word:<7}{check.what}{': ' if why else ''}{why}")  # noqa: T201
    failed = sum(bool(check.problem) for check in checks)
    if failed:
        raise CxrError(f"{run}: {failed} of {len(checks)} checks failed: do not use its figures")


@caches.command(name="list")
def cache_list(*, out: Out) -> None:
    """Show what is kept to save computing: decoded pixels and features, with size and last use.

    Example: `cxr cache list --out work`
    """
    from cxr import cache, workspace
    from flows import beforehand
    from flows.summary import show_caches

    beforehand.require_work(out)
    show_caches(cache.listing(workspace.local(out) / "cache"))


@caches.command(name="prune")
def cache_prune(
    *,
    out: Out,
    unused_days: Annotated[
        float,
        Parameter(
            help="Remove what was not used for so many days.", validator=validators.Number(gte=0)
        ),
    ] = 30,
    keep_gb: Annotated[
        float | None,
        Parameter(
            help="Then the longest unused, until so much is left.",
            validator=validators.Number(gte=0),
        ),
    ] = None,
) -> None:
    """Remove what has not been used for long. It is made again when it is needed: that costs time, never results.

    Example: `cxr cache prune --out work --unused-days 7 --keep-gb 50`
    """
    from cxr import cache, workspace
    from flows import beforehand
    from flows.summary import show_caches

    beforehand.require_work(out)
    with workspace.opened(out) as work:
        show_caches(cache.prune(work / "cache", unused_days, keep_gb and keep_gb * 1e9), "removed")


@app.command
def doctor(
    *,
    data: Annotated[str | None, Parameter(help="Can these images be read?")] = None,
    out: Annotated[str, Parameter(help="Is there room here, and may it be written?")] = "work",
    weights: Annotated[str, Parameter(help="Are these at hand? As in `cxr run`.")] = "imagenet",
) -> None:
    """Check this machine: versions, disk, memory, GPU, Prefect's server, storage and weights. Exit 1: no work without a fix.

    Example: `cxr doctor --data s3://bucket/images --out s3://bucket/work`
    """
    from flows.doctor import examine

    _log_to_terminal()
    checks = examine(data, out, weights)
    for check in checks:
        word = "ok" if check.ok else "FAILED" if check.essential else "note"
        print(f"{word:<7}{check.what}: {check.advice}")  # noqa: T201
    if failed := sum(check.essential and not check.ok for check in checks):
        raise CxrError(
            f"{failed} of {len(checks)} checks failed: do what their lines say, then run cxr doctor again"
        )


@app.command
def ui(
    *,
    port: Annotated[
        int,
        Parameter(
            help="Where the UI listens, on loopback.",
            validator=validators.Number(gte=1, lte=65535),
        ),
    ] = 4200,
) -> None:
    """Show past runs of the embedded server in the Prefect UI.

    Example: `cxr ui --port 4300`
    """
    from flows.server import show

    _log_to_terminal()
    show(port)


for _name in set(app) - {*app.help_flags, *app.version_flags}:
    app[
        _name
    ].help_epilogue = ""  # each has its own example; without this it would show all of them again


def _merged(preset: str, given: TrainingSettings) -> TrainingSettings:
    """Return the preset with the flags that were given."""
    return training_settings(
        preset, **given.model_dump(include=given.model_fields_set, exclude_unset=True)
    )


def _below(out: str, name: str) -> str:
    """Return the address of a file in the work folder, as a person wrote the folder's."""
    return f"{out.rstrip('/')}/{name}"


def _pipeline(
    data: str,
    out: str,
    reading: ReadingSettings,
    splits: SplitSettings,
    training: TrainingSettings,
    pickle: bool = False,
    runner: str = "threads",
) -> None:
    from flows import beforehand

    def call(work: Path) -> None:
        from flows.pipeline import pipeline
        from flows.summary import show

        pipeline(data, out, reading, splits, training, pickle, runner)
        show(work)

    def meanwhile(work: Path) -> contextlib.AbstractContextManager[None]:
        from tasks.training import readied

        return readied(work, training, runner)

    beforehand.require_data(data, reading)
    beforehand.require_init(training)
    _with_server(call, out, meanwhile=meanwhile)


def _with_server(
    call: Callable[[Path], None],
    out: str,
    wait: bool = False,
    meanwhile: Callable[[Path], contextlib.AbstractContextManager[None]] = lambda _: (
        contextlib.nullcontext()
    ),
) -> None:
    """Do `call` on the local folder of the work folder `out`, alone in it, with a server to talk to.

    Where another is at work in it: ConflictError, or `wait` until it is done. `meanwhile` is entered while the server starts.
    """
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "cxr")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    _log_to_terminal()
    from cxr import workspace
    from flows import interrupts, prefect_api
    from flows.server import embedded

    opened = workspace.opened_when_free if wait else workspace.opened
    with opened(out) as work, embedded(lambda: meanwhile(work), on_end=interrupts.end) as address:
        if address:
            logging.getLogger("cxr.server").info(
                "Prefect UI while this runs: %s (afterwards: cxr ui)", address
            )
        with prefect_api.explained(), interrupts.flow_runs_noted():
            call(work)


def _log_to_terminal() -> None:
    from flows import surroundings

    logger = logging.getLogger("cxr")
    if logger.handlers:
        return
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        from tasks.progress import console

        handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.propagate = False
    surroundings.tell()


def _end(status: int, sentence: str) -> NoReturn:
    """End with one line for a person, whatever a file's name in it holds."""
    print(f"cxr: {printable(' '.join(sentence.splitlines()))}", file=sys.stderr)  # noqa: T201
    sys.exit(status)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: exit status 0 done, 1 the work failed, 2 wrong usage."""
    from flows import interrupts, surroundings

    try:
        with interrupts.watched():
            surroundings.prepare()
            app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _end(2, usage.sentence(error))
    except pydantic.ValidationError as error:
        if error.title.endswith("Settings"):
            _end(2, usage.settings(error))
        _end(1, f"a record of another version or a damaged one: {usage.record(error)}")
    except CxrError as error:
        _end(2 if isinstance(error, UsageError) else 1, str(error))
    except BrokenPipeError:  # whoever read what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _end(1, f"{place}{error.strerror or error}")


if __name__ == "__main__":
    main()
