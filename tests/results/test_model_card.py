"""The model card: each value once, and records of cxr 0.1, of today and of tomorrow.

tests/results/earlier holds the records of a retraining on phantom images that cxr 0.1.0 wrote (schema 1).
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from cxr.core.errors import CxrError, DataError, ModelError, RegistryError
from cxr.core.files import file_sha256
from cxr.core.records import SCHEMA, Versioned
from cxr.data.labels.corrections.records import LabelCorrections
from cxr.models.training.records import Training
from cxr.results import exporting
from cxr.results.cards import model_card as cards
from cxr.results.cards.model_card import Card, read_card
from cxr.results.cards.rendering import card_text
from cxr.results.evaluation import Evaluation
from cxr.results.exporting import Export
from cxr.results.report.page import report_page
from cxr.results.verify.checks import verify_run
from cxr.serving import registry
from cxr.serving.registry import Registry
from cxr.serving.registry.records import Champion, Event, Version
from cxr.serving.retraining import challenge, retrain
from tests.support import finished
from tests.support.registered import side

EARLIER = Path(__file__).parent / "earlier"
RECORDS = {
    "model_card.json": Card,
    "export.json": Export,
    "version.json": Version,
    "champion.json": Champion,
    "event.json": Event,
    "challenge.json": challenge.Challenge,
    "retraining.json": retrain.Retraining,
}
# Kinds that this version writes first, of which there is no earlier file: a release makes them.
FIRST = {"ScopeReference", "Site", "Reference", "Batch", "Watched", "FormatTest", "Pipeline"}
ONCE = {
    "architecture": "architecture",
    "image_size": "image_size",
    "threshold": "threshold",
    "calibration": "calibration",
    "model_sha256": "model_sha256",
    "manifest_sha256": "data.manifest_sha256",
    "scores_sha256": "evaluation.scores_sha256",
    "optimizer_sha256": "training.optimizer_sha256",
}
# Settings that mean the epochs of fine-tuning; their names changed with schema version 2.
RENAMED = {"epochs", "fine_tune_epochs", "augmentation", "views", "augmented_copies"}


@pytest.fixture
def run(finished_work):
    return finished_work / "runs" / "abc"


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def places(content: Any, name: str, where: tuple[str, ...] = ()) -> list[str]:
    """Return where in a card a value of this name stands, but for the template of negatives."""
    found = []
    for key, value in content.items() if isinstance(content, dict) else ():
        if key == name:
            found.append(".".join((*where, key)))
        if key != "polarity":
            found += places(value, name, (*where, key))
    return found


def as_earlier(path: Path) -> None:
    """Write a card as cxr 0.1 did: without a schema version, its values in every record."""
    card = Card.read(path)
    content = json.loads(path.read_text())
    del content["schema_version"]
    for part in ("operating_point", "training", "selection", "evaluation", "attention", "audit"):
        content[part] = getattr(card, part).model_dump(mode="json")
    content["settings"] = card.settings.model_dump(mode="json")
    content["version"] = "0.1.0"
    path.write_text(json.dumps(content))


def earlier_export(folder: Path) -> Path:
    """Make an export folder of cxr 0.1.0, with a made-up model in place of the network."""
    folder.mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"not a model")
    old = json.loads((EARLIER / "model_card.json").read_text())
    digest = file_sha256(folder / "model.keras")
    for part in (old, old["training"], old["evaluation"], old["attention"]):
        part["model_sha256"] = digest
    (folder / "model_card.json").write_text(json.dumps(old))
    (folder / "MODEL_CARD.md").write_text("the card for people")
    exporting.write_checksums(folder)
    return folder


def earlier_registry(place: Path) -> Registry:
    """Make a registry of cxr 0.1.0 whose one version is the champion."""
    version = json.loads((EARLIER / "version.json").read_text())
    folder = earlier_export(place / "versions" / version["name"])
    version["files"] = {path.name: file_sha256(path) for path in folder.iterdir()}
    version["model_sha256"] = version["files"]["model.keras"]
    version["seen"] = False
    (folder / "version.json").write_text(json.dumps(version))
    shutil.copy(EARLIER / "champion.json", place / "champion.json")
    for kind in ("retraining", "event"):
        target = place / {"retraining": "retrainings", "event": "log"}[kind] / f"{kind}.json"
        target.parent.mkdir()
        shutil.copy(EARLIER / f"{kind}.json", target)
    return Registry(str(place))


def test_each_value_stands_once_in_the_card(run):
    """Threshold, size, calibration and digests have one place each, where users look for them."""
    content = json.loads((run / "export" / "model_card.json").read_text())
    assert {name: places(content, name) for name in ONCE} == {k: [v] for k, v in ONCE.items()}
    assert "threshold" not in content["operating_point"]
    assert "image_size" not in content["settings"]


def test_the_records_in_a_card_are_whole_when_it_is_read(run):
    """What was left out is filled in: the records equal those of the run, and so does a copy."""
    path = run / "export" / "model_card.json"
    card = Card.read(path)
    assert card.training == Training.read(run / card.selection.name / "training.json")
    assert card.evaluation == Evaluation.read(run / "evaluation.json")
    assert card.write(path) == Card.read(path)


def test_a_group_whose_name_has_a_bar_keeps_its_row_whole(run):
    """A manufacturer may be called "Osmund | North": in the Markdown table its bar ends no cell."""
    card = Card.read(run / "export" / "model_card.json")
    named = card.evaluation.subgroups[0].model_copy(update={"group": "Osmund | North"})
    changed = card.evaluation.model_copy(update={"subgroups": (named,)})
    text = card_text(card.model_copy(update={"evaluation": changed}))
    (row,) = (line for line in text.splitlines() if "Osmund" in line)
    assert r"Osmund \| North" in row
    assert len(re.split(r"(?<!\\)\|", row)) == len(
        ["", "subgroup", "metric", "correct", "95 %", ""]
    )


def test_corrected_labels_are_told_with_reader_and_day(run):
    """How many, by whom and when stands in the card, for programs and for people, and in the report."""
    card = read_card(run / "export")
    assert "readers looked at again" not in card_text(card)
    corrections = LabelCorrections(
        tables=("review.csv",),
        answers=4,
        corrected={"train: NORMAL to PNEUMONIA": 2},
        confirmed=1,
        excluded={},
        repeated=0,
        not_applied={"test": 1},
        readers={"Dr. A": 3},
        first_day="2026-03-30",
        last_day="2026-03-31",
    )
    data = card.data.model_copy(update={"corrections": corrections})
    told = card.model_copy(update={"data": data})
    assert (
        "2 labels corrected (2 in train: NORMAL to PNEUMONIA), 1 confirmed, 0 images set aside; "
        "read by Dr. A (3), 2026-03-30 to 2026-03-31; 1 answer not applied"
    ) in card_text(told)
    told.write(run / "export" / cards.NAME)
    assert read_card(run / "export").data.corrections == corrections
    assert "<strong>Labels were corrected</strong> in train and validation" in report_page(run)


def test_a_threshold_changed_in_its_one_place_is_the_threshold_of_all(run):
    """No second copy is left that could say otherwise; verification finds that it was changed."""
    path = run / "export" / "model_card.json"
    edit(path, lambda content: content.update(threshold=0.125, image_size=48))
    card = Card.read(path)
    points = (card.operating_point, card.training, card.evaluation, card.attention, card.selection)
    assert {part.threshold for part in points} == {card.threshold} == {0.125}
    assert card.settings.image_size == card.training.image_size == card.image_size == 48
    problems = "\n".join(check.problem for check in verify_run(run))
    for part in ("training", "evaluation", "attention", "selection"):
        assert f"its {part} is not that of the run" in problems


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_the_version_before_is_read(name, tmp_path):
    """Files of cxr 0.1.0 have no schema version; written again, the record has this one's."""
    record = RECORDS[name].read(EARLIER / name)
    assert record.schema_version == SCHEMA
    again = record.write(tmp_path / name)
    assert json.loads((tmp_path / name).read_text())["schema_version"] == SCHEMA
    assert RECORDS[name].read(tmp_path / name).model_dump() == again.model_dump()


def test_the_card_of_the_version_before_loses_nothing_but_copies(tmp_path):
    """What the upgrade leaves out of the content stands elsewhere in it, with the same value."""
    old = json.loads((EARLIER / "model_card.json").read_text())
    new = cards.upgrade(old)
    assert {name: places(new, name) for name in ONCE} == {k: [v] for k, v in ONCE.items()}
    for part, content in old.items():
        if not isinstance(content, dict):
            assert new[part] == content
            continue
        kept = {name: value for name, value in content.items() if name not in RENAMED}
        for name in kept.keys() - new[part].keys():
            assert kept[name] == old.get(name, old["data"]["manifest_sha256"]), (part, name)
        assert all(new[part][name] == kept[name] for name in new[part] if name not in RENAMED)
    card = Card.read(EARLIER / "model_card.json")
    assert card.threshold == old["threshold"]
    assert card.settings.tuning_epochs() == old["settings"]["fine_tune_epochs"]
    assert card.settings.augmented_copies == old["settings"]["views"]
    ranges = card.settings.augmentation.model_dump()
    assert ranges == old["settings"]["augmentation"] | {"area": 1, "stretch": 1}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (
            SCHEMA + 1,
            f"has schema version {SCHEMA + 1}, and cxr .* reads those up to {SCHEMA}: use",
        ),
        (0, f"expected a schema version from 1 to {SCHEMA}, found 0"),
        ("two", f"expected a schema version from 1 to {SCHEMA}, found 'two'"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(name, schema, sentence, tmp_path):
    """A record of a newer version, whatever is in it, and a number that means nothing."""
    content = {"schema_version": schema, "unheard": "of"}
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=sentence) as caught:
        RECORDS[name].read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


def test_a_record_older_than_any_known_layout_is_refused_in_one_sentence(tmp_path):
    """Fields that cxr 0.1 wrote are missing: it says which, and what to do."""
    edit_of = json.loads((EARLIER / "model_card.json").read_text())
    del edit_of["calibration"]
    (tmp_path / "model_card.json").write_text(json.dumps(edit_of))
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(ModelError, match=r"calibration: Field required.*make it again"):
        read_card(tmp_path)


def test_a_newer_export_and_a_newer_registry_are_refused(tmp_path):
    """Each reader passes the sentence on as its own kind of error; nothing is changed."""
    place = earlier_registry(tmp_path / "registry")
    name = place.versions()[0].name
    folder = tmp_path / "registry" / "versions" / name
    for path in (folder / "model_card.json", folder / "version.json"):
        edit(path, lambda content: content.update(schema_version=SCHEMA + 1))
    with pytest.raises(ModelError, match=rf"schema version {SCHEMA + 1}.* a newer one"):
        read_card(folder)
    with pytest.raises(RegistryError, match=rf"version\.json has schema version {SCHEMA + 1}"):
        place.versions()
    with (
        pytest.raises(CxrError, match=f"schema version {SCHEMA + 1}"),
        registry.find_model(place.uri),
    ):
        pass


def test_a_registry_of_the_version_before_is_read_and_written_on(tmp_path, finished_once):
    """Its champion is restored and used; a new version is registered beside it and promoted."""
    place = earlier_registry(tmp_path / "registry")
    (old,) = place.versions()
    assert place.champion().version == old.name
    assert [event.what for event in place.log()] == ["register", "promote against the rule"]
    assert retrain.latest_retraining(place).challenge.challenger == old.name
    with registry.find_model(place.uri) as folder:
        assert read_card(Path(folder)).run == old.run
    new = place.register(finished_once / "runs" / "abc" / "export", "tester")
    place.promote(new.name, "ann", "better", against_the_rule=True)
    assert place.rollback("ann", "worse after all").version == old.name
    content = json.loads((tmp_path / "registry" / "champion.json").read_text())
    assert content["schema_version"] == SCHEMA


def test_a_champion_of_the_version_before_is_challenged(tmp_path, finished_once):
    """It is compared at the threshold of its own card, and the rule decides as ever."""
    new = side(finished_once, tmp_path, "new", 0.4)
    card = read_card(earlier_export(tmp_path / "export"))
    scores = finished.scores(tmp_path / "old.csv", 1, 0.1)
    found = challenge.compare_with_champion(
        new, challenge.Side(version="old", card=card, scores=scores)
    )
    assert found.promote and found.champion == "old"
    called = int((scores["score"] >= card.threshold).sum())
    assert found.champion_figures["tp"] + found.champion_figures["fp"] == called


def test_a_run_of_the_version_before_is_verified_but_for_its_wording(run):
    """Numbers, the choice and digests are checked; texts and pages, which differ, are not."""
    as_earlier(run / "export" / "model_card.json")
    edit(run / "selection.json", lambda found: found.update(reason="in the words of its time"))
    card = Card.read(run / "export" / "model_card.json")
    edit(
        run / "export" / "model_card.json",
        lambda found: found["selection"].update(reason="in the words of its time"),
    )
    (run / "report.html").write_text("the page of its time")
    exporting.write_checksums(run / "export")
    checks = verify_run(run)
    assert [check.problem for check in checks if check.problem] == []
    assert [check.note for check in checks if check.note] == [
        "not measured: the model does not know its scope",
        "not compared, cxr 0.1.0 (schema version 1) wrote them",
    ]
    other = next(name for name in finished.NAMES if name != card.selection.name)
    edit(run / "selection.json", lambda found: found.update(name=other))
    assert f"name is {other}" in "\n".join(check.problem for check in verify_run(run))


def test_a_run_of_a_newer_version_is_not_verified(run):
    """One sentence, not a list of failed checks that sounds like forged figures."""
    edit(run / "export" / "model_card.json", lambda card: card.update(schema_version=SCHEMA + 1))
    with pytest.raises(DataError, match="use the version of cxr that wrote it"):
        verify_run(run)


def test_every_record_that_other_versions_read_is_tried_here():
    """A new kind of record with a schema version needs a file in tests/results/earlier, too."""
    kinds = {kind for kind in Versioned.__subclasses__() if kind.__name__ not in FIRST}
    assert kinds == set(RECORDS.values())
