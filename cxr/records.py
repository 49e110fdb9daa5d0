"""The small frozen records that travel between tasks, and how records and tables reach the disk whole.

A record is written last, under a temporary name and renamed: its presence means that its stage is done.
"""

import contextlib
import csv
import errno
import hashlib
import json
import operator
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import Field, ValidationError

import cxr
from cxr.account import FolderAccount
from cxr.calibration import Calibration, Quality
from cxr.errors import DataError, StorageError
from cxr.intervals import Interval
from cxr.metrics import Figures
from cxr.operating import OperatingPoint
from cxr.paired import Difference, Disagreement
from cxr.polarity import Reference
from cxr.settings import LABEL_NAMES as LABEL_NAMES  # noqa: PLC0414 - others import it from here
from cxr.settings import PixelSettings, ReadingSettings, Strict
from cxr.subgroups import Subgroup
from cxr.text import printable as printable  # noqa: PLC0414 - others import it from here

SPLITS = ("train", "val", "test")
EXCLUDED = "excluded"  # the split of rows set aside because their patient is in another one
REJECT_REASONS = (
    "not_an_image", "unreadable", "truncated", "empty_file", "too_large", "unsupported_mode", "duplicate",
    "near_duplicate", "label_conflict", "ignored", "outside_root", "unknown_class", "nested_copy", "vanished",
    "excluded", "unknown_split", "mask", "negative", "too_small", "extreme_shape", "flat",
)  # fmt: skip
_NUMBERS = {
    **dict.fromkeys(
        ("label", "width", "height", "bytes", "size", "icc", "exif", "bit_depth", "inverted"),
        "int64",
    ),
    **dict.fromkeys(("mean", "std", "score", "raw_score", "distance", "correlation"), "float64"),
}


class Record(Strict):
    """A frozen model that lives in a JSON file."""

    def write(self, path: Path) -> Self:
        """Publish the record whole at `path`; return it."""
        with publishing(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the record at `path`; raises FileNotFoundError, DataError where it is none."""
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, data: bytes, place: str) -> Self:
        """Return the record in a file's bytes; DataError, which names `place`, where it is none."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = "".join(f"{part}: " for part in first["loc"])
            raise DataError(
                f"{place} cannot be read: {field}{first['msg']}: it is damaged, or of another version: make it again"
            ) from error


SCHEMA = 2  # of the card, of export.json and of the registry's records; cxr 0.1 wrote none: 1


class Versioned(Record):
    """A record that other versions of cxr read: its file carries the version of its layout."""

    schema_version: int = SCHEMA

    @classmethod
    def parse(cls, data: bytes, place: str) -> Self:
        """Return the record in a file's bytes, whatever known version of its layout they have.

        Args:
            data: The file's bytes.
            place: What the file is called in an error.

        Raises:
            DataError: The layout is newer than this version of cxr knows, or the record is damaged
                or too old to be read.
        """
        try:
            content = json.loads(data)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            return super().parse(data, place)  # which says what is wrong with it
        found = content.get("schema_version", 1)
        if not isinstance(found, int) or found < 1:
            raise DataError(
                f"{place} cannot be read: expected a schema version from 1 to {SCHEMA}, "
                f"found {found!r}: it is damaged: make it again"
            )
        if found > SCHEMA:
            raise DataError(
                f"{place} has schema version {found}, and cxr {cxr.__version__} reads "
                f"those up to {SCHEMA}: use the version of cxr that wrote it, or a newer one"
            )
        if found < SCHEMA:
            content = cls.upgrade(content) | {"schema_version": SCHEMA}
        return super().parse(json.dumps(content).encode(), place)

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Return the content of a file of an earlier schema version in the layout of this one."""
        return old


class Scan(Record):
    """What a listing found. `root` is relative to DATA; `new` counts files not inspected before.

    `settings` say how DATA is read, `pixels` which pixels inspection keeps, `folders` what becomes of the files of each folder, `notes` what was given and fits
    nothing, in sentences.
    """

    data: str
    root: str
    found: int
    images: int
    new: int
    shards: tuple[str, ...] = ()
    settings: ReadingSettings = ReadingSettings()
    pixels: PixelSettings = PixelSettings()
    folders: tuple[FolderAccount, ...] = ()
    notes: tuple[str, ...] = ()


class Shard(Record):
    """One inspected batch of images."""

    name: str
    images: int
    rejected: int


class Leakage(Record):
    """What the gate saw. `readings`: patients that two splits share, by each reading of the patient key.

    `given` is the same by the splits as they came. near_pairs were found before the repair, source_pairs of them
    between two of the given splits; removed images went as near copies, excluded ones because their patient is in another split; pairs_left and
    patients_left are across the final splits, within_split pairs are both in one (of test nothing is removed).
    """

    patient_key: str
    readings: dict[str, dict[str, int]]
    given: dict[str, dict[str, int]]
    near_pairs: int
    source_pairs: int
    removed: int
    excluded: int
    within_split: int
    pairs_left: int
    patients_left: int
    without_patient: int
    allowed: bool

    @property
    def clean(self) -> bool:
        """Return whether no near copy and no patient is in two splits."""
        return self.pairs_left == 0 and self.patients_left == 0


class Ingest(Record):
    """The books of preprocessing: found = kept + the sum of `rejected`.

    `kept` counts the rows of clean_metadata.csv, those with split `excluded` among them. `reading` says how DATA was
    read, `folders` what became of the files of each folder, `notes` what was given and not used, in sentences.
    `polarity` is what a film of train looks like, by which negatives are found; None where no film is like another.
    """

    data: str
    root: str
    found: int
    kept: int
    rejected: dict[str, int]
    newly_read: int
    splits: dict[str, dict[str, int]]
    patients: dict[str, int]
    patient_wise: bool
    split_policy: str
    leakage: Leakage
    differences: tuple[str, ...] = ()
    manifest_sha256: str
    reading: ReadingSettings = ReadingSettings()
    folders: tuple[FolderAccount, ...] = ()
    notes: tuple[str, ...] = ()
    polarity: Reference | None = None

    @property
    def doubts(self) -> str:
        """Return why the split is not patient-wise, in words; "" where it is."""
        reasons = []
        if self.leakage.without_patient:
            reasons.append(
                f"no patient is known for {self.leakage.without_patient:,} of {self.kept:,} images"
            )
        if self.leakage.patients_left:
            reasons.append(f"{self.leakage.patients_left:,} patients are in two splits")
        return " and ".join(reasons)


class Stage(Strict):
    """What one stage of work took.

    `memory` is the peak of the process that did it, in MB, None where it was not measured.
    """

    name: str
    images: int
    seconds: float
    # Records of version 0.1 hold the images per second of a benchmark: read, but not kept.
    limit: float | None = Field(None, exclude=True, repr=False)
    memory: float | None = None

    @property
    def rate(self) -> float | None:
        """Return images per second, or None where nothing had to be done."""
        return self.images / self.seconds if self.images and self.seconds else None


class Training(Record):
    """One trained model, named as its folder is. Figures are of the validation set at its operating point.

    `milliseconds` is the measured time to score one image, on this machine beside the other trainings.
    """

    name: str
    architecture: str
    seed: int
    weights: str
    weights_sha256: str
    image_size: int
    epochs: int
    best_epoch: int
    seconds: float
    stages: tuple[Stage, ...] = ()  # cards of earlier versions have none
    images_per_second: float
    milliseconds: float
    calibration: Calibration
    calibration_quality: Quality
    operating_point: OperatingPoint
    val: Figures
    val_intervals: dict[str, Interval | None]
    model_sha256: str
    optimizer_sha256: str
    versions: dict[str, str]

    @property
    def threshold(self) -> float:
        """Return the calibrated score from which on an image is called PNEUMONIA."""
        return self.operating_point.threshold


class Failure(Record):
    """A training that ended without a model."""

    name: str
    architecture: str
    error: str


class Versus(Strict):
    """A candidate against the model with the best validation AUROC, tested on the same images.

    auroc_p and decisions_p are corrected for the number of candidates (Holm); None where not estimable.
    """

    name: str
    auroc: Difference | None
    decisions: Disagreement
    auroc_p: float | None
    decisions_p: float | None
    verdict: str


class Stability(Strict):
    """One architecture over several seeds: validation AUROC (mean, standard deviation, ends) and its rank by seed."""

    architecture: str
    auroc: tuple[float, ...]
    mean: float
    std: float | None
    ranks: tuple[int, ...]


class Selection(Record):
    """The chosen model, by validation figures alone; `best` is the one with the highest validation AUROC."""

    name: str
    architecture: str
    best: str
    rule: str
    reason: str
    threshold: float
    eligible: tuple[str, ...]
    versus: tuple[Versus, ...]
    stability: tuple[Stability, ...]
    failed: dict[str, str]


class Evaluation(Record):
    """The chosen model on the test set, scored once, and its proof of a whole export."""

    architecture: str
    model_sha256: str
    threshold: float
    test: Figures
    intervals: dict[str, Interval | None]
    calibration_quality: Quality
    subgroups: tuple[Subgroup, ...]
    reload_max_difference: float
    reload_images: int
    optimizer_equal: bool
    scores_sha256: str

    def is_of(self, training: Training) -> bool:
        """Return whether this is the evaluation of that very model at its operating point."""
        return (self.model_sha256, self.threshold) == (training.model_sha256, training.threshold)


class Export(Versioned):
    """Where the finished run's outputs are."""

    run: str
    model: str
    card: str
    report: str
    sha256: str


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it there at the end, or remove it on an error.

    Raises StorageError where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        # NumPy has no number for it, only "409600 requested and 388992 written".
        if error.errno not in {errno.ENOSPC, errno.EDQUOT} and not str(error).endswith(" written"):
            raise
        raise StorageError(
            f"{path}: No space left on device: the disk is full ({shutil.disk_usage(path.parent).free / 1e6:.0f} MB free): make "
            "room, for example with `cxr cache prune`, and run again: it goes on where it was"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Publish a table as CSV. File names that are not UTF-8 keep their bytes (surrogateescape)."""
    # csv in Python 3.11 leaves a lone carriage return unquoted, and would then read it as a line's end.
    texts = table.select_dtypes(exclude="number")
    odd = any("\r" in text for name in texts for text in texts[name] if isinstance(text, str))
    with publishing(path) as temporary:
        table.to_csv(
            temporary,
            index=False,
            encoding="utf-8",
            errors="surrogateescape",
            quoting=csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL,
            lineterminator="\n",
            na_rep="nan",
        )


def read_table(path: Path, only: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a table written by `write_table`: text stays text ("NA", "007", ""), known numbers are numbers.

    Args:
        path: The file.
        only: The columns to keep, in this order; all of them where it is None.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The file is empty, lacks a column, or has a cell that is no number where one is expected.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows: Iterator[Sequence[str]] = csv.reader(file)
        columns = list(next(rows, ()))
        if not columns:
            raise DataError(
                f"{path}: expected a table with a line of column names, found an empty file"
            )
        try:
            if only is not None:
                rows = map(operator.itemgetter(*map(columns.index, only)), rows)
                columns = list(only)
            # One object for all cells of the same word: most columns have few.
            known: dict[str, str] = {}
            cells = [
                [known.setdefault(cell, cell) if len(cell) < 16 else cell for cell in row]
                for row in rows
            ]
            table = pd.DataFrame(cells, columns=columns, dtype=object)
            return table.astype({name: kind for name, kind in _NUMBERS.items() if name in columns})
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path}: expected numbers and as many cells as columns in every row: {error}"
            ) from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any) -> Any:
    """Return `value` with NumPy numbers made plain, for JSON."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value.item() if hasattr(value, "item") else value
