"""The base of all settings and records, and the words for classes and splits."""

import hashlib
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
)

from cxr.core.formatting import printable as printable  # noqa: PLC0414 - others import it from here

SPLITS = ("train", "val", "test")
EXCLUDED = "excluded"  # the split of rows set aside because their patient is in another one
ArchitectureName = Literal["MobileNetV2", "VGG16", "DenseNet121"]
LABEL_NAMES = ("NORMAL", "PNEUMONIA")  # by label: 0 and 1
_RUNNERS = r"^(threads|processes|(tcp|tls|ws|wss)://[^\s/]+:[0-9]+/?)$"


def require_known_runner(runner: str) -> str:
    """Return it where it says where tasks can run; raises ValueError."""
    if not re.match(_RUNNERS, runner):
        raise ValueError(
            f"expected threads, processes or the address of a Dask scheduler, such as tcp://host:8786, found {runner!r}"
        )
    return runner


Runner = Annotated[
    str,
    AfterValidator(require_known_runner),
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


def with_epochs_of_fine_tuning(old: dict[str, Any]) -> dict[str, Any]:
    """Return training settings as a record of version 0.1 has them, in the names of today.

    There `epochs` counted those of the head, and `fine_tune_epochs` those of fine-tuning.
    """
    settings = dict(old)
    if "fine_tune_epochs" in settings:
        settings["epochs"] = settings.pop("fine_tune_epochs")
    return settings
