"""The account of a table of labels: what became of its rows, and of the images."""

from cxr.core.settings import Strict

# Why a row labels no image alone, or not as the folders say; the closed list of label_rows.csv.
ROW_PROBLEMS = {
    "no_image": "no image of this name was found",
    "several_images": "the name fits several images, so none: write the folders before it",
    "repeated": "the image has an earlier row, with which it counts together",
    "conflict": "the folders say otherwise; the table is right",
}
ROW_COLUMNS = ["row", "image", "problem", "detail"]


class LabelBooks(Strict):
    """What became of a table of labels: rows = used + rows_without_image + rows_of_several_images.

    Attributes:
        table: Its address.
        collection: nih, rsna, vindr, chexpert, mimic or csv.
        title: What the collection is called.
        rule: How several rows, boxes or readers of one image are settled, in words.
        positive: Findings that are PNEUMONIA.
        negative: Findings that are NORMAL; `others` alone: every image without a positive one.
        uncertain: What an uncertain finding counts as.
        rows: How many rows it has.
        used: How many of them name an image, or a study with images.
        rows_without_image: How many name none.
        rows_of_several_images: How many have a name that fits several images, so none.
        repeated: How many of the used ones have an image that an earlier row names, too.
        images: How many images there are that a label is looked for.
        labelled: How many of them the table labels, by label name.
        without_row: How many have no row: what their folders say counts for them.
        without_label: How many have a row and no label, by what keeps it from being one.
        conflicts: How many of the labelled ones lie in a folder of the other class.
        findings: How many rows of the whole table name each finding.
        uncertain_findings: How many are uncertain of it.
        notes_of_table: What of the table could not be used, in sentences.
    """

    table: str
    collection: str
    title: str
    rule: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    uncertain: str
    rows: int
    used: int
    rows_without_image: int
    rows_of_several_images: int
    repeated: int
    images: int
    labelled: dict[str, int]
    without_row: int
    without_label: dict[str, int]
    conflicts: int = 0
    findings: dict[str, int]
    uncertain_findings: dict[str, int]
    notes_of_table: tuple[str, ...] = ()

    def contrast(self) -> str:
        """Return what the model learns to tell apart, in words."""
        positive = " or ".join(self.positive)
        if self.negative == ("others",):
            return f"{positive} against every film without, whatever else it shows"
        negative = " or ".join(self.negative)
        return f"{positive} against {negative}; films with other findings alone took no part"

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the results has to know, in sentences."""
        sentences = [
            f"labels from {self.table} ({self.title}): {self.contrast()}; "
            f"uncertain findings: {self.uncertain}; {self.rule}"
        ]
        if self.conflicts:
            sentences.append(
                f"{self.conflicts:,} images have another label in the table than by their folder: "
                "the table is right; label_rows.csv lists them"
            )
        if self.without_row:
            sentences.append(
                f"{self.without_row:,} of {self.images:,} images have no row in the table of "
                "labels: where no folder says their class, they are rejects (no_label)"
            )
        if self.without_label:
            reasons = [f"{count:,} {words}" for words, count in self.without_label.items()]
            sentences.append(f"images with a row and without a label: {', '.join(reasons)}")
        unused = [
            f"{count:,} {words}"
            for count, words in (
                (self.rows_without_image, "name no image"),
                (self.rows_of_several_images, "fit several images, so none"),
                (self.repeated, "are about an image that has an earlier row"),
            )
            if count
        ]
        if unused:
            sentences.append(
                f"of {self.rows:,} rows of labels {', '.join(unused)}: label_rows.csv lists them"
            )
        return (*sentences, *self.notes_of_table)
