"""Labels are ranked by scores that have not seen them, shown to a reader, and come back corrected."""

import re

import numpy as np
import pandas as pd
import pytest

import cxr
from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.core.settings import PixelSettings, SplitSettings
from cxr.data.images import pixel_cache
from cxr.results.label_review import page, scores, tables
from cxr.results.label_review.records import LabelReview
from cxr.stages import training_steps
from cxr.stages.label_steps import review_labels


def blobs(patients: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, labels and patients: three images a patient, classes two deviations apart."""
    rng = np.random.default_rng(seed)
    names = np.repeat([f"p{number}" for number in range(patients)], 3)
    labels = np.repeat((np.arange(patients) % 4 > 0).astype(int), 3)
    features = rng.normal(0, 1, (len(labels), 16)) + 0.5 * labels[:, np.newaxis]
    return features.astype(np.float32), labels, names


def flip_patients(labels: np.ndarray, patients: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return which images have another label than before when so many patients get the wrong one."""
    names = np.unique(patients)
    chosen = np.random.default_rng(seed).choice(names, round(share * len(names)), replace=False)
    return np.isin(patients, chosen)


def test_a_label_is_scored_by_a_head_that_has_not_seen_its_patient():
    """Where features say nothing but who the patient is, scores say nothing of the label."""
    _, labels, patients = blobs()
    features = (patients[:, np.newaxis] == np.unique(patients)).astype(np.float32)
    found = scores.out_of_fold_scores(features, labels, patients, penalty=1e-6)
    assert found.std() < 0.001


def test_scores_are_the_same_for_the_same_seed():
    """Another seed divides the patients anew."""
    data = blobs()
    first = scores.out_of_fold_scores(*data, seed=1)
    assert np.array_equal(first, scores.out_of_fold_scores(*data, seed=1))
    assert not np.array_equal(first, scores.out_of_fold_scores(*data, seed=2))


def test_a_class_of_one_patient_cannot_be_reviewed():
    """It says how many patients there are."""
    features, labels, patients = blobs(4)
    with pytest.raises(DataError, match="two patients or more of each class, found 1"):
        scores.out_of_fold_scores(features, labels, patients)


@pytest.mark.parametrize("seed", range(3))
def test_of_changed_labels_four_in_five_are_in_the_first_tenth(seed):
    """5 % of patients with the wrong label, features of classes that overlap little."""
    features, labels, patients = blobs(200, seed)
    flipped = flip_patients(labels, patients, 0.05, seed)
    given = np.where(flipped, 1 - labels, labels)
    found = scores.out_of_fold_scores(features, given, patients, seed)
    table = pd.DataFrame({"label": given, "score": found, "flipped": flipped})
    first = scores.rank_labels(table).head(round(0.1 * len(table)))
    assert first["flipped"].sum() >= 0.8 * flipped.sum()


def test_ranking_and_disputed_labels_are_those_of_cleanlab():
    """Its self-confidence and its confident learning, on noisy scores of three kinds."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    rng = np.random.default_rng(0)
    for centre, spread, share in ((0.4, 0.1, 0.5), (0.4, 0.3, 0.2), (0.2, 0.15, 0.8)):
        labels = (rng.random(600) < share).astype(int)
        found = np.clip(rng.normal(centre + 0.2 * labels, spread), 0.001, 0.999)
        both = np.stack([1 - found, found], axis=1)
        expected = find_label_issues(labels, both, filter_by="confident_learning", n_jobs=1)
        assert np.array_equal(scores.disputed(labels, found), expected)
        assert 0 < expected.sum() < len(labels)
        quality = get_label_quality_scores(labels, both, method="self_confidence")
        assert np.allclose(scores.self_confidence(labels, found), quality, atol=1e-12)


def manifest(rows: int = 12) -> pd.DataFrame:
    """Return a manifest of images of all splits, two of each patient."""
    labels = np.arange(rows) % 2
    return pd.DataFrame(
        {
            "image": [f"train/{number}.png" for number in range(rows)],
            "label": labels,
            "label_name": np.where(labels == 1, "PNEUMONIA", "NORMAL"),
            "split": ["train"] * (rows - 5) + ["val"] * 2 + ["test"] * 2 + ["excluded"],
            "patient_id": [f"p{number // 2}" for number in range(rows)],
            "pixel_sha256": [f"{number:064x}" for number in range(rows)],
            "width": 120,
            "height": 80,
        }
    )


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """Return scores of images of train and validation, the first image's label being the least likely."""
    chosen = rows[rows["split"].isin(["train", "val"])]
    wrong = np.arange(len(chosen)) == 0
    score = np.where(wrong, 0.9, 0.1 + 0.8 * chosen["label"])
    return chosen[["image", "label"]].assign(score=score, disputed=np.where(wrong, "yes", ""))


def test_the_table_asks_what_nobody_answered_and_keeps_what_somebody_did():
    """Answered images come last with their answer, set aside ones too; test is a table of its own."""
    rows = manifest()
    first = tables.review_table(rows, scored(rows))
    assert list(first.columns) == tables.COLUMNS
    top = first.iloc[0]
    assert (top["rank"], top["image"], top["given_label"]) == ("1", "train/0.png", "NORMAL")
    assert (top["suggested_label"], top["disputed"]) == ("PNEUMONIA", "yes")
    assert set(first["split"]) == {"train", "val"} and (first["corrected_label"] == "").all()
    answered = rows.assign(
        given_label=rows["label_name"], corrected_label="", label_reader="", label_date=""
    )
    answered.loc[0, ["label", "label_name", "corrected_label"]] = [1, "PNEUMONIA", "PNEUMONIA"]
    answered.loc[2, ["split", "corrected_label"]] = ["excluded", "exclude"]
    answered.loc[[0, 2], ["label_reader", "label_date"]] = ["Dr. A", "2026-03-31"]
    second = tables.review_table(answered, scored(answered))
    assert list(second["corrected_label"].tail(2)) == ["PNEUMONIA", "exclude"]
    assert list(second["given_label"].tail(2)) == ["NORMAL", "NORMAL"]
    assert list(second["rank"]) == [str(number) for number in range(1, 8)] + ["", ""]
    test_scores = rows[rows["split"] == "test"][["image"]].assign(score=[0.2, 0.3])
    of_test = tables.table_of_test(rows, test_scores)
    assert list(of_test["rank"]) == ["T1", "T2"] and set(of_test["split"]) == {"test"}
    assert of_test["self_confidence"].is_monotonic_increasing


def test_answers_that_were_not_handed_in_are_never_overwritten(tmp_path):
    """A filled-in table stays until preprocessing knows its answers."""
    rows = manifest()
    review = tables.review_table(rows, scored(rows))
    tables.write_tables(review, None, tmp_path)
    tables.require_no_new_answers(tmp_path / tables.REVIEW, rows)
    filled = read_table(tmp_path / tables.REVIEW)
    filled.loc[0, ["corrected_label", "reader", "date"]] = ["PNEUMONIA", "Dr. A", "2026-03-31"]
    write_table(filled, tmp_path / tables.REVIEW)
    with pytest.raises(DataError, match="found 1: hand them in"):
        tables.require_no_new_answers(tmp_path / tables.REVIEW, rows)
    known = rows.assign(
        given_label=rows["label_name"], corrected_label="", label_reader="", label_date=""
    )
    known.loc[0, ["corrected_label", "label_reader", "label_date"]] = [
        "PNEUMONIA",
        "Dr. A",
        "2026-03-31",
    ]
    tables.require_no_new_answers(tmp_path / tables.REVIEW, known)


def test_the_page_has_ten_films_on_a_sheet_in_their_own_shape_and_test_apart(tmp_path):
    """Numbered, the given label above the suggested one; burned-in text and odd names are told."""
    rows = manifest(30).assign(burned_in="")
    rows.loc[0, "burned_in"] = "suspected"
    rows.loc[1, "image"] = "train/<b>.png"
    cache = pixel_cache.cache_of(tmp_path, PixelSettings(image_size=32))
    pixels = np.random.default_rng(0).integers(0, 256, (30, 32, 32), np.uint8)
    cache.add(list(rows["pixel_sha256"]), pixels)
    review = tables.review_table(rows, scored(rows))
    of_test = tables.table_of_test(rows, rows[["image"]].assign(score=0.5))
    record = LabelReview(
        made="2026-03-31T00:00:00", version="1", run="abc", architecture="VGG16",
        manifest_sha256="", images=27, auroc=0.9, disputed={"NORMAL": 1, "PNEUMONIA": 0},
        answered=0, films=23, test_images=2, test_films=2,
    )  # fmt: skip
    path = page.write_page(record, review, of_test, rows, cache.folder, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert text.count('<section class="sheet">') == 4
    assert re.findall(r"Films (\w+) to (\w+)", text) == [
        ("1", "10"), ("11", "20"), ("21", "23"), ("T1", "T2"),
    ]  # fmt: skip
    assert text.count("data:image/jpeg;base64,") == text.count("aspect-ratio: 120 / 80") == 25
    assert text.count("☐ exclude") == 23, "there is nothing to tick for a test film"
    assert text.count("Text may be burned in") == 1 and "<b>.png" not in text
    assert text.index("Label as given") < text.index("The scores suggest")
    assert not re.search(r"(src|href)=.?https?:", text)


@pytest.mark.slow
def test_from_a_run_to_corrected_labels_and_another_run(phantoms, tmp_path, tiny):
    """Review, answer, preprocess: the labels change, test does not, and the earlier run stays."""
    work = tmp_path / "work"
    pixels = PixelSettings(image_size=tiny.image_size)
    before = cxr.preprocess(phantoms, work, pixels=pixels)
    cxr.explore(work, tiny)
    training = cxr.train(work, "MobileNetV2", tiny)
    with pytest.raises(DataError, match=r"selection\.json"):
        review_labels(work)
    run = training_steps.start_run(work, tiny)
    training_steps.compare_models([training], run.folder(work))
    review = review_labels(work, films=5)
    assert (review.run, review.films, review.test_images) == (run.id, 5, 0)
    path = work / "labels" / tables.REVIEW
    table = read_table(path)
    assert len(table) == review.images
    again = review_labels(work, films=5)
    assert read_table(path).equals(table), "the same scores for the same data"
    assert again.auroc == review.auroc
    other = {"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"}[table["given_label"][0]]
    table.loc[0, ["corrected_label", "reader", "date"]] = [other, "Dr. A", "2026-03-31"]
    write_table(table, path)
    corrections = SplitSettings(label_corrections=(str(path),))
    after = cxr.preprocess(phantoms, work, splits=corrections, pixels=pixels)
    assert sum(after.corrections.corrected.values()) == 1
    assert after.splits["test"] == before.splits["test"]
    with pytest.raises(DataError, match="of other data"):
        review_labels(work)
    cxr.explore(work, tiny)
    assert training_steps.start_run(work, tiny).id != run.id
    assert training_steps.is_trained(run.folder(work) / "MobileNetV2"), "the earlier run stays"
