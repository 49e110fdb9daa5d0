"""Score a site's sample with the exported model: as it is, and in the stress worlds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.files import file_sha256, read_table, write_table
from cxr.core.parallel import usable_cores
from cxr.data.images import pixel_cache
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.models import scoring, stress
from cxr.models.compute import worker
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.networks import model_surgery
from cxr.models.scope import read_scope
from cxr.models.scope.judging import score_and_judge
from cxr.models.scope.opened_model import open_model
from cxr.results.cards.model_card import Card, read_card
from cxr.results.evaluation.in_scope import RATE
from cxr.serving.sites.records import (
    NOT_MEASURED,
    REFERENCE_SCORES,
    SCORES,
    STATUS,
    WORLD_SCORES,
)
from cxr.stats.metrics import Vector

_ROWS = "rows.csv"


class SiteJob(Job):
    """Score a sample with an exported model.

    Attributes:
        export: The export folder of the model.
        rows: The table of the images, as in a manifest.
        pixels: The folder of the pixel cache that holds them.
        out: The folder that gets the tables of scores.
    """

    export: Path
    rows: Path
    pixels: Path
    out: Path

    def work(self, emit: Emit) -> None:
        """Load the model, score the images, publish scores_site.csv and scores_site_worlds.csv."""
        import keras

        card = read_card(self.export)
        rows = read_table(self.rows)
        model = model_surgery.fuse_batch_norm(keras.models.load_model(self.export / "model.keras"))
        done = 0

        def count(images: int) -> None:
            nonlocal done
            done += images
            emit(Progress(done=done))

        pixels = pixel_cache.load_pixels(self.pixels, rows)
        scope = read_scope(self.export)
        if scope is None:
            raw = scoring.score_images(model, pixels, np.arange(len(rows)), on_images=count)
        else:
            judged = score_and_judge(scope, open_model(model), pixels, RATE, count)
            raw = judged.raw
            rows = rows.assign(**{STATUS: [each.status for each in judged.judgements]})
        _write_scores(rows, raw, card, self.out / SCORES)
        chosen = rows.iloc[stress.choose_images(rows, np.arange(len(rows)))]
        shown = pixel_cache.load_pixels(self.pixels, chosen)
        worlds = stress.score_worlds(model, shown, list(chosen["pixel_sha256"]), count)
        stress.write_world_scores(chosen, worlds, self.out / WORLD_SCORES)


def _write_scores(
    rows: pd.DataFrame,
    raw: Vector,
    card: Card,
    path: Path,
) -> None:
    """Write the table of scores; with whether images are in scope, where the model can tell."""
    scoring.write_scores(rows, raw, card.calibration.apply(raw), path)
    if STATUS in rows:
        write_table(read_table(path).assign(**{STATUS: rows[STATUS].to_numpy()}), path)


def passes(images: int) -> int:
    """Return how often an image is scored in all, about: whole patients may be a few fewer.

    Args:
        images: How many images the sample has.
    """
    return images + (1 + len(WORLDS)) * min(images, stress.MOST_IMAGES)


def score_sample(
    export: Path,
    rows: pd.DataFrame,
    pixels: Path,
    out: Path,
    scratch: Path,
    on_images: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Score a sample in a worker process; see `SiteJob`.

    Args:
        export: The export folder of the model.
        rows: The images, as in a manifest.
        pixels: The folder of the pixel cache that holds them.
        out: The folder that gets the tables of scores.
        scratch: A folder for what is needed meanwhile.
        on_images: Told how many images are scored, and of how many.

    Raises:
        ModelError: The export is not whole.
        TrainingError: The worker process died.
    """
    write_table(rows, scratch / _ROWS)
    job = SiteJob(export=export, rows=scratch / _ROWS, pixels=pixels, out=out)
    total = passes(len(rows))

    def on_progress(progress: Progress) -> None:
        on_images(min(int(progress.done), total), total)

    worker.run_job(job, scratch / "scoring.log", usable_cores(), on_progress)


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
    """Return the scores of a site, those in the stress worlds, and those of the model's validation.

    Args:
        folder: The site's folder. The last table is None where the model brought none.
    """
    reference = None
    if (folder / REFERENCE_SCORES).is_file():
        reference = read_table(folder / REFERENCE_SCORES)
    return read_table(folder / SCORES), read_table(folder / WORLD_SCORES), reference


def table_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each table of a site, by its name."""
    names = (SCORES, WORLD_SCORES, REFERENCE_SCORES, NOT_MEASURED)
    return {name: file_sha256(folder / name) for name in names if (folder / name).is_file()}
