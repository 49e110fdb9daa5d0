"""The record of a label review: what was scored, by what, and how many labels are disputed."""

from datetime import datetime

from cxr.core.formatting import format_count, format_percent
from cxr.core.records import Record

NAME = "label_review.json"


class LabelReview(Record):
    """labels/label_review.json.

    Attributes:
        made: When.
        version: Of this product.
        run: The run whose features, settings and test scores were used.
        architecture: The network whose pooled features were used.
        manifest_sha256: SHA-256 of the clean_metadata.csv whose labels were reviewed.
        images: How many images of train and validation were scored.
        auroc: Out-of-fold AUROC on them, by the labels as they are.
        disputed: How many labels confident learning takes for wrong, by label name.
        answered: How many images have an answer of a reader already; they are listed last.
        films: How many films of train and validation the page shows.
        test_images: How many test images are listed; 0 where the run is not exported.
        test_films: How many test films the page shows.
    """

    made: datetime
    version: str
    run: str
    architecture: str
    manifest_sha256: str
    images: int
    auroc: float
    disputed: dict[str, int]
    answered: int
    films: int
    test_images: int
    test_films: int

    def sentence(self) -> str:
        """Return in one sentence how many labels are disputed, and how many films are shown."""
        disputed = sum(self.disputed.values())
        by_label = " and ".join(f"{count:,} {name}" for name, count in self.disputed.items())
        return (
            f"{format_count(disputed, 'labels')} of {self.images:,} ({format_percent(disputed / self.images)})"
            f" in train and validation are disputed: {by_label}; the page shows the first "
            f"{format_count(self.films, 'films')}"
        )
