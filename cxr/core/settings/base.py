"""The base of all settings and records, and the names of classes and splits."""

import hashlib
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SPLITS = ("train", "val", "test")
EXCLUDED = "excluded"  # rows in no split, because their patient is in another one
LABEL_NAMES = ("NORMAL", "PNEUMONIA")  # by label: 0 (negative) and 1 (positive)
# What a model is exported as; keras always is. LiteRT is what was called TensorFlow Lite.
ExportFormat = Literal["keras", "onnx", "litert", "savedmodel"]
_RUNNERS = r"^(threads|processes|(tcp|tls|ws|wss)://[^\s/]+:[0-9]+/?)$"


def require_known_runner(runner: str) -> str:
    """Return `runner` if tasks can run there.

    Args:
        runner: threads, processes or the address of a Dask scheduler.

    Raises:
        ValueError: It is none of these.
    """
    if not re.match(_RUNNERS, runner):
        raise ValueError(
            "expected threads, processes or the address of a Dask scheduler, such as "
            f"tcp://host:8786, found {runner!r}"
        )
    return runner


Runner = Annotated[
    str,
    AfterValidator(require_known_runner),
    Field(
        description="Where tasks run: in threads or processes of this machine (threads, or "
        "processes for work on images), or on a Dask cluster, by its scheduler's address "
        "(tcp://host:8786).",
        json_schema_extra={"pattern": _RUNNERS},
    ),
]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys, so that a misspelt one stops a run at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def digest(self) -> str:
        """Return the SHA-256 of all fields, 64 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def with_epochs_of_fine_tuning(old: dict[str, Any]) -> dict[str, Any]:
    """Return the training settings of a record of version 0.1 under their present names.

    In version 0.1 `epochs` counted epochs of the head, which is now fitted in one step, and
    `fine_tune_epochs` those of fine-tuning.
    """
    settings = dict(old)
    if "fine_tune_epochs" in settings:
        settings["epochs"] = settings.pop("fine_tune_epochs")
    return settings


def upgrade_training_settings(old: dict[str, Any]) -> dict[str, Any]:
    """Return the training settings of a record of any earlier version as this version has them.

    Before version 0.3 augmentation showed no parts of images and did not stretch them, and the
    number of augmented copies was called `views`.
    """
    settings = with_epochs_of_fine_tuning(old)
    if "views" in settings:
        settings["augmented_copies"] = settings.pop("views")
    ranges = settings.get("augmentation")
    if isinstance(ranges, dict):
        settings["augmentation"] = {"area": 1.0, "stretch": 1.0} | ranges
    return settings
