"""The flags that several commands share: their types, help texts and checks."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from cyclopts import Parameter, validators
from pydantic import model_validator

from cxr.core.settings import (
    DicomOutputSettings,
    ExportFormat,
    FileSettings,
    PixelSettings,
    ReadingSettings,
    ScopeSettings,
    SplitSettings,
    TrainingSettings,
    require_known_runner,
    training_settings,
)

Out = Annotated[
    str,
    Parameter(
        name="--out",
        help="The work folder (or s3://bucket/prefix), which holds everything that is written.",
    ),
]
Data = Annotated[
    str,
    Parameter(
        help=(
            "Folder (or s3://bucket/prefix) with train/, test/ and NORMAL/, PNEUMONIA/ in it; or "
            "dicomweb+http://host:port/path of an archive, with --labels."
        )
    ),
]
Preset = Annotated[
    Literal["standard", "quick", "thorough", "demo"],
    Parameter(
        help=(
            "Named settings; flags that are given override them. quick: 160 pixels, only the last "
            "layer is trained. thorough: all layers learn, in many times the time. demo: 64 pixels, "
            "random weights."
        )
    ),
]
Reading = Annotated[ReadingSettings, Parameter(name="*", group="Data")]
Files = Annotated[FileSettings, Parameter(name="*", group="Files")]
DicomOutput = Annotated[DicomOutputSettings, Parameter(name="*", group="DICOM")]
Scope = Annotated[ScopeSettings, Parameter(name="*", group="Scope")]
Splits = Annotated[SplitSettings, Parameter(name="*", group="Splits")]
Pixels = Annotated[PixelSettings, Parameter(name="*", group="Pixels")]


class TrainingFlags(TrainingSettings):
    """The training settings as flags; `--fine-tune-epochs`, the name in version 0.1, means `--epochs`."""

    epochs: Annotated[
        int | None,
        TrainingSettings.model_fields["epochs"],
        Parameter(name=("--epochs", "--fine-tune-epochs")),
    ] = None

    @model_validator(mode="after")
    def _require_ensemble(self) -> Self:
        """Leave this to `merge`: what flags do not say, the preset does."""
        return self


Training = Annotated[TrainingFlags, Parameter(name="*", group="Training")]
Images = Annotated[
    int, Parameter(help="How many images to make.", validator=validators.Number(gte=20))
]
RegistryPlace = Annotated[
    str | None,
    Parameter(help="Folder or s3://bucket/prefix of the registry; OUT/registry if not given."),
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
    bool, Parameter(help="Also write model.pkl (not recommended: whoever loads it runs its code).")
]
Formats = Annotated[
    tuple[ExportFormat, ...],
    Parameter(
        name="--format",
        help=(
            "Also write the model for other runtimes: onnx, litert, savedmodel. A file is published if it "
            "decides as the model does on all test images. keras is always written."
        ),
    ),
]
KeyMap = Annotated[
    str | None,
    Parameter(
        help="A CSV outside the work folder that gets the real names (key) behind the names of "
        "DICOM data (image). Whoever has it knows who is who; none is written if not given."
    ),
]
NO_FILES = FileSettings()
NO_DICOM_OUTPUT = DicomOutputSettings()
NO_READING = ReadingSettings()
NO_SCOPE = ScopeSettings()
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
    key_map: KeyMap = None
    formats: Formats = ()

    @property
    def settings(self) -> TrainingSettings:
        """Return the preset, changed by the training flags that were given."""
        return merge(self.preset, self.training)


NO_FLAGS = PipelineFlags()


def merge(preset: str, flags: TrainingSettings) -> TrainingSettings:
    """Return the settings of a preset, changed by the flags that were given.

    Args:
        preset: The name of the preset.
        flags: The training flags; those that were not given are unset.
    """
    changes = flags.model_dump(include=flags.model_fields_set, exclude_unset=True)
    return training_settings(preset, **changes)
