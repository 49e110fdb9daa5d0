"""The account of corrected labels: what became of each answer of the readers."""

from datetime import date

from cxr.core.formatting import format_count
from cxr.core.settings import Strict

# What becomes of an answer; the closed list of label_corrections.csv.
OUTCOMES = {
    "corrected": "the label was changed",
    "confirmed": "the label is as the data set has it",
    "excluded": "the image was set aside",
    "repeated": "another row says the same of this image",
    "test": "test labels are never changed",
    "gone": "no image of this name is used any more",
    "several_images": "the name fits several images, so none",
    "other_content": "the file of this name shows another picture than the one that was read",
}
NOT_APPLIED = ("test", "gone", "several_images", "other_content")
COLUMNS = ["table", "row", "image", "given_label", "corrected_label", "reader", "date", "outcome"]


class LabelCorrections(Strict):
    """What became of tables of corrected labels.

    Attributes:
        tables: Their addresses.
        answers: How many rows have a corrected label.
        corrected: How many labels were changed, by "split: given to corrected label".
        confirmed: How many were found right.
        excluded: How many images were set aside, by split.
        repeated: How many answers say what another one says of the same image.
        not_applied: How many were not applied, by outcome.
        readers: How many of the applied ones are of each reader.
        first_day: The first day of an applied one; None where none was applied.
        last_day: The last one.
    """

    tables: tuple[str, ...]
    answers: int
    corrected: dict[str, int]
    confirmed: int
    excluded: dict[str, int]
    repeated: int
    not_applied: dict[str, int]
    readers: dict[str, int]
    first_day: date | None
    last_day: date | None

    def sentence(self) -> str:
        """Return in one sentence how many labels were corrected, by whom and when."""
        corrected = sum(self.corrected.values())
        excluded = sum(self.excluded.values())
        counts = f"{format_count(corrected, 'labels')} corrected"
        if self.corrected:
            parts = (f"{count:,} in {change}" for change, count in self.corrected.items())
            counts += f" ({', '.join(parts)})"
        counts += f", {self.confirmed:,} confirmed, {format_count(excluded, 'images')} set aside"
        if self.first_day is not None:
            readers = " and ".join(f"{name} ({count:,})" for name, count in self.readers.items())
            counts += f"; read by {readers}, {self.first_day} to {self.last_day}"
        unused = sum(self.not_applied.values())
        if unused:
            counts += f"; {format_count(unused, 'answers')} not applied"
        return counts
