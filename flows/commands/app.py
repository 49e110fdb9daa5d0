"""The command line: all commands put together, and how their errors are shown."""

import os
import sys
from typing import NoReturn

import pydantic
from cyclopts import App, CycloptsError, Parameter

from cxr import __version__
from cxr.core.errors import CxrError, UsageError
from cxr.core.formatting import printable
from flows.commands import checks, labels, monitor, pipeline, site, stages, usage
from flows.commands.cache import cache_app
from flows.commands.registry import registry_app

EXAMPLES = """
Examples:

- `cxr demo` runs the whole pipeline on made-up images, in about 3 minutes
- `cxr run chest_xray --out work` runs the whole pipeline with ImageNet weights
- `cxr run chest_xray --out work --arch MobileNetV2 --weights ~/weights --epochs 5`
- `cxr scan chest_xray` shows how a run would use each folder, and changes nothing
- `cxr run data --out work --classes PNEUMONIA=bacteria,virus --splits holdout=test --exclude COVID`
- `cxr predict work/runs/RUN/export new_images --out predictions.csv`
- `cxr site work/registry labelled_films --out sites/north` measures a model at another place
- `cxr verify work/runs/RUN` computes every metric of a run again from its scores
- `cxr retrain chest_xray --out work` trains if anything changed, and promotes what is not worse
- `cxr monitor watched --out monitor.html` tells whether the images at work have drifted
- `cxr registry list --out work` shows the versions and the champion
"""
_COMMANDS = (
    pipeline.demo,
    pipeline.phantoms,
    pipeline.run,
    pipeline.retrain,
    stages.scan,
    stages.preprocess,
    stages.train,
    stages.export,
    stages.predict,
    labels.labels,
    site.site,
    monitor.monitor,
    checks.verify,
    checks.doctor,
    checks.salt,
    checks.ui,
)
app = App(
    name="cxr",
    version=__version__,
    help="Chest X-ray pneumonia classification, from a folder of images to a tested, exported model.",
    help_epilogue=EXAMPLES,
    help_format="markdown",
    default_parameter=Parameter(negative_iterable=(), negative_none=(), consume_multiple=1),
)
# Each command has its own example: with no epilogue of its own, it would show all of them again.
for _command in _COMMANDS:
    app.command(_command, help_epilogue="")
app.command(stages.explore, alias="eda", help_epilogue="")
app.command(cache_app)
app.command(registry_app)
app.register_install_completion_command(
    help="Teach bash, zsh or fish to complete commands and flags.", help_epilogue=""
)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exit status 0: done; 1: the work failed; 2: wrong usage; 3: an alarm, with --strict.
    """
    from flows.server import interrupts, surroundings

    try:
        with interrupts.watched():
            surroundings.prepare()
            app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _end(2, usage.describe_usage_error(error))
    except pydantic.ValidationError as error:
        if error.title.endswith("Settings"):
            _end(2, usage.describe_settings_error(error))
        raise
    except CxrError as error:
        _end(2 if isinstance(error, UsageError) else 1, str(error))
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _end(1, f"{place}{error.strerror or error}")


def _end(status: int, sentence: str) -> NoReturn:
    """End with one line for a person, even if a file's name in it has line breaks."""
    line = printable(" ".join(sentence.splitlines()))
    print(f"cxr: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(status)
