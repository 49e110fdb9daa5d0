"""How each architecture is trained, and the named presets."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from cxr.core.parallel import usable_cores
from cxr.core.settings.architectures import ARCHITECTURES, ArchitectureName
from cxr.core.settings.base import Strict, with_epochs_of_fine_tuning
from cxr.core.settings.files import Harmonise, ImageSize, PixelSettings

SEEDS_OF_ENSEMBLE = 3  # where an ensemble of seeds is asked for, and not of how many
# By kind of ensemble: the flag that gives it more networks.
_MORE = {"seeds": "--seeds", "architectures": "--arch", "epochs": "--epochs"}


class Augmentation(Strict):
    """Ranges of the random changes to training images. No flips: the heart is on one side."""

    area: float = Field(
        0.30,
        gt=0,
        le=1,
        description="Show a part of the image, anywhere in it, of at least this share of its area.",
    )
    stretch: float = Field(
        4 / 3,
        ge=1,
        le=2,
        description="Stretch that part: its width over its height is changed by up to this factor, "
        "either way.",
    )
    rotation: float = Field(
        14.0, ge=0, le=30, description="Rotate by up to this many degrees, either way."
    )
    zoom: float = Field(
        0.0, ge=0, le=0.3, description="Zoom in or out by up to this fraction, beside area."
    )
    shift: float = Field(
        0.0, ge=0, le=0.2, description="Shift by up to this fraction of the side, beside area."
    )
    gamma: float = Field(0.60, ge=0, le=1, description="Gamma from exp(-this) to exp(this).")
    contrast: float = Field(
        0.40, ge=0, le=0.6, description="Change the contrast by up to this fraction."
    )
    brightness: float = Field(
        0.15, ge=0, le=0.4, description="Change the brightness by up to this fraction of the range."
    )


def _add_former_name(schema: dict[str, Any]) -> None:
    """Add `fine_tune_epochs` to the JSON schema of TrainingSettings, or Prefect would refuse it."""
    schema["properties"]["fine_tune_epochs"] = {
        "type": "integer",
        "minimum": 0,
        "title": "Fine Tune Epochs",
        "description": "The name of epochs in version 0.1; give one of the two only.",
        "deprecated": True,
    }


class TrainingSettings(Strict):
    """How an architecture is trained.

    Its head is fitted, then the top of its backbone fine-tuned; or the whole network learns. Both
    stop early, judged on validation images as they are and in the stress worlds.
    """

    model_config = ConfigDict(json_schema_extra=_add_former_name)

    arch: tuple[ArchitectureName, ...] = Field(
        ("MobileNetV2", "VGG16", "DenseNet121"),
        min_length=1,
        description="The architectures to train and compare.",
    )
    weights: str = Field(
        "imagenet",
        description="Initial weights of the backbone: imagenet (downloaded by Keras, or from its "
        "cache), none (random), a folder of weight files, or one of these for each architecture: "
        "MobileNetV2=DIR,VGG16=none.",
    )
    image_size: ImageSize = 224
    harmonise: Harmonise = True
    learns: Literal["top", "whole"] = Field(
        "top",
        description="What learns. top: the head is fitted, then the layers above the architecture's "
        "cut learn from features that are computed once; whole: all layers learn, batch "
        "normalisation included, from new augmentations in each epoch (many times slower).",
    )
    epochs: int | None = Field(
        None,
        ge=0,
        description="Most epochs of fine-tuning, after the head (the last layer) is fitted. 0: fit "
        "the head only. If not given, as many as there are passes.",
    )
    patience: int = Field(
        6,
        ge=1,
        description="Stop after this many epochs without a better validation score, the mean of "
        "the AUROC on images as they are and of that in the stress worlds (in fitting the head: "
        "rounds without a better AUROC).",
    )
    batch_size: int = Field(32, ge=1, description="Images per step of fine-tuning.")
    fine_tune_learning_rate: float | None = Field(
        None,
        gt=0,
        description="Peak learning rate of fine-tuning (Adam), after a warm-up and before a cosine "
        "decay to 0. If not given, that of the architecture.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the pooled features that is left out at random in fine-tuning.",
    )
    balanced: bool = Field(
        False,
        description="Let each epoch of fine-tuning have as many NORMAL as PNEUMONIA images, "
        "instead of giving the rarer class a higher weight in the loss.",
    )
    augmented_copies: int = Field(
        5,
        ge=0,
        le=16,
        description="Random augmentations of each training image, beside the original. (Where all "
        "layers learn, each epoch has its own.)",
    )
    passes: int = Field(
        6,
        ge=1,
        le=17,
        description="In how many of its versions (the original and its augmentations) each "
        "training image is used. 1: one pass over the images, which are shared out among the "
        "versions; augmented_copies + 1: every version of every image.",
    )
    init: str = Field(
        "",
        description="Start from this exported model (its folder or .keras file) instead of "
        "from the weights, for the architecture that it has.",
    )
    train_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Train on this share of the training images, by whole patients (a quick look).",
    )
    calibrate: bool = Field(
        True, description="Calibrate scores to probabilities, by a map chosen and fitted on val."
    )
    operating_point: Literal["sensitivity", "youden", "fixed", "cost"] = Field(
        "sensitivity",
        description="How the threshold is chosen on val, as it is and in the stress worlds. "
        "sensitivity: the highest specificity with at least min_sensitivity; youden: the highest "
        "sensitivity + specificity; fixed: fixed_threshold; cost: the lowest cost by cost_ratio and "
        "prevalence.",
    )
    min_sensitivity: float = Field(
        0.95,
        gt=0,
        le=1,
        description="For operating point 'sensitivity': the lowest sensitivity allowed.",
    )
    fixed_threshold: float = Field(
        0.5, ge=0, le=1, description="For operating point 'fixed': the threshold."
    )
    cost_ratio: float = Field(
        10.0,
        gt=0,
        description="For operating point 'cost': how many false positives cost as much as one "
        "false negative (a missed pneumonia).",
    )
    prevalence: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="The share of PNEUMONIA where the model will be used: for the cost table of the "
        "report, and for operating point 'cost', which takes that of val if none is given.",
    )
    concurrent: int = Field(
        0, ge=0, description="Trainings at the same time. 0: one per core, at most three."
    )
    seed: int = Field(
        0,
        ge=0,
        description="Random seed of everything but the division into splits (split_seed).",
    )
    seeds: int = Field(
        1,
        ge=1,
        le=20,
        description="Train each architecture with this many random seeds, from seed on.",
    )
    ensemble: Literal["none", "seeds", "architectures", "epochs"] = Field(
        "none",
        description="Average the logits of several networks, and export them as one model. seeds: "
        "of each architecture the networks of all seeds (three where seeds is not given); "
        "architectures: the best network of each; epochs: of each training its last three epochs.",
    )
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="before")
    @classmethod
    def _give_ensemble_seeds(cls, given: Any) -> Any:
        """Train SEEDS_OF_ENSEMBLE seeds where they are to be averaged and none are given."""
        if not isinstance(given, dict) or given.get("ensemble") != "seeds":
            return given
        return {"seeds": SEEDS_OF_ENSEMBLE} | given

    @model_validator(mode="before")
    @classmethod
    def _accept_former_name(cls, given: Any) -> Any:
        """Read `fine_tune_epochs`, the name of version 0.1, as `epochs`."""
        if not isinstance(given, dict) or "fine_tune_epochs" not in given:
            return given
        if "epochs" in given:
            raise ValueError(
                "epochs: these are those of fine-tuning now, and fine_tune_epochs is another name "
                f"of them: expected one of the two, found epochs {given['epochs']} and "
                f"fine_tune_epochs {given['fine_tune_epochs']}"
            )
        return with_epochs_of_fine_tuning(given)

    @field_validator("arch")
    @classmethod
    def _drop_repeats(cls, names: tuple[ArchitectureName, ...]) -> tuple[ArchitectureName, ...]:
        """Train an architecture once, also if it is named twice."""
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _require_ensemble(self) -> Self:
        """Refuse an ensemble that these settings give fewer than two networks."""
        if self.ensemble == "none":
            return self
        networks = {
            "seeds": self.seeds,
            "architectures": len(self.arch),
            "epochs": self.tuning_epochs(),
        }
        found = networks[self.ensemble]
        if found < 2:
            raise ValueError(
                f"--ensemble {self.ensemble}: expected at least 2 {self.ensemble} to average, "
                f"found {found}: give more with {_MORE[self.ensemble]}, or leave --ensemble out"
            )
        return self

    @model_validator(mode="after")
    def _require_epochs(self) -> Self:
        """Refuse that all layers learn in no epoch: the head alone would be fitted."""
        if self.learns == "whole" and not self.tuning_epochs():
            raise ValueError(
                "--learns whole: expected at least 1 epoch in which all layers learn, found 0: "
                "give more with --epochs, or leave --learns out"
            )
        return self

    def pixels(self) -> PixelSettings:
        """Return the pixels that training reads."""
        return PixelSettings(image_size=self.image_size, harmonise=self.harmonise)

    def learning_rate(self, architecture: str) -> float:
        """Return the peak learning rate of fine-tuning: as set, or that of the architecture."""
        if self.fine_tune_learning_rate is not None:
            return self.fine_tune_learning_rate
        entry = ARCHITECTURES[architecture]
        return entry.whole_learning_rate if self.learns == "whole" else entry.learning_rate

    def turns(self) -> int:
        """Return how many passes there are: no more than versions of an image."""
        return min(self.passes, self.augmented_copies + 1)

    def tuning_epochs(self) -> int:
        """Return the most epochs of fine-tuning: as set, or one for each pass."""
        return self.turns() if self.epochs is None else self.epochs

    def trainings_at_a_time(self) -> int:
        """Return how many models are trained at the same time on this machine, at least 1."""
        limit = self.concurrent or min(3, usable_cores())
        return min(limit, len(self.arch) * self.seeds)


PRESETS: dict[str, dict[str, Any]] = {
    "standard": {},
    "quick": {"image_size": 160, "epochs": 0, "augmented_copies": 2, "passes": 1},
    "thorough": {
        "learns": "whole",
        "epochs": 24,
        "patience": 24,
        "balanced": True,
        "dropout": 0.2,
    },
    "demo": {
        "weights": "none",
        "image_size": 64,
        "epochs": 14,
        "patience": 8,
        "fine_tune_learning_rate": 1e-3,
        "augmented_copies": 1,
        "passes": 1,
        "batch_size": 16,
    },
}


def training_settings(preset: str = "standard", **changes: Any) -> TrainingSettings:
    """Return a preset with some fields changed.

    Args:
        preset: A name in PRESETS.
        **changes: Fields of TrainingSettings and their values.

    Raises:
        ValueError: A field is unknown or its value is out of bounds (pydantic's, names the field).
        KeyError: The preset is unknown.
    """
    return TrainingSettings.model_validate(PRESETS[preset] | changes)
