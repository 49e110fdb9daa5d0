"""The scope of the selected model: learned beside the exported file, and tried on the test set."""

from pathlib import Path
from typing import Any

import pandas as pd

from cxr.core.files import file_sha256, read_table, write_table
from cxr.core.settings import ScopeSettings, Strict
from cxr.data.images import pixel_cache
from cxr.models.scope import Judgement, ScopeReference, read_scope, write_scope
from cxr.models.scope import reference as scope_files
from cxr.models.scope.judging import score_and_judge
from cxr.models.scope.learning import OnImages, choose_rows, learn_scope
from cxr.models.scope.opened_model import open_model
from cxr.models.scope.verdicts import describe_shortage
from cxr.models.training.records import Training
from cxr.results.evaluation.abstention.measurement import JUDGEMENTS_NAME, read_judgements
from cxr.stats.intervals import Interval, wilson_interval

RATE = ScopeSettings().scope_rate


class ScopeSummary(Strict):
    """What the card says of the scope.

    Attributes:
        method: How an image is judged, in words.
        train_images: How many images of train the reference holds.
        val_images: How many validation images p-values count.
        val_patients: Of how many patients.
        rate: The share of images in scope that may be called out of it, unless another is given.
        test_images: How many test images were judged.
        test_marked: How many of them are called out of scope.
        test_interval: The 95 % interval of their share.
        bytes: The size of scope.npz.
        seconds: What learning took.
        milliseconds: What measuring takes an image beside the network.
        arrays_sha256: The digest of scope.npz.
    """

    method: str
    train_images: int
    val_images: int
    val_patients: int
    rate: float
    test_images: int
    test_marked: int
    test_interval: Interval | None
    bytes: int
    seconds: float
    milliseconds: float
    arrays_sha256: str

    def sentence(self) -> str:
        """Return what was learned, how often it errs and what it costs, without a full stop."""
        interval = self.test_interval
        shortage = describe_shortage(self.val_patients, self.rate)
        ends = f", 95 % interval {interval.low:.2%} to {interval.high:.2%}" if interval else ""
        return (
            f"{self.method[0].upper()}{self.method[1:]}; learned from {self.train_images:,} train images and "
            f"{self.val_images:,} validation images of {self.val_patients:,} patients; at a rate of "
            f"{self.rate:g}, {self.test_marked} of {self.test_images} test images are called out of "
            f"scope{ends}; {self.bytes / 1e6:.1f} MB, {self.seconds:.0f} s at export, "
            f"{self.milliseconds:.1f} ms an image beside the network{f'; {shortage}' if shortage else ''}"
        )


def is_scoped(run: Path, training: Training) -> bool:
    """Return whether scope and judgements are there, of this very model."""
    path = run / "export" / scope_files.NAME
    if not path.is_file() or not (run / JUDGEMENTS_NAME).is_file():
        return False
    reference = ScopeReference.read(path)
    arrays = path.with_name(scope_files.ARRAYS_NAME)
    is_whole = arrays.is_file() and file_sha256(arrays) == reference.arrays_sha256
    return is_whole and reference.model_sha256 == training.model_sha256


def write_scope_test(
    run: Path,
    training: Training,
    table: pd.DataFrame,
    pixels: Path,
    model: Any,
    on_images: OnImages = lambda _: None,
) -> None:
    """Learn the scope of a model into export/, judge the test images by it.

    Writes scope.npz and scope.json, then scope_test.csv.

    Args:
        run: The run's folder.
        training: The record of the selected model.
        table: The manifest.
        pixels: The folder of the pixel cache.
        model: The exported model.
        on_images: Told how many more images are measured.
    """
    (run / JUDGEMENTS_NAME).unlink(missing_ok=True)  # those of another scope
    opened = open_model(model)
    chosen = choose_rows(table)
    scores = read_table(run / training.name / "scores_val.csv").set_index("image")["score"]
    scope = learn_scope(
        opened,
        chosen,
        scores.loc[chosen.val["image"]].to_numpy(),
        pixels,
        training.model_sha256,
        on_images,
    )
    write_scope(run / "export", scope)
    written = read_scope(run / "export")  # what a prediction will use
    assert written is not None
    test = table[table["split"] == "test"].reset_index(drop=True)
    images = pixel_cache.load_pixels(pixels, test)
    judged = score_and_judge(written, opened, images, RATE, on_images)
    write_table(judgement_table(test, judged.judgements), run / JUDGEMENTS_NAME)


def summarise_scope(run: Path) -> ScopeSummary | None:
    """Return what the card says of a run's scope, None where an earlier version learned none."""
    path = run / "export" / scope_files.NAME
    judgements = read_judgements(run)
    if judgements is None or not path.is_file():
        return None
    reference = ScopeReference.read(path)
    marked = int((judgements["status"] == "abstained").sum())
    return ScopeSummary(
        method=reference.method,
        train_images=reference.train_images,
        val_images=reference.val_images,
        val_patients=reference.val_patients,
        rate=RATE,
        test_images=len(judgements),
        test_marked=marked,
        test_interval=wilson_interval(marked, len(judgements)),
        bytes=reference.arrays_bytes,
        seconds=reference.seconds,
        milliseconds=reference.milliseconds,
        arrays_sha256=reference.arrays_sha256,
    )


def judgement_table(rows: pd.DataFrame, judgements: list[Judgement]) -> pd.DataFrame:
    """Return image, scope_p, status and reason of each row of a manifest.

    Args:
        rows: Rows of the manifest.
        judgements: Of each, whether it is in scope.
    """
    table = pd.DataFrame(judgements, columns=["status", "reason", "scope_p"])
    table["image"] = rows["image"].to_numpy()
    return table[["image", "scope_p", "status", "reason"]]
