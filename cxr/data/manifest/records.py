"""The records of preprocessing: scan, shard, leakage, ingest."""

from cxr.core.formatting import printable as printable  # noqa: PLC0414 - others import it from here
from cxr.core.records import Record
from cxr.core.settings import LABEL_NAMES as LABEL_NAMES  # noqa: PLC0414 - others import it from here
from cxr.core.settings import PixelSettings, ReadingSettings
from cxr.data.negatives.polarity import Reference
from cxr.data.survey.account import FolderAccount

REJECT_REASONS = (
    "not_an_image", "unreadable", "truncated", "empty_file", "too_large", "unsupported_mode", "duplicate",
    "near_duplicate", "label_conflict", "ignored", "outside_root", "unknown_class", "nested_copy", "vanished",
    "excluded", "unknown_split", "mask", "negative", "too_small", "extreme_shape", "flat",
)  # fmt: skip


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
