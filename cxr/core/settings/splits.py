"""How patients are told apart, and how images are divided into train, val and test."""

import re
from typing import Literal

from pydantic import Field, field_validator

from cxr.core.settings.base import Strict

READINGS = ("person+etiology", "person", "person+etiology/one-normal", "merged")
_CONDITION = re.compile(r"\s*(\w+)\s*(!=|<=|>=|=|<|>)\s*([^\s=<>!].*?)\s*")


def split_condition(condition: str) -> tuple[str, str, str]:
    """Return column, comparison and value of a condition.

    Args:
        condition: `column OP value`, with one of =, !=, <, <=, >, >=.

    Raises:
        ValueError: It has not this form.

    >>> split_condition("year >= 2025")
    ('year', '>=', '2025')
    """
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise ValueError(
            "expected COLUMN=VALUE, or !=, <, <=, >, >= in place of =, "
            f"as in year>=2025, found {condition!r}"
        )
    return match[1], match[2], match[3]


class SplitSettings(Strict):
    """Who a patient is, how images are divided into splits, and what is changed after that."""

    val_fraction: float = Field(
        0.12,
        gt=0,
        lt=0.5,
        description="Share of the images of train and val together that becomes val, by whole "
        "patients.",
    )
    test_fraction: float = Field(
        0.20,
        gt=0,
        lt=0.5,
        description="Share of the images that becomes test, by whole patients, if DATA has no test "
        "images.",
    )
    keep_published_val: bool = Field(
        False, description="Keep the val folder as it is (16 images in the published dataset)."
    )
    split_seed: int = Field(
        0, ge=0, description="Random seed of the division into splits; all else has another (seed)."
    )
    patient_key: str = Field(
        "person+etiology",
        description="How the patient of an image is known. From the published file names: "
        f"{', '.join(READINGS)}. From its path: regex:PATTERN with a group `(?P<patient>...)`. "
        "From a table: csv:FILE with the columns image and patient_id. From DICOM alone: dicom "
        "(PatientID; where a file name says nothing, it is read anyway).",
    )
    test_by: str = Field(
        "",
        description="Make test of the images for which this holds, as in manufacturer=Agfa or "
        "year>=2025 (a column of clean_metadata.csv; =, !=, <, <=, >, >=), whatever the folders "
        "say: a test set from another device or time. Other images of its patients are set aside.",
    )
    repair_leakage: bool = Field(
        True,
        description="Before the leakage check, remove near-duplicates and patients shared with "
        "another split from train (never from test).",
    )
    allow_leakage: bool = Field(
        False,
        description="Continue if the leakage check finds leakage; the model card then says so.",
    )
    label_corrections: tuple[str, ...] = Field(
        (),
        description="Tables of corrected labels: labels/label_review.csv of `cxr labels`, filled in "
        "by readers. They change labels of train and validation after the splits are made; those of "
        "test never.",
    )
    contract: Literal["none", "kermany"] = Field(
        "none",
        description="Warn if the counts differ from those of this known dataset (kermany: 5,856 "
        "images as published).",
    )

    @field_validator("test_by")
    @classmethod
    def _check_test_by(cls, condition: str) -> str:
        """Refuse what is no condition; which columns there are is known where the data is read."""
        if condition:
            split_condition(condition)
        return condition

    @field_validator("patient_key")
    @classmethod
    def _check_patient_key(cls, key: str) -> str:
        """Refuse what names no rule, and a regular expression without its group."""
        if key in READINGS or key == "dicom" or key.startswith("csv:"):
            return key
        if not key.startswith("regex:"):
            raise ValueError(
                f"expected one of {', '.join(READINGS)}, regex:PATTERN, csv:FILE or dicom, "
                f"found {key!r}"
            )
        pattern = key.removeprefix("regex:")
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"{key}: not a regular expression: {error}") from None
        if "patient" not in groups:
            raise ValueError(
                f"{key}: expected a group named patient, as in regex:(?P<patient>P[0-9]+)_"
            )
        return key
