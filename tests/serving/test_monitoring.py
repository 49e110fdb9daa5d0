"""A monitoring store: what it holds, what is counted once, what is named, and its verdict and page."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import boto3
import numpy as np
import pandas as pd
import pytest
from moto import mock_aws

from cxr.core.errors import DataError, UsageError
from cxr.core.files import write_table
from cxr.core.settings import FileSettings, ScopeSettings
from cxr.models.compute import worker
from cxr.results.cards.model_card import Card, read_card
from cxr.serving.monitoring import compare_labels, read_monitor, write_page
from cxr.serving.monitoring import records as monitoring_records
from cxr.serving.monitoring import store as monitoring_store
from cxr.serving.prediction import publishing
from cxr.serving.prediction.rows import scored_row, write_tables
from cxr.storage.addresses import open_storage
from tests.conftest import ROOT
from tests.support import monitored

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def card(finished_once):
    """The card of a finished run."""
    return Card.read(finished_once / "runs" / "abc" / "export" / "model_card.json")


@pytest.fixture(scope="module")
def validation():
    """Validation images of 300 patients."""
    return monitored.measure(np.random.default_rng(0), 300)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that the test sets; it starts ten days before NOW."""

    class Clock(datetime):
        time = NOW - timedelta(days=10)

        @classmethod
        def now(cls, tz=None):
            return cls.time

    monkeypatch.setattr(monitoring_store, "datetime", Clock)
    return Clock


def images(seed=1, patients=30, day="2026-03-10", device="", **changes):
    """Return the measurements of made-up images at work."""
    table = monitored.measure(np.random.default_rng(seed), patients, **changes)
    return monitored.at_work(table, day, device, prefix=f"secret-{seed}")


def batch_files(place):
    return sorted(Path(place).glob("*/batches/*.json"))


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path, monkeypatch):
    """An empty place over each storage."""
    if request.param == "local":
        yield str(tmp_path / "watched")
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="watched")
        yield "s3://watched/models"


def test_the_same_prediction_counts_once_and_another_counts(place, card, validation, clock):
    """Tried again the next day it is known; other images under the same names are not."""
    assert monitored.append(place, card, images(1), validation, ("negative: of a film",))
    clock.time += timedelta(days=1)
    again = images(1, day="2026-03-11")
    assert not monitored.append(place, card, again, validation, ("negative: of a film",))
    renamed = images(2).assign(image=images(2)["image"].str.replace("secret-2", "secret-1"))
    assert monitored.append(place, card, renamed, validation)
    stream = read_monitor(place, now=NOW).streams[0]
    assert stream.batches == 2
    assert stream.images == len(images(1)) + len(renamed)
    assert stream.days[date(2026, 3, 10)].rejected == 1


def test_the_store_has_no_name_and_no_value_of_an_image(tmp_path, card, validation):
    """No file name of an image, and no score as it is; every file of the store is looked through."""
    measured = images(1)
    monitored.append(str(tmp_path), card, measured, validation, ("negative: secret-film",))
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(texts) == 4  # salt, reference, batch, and the lock of the folder
    for text in texts:
        assert "secret" not in text
        assert not any(str(score) in text for score in measured["score"])


def test_a_prediction_adds_to_its_store_once(tmp_path, finished_once, phantoms, monkeypatch):
    """Scored images and rejected files; where nothing is scored it is counted before the failure is told."""

    def score(job, log, threads, on_progress):
        rows = [
            scored_row(name, 0.75, read_card(job.export)) | {"device": "", "day": "2026-03-10"}
            for _, _, _, name in job.to_score
        ]
        write_tables([rows], job.rejects, read_card(job.export), job.out, job.measurements)

    monkeypatch.setattr(worker, "run_job", score)
    export = str(finished_once / "runs" / "abc" / "export")
    scope = ScopeSettings(monitor=str(tmp_path / "watched"))

    def predict(data):
        out = str(tmp_path / "p.csv")
        return publishing.predict(
            export, [str(data)], out, lambda *_: None, FileSettings(), scope=scope
        )

    predictions = predict(phantoms)
    predict(phantoms)
    (stream,) = read_monitor(scope.monitor, now=NOW).streams
    assert (stream.images, stream.rejected) == (predictions.scored, predictions.rejected)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("no film")
    with pytest.raises(DataError, match="lists them"):
        predict(tmp_path / "none")
    (stream,) = read_monitor(scope.monitor, now=NOW).streams
    assert stream.rejected == predictions.rejected + 1


def test_images_like_validation_raise_no_alarm_and_others_do(tmp_path, card, validation):
    """The verdict in a sentence; an alarm names measurement and day, and keeps its digest."""
    quiet = str(tmp_path / "quiet")
    for seed in range(8):
        monitored.append(quiet, card, images(seed), validation)
    report = read_monitor(quiet, now=NOW)
    assert not report.alarm and report.alarm_id == ""
    assert "no drift found in 369 images in 1 day " in report.sentence()
    drifted = str(tmp_path / "drifted")
    for seed in range(8):
        monitored.append(drifted, card, images(seed, shift=2.0), validation)
    report = read_monitor(drifted, now=NOW)
    assert report.alarm and report.sentence().startswith("DRIFT since 2026-03-10 in ")
    assert report.sentence().endswith("(369 images in 1 day)")
    first = report.alarm_id
    monitored.append(drifted, card, images(9, day="2026-03-12", shift=2.0), validation)
    assert read_monitor(drifted, now=NOW).alarm_id == first
    assert type(report).parse(report.model_dump_json().encode(), "report") == report


def test_one_device_of_several_is_found(tmp_path, card, validation):
    """A new device with other images is named, and the others' images count for themselves."""
    for seed in range(6):
        monitored.append(str(tmp_path), card, images(seed, device="A one"), validation)
        new = images(seed + 20, patients=8, device="B two", shift=3.0)
        monitored.append(str(tmp_path), card, new, validation)
    stream = read_monitor(str(tmp_path), now=NOW).streams[0]
    devices = {alarm.device for alarm in stream.verdict.alarms}
    assert "B two" in devices and "A one" not in devices
    assert set(stream.devices) == {"A one", "B two"}


def test_many_rejected_films_are_an_alarm(tmp_path, card, validation):
    """Negatives, which no network ever sees; system files are no films."""
    some = images(1, patients=2)
    monitored.append(str(tmp_path), card, some, validation, ("ignored: system file",) * 50)
    assert not read_monitor(str(tmp_path), now=NOW).alarm
    monitored.append(str(tmp_path), card, images(2), validation, ("negative: of a film",) * 40)
    alarms = read_monitor(str(tmp_path), now=NOW).streams[0].verdict.alarms
    assert [alarm.measurement for alarm in alarms] == ["rejected films"]


def test_a_batch_of_rejected_files_alone_counts(tmp_path, card, validation):
    """Where no image was scored there is a batch all the same, and a page."""
    monitored.append(str(tmp_path), card, images(1)[:0], validation, ("negative: film",) * 30)
    report = read_monitor(str(tmp_path), now=NOW)
    assert report.alarm and report.streams[0].rejected == 30
    assert "rejected films" in write_page(report, tmp_path / "page.html").read_text()


def test_an_export_without_reference_is_counted_and_says_so(tmp_path, card):
    """Volume and scores, but nobody can know of drift."""
    columns = ["image", "score", "prediction", "status", "device", "day"]
    monitored.append(str(tmp_path), card, images(1)[columns], None)
    report = read_monitor(str(tmp_path), now=NOW)
    assert not report.alarm and "whether they drift nobody can know" in report.sentence()
    assert report.streams[0].verdict.expected.estimates == {}


def test_models_are_kept_apart(tmp_path, card, validation):
    """Another model is another stream; the alarm of one that has ended is shown, and is none of the store."""
    place = str(tmp_path)
    for seed in range(8):
        monitored.append(place, card, images(seed, day="2026-03-01", shift=2.0), validation)
    other = card.model_copy(update={"model_sha256": "ab" * 32, "run": "next"})
    monitored.append(place, other, images(1, day="2026-03-10"), validation)
    report = read_monitor(place, now=NOW)
    new, old = report.streams
    assert (new.reference.run, old.reference.run) == ("next", card.run)
    assert old.alarm and not old.at_work and not report.alarm
    assert "where another model has some" in old.notes[0]
    lower = card.model_copy(update={"threshold": 0.2})
    assert lower.model_sha256 == card.model_sha256
    both = [monitored.predictions(images(3)).assign(threshold=limit) for limit in (0.2, 0.5)]
    for table in both:
        monitoring_store.append(place, card, images(3), table, validation)
    assert len(read_monitor(place, now=NOW).streams) == 3


def test_a_site_is_a_stream_of_its_own_in_its_own_scores(tmp_path, card, validation):
    """The scores of validation are given the site's calibration; its quality is not tested here."""
    ward = SimpleNamespace(name="ward", apply=lambda scores: scores**2)
    place = str(tmp_path)
    monitored.append(place, card, images(1, patients=80), validation)
    measured = images(2, patients=80)
    measured["score"] = ward.apply(measured["score"])
    table = monitored.predictions(measured)
    monitoring_store.append(place, card, measured, table, validation, ward)
    report = read_monitor(place, now=NOW)
    (of_site,) = (stream for stream in report.streams if stream.reference.site == "ward")
    assert len(report.streams) == 2 and not report.alarm
    assert "at site ward" in of_site.sentence()
    assert "calibrated on the labelled images of the site" in of_site.verdict.expected.reason


def test_torn_and_foreign_files_are_named_and_not_counted(tmp_path, card, validation):
    """Half a batch, one with counts that do not add up, a write never finished, a stranger's file."""
    for seed in range(4):
        monitored.append(str(tmp_path), card, images(seed), validation)
    torn, wrong, whole, _ = batch_files(tmp_path)
    torn.write_bytes(torn.read_bytes()[:200])
    content = json.loads(wrong.read_text())
    content["groups"][0]["images"] += 1
    wrong.write_text(json.dumps(content))
    (whole.parent / ".writing-abc.json").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    report = read_monitor(str(tmp_path), now=NOW)
    assert report.streams[0].batches == 2 and len(report.unreadable) == 4
    named = " ".join(report.unreadable)
    assert torn.name in named and wrong.name in named and "never finished" in named
    assert "notes.txt and 0 more: no files of a monitoring store, left alone" in named
    assert "4 files not counted" in report.sentence()


def test_the_same_prediction_mends_what_was_damaged(place, card, validation):
    """A torn batch, and a torn reference, without which no batch of its stream can be read."""
    for seed in (1, 2):
        monitored.append(place, card, images(seed), validation)
    storage = open_storage(place)
    for entry in list(storage.list()):
        if entry.key.endswith(".json"):
            storage.write(entry.key, storage.read(entry.key)[:100])
    assert len(read_monitor(place, now=NOW).unreadable) == 3
    assert monitored.append(place, card, images(1), validation)
    report = read_monitor(place, now=NOW)
    assert report.streams[0].images == len(images(1)) and len(report.unreadable) == 1
    assert monitored.append(place, card, images(2), validation)
    assert not monitored.append(place, card, images(2), validation)
    assert read_monitor(place, now=NOW).unreadable == ()


def test_counts_of_other_bins_are_named(tmp_path, card, validation):
    """A batch that was counted in other bins than its reference's is not mixed in."""
    monitored.append(str(tmp_path), card, images(1), validation)
    path = batch_files(tmp_path)[0]
    batch = monitoring_records.Batch.read(path)
    group = batch.groups[0]
    few = group.model_copy(update={"counts": {"score": (group.images,)}})
    batch.model_copy(update={"groups": (few,)}).write(path)
    with_score = read_monitor(str(tmp_path), now=NOW)
    assert "expected counts of 9 bins, found 1" in with_score.unreadable[0]
    assert with_score.sentence() == "no batch could be read: nothing is known; 1 file not counted"


def test_a_clock_that_jumps_is_named_and_everything_counts_once(tmp_path, card, validation, clock):
    """Batches of the future and from before the beginning are counted on their days, and named."""
    place = str(tmp_path)
    monitored.append(place, card, images(1), validation)
    clock.time = NOW + timedelta(days=400)
    monitored.append(place, card, images(2, day="2027-04-24"), validation)
    clock.time = datetime(1970, 1, 1, tzinfo=UTC)
    monitored.append(place, card, images(3, day="1970-01-01"), validation)
    clock.time = NOW
    assert not monitored.append(place, card, images(2, day="2026-03-20"), validation)
    stream = read_monitor(place, now=NOW).streams[0]
    assert list(stream.days) == [date(1970, 1, 1), date(2026, 3, 10), date(2027, 4, 24)]
    assert stream.images == sum(len(images(seed)) for seed in (1, 2, 3))
    future, early = stream.notes
    assert "1 prediction from the future, up to 2027-04-24 12:00 UTC" in future
    assert "1 prediction from before this stream was begun, from 1970-01-01" in early


def test_a_place_that_is_no_place_is_refused(tmp_path):
    """Before any image is scored: an archive, a work folder."""
    with pytest.raises(UsageError, match="found a place that is only read"):
        monitoring_store.require_place("dicomweb+http://localhost:1/pacs")
    (tmp_path / "ingest.json").write_text("{}")
    with pytest.raises(UsageError, match="found a work folder"):
        monitoring_store.require_place(str(tmp_path))
    monitoring_store.require_place(str(tmp_path / "watched"))


def test_an_empty_place_and_none_are_told(tmp_path):
    """What was expected, and what to do."""
    with pytest.raises(
        DataError, match="expected a monitoring store, found none: predict with --monitor"
    ):
        read_monitor(str(tmp_path))
    with pytest.raises(DataError, match="missing"):
        read_monitor(str(tmp_path / "missing"))


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from cxr.core.settings import FileSettings, ScopeSettings
from cxr.models.compute import worker
from cxr.results.cards.model_card import Card, read_card
from tests.support import monitored

place, card, start, number = sys.argv[1], Card.read(Path(sys.argv[2])), Path(sys.argv[3]), int(sys.argv[4])
validation = monitored.measure(np.random.default_rng(0), 300)
def images(seed):
    return monitored.at_work(monitored.measure(np.random.default_rng(seed), 10), prefix=str(seed))
mine = [images(1000 * number + seed) for seed in range(15)]
shared = [images(seed) for seed in range(15)]
Path(f"{start}-{number}").touch()
while not start.exists():
    time.sleep(0.01)
for own, both in zip(mine, shared):
    monitored.append(place, card, both, validation)
    monitored.append(place, card, own, validation)
"""


@pytest.mark.slow
def test_two_processes_at_once_lose_and_double_nothing(tmp_path, finished_once, card, validation):
    """Each adds 15 predictions of its own and the same 15 as the other: 45 are counted."""
    place = tmp_path / "watched"
    start = tmp_path / "start"
    card_path = finished_once / "runs" / "abc" / "export" / "model_card.json"
    arguments = [str(place), str(card_path), str(start)]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, *arguments, str(number)], cwd=ROOT)
        for number in (1, 2)
    ]
    while len(list(tmp_path.glob("start-*"))) < 2:
        assert all(writer.poll() is None for writer in writers)
    start.touch()
    assert [writer.wait(60) for writer in writers] == [0, 0]
    report = read_monitor(str(place))
    assert report.unreadable == () and [stream.batches for stream in report.streams] == [45]


def test_estimates_are_given_only_where_their_assumption_passes(tmp_path, card, validation):
    """Calibrated scores of the same mix: close to the truth. Another mix, a miscalibration, few images: a reason."""
    truth = monitored.measure(np.random.default_rng(5), 400)
    place = str(tmp_path / "same")
    monitored.append(place, _calibrated(card), monitored.at_work(truth), validation)
    expected = read_monitor(place, now=NOW).streams[0].verdict.expected
    is_positive = truth["score"] >= monitored.THRESHOLD
    sensitivity = is_positive[truth["label"] == 1].mean()
    assert expected.reason == "" and expected.images == len(truth)
    assert expected.estimates["sensitivity"].value == pytest.approx(sensitivity, abs=0.04)
    mixed = str(tmp_path / "mixed")
    negatives = truth[truth["label"] == 0]
    monitored.append(mixed, _calibrated(card), monitored.at_work(negatives), validation)
    stream = read_monitor(mixed, now=NOW).streams[0]
    assert (
        not stream.alarm and "mixed otherwise than in validation" in stream.verdict.expected.reason
    )
    few = str(tmp_path / "few")
    monitored.append(few, _calibrated(card), images(1, patients=9), validation)
    assert "expected at least 100 images" in read_monitor(few).streams[0].verdict.expected.reason
    wrong = str(tmp_path / "wrong")
    off = validation.assign(score=validation["score"] ** 3)
    monitored.append(wrong, _calibrated(card), images(1), off)
    reason = read_monitor(wrong).streams[0].verdict.expected.reason
    assert "the calibration error on validation is" in reason


def _calibrated(card):
    """Return the card with a test set whose scores are calibrated."""
    quality = card.evaluation.calibration_quality.model_copy(
        update={"ece_after": 0.01, "ece_chance": 0.05}
    )
    evaluation = card.evaluation.model_copy(update={"calibration_quality": quality})
    return card.model_copy(update={"evaluation": evaluation})


def test_labels_that_arrive_late_give_real_figures(tmp_path):
    """Joined by name, with intervals, beside what the same images' scores let expect; the rest is named."""
    truth = monitored.measure(np.random.default_rng(6), 200)
    table = monitored.predictions(monitored.at_work(truth), ("negative: film",))
    table.loc[0, ["prediction", "status"]] = ["", "abstained"]
    write_table(table, tmp_path / "predictions.csv")
    write_table(table[:50], tmp_path / "again.csv")
    names = monitored.at_work(truth)["image"]
    labels = pd.DataFrame({"image": names, "label": truth["label"], "patient": truth["patient"]})
    labels["label"] = labels["label"].map({0: "normal", 1: "1"})
    elsewhere = pd.DataFrame({"image": ["elsewhere.png"], "label": ["1"], "patient": ["p"]})
    labels = pd.concat([labels, elsewhere])
    write_table(labels, tmp_path / "labels.csv")
    tables = [tmp_path / "predictions.csv", tmp_path / "again.csv"]
    real = compare_labels(tmp_path / "labels.csv", tables)
    is_called = names != table["image"][0]
    is_positive = truth["score"] >= monitored.THRESHOLD
    sensitivity = is_positive[is_called & (truth["label"] == 1)].mean()
    assert (real.labels, real.images, real.abstained) == (len(truth) + 1, len(truth) - 1, 1)
    metric = real.metrics["sensitivity"]
    assert metric.value == pytest.approx(sensitivity)
    assert metric.interval.low < sensitivity < metric.interval.high
    assert metric.expected.value == pytest.approx(sensitivity, abs=0.05)
    assert real.notes == (
        "50 predictions of an image predicted before: left out.",
        "1 label of images that no table of predictions has.",
    )
    assert f"{len(truth) - 1} images with a label: sensitivity" in real.sentence()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("name,label\na,1\n", "expected the columns image and label, found name, label"),
        ("image,label\na,ill\n", "expected the labels 0, 1, NORMAL or PNEUMONIA, found 'ILL'"),
        ("image,label\nx-0.png,0\nx-0.png,1\n", "found two for 'x-0.png' and 0 more"),
        ("image,label\nother,1\n", "expected labels of images with a prediction, found none"),
        ("", "expected a table with columns image and label"),
    ],
)
def test_labels_that_say_nothing_are_refused(tmp_path, content, problem):
    """A sentence for each."""
    (tmp_path / "labels.csv").write_text(content)
    table = monitored.predictions(
        images(1).assign(image=lambda rows: [f"x-{n}.png" for n in rows.index])
    )
    write_table(table, tmp_path / "predictions.csv")
    with pytest.raises(DataError, match=problem):
        compare_labels(tmp_path / "labels.csv", [tmp_path / "predictions.csv"])


def test_the_page_is_one_file_with_pictures(tmp_path, card, validation):
    """Verdict, alarms, four pictures inside, notes; what a device is called is escaped."""
    for seed in range(6):
        some = images(seed, shift=2.0, device=f"<b>{seed % 2}", day=f"2026-03-{10 + seed}")
        monitored.append(str(tmp_path), card, some, validation)
    report = read_monitor(str(tmp_path), now=NOW)
    raised = {alarm.device for alarm in report.streams[0].verdict.alarms if alarm.device}
    lines = report.streams[0].verdict.of_devices
    assert raised and {name.partition(", ")[2] for name in lines} == raised
    assert all(max(days.values()) >= 0 for days in lines.values())
    page = write_page(report, tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "http" not in page
    assert "The images have drifted" in page and "&lt;b&gt;1" in page and "<b>1" not in page


def test_only_days_from_since_on_count(tmp_path, card, validation):
    """After the cause of an alarm was removed, the tests begin anew."""
    place = str(tmp_path)
    for seed in range(8):
        monitored.append(place, card, images(seed, day="2026-03-01", shift=2.0), validation)
    monitored.append(place, card, images(9, day="2026-03-05"), validation)
    assert read_monitor(place, now=NOW).alarm
    report = read_monitor(place, since=date(2026, 3, 2), now=NOW)
    assert not report.alarm and list(report.streams[0].days) == [date(2026, 3, 5)]
