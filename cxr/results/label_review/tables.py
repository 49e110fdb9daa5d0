"""The tables that a reader fills in: labels/label_review.csv, and test_review.csv beside it."""

from pathlib import Path

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.data.manifest.columns import CORRECTION_COLUMNS
from cxr.results.label_review.scores import rank_labels

REVIEW = "label_review.csv"
TEST_REVIEW = "test_review.csv"
COLUMNS = [
    "rank",
    "image",
    "split",
    "patient",
    "given_label",
    "suggested_label",
    "self_confidence",
    "disputed",
    "corrected_label",
    "reader",
    "date",
    "comment",
    "pixel_sha256",
]
_ANSWER = ["corrected_label", "reader", "date"]


def review_table(manifest: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return the table of train and validation: what nobody has answered yet first, by rank.

    Images that a reader has answered follow with that answer and no rank, set aside ones among
    them: so one file has all answers, and can be handed in again as it is.

    Args:
        manifest: clean_metadata.csv.
        scores: image, score and disputed of each image of train and validation.

    Returns:
        The table, in COLUMNS.
    """
    rows = _with_answers(manifest)
    answered = rows[rows["corrected_label"] != ""]
    is_open = (rows["corrected_label"] == "") & rows["split"].isin(["train", "val"])
    ranked = rank_labels(rows[is_open].merge(scores.drop(columns="label"), validate="1:1"))
    open_rows = ranked.assign(rank=[str(number) for number in range(1, len(ranked) + 1)])
    closed_rows = answered.assign(rank="", suggested_label="", self_confidence="", disputed="")
    return pd.concat([open_rows[COLUMNS], closed_rows[COLUMNS]], ignore_index=True)


def table_of_test(manifest: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return the table of test, ranked by the scores of the run's chosen model.

    Its labels are not changed by what is written in it.

    Args:
        manifest: clean_metadata.csv.
        scores: image and score of each test image, as the run's scores_test.csv has them.
    """
    rows = _with_answers(manifest[manifest["split"] == "test"])
    ranked = rank_labels(rows.merge(scores[["image", "score"]], validate="1:1"))
    numbers = [f"T{number}" for number in range(1, len(ranked) + 1)]
    return ranked.assign(rank=numbers, disputed="")[COLUMNS]


def _with_answers(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return rows of the manifest with the columns that a reader fills in, and the patient."""
    missing = {name: "" for name in CORRECTION_COLUMNS if name not in manifest}
    rows = manifest.assign(**missing)
    return rows.assign(
        patient=rows["patient_id"],
        given_label=rows["given_label"].where(rows["corrected_label"] != "", rows["label_name"]),
        reader=rows["label_reader"],
        date=rows["label_date"],
        comment="",
    )


def require_no_new_answers(path: Path, manifest: pd.DataFrame) -> None:
    """Check that a new table would replace no answer that preprocessing does not know.

    Args:
        path: label_review.csv of an earlier review, if there is one.
        manifest: clean_metadata.csv.

    Raises:
        DataError: A reader has filled in rows that were not handed in.
    """
    if not path.is_file():
        return
    earlier = read_table(path)
    filled = earlier[(earlier[[*_ANSWER, "comment"]] != "").any(axis=1)]
    known = _with_answers(manifest)
    known = known[known["corrected_label"] != ""]
    known_rows = set(known[["pixel_sha256", *_ANSWER]].itertuples(index=False, name=None))
    answers = filled[["pixel_sha256", *_ANSWER]].itertuples(index=False, name=None)
    new = [answer for answer in answers if answer not in known_rows]
    if new:
        raise DataError(
            f"{path}: expected no answers that preprocessing does not know, found {len(new):,}: hand "
            "them in with `cxr preprocess DATA --label-corrections FILE`, or move the file away"
        )


def write_tables(
    review: pd.DataFrame,
    test: pd.DataFrame | None,
    folder: Path,
) -> None:
    """Write label_review.csv and, where there are scores of test, test_review.csv."""
    test_path = folder / TEST_REVIEW
    test_path.unlink(missing_ok=True)
    write_table(review, folder / REVIEW)
    if test is not None:
        write_table(test, test_path)
