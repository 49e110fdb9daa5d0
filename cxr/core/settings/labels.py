"""How labels are read from a table instead of from folder names."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from cxr.core.settings.base import Strict

# Collections whose tables are known by their columns, as published.
COLLECTIONS = ("nih", "rsna", "vindr", "chexpert", "mimic")


class LabelSettings(Strict):
    """The table that says which images show pneumonia, and what its columns mean."""

    labels: str = Field(
        "",
        description="A table of labels: csv:FILE with the columns named below, or the table of a "
        f"public collection by its name ({', '.join(COLLECTIONS)}), as in nih:FILE. Where the table "
        "and the folders differ, the table is right.",
    )
    image_column: str = Field("", description="The column of labels that names the image.")
    label_column: str = Field("", description="The column of labels that holds the findings.")
    positive: tuple[str, ...] = Field(
        (), description="Findings that are PNEUMONIA; if not given, those of the collection."
    )
    negative: tuple[str, ...] = Field(
        (),
        description="Findings that are NORMAL, as in `No Finding`; or `others`: every image that "
        "has none of the positive findings. There is no default: it decides what the model tells "
        "apart.",
    )
    uncertain: Literal["ignore", "positive", "negative"] = Field(
        "ignore",
        description="What an uncertain finding counts as (-1 in CheXpert and MIMIC-CXR). ignore: "
        "the image is set aside (reason no_label).",
    )
    separator: str = Field("|", description="What stands between several findings in one cell.")
    patient_column: str = Field("", description="The column of labels that names the patient.")
    age_column: str = Field("", description="The column of labels with the age in years.")
    sex_column: str = Field("", description="The column of labels with the sex.")
    view_column: str = Field("", description="The column of labels with the view (PA, AP, ...).")
    split_column: str = Field(
        "", description="The column of labels with the split (train, val or test)."
    )

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: str) -> str:
        """Refuse what names no kind of table, or no file."""
        if not labels:
            return labels
        kind, colon, file = labels.partition(":")
        if kind not in {"csv", *COLLECTIONS} or not colon or not file.strip():
            known = ", ".join(f"{name}:FILE" for name in ("csv", *COLLECTIONS))
            raise ValueError(f"expected one of {known}, found {labels!r}")
        return labels

    @model_validator(mode="after")
    def _require_table(self) -> Self:
        """Refuse what says how a table is read where no table is given."""
        if self.labels:
            return self
        for name in LabelSettings.model_fields:
            if getattr(self, name) != LabelSettings.model_fields[name].default:
                flag = name.replace("_", "-")
                raise ValueError(
                    f"--{flag} says how a table of labels is read: expected --labels with it, "
                    "found none"
                )
        return self
