"""How patients are told apart, and how images are divided into train, val and test."""

import re
from typing import Literal

from pydantic import Field, field_validator

from cxr.core.settings.base import Strict

READINGS = ("person+etiology", "person", "person+etiology/one-normal", "merged")


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
