"""How each architecture is trained, and the named presets."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from cxr.core.parallel import usable_cores
from cxr.core.settings.base import ArchitectureName, Strict, with_epochs_of_fine_tuning
from cxr.core.settings.files import Harmonise, ImageSize, PixelSettings


class Augmentation(Strict):
    """Ranges of the random changes made to training images. No flips: the heart is on one side."""

    rotation: float = Field(
        14.0, ge=0, le=30, description="Rotation, up to so many degrees either way."
    )
    zoom: float = Field(0.10, ge=0, le=0.3, description="Zoom in or out, up to this fraction.")
    shift: float = Field(0.05, ge=0, le=0.2, description="Shift, up to this fraction of the side.")
    gamma: float = Field(0.60, ge=0, le=1, description="Gamma between exp(-this) and exp(this).")
    contrast: float = Field(0.40, ge=0, le=0.6, description="Contrast change, up to this fraction.")
    brightness: float = Field(
        0.15, ge=0, le=0.4, description="Brightness change, up to this fraction of the range."
    )


def _add_former_name(schema: dict[str, Any]) -> None:
    """Let the JSON schema of TrainingSettings allow `fine_tune_epochs`, which servers would refuse else."""
    schema["properties"]["fine_tune_epochs"] = {
        "type": "integer",
        "minimum": 0,
        "title": "Fine Tune Epochs",
        "description": "Another name of epochs, as version 0.1 had it; do not give both.",
        "deprecated": True,
    }


class TrainingSettings(Strict):
    """How each architecture is trained: the head is fitted, then the top of the network is fine-tuned.

    Both stop early on validation AUROC.
    """

    model_config = ConfigDict(json_schema_extra=_add_former_name)

    arch: tuple[ArchitectureName, ...] = Field(
        ("MobileNetV2", "VGG16", "DenseNet121"),
        min_length=1,
        description="Architectures to compare.",
    )
    weights: str = Field(
        "imagenet",
        description="imagenet (Keras' download or cache), none, a folder of weight files, or one for each: "
        "MobileNetV2=DIR,VGG16=none.",
    )
    image_size: ImageSize = 224
    harmonise: Harmonise = True
    epochs: int | None = Field(
        None,
        ge=0,
        description="At most so many epochs of fine-tuning, after the last layer alone is fitted; 0: the last layer alone. "
        "Where not given, each image is seen once in each version that it was computed in.",
    )
    patience: int = Field(
        3, ge=1, description="Epochs without a better validation AUROC before a stop."
    )
    batch_size: int = Field(32, ge=1, description="Images per step of fine-tuning.")
    fine_tune_learning_rate: float = Field(
        5e-5,
        gt=0,
        description="Adam's largest step in fine-tuning; slowly up to it, by cosine to 0.",
    )
    views: int = Field(
        2, ge=0, le=16, description="Randomly changed versions of each train image beside itself."
    )
    passes: int = Field(
        1,
        ge=1,
        le=17,
        description="In how many of its versions each train image is computed: 1 is one pass over train, in which every "
        "version has its share of the images; views + 1 is all versions of all images.",
    )
    init: str = Field(
        "",
        description="Start from this exported model (folder or .keras) instead of weights, where it fits.",
    )
    train_fraction: float = Field(
        1.0, gt=0, le=1, description="Train on this share of the train patients (for a quick look)."
    )
    calibrate: bool = Field(
        True, description="Make scores probabilities, by a map chosen and fitted on val."
    )
    operating_point: Literal["sensitivity", "youden", "fixed", "cost"] = Field(
        "sensitivity", description="How the threshold is chosen on val: see the next three."
    )
    min_sensitivity: float = Field(
        0.95,
        gt=0,
        le=1,
        description="sensitivity: the highest specificity that keeps at least this sensitivity.",
    )
    fixed_threshold: float = Field(0.5, ge=0, le=1, description="fixed: the threshold itself.")
    cost_ratio: float = Field(
        10.0, gt=0, description="cost: a missed pneumonia counts as so many false alarms."
    )
    prevalence: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="cost: the share of PNEUMONIA where it will be used; that of val where not given.",
    )
    concurrent: int = Field(
        0, ge=0, description="Trainings at a time; 0: one per core, at most three."
    )
    seed: int = Field(0, ge=0, description="Seed of everything random.")
    seeds: int = Field(
        1, ge=1, le=20, description="Train each architecture with so many seeds, from --seed on."
    )
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="before")
    @classmethod
    def _accept_former_name(cls, given: Any) -> Any:
        """Take `fine_tune_epochs`, as version 0.1 named it, for `epochs`."""
        if not isinstance(given, dict) or "fine_tune_epochs" not in given:
            return given
        if "epochs" in given:
            raise ValueError(
                "epochs: these are those of fine-tuning now, and fine_tune_epochs is another name of them: "
                f"expected one of the two, found epochs {given['epochs']} and fine_tune_epochs {given['fine_tune_epochs']}"
            )
        return with_epochs_of_fine_tuning(given)

    @field_validator("arch")
    @classmethod
    def _each_once(cls, names: tuple[ArchitectureName, ...]) -> tuple[ArchitectureName, ...]:
        return tuple(dict.fromkeys(names))

    def pixels(self) -> PixelSettings:
        """Return which pixels the training reads."""
        return PixelSettings(image_size=self.image_size, harmonise=self.harmonise)

    def turns(self) -> int:
        """Return in how many of its versions, which are views + 1, each train image is computed."""
        return min(self.passes, self.views + 1)

    def tuning_epochs(self) -> int:
        """Return how many epochs of fine-tuning there are at most: as set, or one for each pass."""
        return self.turns() if self.epochs is None else self.epochs

    def trainings_at_a_time(self) -> int:
        """Return how many processes train together on this machine: at least 1."""
        return min(self.concurrent or min(3, usable_cores()), len(self.arch) * self.seeds)


PRESETS: dict[str, dict[str, Any]] = {
    "standard": {},
    "quick": {"image_size": 160, "epochs": 0},
    "demo": {
        "weights": "none",
        "image_size": 64,
        "epochs": 14,
        "patience": 8,
        "fine_tune_learning_rate": 1e-3,
        "views": 1,
        "batch_size": 16,
    },
}


def training_settings(preset: str = "standard", **changes: Any) -> TrainingSettings:
    """Return the preset with the given fields changed.

    Raises ValueError (pydantic's, naming the field) for an unknown field or a value out of bounds,
    KeyError for an unknown preset.
    """
    return TrainingSettings.model_validate(PRESETS[preset] | changes)
