"""The flags that several commands share: their types, texts and checks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from cxr.core.settings import (
    FileSettings,
    PixelSettings,
    ReadingSettings,
    SplitSettings,
    TrainingSettings,
    require_known_runner,
    training_settings,
)

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
        help=(
            "Named settings; flags given beside it win. quick: 160 pixels, the last layer alone. "
            "demo: 64 pixels, random weights."
        )
    ),
]
Reading = Annotated[ReadingSettings, Parameter(name="*", group="Data")]
Files = Annotated[FileSettings, Parameter(name="*", group="Files")]
Splits = Annotated[SplitSettings, Parameter(name="*", group="Splits")]
Pixels = Annotated[PixelSettings, Parameter(name="*", group="Pixels")]


class TrainingFlags(TrainingSettings):
    """The training settings as flags; `--fine-tune-epochs`, the name in version 0.1, means `--epochs`."""

    epochs: Annotated[
        int | None,
        TrainingSettings.model_fields["epochs"],
        Parameter(name=("--epochs", "--fine-tune-epochs")),
    ] = None


Training = Annotated[TrainingFlags, Parameter(name="*", group="Training")]
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
        help=(
            "Where tasks run: threads, processes (for images), or a Dask scheduler such as "
            "tcp://host:8786."
        ),
        env_var="CXR_RUNNER",
        validator=lambda _, value: require_known_runner(value),
    ),
]
Pickle = Annotated[
    bool, Parameter(help="Also write model.pkl (not recommended: loading one runs code).")
]
NO_FILES = FileSettings()
NO_READING = ReadingSettings()
NO_SPLITS = SplitSettings()
NO_PIXELS = PixelSettings()
NO_TRAINING = TrainingFlags()


@Parameter(name="*")
@dataclass(frozen=True)
class PipelineFlags:
    """The flags of a command that goes from images to a trained model: `run` and `retrain`."""

    preset: Preset = "standard"
    reading: Reading = NO_READING
    splits: Splits = NO_SPLITS
    training: Training = NO_TRAINING

    @property
    def settings(self) -> TrainingSettings:
        """Return the preset, changed by the training flags that were given."""
        return merge(self.preset, self.training)


NO_FLAGS = PipelineFlags()


def merge(preset: str, given: TrainingSettings) -> TrainingSettings:
    """Return the settings of a preset, changed by the flags that were given."""
    changes = given.model_dump(include=given.model_fields_set, exclude_unset=True)
    return training_settings(preset, **changes)
