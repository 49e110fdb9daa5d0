"""predictions.json: what became of the images of a prediction, in counts, and the verdict on them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
from pydantic import Field

from cxr.core.records import Record
from cxr.core.settings import LABEL_NAMES
from cxr.results.cards.model_card import Card
from cxr.serving.prediction.batch_verdict import BatchVerdict

WITH_SCORE = ("scored", "abstained")  # statuses


class Predictions(Record):
    """Where the table of scores is, which model made it, and how many images it lists.

    Attributes:
        out: The address of the table.
        model: The model's architecture and run.
        model_sha256: The digest of its model.keras.
        threshold: The score from which on an image is called PNEUMONIA.
        images: How many images the table lists: `scored` + `abstained` + `rejected`.
        scored: How many have a score and a prediction.
        positive: How many of these are called PNEUMONIA.
        rejected: How many have no score.
        reasons: How many of these by reason, the most frequent first.
        reports: How many structured reports were written.
        report_folder: Where they are, empty where none were asked for.
        abstained: How many have a score and no prediction.
        abstained_reasons: How many of these by reason, the most frequent first.
        verdict: Whether the images, taken together, are like the training data; None in a record
            of an earlier version.
        coverage: What --coverage asked for, None where not given.
        site: The site whose threshold and calibration were used, empty for the model's own.
        unused: What was asked for and not used, why, and what to do; empty where nothing was.
    """

    out: str
    model: str
    model_sha256: str
    threshold: float
    images: int
    scored: int
    positive: int
    rejected: int
    reasons: dict[str, int]
    reports: int = 0
    report_folder: str = ""
    abstained: int = 0
    abstained_reasons: dict[str, int] = Field(default_factory=dict)
    verdict: BatchVerdict | None = None
    coverage: float | None = None
    site: str = ""
    unused: str = ""

    @property
    def is_unlike(self) -> bool:
        """Whether the images, taken together, are not like the training data."""
        return self.verdict is not None and self.verdict.verdict == "unlike"

    @property
    def verdict_sentence(self) -> str:
        """The verdict in words, with a capital letter and without a full stop; "" for none."""
        if self.verdict is None:
            return ""
        sentence = self.verdict.sentence
        return sentence[0].upper() + sentence[1:]

    def sentence(self) -> str:
        """Return the counts in one sentence.

        >>> Predictions(out="p.csv", model="", model_sha256="", threshold=0.5, images=4, scored=3,
        ...             positive=1, rejected=1, reasons={"truncated": 1}).sentence()
        '3 scored (1 PNEUMONIA), 1 rejected (truncated: 1): p.csv'
        >>> Predictions(out="p.csv", model="", model_sha256="", threshold=0.5, images=3, scored=1,
        ...             positive=1, rejected=0, reasons={}, abstained=2,
        ...             abstained_reasons={"ambiguous": 2}).sentence()
        '1 scored (1 PNEUMONIA), 2 abstained (ambiguous: 2), 0 rejected: p.csv'
        """
        counts = f"{self.scored} scored ({self.positive} {LABEL_NAMES[1]}), "
        if self.abstained:
            counts += f"{self.abstained} abstained{_in_brackets(self.abstained_reasons)}, "
        counts += f"{self.rejected} rejected{_in_brackets(self.reasons)}: {self.out}"
        if not self.report_folder:
            return counts
        without = self.scored - self.reports
        gap = f" ({without} scored have none: not DICOM, or without its UIDs)" if without else ""
        return f"{counts}; {self.reports} structured reports{gap}: {self.report_folder}"


def _in_brackets(reasons: Mapping[str, int]) -> str:
    """Return counts by reason in brackets after a space, or an empty text."""
    if not reasons:
        return ""
    return f" ({', '.join(f'{reason}: {count}' for reason, count in reasons.items())})"


def count_predictions(
    table: pd.DataFrame,
    card: Card,
    out: str,
    **more: Any,
) -> Predictions:
    """Return the counts of the table of predictions.

    Args:
        table: The table.
        card: The model's card.
        out: The address of the table.
        more: Fields of the record that the table does not tell.
    """
    statuses = table["status"].value_counts()
    return Predictions(
        out=out,
        model=f"{card.architecture}, run {card.run}",
        model_sha256=card.model_sha256,
        threshold=float(table["threshold"].iloc[0]),
        images=len(table),
        scored=int(statuses.get("scored", 0)),
        positive=int((table["prediction"] == LABEL_NAMES[1]).sum()),
        rejected=int(statuses.get("rejected", 0)),
        reasons=count_reasons(table, "rejected"),
        abstained=int(statuses.get("abstained", 0)),
        abstained_reasons=count_reasons(table, "abstained"),
        **more,
    )


def count_reasons(table: pd.DataFrame, status: str) -> dict[str, int]:
    """Return how many images of a status there are by reason, the most frequent first."""
    texts = table.loc[table["status"] == status, "reason"]
    reasons = Counter(text.partition(":")[0] for text in texts)
    return dict(reasons.most_common())


def summary_address(out: str) -> str:
    """Return where the record goes: beside the table, under its name.

    >>> summary_address("s3://bucket/predictions.csv")
    's3://bucket/predictions.json'
    """
    folder, slash, name = out.rpartition("/")
    summary = PurePosixPath(name).with_suffix(".json").name
    if summary == name:
        summary = f"{name}.json"
    return f"{folder}{slash}{summary}"
