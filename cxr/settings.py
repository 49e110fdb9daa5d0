"""What a person can set, with defaults, bounds and named presets. One model serves flags, flows and the UI.

Left out: credentials (boto3's own chain finds them) and anything that a saved model carries itself.
"""

import hashlib
import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

ArchitectureName = Literal["MobileNetV2", "VGG16", "DenseNet121"]
LABEL_NAMES = ("NORMAL", "PNEUMONIA")  # by label: 0 and 1
READINGS = ("person+etiology", "person", "person+etiology/one-normal", "merged")
_RUNNERS = r"^(threads|processes|(tcp|tls|ws|wss)://[^\s/]+:[0-9]+/?)$"


def known_runner(runner: str) -> str:
    """Return it where it says where tasks can run; raises ValueError."""
    if not re.match(_RUNNERS, runner):
        raise ValueError(
            f"expected threads, processes or the address of a Dask scheduler, such as tcp://host:8786, found {runner!r}"
        )
    return runner


ImageSize = Annotated[
    int, Field(ge=32, le=1024, description="Side of the square images, in pixels.")
]
Harmonise = Annotated[
    bool,
    Field(
        description="Give every image the same last JPEG encoding, so that its file cannot give the label away."
    ),
]
Runner = Annotated[
    str,
    AfterValidator(known_runner),
    Field(
        description="Where tasks run: threads or processes (for images) of this machine, or the address of a Dask scheduler.",
        json_schema_extra={"pattern": _RUNNERS},
    ),
]


class Strict(BaseModel):
    """A frozen model that refuses keys it does not know, so that a misspelt one stops the run at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def digest(self) -> str:
        """Return 64 hex digits that change when any field does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


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


def given_split(item: str) -> tuple[str, str]:
    """Return (pattern, split) of one `--splits` item; "" for none.

    Raises:
        ValueError: The item is not FOLDER=train, val, test or none.
    """
    pattern, _, split = item.rpartition("=")
    split = split.strip().lower()
    if not pattern.strip("/ ") or split not in {"train", "val", "test", "none"}:
        raise ValueError(
            f"expected FOLDER=train, val, test or none, as in holdout=test, found {item!r}"
        )
    return pattern.strip().rstrip("/"), "" if split == "none" else split


def given_class(item: str) -> tuple[str, list[str]]:
    """Return (class name, spellings) of one `--classes` item.

    Raises:
        ValueError: The item is not NORMAL=… or PNEUMONIA=… with at least one spelling.
    """
    name, _, spellings = item.partition("=")
    words = [word.strip() for word in spellings.split(",") if word.strip()]
    if name.strip().upper() not in LABEL_NAMES or not words:
        raise ValueError(f"expected NORMAL=a,b or PNEUMONIA=c,d, found {item!r}")
    return name.strip().upper(), words


class FileSettings(Strict):
    """Which files are looked at, and what a picture must be to count as a film. One rule for training and prediction."""

    exclude: tuple[str, ...] = Field(
        (),
        description="Leave out what fits this pattern: a folder's or file's name (COVID, *.bmp), or a path from the "
        "top (train/COVID). May be given several times.",
    )
    follow_links: bool = Field(
        False,
        description="Follow symbolic links out of the folder, for data sets that are made of links.",
    )
    backslash_folders: bool = Field(
        False,
        description="Read a backslash in a file name as a folder: archives from Windows unpack to names like "
        "train\\NORMAL\\a.jpeg.",
    )
    bit_depth: int | None = Field(
        None,
        ge=9,
        le=16,
        description="Bits in use in 16-bit gray PNG and TIFF files (12 for most detectors): white is 2^N - 1. "
        "Without it such files are rejected, because the scale cannot be known.",
    )
    min_side: int = Field(
        28, ge=1, description="Reject pictures whose shorter side has fewer pixels (too_small)."
    )
    max_aspect: float = Field(
        5.0,
        gt=1,
        description="Reject pictures whose longer side is more than so many times the shorter (extreme_shape).",
    )
    min_contrast: float = Field(
        2.0,
        ge=0,
        description="Reject pictures whose gray values have a smaller standard deviation, of 255 (flat).",
    )


class ReadingSettings(FileSettings):
    """How DATA is read: which folder is which split and class, and what is left out."""

    splits: tuple[str, ...] = Field(
        (),
        description="What other split folders mean: holdout2024=test. FOLDER=none: the name means neither a split nor "
        "masks. A name, or a path from the top (/NORMAL is the folder NORMAL at the top).",
    )
    classes: tuple[str, ...] = Field(
        (),
        description="What other class folders mean: NORMAL=healthy,no_finding PNEUMONIA=bacteria,virus.",
    )
    negatives: Literal["report", "reject", "invert"] = Field(
        "report",
        description="Negatives of films (bright surround): report them, and stop where more than 5 % of a folder are; "
        "reject them; or invert them.",
    )

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        meant: dict[str, str] = {}
        for item in items:
            folder, split = given_split(item)
            if meant.setdefault(folder.lower(), split) != split:
                raise ValueError(f"expected one split for each folder, found two for {folder!r}")
        return items

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        meant: dict[str, str] = {name.lower(): name for name in LABEL_NAMES}
        for item in items:
            name, spellings = given_class(item)
            for word in spellings:
                if meant.setdefault(word.lower(), name) != name:
                    raise ValueError(
                        f"expected one class for each folder name, found two for {word!r}"
                    )
        return items


class PixelSettings(Strict):
    """The pixels that are kept of each image, for all that looks at images after inspection."""

    image_size: ImageSize = 224
    harmonise: Harmonise = True


class SplitSettings(Strict):
    """Who a patient is, how validation (and test, where none is given) is carved, and what becomes of leakage."""

    val_fraction: float = Field(
        0.12, gt=0, lt=0.5, description="Share of train + val that becomes val."
    )
    test_fraction: float = Field(
        0.20, gt=0, lt=0.5, description="Share that becomes test, where DATA has none."
    )
    keep_published_val: bool = Field(
        False, description="Keep the val folder as it is (16 images as published)."
    )
    split_seed: int = Field(0, ge=0, description="Seed of the carving, apart from the training's.")
    patient_key: str = Field(
        "person+etiology",
        description=f"How the patient is read: {', '.join(READINGS)} (from the file name), regex:PATTERN with a group "
        "`(?P<patient>...)` searched in the image's path, or csv:FILE with the columns image and patient_id.",
    )
    repair_leakage: bool = Field(
        True,
        description="Take near copies and shared patients out of train (never out of test) before the gate.",
    )
    allow_leakage: bool = Field(
        False, description="Run on where the gate finds leakage; the model card says so."
    )
    contract: Literal["none", "kermany"] = Field(
        "none",
        description="Warn where the counts differ from this known data set's (kermany: the published 5,856).",
    )

    @field_validator("patient_key")
    @classmethod
    def _known_rule(cls, key: str) -> str:
        if key in READINGS or key.startswith("csv:"):
            return key
        if not key.startswith("regex:"):
            raise ValueError(
                f"expected one of {', '.join(READINGS)}, regex:PATTERN or csv:FILE, found {key!r}"
            )
        try:
            groups = re.compile(key.removeprefix("regex:")).groupindex
        except re.error as error:
            raise ValueError(f"{key}: not a regular expression: {error}") from None
        if "patient" not in groups:
            raise ValueError(
                f"{key}: expected a group named patient, as in regex:(?P<patient>P[0-9]+)_"
            )
        return key


def _add_former_name(schema: dict[str, Any]) -> None:
    """Let the JSON schema of TrainingSettings allow `fine_tune_epochs`, which servers would refuse else."""
    schema["properties"]["fine_tune_epochs"] = {
        "type": "integer",
        "minimum": 0,
        "title": "Fine Tune Epochs",
        "description": "Another name of epochs, as version 0.1 had it; do not give both.",
        "deprecated": True,
    }


def with_epochs_of_fine_tuning(old: dict[str, Any]) -> dict[str, Any]:
    """Return training settings as a record of version 0.1 has them, in the names of today.

    There `epochs` counted those of the head, and `fine_tune_epochs` those of fine-tuning.
    """
    settings = dict(old)
    if "fine_tune_epochs" in settings:
        settings["epochs"] = settings.pop("fine_tune_epochs")
    return settings


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
        return min(self.concurrent or min(3, cores()), len(self.arch) * self.seeds)


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


def cores() -> int:
    """Return the number of processor cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
