"""The review of labels, in an open work folder: which labels the images speak against."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from sklearn.metrics import roc_auc_score

from cxr.core import __version__
from cxr.core.files import read_table
from cxr.core.parallel import usable_cores
from cxr.core.settings import LABEL_NAMES
from cxr.models import runs
from cxr.models.compute import worker
from cxr.models.runs import Member, Run
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results.label_review import tables
from cxr.results.label_review.job import SCORES, LabelScoresJob
from cxr.results.label_review.page import write_page
from cxr.results.label_review.records import NAME, LabelReview
from cxr.stages import data_steps, training_steps
from cxr.stages.data_steps import OnProgress, no_progress
from cxr.storage.workspace import workspace

FOLDER = "labels"  # in the work folder
REVIEWED_SHARE = 0.1  # of the images: so many films the page shows
MOST_FILMS = 500


def review_labels(
    work: str | Path,
    films: int | None = None,
    on_progress: OnProgress = no_progress,
) -> LabelReview:
    """Rank the labels of train and validation by how little the images bear them out.

    Writes label_review.csv, which a reader fills in, test_review.csv where the run is exported,
    label_review.html with the films, and, last, label_review.json, all in WORK/labels.

    Args:
        work: A work folder in which `train` has trained, a path or s3://….
        films: How many films of train and validation the page shows; a tenth of the images, but at
            most MOST_FILMS, if not given.
        on_progress: Told how many images have features.

    Returns:
        How many labels are disputed.

    Raises:
        DataError: There is no run of these data, a reader's answers would be lost, or a class has
            too few patients.
    """
    with workspace.open_workspace(str(work)) as folder:
        run = runs.require_current_data(folder, runs.latest_run(folder))
        manifest = runs.read_manifest(folder)
        target = folder / FOLDER
        tables.require_no_new_answers(target / tables.REVIEW, manifest)
        cache = data_steps.cache_pixels(folder, run.settings, on_progress)
        job = scores_job(run, folder, cache)
        scores = _score(job, folder, on_progress)
        review = tables.review_table(manifest, scores)
        test = _test_table(manifest, run.folder(folder))
        record = _record(run, job.architecture, scores, review, test, films)
        tables.write_tables(review, test, target)
        write_page(record, review, test, manifest, cache, target)
        return record.write(target / NAME)


def _chosen_member(run: Run, work: Path) -> Member:
    """Return the training whose network gives the features: that of the chosen model.

    Of an ensemble it is the first of its members.
    """
    folder = run.folder(work)
    chosen = Selection.read(folder / "selection.json")
    training = Training.read(folder / chosen.name / "training.json")
    names = {member.training for member in training.members} or {training.name}
    return next(member for member in run.members() if member.name in names)


def scores_job(
    run: Run,
    work: Path,
    cache: Path,
) -> LabelScoresJob:
    """Return what the worker process is asked for: scores by features of the chosen model's network.

    Args:
        run: The run.
        work: The folder of an open work folder.
        cache: The folder of the pixel cache.
    """
    job = training_steps.training_job(_chosen_member(run, work), run, work, cache, sharing=1)
    # A model to start from has learned from labels, perhaps from these: the pretrained network has not.
    return LabelScoresJob(**dict(job) | {"folder": work / FOLDER, "init": ""})


def _score(
    job: LabelScoresJob,
    work: Path,
    on_progress: OnProgress,
) -> pd.DataFrame:
    """Return the out-of-fold scores of all images of train and validation."""
    splits = runs.read_ingest(work).splits
    images = sum(sum(splits[name].values()) for name in ("train", "val"))
    job.folder.mkdir(exist_ok=True)
    worker.run_job(
        job,
        job.folder / "label_review.log",
        usable_cores(),
        lambda progress: on_progress("features", progress.done, 2 * images),
    )
    return read_table(job.folder / SCORES)


def _test_table(manifest: pd.DataFrame, run: Path) -> pd.DataFrame | None:
    """Return the table of test by the scores that the run's test left; None where there are none."""
    path = run / "scores_test.csv"
    return tables.table_of_test(manifest, read_table(path)) if path.is_file() else None


def _record(
    run: Run,
    architecture: str,
    scores: pd.DataFrame,
    review: pd.DataFrame,
    test: pd.DataFrame | None,
    films: int | None,
) -> LabelReview:
    """Return the record of a review."""
    open_rows = review[review["rank"] != ""]
    disputed = open_rows.loc[open_rows["disputed"] == "yes", "given_label"]
    test_images = 0 if test is None else len(test)
    return LabelReview(
        made=datetime.now(UTC),
        version=__version__,
        run=run.id,
        architecture=architecture,
        manifest_sha256=run.manifest_sha256,
        images=len(scores),
        auroc=float(roc_auc_score(scores["label"], scores["score"])),
        disputed={name: int((disputed == name).sum()) for name in LABEL_NAMES},
        answered=len(review) - len(open_rows),
        films=_films_shown(len(open_rows), films),
        test_images=test_images,
        test_films=_films_shown(test_images, films),
    )


def _films_shown(images: int, films: int | None) -> int:
    """Return how many of these images the page shows."""
    if films is not None:
        return min(images, films)
    return min(MOST_FILMS, round(REVIEWED_SHARE * images))
