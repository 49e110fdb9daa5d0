"""Challenger against champion on the same test images.

Both are scored in the same way and compared by paired tests, each with the threshold and the
calibration of its own card. The promotion itself is in `registry`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.core.parallel import usable_cores
from cxr.core.records import Versioned
from cxr.data.images import pixel_cache
from cxr.data.patients.hidden_storage import open_data
from cxr.models import runs, scoring
from cxr.models.compute import worker
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.scope import read_scope
from cxr.models.scope.judging import score_and_judge
from cxr.models.scope.opened_model import open_model
from cxr.results.cards.model_card import Card, read_card
from cxr.results.evaluation.abstention.measurement import read_judgements
from cxr.results.evaluation.in_scope import RATE, judgement_table
from cxr.serving.retraining import challenge_rule
from cxr.stats import comparison, intervals, metrics
from cxr.stats.comparison import Difference, Disagreement, Subset
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics, Vector
from cxr.stats.subgroups import TOO_FEW


class Side(NamedTuple):
    """One model on the test images.

    Attributes:
        version: Its version in the registry.
        card: Its model card.
        scores: Its rows, as in scores_test.csv.
        judgements: Of each image scope_p, status and reason, as in scope_test.csv, in any order;
            None for a model that does not know its scope.
    """

    version: str
    card: Card
    scores: pd.DataFrame
    judgements: pd.DataFrame | None = None

    def count_referred(self) -> int | None:
        """Return how many of the images it abstains from, None if it does not know its scope."""
        if self.judgements is None:
            return None
        statuses = self.judgements.set_index("image")["status"].loc[self.scores["image"]]
        return int((statuses == "abstained").sum())


class Challenge(Versioned):
    """A challenger's comparison with the champion, and the verdict of the rule.

    All metrics are of the compared images. Fields about the champion are None or empty where
    there is none.

    Attributes:
        challenger: The challenger's version.
        champion: The champion's version.
        manifest_sha256: The manifest that the test images are from.
        rule: The rule in words.
        promote: Whether the rule makes the challenger the champion.
        reason: Why.
        images: How many test images there are.
        seen: How many of them show a picture or a patient that the champion had in training; None
            where that is not known.
        compared: How many of them are compared.
        challenger_figures: The challenger's metrics.
        challenger_intervals: Their 95 % intervals; None where one is not estimable.
        champion_figures: The champion's metrics.
        champion_intervals: Their 95 % intervals.
        auroc: DeLong's test of challenger minus champion.
        decisions: McNemar's tests of the predictions, over all images and over each class.
        challenger_referred: How many of the compared images the challenger refers to a person as
            out of its scope; all metrics count them by their scores. None where it does not know
            its scope.
        champion_referred: The same of the champion.
        audit: The AUROC that each non-clinical baseline reaches on the challenger's test images.
            It is shown; the rule does not use it.
    """

    challenger: str
    champion: str | None
    manifest_sha256: str
    rule: str = challenge_rule.RULE
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
    challenger_referred: int | None = None
    champion_referred: int | None = None


def compare_with_champion(
    challenger: Side,
    champion: Side | None,
    seen: Vector | None = None,
) -> Challenge:
    """Compare a challenger with the champion by `challenge_rule.RULE`.

    Args:
        challenger: The new model on the test images.
        champion: The present champion on the same images, None where there is none.
        seen: Which test images the champion knew from its training, bool (n,); None where that is
            not known.

    Raises:
        DataError: The two were not scored on the same images, or a class is missing.
    """
    count = len(challenger.scores)
    if champion is not None:
        _require_same_images(challenger, champion)
    is_compared = _select_images(challenger.scores["label"].to_numpy(), seen)
    challenger = challenger._replace(scores=challenger.scores[is_compared])
    challenger_metrics, challenger_intervals = _measure(challenger)
    champion_metrics = None
    champion_intervals = None
    auroc = None
    decisions: tuple[Disagreement, ...] = ()
    if champion is not None:
        champion = champion._replace(scores=champion.scores[is_compared])
        champion_metrics, champion_intervals = _measure(champion)
        auroc = _compare_aurocs(challenger, champion)
        decisions = _compare_decisions(challenger, champion)
    objection = challenge_rule.find_objection(challenger_metrics, champion_metrics, decisions)
    compared = int(is_compared.sum())
    seen_count = None if seen is None else int(seen.sum())
    challenger_referred = challenger.count_referred()
    champion_referred = champion.count_referred() if champion else None
    sentences = [
        objection or challenge_rule.describe_success(champion is not None),
        challenge_rule.describe_metrics(challenger_metrics, champion_metrics, auroc, decisions),
        challenge_rule.describe_seen(seen_count or 0, compared, count),
        challenge_rule.describe_referred(challenger_referred, champion_referred, compared),
    ]
    baselines = challenger.card.audit.floors
    return Challenge(
        challenger=challenger.version,
        champion=champion.version if champion else None,
        manifest_sha256=challenger.card.data.manifest_sha256,
        promote=not objection,
        reason=" ".join(filter(None, sentences)),
        images=count,
        seen=seen_count,
        compared=compared,
        challenger_figures=challenger_metrics,
        challenger_intervals=challenger_intervals,
        champion_figures=champion_metrics,
        champion_intervals=champion_intervals,
        auroc=auroc,
        decisions=decisions,
        audit={baseline.signal: baseline.test.auroc for baseline in baselines},
        challenger_referred=challenger_referred,
        champion_referred=champion_referred,
    )


def _require_same_images(challenger: Side, champion: Side) -> None:
    """Raise DataError where two models were scored on different images, or in another order."""
    if list(champion.scores["image"]) != list(challenger.scores["image"]):
        raise DataError(
            f"expected both models scored on the same {len(challenger.scores)} test images, "
            f"found others for {champion.version}: score it again"
        )


def _select_images(labels: Vector, seen: Vector | None) -> Vector:
    """Return which test images are compared, bool (n,).

    Those that the champion did not know, or all where too few of a class would be left.
    """
    everything = np.ones(len(labels), bool)
    if seen is None:
        return everything
    for label in (0, 1):
        left = int((~seen & (labels == label)).sum())
        if left < TOO_FEW:
            return everything
    return ~seen


def _measure(side: Side) -> tuple[Metrics, dict[str, Interval | None]]:
    """Return a model's metrics at its own threshold, and their intervals."""
    labels = side.scores["label"].to_numpy()
    scores = side.scores["score"].to_numpy()
    patients = side.scores["patient_id"].to_numpy()
    threshold = side.card.threshold
    ends = intervals.bootstrap_intervals(labels, scores, patients, threshold)
    return metrics.compute_metrics(labels, scores, threshold), ends


def _compare_aurocs(challenger: Side, champion: Side) -> Difference | None:
    """Return DeLong's test by patient, or None where it is not estimable."""
    try:
        return comparison.delong(
            challenger.scores["label"].to_numpy(),
            challenger.scores["score"].to_numpy(),
            champion.scores["score"].to_numpy(),
            challenger.scores["patient_id"].to_numpy(),
        )
    except DataError:
        return None


def _compare_decisions(challenger: Side, champion: Side) -> tuple[Disagreement, ...]:
    """Return McNemar's tests of the predictions, over all images and over each class."""
    labels = challenger.scores["label"].to_numpy()
    challenger_predictions = _predictions(challenger)
    champion_predictions = _predictions(champion)
    subsets: tuple[Subset, ...] = ("all", "positive", "negative")
    return tuple(
        comparison.mcnemar(labels, challenger_predictions, champion_predictions, subset)
        for subset in subsets
    )


def _predictions(side: Side) -> Vector:
    """Return a model's predictions at its own threshold, int (n,), 0 or 1."""
    return (side.scores["score"] >= side.card.threshold).to_numpy().astype(int)


def score_champion(
    export: Path,
    rows: pd.DataFrame,
    work: Path,
    out: Path,
    on_images: Callable[[int, int], None] = lambda *_: None,
) -> Side:
    """Score the test images of the work folder with an exported model, in a worker process.

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
        TrainingError: The worker process died.
    """
    card = read_card(export)
    ingest = runs.read_ingest(work)
    data = open_data(ingest.data, ingest.reading.follow_links)
    cache = pixel_cache.fill_pixel_cache(rows, data, card.image_size, card.settings.harmonise, work)
    job = ScoringJob(export=export, manifest=work / "clean_metadata.csv", pixels=cache, out=out)
    log = out.with_suffix(".log")

    def on_progress(progress: Progress) -> None:
        on_images(int(progress.done), len(rows))

    worker.run_job(job, log, usable_cores(), on_progress)
    log.unlink(missing_ok=True)
    return Side(
        version=export.name,
        card=card,
        scores=read_table(out),
        judgements=read_judgements(out.parent, _judgements_path(out).name),
    )


def _judgements_path(out: Path) -> Path:
    """Return where the judgements of the images go whose scores go to `out`."""
    return out.with_name(f"{out.stem}-scope.csv")


def test_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the test images of a manifest, numbered from 0."""
    return manifest[manifest["split"] == "test"].reset_index(drop=True)


class ScoringJob(Job):
    """Score the test images with an exported model.

    Attributes:
        export: The export folder of the model.
        manifest: clean_metadata.csv.
        pixels: The folder of the pixel cache that holds the test images.
        out: Where the rows go, in the columns of scores_test.csv; beside it go the judgements of a
            model that knows its scope.
    """

    export: Path
    manifest: Path
    pixels: Path
    out: Path

    def work(self, emit: Emit) -> None:
        """Load the model, score and judge the cached test images, publish the rows."""
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
        judgements = _judgements_path(self.out)
        judgements.unlink(missing_ok=True)  # of another day
        scope = read_scope(self.export)
        if scope is None:
            raw = scoring.score_images(model, stored, np.arange(len(rows)), on_images=count)
        else:
            judged = score_and_judge(scope, open_model(model), stored, RATE, count)
            raw = judged.raw
            write_table(judgement_table(rows, judged.judgements), judgements)
        scoring.write_scores(rows, raw, card.calibration.apply(raw), self.out)
