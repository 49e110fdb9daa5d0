"""formats.json: each file that another runtime reads, and the proof that it decides as the model does."""

from pathlib import Path
from typing import Literal

from cxr.core.formatting import describe_p_value
from cxr.core.records import Versioned
from cxr.core.settings import Strict
from cxr.models.training.records import Training
from cxr.stats.comparison import Difference, Disagreement
from cxr.stats.intervals import Interval

NAME = "formats.json"
SCORES_NAME = "scores_test_formats.csv"
"""Of each format and test image: file, image, raw_score, score and status."""
Precision = Literal["float32", "float16", "int8"]


class Comparison(Strict):
    """A format of reduced precision against the model, on the same test images.

    Attributes:
        auroc: The AUROC of the format minus that of the model; None with fewer than two patients of
            a class.
        decisions: On how many images each is right, scope left aside.
        newly_missed: The share of PNEUMONIA images that the model calls positive and the format does not.
        newly_positive: The share of NORMAL images that the format calls positive and the model does not.
        newly_judged: The share of images that one of both abstains from and the other does not.
    """

    auroc: Difference | None
    decisions: Disagreement
    newly_missed: Interval
    newly_positive: Interval
    newly_judged: Interval

    def sentence(self) -> str:
        """Return the tests and intervals, without a full stop."""
        parts = []
        if self.auroc is not None:
            ends = ""
            if self.auroc.low is not None and self.auroc.high is not None:
                ends = f" (95 % interval {self.auroc.low:.4f} to {self.auroc.high:.4f}, DeLong)"
            parts.append(f"AUROC {self.auroc.difference:+.5f}{ends}")
        parts.append(
            f"right on {self.decisions.only_a} images where the model is wrong, wrong on "
            f"{self.decisions.only_b} where it is right (McNemar {describe_p_value(self.decisions.p)})"
        )
        shares = {
            "newly missed": self.newly_missed,
            "newly positive": self.newly_positive,
            "abstention changed": self.newly_judged,
        }
        for name, interval in shares.items():
            parts.append(f"{name} {interval.low:.1%} to {interval.high:.1%} of {interval.images}")
        return "; ".join(parts)


class Agreement(Strict):
    """How far a format and the model agree on the test images.

    Attributes:
        images: How many test images were scored.
        largest_difference: The largest difference of a calibrated score.
        decisions_changed: On how many images one score is at or above the threshold and the other is not.
        abstentions_changed: On how many images one of both abstains and the other does not.
        nearest_threshold: The smallest distance of a score of the model from the threshold.
        comparison: Tests and intervals; None for float32, which has to agree on every image.
    """

    images: int
    largest_difference: float
    decisions_changed: int
    abstentions_changed: int
    nearest_threshold: float
    comparison: Comparison | None


class Format(Strict):
    """One file that another runtime reads.

    Attributes:
        name: The format: onnx, litert or savedmodel.
        precision: Of its weights.
        file: Its name in the export folder.
        published: Whether it is there.
        reason: Why it is not; empty where it is.
        sha256: Of the file; of a folder, of the list of its files' digests and names.
        bytes: Its size.
        runtime: What ran it in the proof, with the version.
        milliseconds: What an image takes there, scope included, one image at a time; the median.
        films: How many films were read by reader.py to the very pixels that the model was tested with.
        films_note: Why it was none, or not all; empty where nothing is to be said.
        agreement: With the model; None where it was not converted or did not run.
    """

    name: str
    precision: Precision
    file: str
    published: bool = False
    reason: str = ""
    sha256: str = ""
    bytes: int = 0
    runtime: str = ""
    milliseconds: float = 0.0
    films: int = 0
    films_note: str = ""
    agreement: Agreement | None = None

    @property
    def is_required(self) -> bool:
        """Whether an export that asked for the format is wrong without this file."""
        return self.precision == "float32"

    def sentence(self) -> str:
        """Return what became of the file, without a full stop."""
        if not self.published:
            return f"{self.file} is not published: {self.reason}"
        assert self.agreement is not None  # it was proven
        return (
            f"{self.file}: {self.bytes / 1e6:.1f} MB, {self.milliseconds:.1f} ms an image in {self.runtime}; "
            f"of {self.agreement.images} test images {self.agreement.decisions_changed} decisions and "
            f"{self.agreement.abstentions_changed} abstentions differ, scores by at most "
            f"{self.agreement.largest_difference:.1e}"
        )


class FormatTest(Versioned):
    """formats.json of a run.

    Attributes:
        model_sha256: The model's, from which the files were made.
        threshold: The lowest score that counts as positive.
        arrays_sha256: Of scope.npz; empty where the model does not know its scope.
        scores_sha256: Of scores_test_formats.csv.
        formats: Each file that was asked for, published or not.
    """

    model_sha256: str
    threshold: float
    arrays_sha256: str
    scores_sha256: str
    formats: tuple[Format, ...]

    def is_of(self, training: Training, arrays_sha256: str) -> bool:
        """Return whether this is of that very model at its operating point, with this scope."""
        is_same_model = self.model_sha256 == training.model_sha256
        return (
            is_same_model
            and self.threshold == training.threshold
            and self.arrays_sha256 == arrays_sha256
        )


def read_formats(run: Path) -> tuple[Format, ...]:
    """Return what a run's card says of files for other runtimes; none where none was asked for."""
    test = read_format_test(run)
    return test.formats if test else ()


def read_format_test(run: Path) -> FormatTest | None:
    """Return formats.json of a run, None where no other format was asked for."""
    path = run / NAME
    return FormatTest.read(path) if path.is_file() else None
