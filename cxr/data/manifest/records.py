"""The records of preprocessing: scan, shard, leakage, ingest."""

from cxr.core.records import Record
from cxr.core.settings import PixelSettings, ReadingSettings
from cxr.data.inverted_films.polarity import Reference
from cxr.data.labels.books import LabelBooks
from cxr.data.labels.corrections.records import LabelCorrections
from cxr.data.survey.account import FolderAccount

REJECT_REASONS = (
    "not_an_image",
    "unreadable",
    "truncated",
    "empty_file",
    "too_large",
    "unsupported_mode",
    "duplicate",
    "near_duplicate",
    "label_conflict",
    "ignored",
    "outside_root",
    "unknown_class",
    "nested_copy",
    "vanished",
    "excluded",
    "unknown_split",
    "mask",
    "negative",
    "too_small",
    "extreme_shape",
    "flat",
    "no_label",
    "other_view",
    "not_a_film",
    "no_pixels",
    "several_frames",
    "bad_tags",
)


class Scan(Record):
    """What a scan of DATA found.

    Attributes:
        data: Where DATA is.
        root: The folder of the data set, relative to DATA.
        found: How many files there are.
        images: How many of them are images to inspect.
        new: How many of those were not inspected before.
        shards: Names of the shards of new images.
        settings: How DATA is read.
        pixels: Which pixels the inspection keeps.
        folders: What becomes of the files of each folder.
        notes: What was given and not used, in sentences.
        labels: What became of the table of labels; None where folders say the classes.
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
    labels: LabelBooks | None = None


class Shard(Record):
    """One inspected batch of images: how many are good, and how many were rejected."""

    name: str
    images: int
    rejected: int


class Leakage(Record):
    """What the leakage gate counted.

    Attributes:
        patient_key: How patients are read from file names.
        readings: Patients that two of the final splits share, by each reading of the patient key.
        given: The same for the splits as they were given.
        near_pairs: Pairs of near-duplicates before the repair.
        source_pairs: Those of them between two of the given splits.
        removed: Images removed as near-duplicates.
        excluded: Images excluded because their patient is in another split.
        within_split: Pairs with both images in one final split; nothing is removed from test.
        pairs_left: Pairs across the final splits.
        patients_left: Patients across the final splits.
        without_patient: Images whose patient is not known.
        allowed: Whether the run continues in spite of leakage.
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
        """Whether no two splits share a near-duplicate or a patient."""
        return self.pairs_left == 0 and self.patients_left == 0


class Ingest(Record):
    """The counts of preprocessing: found = kept + the sum of `rejected`.

    Attributes:
        data: Where DATA is.
        root: The folder of the data set, relative to DATA.
        found: How many files there are.
        kept: How many rows clean_metadata.csv has, those with split `excluded` among them.
        rejected: How many files were rejected, by reason.
        newly_read: How many images this run inspected.
        splits: Images by split and label name.
        patients: Patients by split; an image without a known patient counts as one.
        patient_wise: Whether every patient is known, and in one split only.
        split_policy: How the splits were made, in words.
        leakage: What the leakage gate counted.
        differences: How the files differ from the known data set that was named, in sentences.
        manifest_sha256: SHA-256 of clean_metadata.csv.
        reading: How DATA was read.
        folders: What became of the files of each folder.
        notes: What was given and not used, in sentences.
        polarity: What an X-ray of train looks like, by which negatives are found; None where the
            images are too different to tell.
        labels: What became of the table of labels; None where folders say the classes.
        corrections: What became of labels that readers corrected; None where none were handed in.
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
    labels: LabelBooks | None = None
    corrections: LabelCorrections | None = None

    @property
    def doubts(self) -> str:
        """Why the split is not patient-wise, in words; empty where it is."""
        reasons = []
        if self.leakage.without_patient:
            unknown = self.leakage.without_patient
            reasons.append(f"no patient is known for {unknown:,} of {self.kept:,} images")
        if self.leakage.patients_left:
            reasons.append(f"{self.leakage.patients_left:,} patients are in two splits")
        return " and ".join(reasons)
