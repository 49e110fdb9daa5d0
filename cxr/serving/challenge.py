"""Challenger against champion on the same test images: both scored by the same path, compared by paired tests.

Left out: any choice of threshold or calibration (each model brings its own in its card), and the promotion itself
(`registry`). Done by `child.run`: it scores the test images with an exported model.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.formatting import format_metric
from cxr.core.parallel import usable_cores
from cxr.core.records import Versioned
from cxr.data.images import pixel_cache
from cxr.models import runs, scoring
from cxr.models.compute import worker
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.selection import MIN_SPECIFICITY, SIGNIFICANT
from cxr.results.model_card import Card, read_card
from cxr.stats import comparison, intervals, metrics
from cxr.stats.comparison import Difference, Disagreement
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics, Vector
from cxr.stats.subgroups import TOO_FEW
from cxr.storage.addresses import open_storage

MIN_SENSITIVITY = 0.5
RULE = (
    "A challenger becomes champion when, on the test images at its own operating point, its sensitivity is at least "
    f"{MIN_SENSITIVITY} and its specificity at least {MIN_SPECIFICITY}, and when, on the same test images, its AUROC is not lower than "
    f"the champion's and its decisions are not significantly worse (McNemar, exact, p < {SIGNIFICANT}); test images of which the "
    f"champion saw the picture or the patient in training are left out of the comparison where {TOO_FEW} of each class remain; where "
    "there is no champion, sensitivity and specificity alone decide; in every other case the champion stays."
)


class Side(NamedTuple):
    """One model on the test images: its version, its card, and its rows as in scores_test.csv."""

    version: str
    card: Card
    scores: pd.DataFrame


class Challenge(Versioned):
    """A challenger's comparison with the champion, and what the rule says of it. Figures are of the compared images.

    `images` counts the test images, `seen` those whose picture or patient the champion had in training (None: not known),
    `compared` those behind every figure here. `auroc` and `decisions` (all, ill, healthy) are challenger minus champion;
    None and empty without a champion. `audit` is each floor's AUROC on the challenger's test images, shown, never a rule.
    """

    challenger: str
    champion: str | None
    manifest_sha256: str
    rule: str = RULE
    promote: bool
    reason: str
    images: int
    seen: int | None
    compared: int
    challenger_figures: Metrics
    challenger_intervals: dict[str, Interval | None]
    champion_figures: Metrics | None
    champion_intervals: dict[str, Interval | None] | None
    auroc: Difference | None
    decisions: tuple[Disagreement, ...]
    audit: dict[str, float | None]


def compare_with_champion(
    challenger: Side, champion: Side | None, seen: Vector | None = None
) -> Challenge:
    """Return the comparison by RULE. `seen` (bool, n) marks test images that the champion knew; None: not known.

    Raises DataError where the two were not scored on the same images, or a class is missing.
    """
    count = len(challenger.scores)
    if champion is not None and list(champion.scores["image"]) != list(challenger.scores["image"]):
        raise DataError(
            f"expected both models scored on the same {count} test images, found others for {champion.version}: score it again"
        )
    kept = _kept(challenger.scores["label"].to_numpy(), seen)
    new = challenger._replace(scores=challenger.scores[kept])
    old = champion._replace(scores=champion.scores[kept]) if champion is not None else None
    auroc, decisions = (_auroc(new, old), _decisions(new, old)) if old is not None else (None, ())
    figures, ends = _measured(new)
    theirs, their_ends = _measured(old) if old is not None else (None, None)
    problem = _problem(figures, theirs, decisions)
    words = f"{_outcome(figures, theirs, auroc, decisions)} {_about_seen(seen, kept)}".strip()
    return Challenge(
        challenger=challenger.version,
        champion=champion.version if champion else None,
        promote=not problem,
        manifest_sha256=challenger.card.data.manifest_sha256,
        reason=f"{problem or _WON[old is None]} {words}",
        images=count,
        seen=None if seen is None else int(seen.sum()),
        compared=int(kept.sum()),
        challenger_figures=figures,
        challenger_intervals=ends,
        champion_figures=theirs,
        champion_intervals=their_ends,
        auroc=auroc,
        decisions=decisions,
        audit={floor.signal: floor.test.auroc for floor in challenger.card.audit.floors},
    )


_WON = {
    False: "The challenger reaches the floors and is not worse than the champion.",
    True: "There is no champion yet, and the challenger reaches the floors.",
}


def _kept(labels: Vector, seen: Vector | None) -> Vector:
    """Return which test images are compared, bool (n,): those not seen, or all where too few of a class would be left."""
    everything = np.ones(len(labels), bool)
    if seen is None:
        return everything
    enough = all(int((~seen & (labels == label)).sum()) >= TOO_FEW for label in (0, 1))
    return ~seen if enough else everything


def _measured(side: Side) -> tuple[Metrics, dict[str, Interval | None]]:
    rows, threshold = side.scores, side.card.threshold
    labels, scores = rows["label"].to_numpy(), rows["score"].to_numpy()
    ends = intervals.bootstrap_intervals(labels, scores, rows["patient_id"].to_numpy(), threshold)
    return metrics.compute_metrics(labels, scores, threshold), ends


def _auroc(new: Side, old: Side) -> Difference | None:
    """Return DeLong's test by patient, or None where it is not estimable."""
    labels, patients = new.scores["label"].to_numpy(), new.scores["patient_id"].to_numpy()
    try:
        return comparison.delong(
            labels, new.scores["score"].to_numpy(), old.scores["score"].to_numpy(), patients
        )
    except DataError:
        return None


def _decisions(new: Side, old: Side) -> tuple[Disagreement, ...]:
    """Return McNemar's test of the predictions at each one's own threshold, over all images, the ill, the healthy."""
    a, b = (
        (side.scores["score"] >= side.card.threshold).to_numpy().astype(int) for side in (new, old)
    )
    labels = new.scores["label"].to_numpy()
    return tuple(comparison.mcnemar(labels, a, b, of) for of in ("all", "ill", "healthy"))


def _problem(figures: Metrics, theirs: Metrics | None, decisions: tuple[Disagreement, ...]) -> str:
    """Return why the rule keeps the champion, or an empty text."""
    for name, floor in (("sensitivity", MIN_SENSITIVITY), ("specificity", MIN_SPECIFICITY)):
        if (value := figures[name]) is None or value < floor:
            return f"The challenger's {name} is {format_metric(value)}, below the floor of {floor}."
    if theirs is None:
        return ""
    if (figures["auroc"] or 0.0) < (theirs["auroc"] or 0.0):
        return "The challenger's AUROC is lower than the champion's."
    overall = decisions[0]
    if overall.p is not None and overall.p < SIGNIFICANT and overall.only_b > overall.only_a:
        return "The challenger's decisions are significantly worse than the champion's."
    return ""


def _outcome(
    figures: Metrics,
    theirs: Metrics | None,
    auroc: Difference | None,
    decisions: tuple[Disagreement, ...],
) -> str:
    own = f"sensitivity {format_metric(figures['sensitivity'])}, specificity {format_metric(figures['specificity'])}, n = {figures['n']}"
    if theirs is None:
        return f"AUROC {format_metric(figures['auroc'], 4)}, {own}."
    p = chance(auroc.p if auroc else None)
    return (
        f"AUROC {format_metric(figures['auroc'], 4)} against {format_metric(theirs['auroc'], 4)} (DeLong p = {p}); {own}; right where the "
        f"champion is wrong on {decisions[0].only_a} images, wrong where it is right on {decisions[0].only_b} "
        f"(McNemar p = {chance(decisions[0].p)})."
    )


def chance(p: float | None) -> str:
    """Return a p value for people, or "not estimable".

    >>> chance(0.000123)
    '0.000123'
    """
    return "not estimable" if p is None else f"{p:.3g}"


def _about_seen(seen: Vector | None, kept: Vector) -> str:
    if seen is None or not seen.any():
        return ""
    words = f"The champion saw the picture or the patient of {int(seen.sum())} of {len(seen)} test images in training: "
    if not kept.all():
        return (
            words + f"they are left out, and the two are compared on the other {int(kept.sum())}."
        )
    return (
        words
        + f"fewer than {TOO_FEW} of a class would be left, so all are compared, which favours the champion."
    )


def score_champion(
    export: Path,
    rows: pd.DataFrame,
    work: Path,
    out: Path,
    on_images: Callable[[int, int], None] = lambda *_: None,
) -> Side:
    """Score the test images now in the work folder with an exported model, in a child process.

    The pixels have the side and the encoding of the model's own card.

    Args:
        export: The export folder.
        rows: The test images of the manifest.
        work: The work folder.
        out: Where the scores are written.
        on_images: Called with how many are scored, and of how many.

    Raises:
        ModelError: The export is not whole.
        DataError: Images changed.
        TrainingError: The child died.
    """
    card = read_card(export)
    data = open_storage(runs.read_ingest(work).data)
    cache = pixel_cache.fill_pixel_cache(rows, data, card.image_size, card.settings.harmonise, work)
    job = ScoringJob(export=export, manifest=work / "clean_metadata.csv", pixels=cache, out=out)
    log = out.with_suffix(".log")
    worker.run_job(
        job, log, usable_cores(), lambda progress: on_images(int(progress.done), len(rows))
    )
    log.unlink(missing_ok=True)
    return Side(version=export.name, card=card, scores=read_table(out))


def test_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the test images of a manifest, numbered from 0."""
    return manifest[manifest["split"] == "test"].reset_index(drop=True)


class ScoringJob(Job):
    """Score the test images with an exported model.

    Attributes:
        export: The export folder of the model.
        manifest: clean_metadata.csv.
        pixels: The folder of the pixel cache that holds the test images.
        out: Where the rows go, in the columns of scores_test.csv.
    """

    export: Path
    manifest: Path
    pixels: Path
    out: Path

    def work(self, emit: Emit) -> None:
        """Load the model, score the cached test images, publish the rows."""
        import keras

        card = read_card(self.export)
        rows = test_rows(read_table(self.manifest))
        model = keras.models.load_model(self.export / "model.keras", compile=False)
        done = 0

        def count(images: int) -> None:
            nonlocal done
            done += images
            emit(Progress(done=done))

        stored = pixel_cache.load_pixels(self.pixels, rows)
        raw = scoring.score_images(model, stored, np.arange(len(rows)), on_images=count)
        scoring.write_scores(rows, raw, card.calibration.apply(raw), self.out)
