"""Batch scoring with a made-up model: read ahead in threads, in order, within bounds, in batches of one size."""

import io
import itertools
import os
import shutil
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from cxr.core.errors import CxrError, StorageError
from cxr.core.files import read_table
from cxr.core.parallel import map_in_order
from cxr.core.settings import FileSettings
from cxr.data.images import content, model_input
from cxr.data.images.decoding import formats
from cxr.data.images.decoding.rejection import Rejected
from cxr.data.inverted_films import polarity
from cxr.data.manifest import shard_inspection
from cxr.data.patients import hidden_names
from cxr.data.phantoms import dicom_films
from cxr.models import scoring
from cxr.models.compute import backend, worker
from cxr.models.features import batching
from cxr.models.networks import model_surgery
from cxr.results.cards.model_card import Card
from cxr.serving.prediction import batch_scoring, inputs, publishing
from cxr.serving.prediction.answers import Network
from cxr.serving.prediction.predictions import Predictions
from cxr.storage.local import LocalStorage


class Darkness:
    """A model whose score is the mean of an image over 255, whatever else is in the batch; it keeps the shapes it saw."""

    def __init__(self, before=lambda: None):
        self.shapes, self.before = [], before

    def predict_on_batch(self, batch):
        """Return the scores, (n, 1)."""
        self.before()
        self.shapes.append(batch.shape)
        return batch.astype(np.float64).mean(axis=(1, 2, 3))[:, np.newaxis] / 255


class Copies:
    """A storage of `count` names for one image; a name in `instead` has other bytes, or is an error to raise."""

    uri = "memory://copies"

    def __init__(self, data, count, instead=None):
        self.data, self.instead, self.reads, self.lock = data, instead or {}, 0, threading.Lock()
        self.keys = [f"{i:04d}.jpeg" for i in range(count)]

    def read_many(self, wanted):
        """Yield each name with its bytes, or with the error."""
        for key, _ in wanted:
            with self.lock:
                self.reads += 1
            yield key, self.instead.get(key, self.data)


@pytest.fixture(scope="module")
def card(finished_once):
    return Card.read(next((finished_once / "runs").iterdir()) / "export" / "model_card.json")


@pytest.fixture(scope="module")
def picture(phantoms):
    return next((phantoms / "test" / "NORMAL").glob("*.jpeg")).read_bytes()


def rows_of(model, storage, keys, card):
    """The rows, without what is measured beside them."""
    rows = list(itertools.chain.from_iterable(batches_of(model, storage, keys, card)))
    return [
        {name: value for name, value in row.items() if name not in {"device", "day"}}
        for row in rows
    ]


def batches_of(model, storage, keys, card):
    wanted = [inputs.ImageToScore(storage, key, None, key) for key in keys]
    return batch_scoring.score_images(Network(model, card), wanted, FileSettings())


def one_by_one(storage, keys, card):
    """The same rows from the plainest loop: one image after another, each in a batch of its own."""
    for key in keys:
        row = {
            "image": key,
            "score": "nan",
            "prediction": "",
            "threshold": card.threshold,
            "status": "rejected",
            "scope_p": "",
        }
        try:
            ((_, answer),) = storage.read_many([(key, None)])
            image = content.examine(shard_inspection.require_bytes(answer), FileSettings()).image
        except Rejected as reject:
            yield row | {"reason": f"{reject.reason}: {reject.detail}"}
            continue
        pixels = model_input.prepare_for_model(image, card.image_size, card.settings.harmonise)
        raw = Darkness().predict_on_batch(pixels[np.newaxis, ..., np.newaxis])[:, 0]
        score = float(card.calibration.apply(raw)[0])
        name = card.labels[int(score >= card.threshold)]
        yield row | {"score": score, "prediction": name, "status": "scored", "reason": ""}


def test_reading_ahead_gives_what_one_image_after_another_gives(phantoms, card):
    """All phantoms, broken ones among them: the same rows, to the last digit, and every image once."""
    storage = LocalStorage(phantoms)
    keys = sorted(
        entry.key for entry in storage.list() if entry.key.endswith(formats.KNOWN_SUFFIXES)
    )
    found = rows_of(Darkness(), storage, keys, card)
    expected = list(one_by_one(storage, keys, card))
    assert sorted(found, key=lambda row: row["image"]) == expected
    assert {row["status"] for row in found} == {"scored", "rejected"}


def test_a_broken_image_in_the_middle_moves_no_other_score(picture, card):
    """The middle one of seventy is listed with its reason; the others have their own scores, by their own names."""
    other = model_input.encode_uniformly(np.full((64, 64), 200, np.uint8))
    storage = Copies(picture, 70, {"0035.jpeg": picture[:500], "0036.jpeg": other})
    found = {row["image"]: row for row in rows_of(Darkness(), storage, storage.keys, card)}
    assert list(found.values()) != [] and sorted(found) == storage.keys
    assert found["0035.jpeg"]["status"] == "rejected" and found["0035.jpeg"]["reason"].startswith(
        "truncated: "
    )
    assert [found[key] for key in storage.keys] == list(one_by_one(storage, storage.keys, card))
    assert found["0036.jpeg"]["score"] != found["0037.jpeg"]["score"]


@pytest.mark.parametrize(
    "error", [FileNotFoundError("gone"), PermissionError(13, "Permission denied")]
)
def test_a_file_that_cannot_be_read_is_listed(picture, card, error):
    """A file that vanished or is locked is a rejected row; the rest is scored."""
    storage = Copies(picture, 40, {"0020.jpeg": error})
    found = {row["image"]: row for row in rows_of(Darkness(), storage, storage.keys, card)}
    assert found["0020.jpeg"]["reason"].split(":")[0] == (
        "vanished" if error.args == ("gone",) else "unreadable"
    )
    assert sum(row["status"] == "scored" for row in found.values()) == 39


def test_a_storage_error_in_the_middle_stops_with_its_own_words(picture, card):
    """The batches before it come out, then the storage's error itself; of what lies far behind nothing is read."""
    error = StorageError(
        "cannot read memory://copies/0300.jpeg: SlowDown: check bucket, endpoint and credentials",
        True,
    )
    storage = Copies(picture, 1000, {"0300.jpeg": error})
    before = threading.active_count()
    batches = batches_of(Darkness(), storage, storage.keys, card)
    done = []
    with pytest.raises(StorageError, match=r"0300.jpeg: SlowDown") as caught:
        done.extend(len(batch) for batch in batches)
    assert caught.value is error and 300 - 32 <= sum(done) <= 300
    assert storage.reads <= 300 + 32 + batch_scoring.AHEAD
    assert threading.active_count() == before


def test_reading_goes_on_while_the_model_works_and_stays_within_its_bound(picture, card):
    """While a batch is scored, AHEAD images behind it are read, and no more than AHEAD behind the batches that wait."""
    storage, begun, size = Copies(picture, 300), itertools.count(1), backend.inference_batch_size()

    def wait_for_reads():
        batches = next(begun)
        least = min(batches * size + batch_scoring.AHEAD, 300)
        most = min((batches + 2 * backend.parallel_batches()) * size + batch_scoring.AHEAD, 300)
        deadline = time.monotonic() + 60
        while storage.reads < least - 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert least - 1 <= storage.reads <= most, "as far ahead as allowed, and no further"

    model = Darkness(wait_for_reads)
    assert (
        len(rows_of(model, storage, storage.keys, card)) == 300 and len(model.shapes) == 300 // size
    )


def test_results_come_in_order_whichever_is_done_first():
    """The first of two waits for the second to be done, and still comes out first."""
    second = threading.Event()

    def work(item):
        if item == 0:
            assert second.wait(60)
        if item == 1:
            second.set()
        return item

    with ThreadPoolExecutor(2) as pool:
        assert list(map_in_order(work, range(5), pool, 3)) == [0, 1, 2, 3, 4]


def test_batches_go_through_the_network_several_at_once_but_the_first_alone(monkeypatch):
    """With three streams three batches meet in the network; before the first is done none begins; order is kept."""
    monkeypatch.setattr(backend, "parallel_batches", lambda: 3)
    inside, meeting = [], threading.Barrier(3, timeout=60)

    def network(batch):
        inside.append(batch)
        if batch == 0:
            time.sleep(0.2)
            assert inside == [0]
        else:
            meeting.wait()
        return batch

    assert list(batching.map_batches(int, network, "0123456")) == list(range(7))
    assert list(batching.map_batches(int, network, "")) == []


def test_one_network_at_a_time_is_prepared_for_by_every_thread(monkeypatch):
    """With one stream, as a GPU has, three batches meet in preparation; the network takes them in order, in one thread."""
    monkeypatch.setattr(backend, "parallel_batches", lambda: 1)
    monkeypatch.setattr(backend, "thread_count", lambda: 3)
    meeting, inside = threading.Barrier(3, timeout=60), set()

    def prepare(batch):
        meeting.wait()
        return -batch

    def network(batch):
        inside.add(threading.get_ident())
        return batch

    assert list(batching.map_batches(prepare, network, range(6))) == [0, -1, -2, -3, -4, -5]
    assert inside == {threading.get_ident()}
    assert list(batching.map_batches(None, network, range(3))) == [0, 1, 2], (
        "nothing to prepare: as they come"
    )


def test_an_endless_list_is_taken_only_as_far_as_asked():
    """Nothing is held for each item of the list: an endless one works; closed, it begins nothing more."""
    begun = []
    with ThreadPoolExecutor(2) as pool:
        results = map_in_order(lambda item: begun.append(item) or item, itertools.count(), pool, 8)
        assert list(itertools.islice(results, 20)) == list(range(20))
        results.close()
    assert len(begun) <= 28


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
def test_the_model_sees_one_batch_size(picture, card, count):
    """A last, short batch and one with a rejected image are filled up: a second shape would be a second tracing."""
    storage, model = Copies(picture, count, {"0007.jpeg": b"no image"}), Darkness()
    assert len(rows_of(model, storage, storage.keys, card)) == count
    assert len(set(model.shapes)) == 1 and model.shapes[0][0] <= backend.inference_batch_size()
    assert len(model.shapes) == -(-count // backend.inference_batch_size())


def test_a_batch_of_rejects_alone_is_not_scored(picture, card):
    """Where nothing could be decoded the model is not called."""
    storage, model = Copies(b"no image", 3), Darkness()
    assert [row["status"] for row in rows_of(model, storage, storage.keys, card)] == [
        "rejected"
    ] * 3
    assert model.shapes == []


@pytest.mark.parametrize(
    ("count", "most"), [(0, 32), (1, 32), (33, 32), (64, 32), (97, 32), (5, 1), (300, 7)]
)
def test_scores_of_any_positions_in_equal_batches(count, most):
    """Scores in the order of the positions, repeated ones too; every batch of one size; progress counts images."""
    rng = np.random.default_rng(count)
    pixels, positions = (
        rng.integers(0, 256, (50, 4, 4)).astype(np.uint8),
        rng.integers(0, 50, count),
    )
    model, seen = Darkness(), []
    found = scoring.score_images(model, pixels, positions, most, seen.append)
    assert found.dtype == np.float64 and np.array_equal(
        found, pixels[positions].mean(axis=(1, 2)) / 255
    )
    assert sum(seen) == count and len(model.shapes) == -(-count // most)
    assert len(set(model.shapes)) <= 1 and all(shape[0] <= most for shape in model.shapes)


def test_equal_batches_waste_less_than_a_place_each():
    """For all counts: as few batches as can be, and fewer places over than there are batches."""
    for count in range(1, 3000):
        size, batches = scoring.even_batch_size(count), -(-count // 32)
        assert (
            1 <= size <= 32
            and (batches - 1) * size < count <= batches * size
            and batches * size - count < batches
        )


@pytest.fixture
def scored(finished_work, tmp_path, monkeypatch):
    """A function that predicts in this process with a made-up model, and returns the table by image.

    It keeps the progress that it was told of in `events`, what was raised in `error`.
    """
    loader = types.SimpleNamespace(models=types.SimpleNamespace(load_model=lambda path: Darkness()))
    monkeypatch.setitem(sys.modules, "keras", loader)
    monkeypatch.setattr(model_surgery, "fuse_batch_norm", lambda model: model)

    def in_this_process(job, log, threads, on_progress):
        type(job).model_validate_json(job.model_dump_json()).work(on_progress)

    monkeypatch.setattr(worker, "run_job", in_this_process)
    export = next((finished_work / "runs").iterdir()) / "export"
    monkeypatch.chdir(tmp_path)

    def predict(*data, out="p.csv", model=export, **settings):
        predict.events = []
        predict.error = ""
        try:
            publishing.predict(
                str(model), list(map(str, data)), str(out), lambda *event: predict.events.append(event),
                FileSettings(**settings),
            )  # fmt: skip
        except CxrError as error:
            predict.error = str(error)
            assert "\n" not in predict.error
        there = os.path.isfile(out)  # noqa: PTH113  # a Path raises where the name is too long
        return read_table(Path(out)).set_index("image") if there else None

    predict.export = export
    return predict


def reasons(table):
    """The reason of each image in a table, in a word; scored ones have an empty one."""
    return {image: reason.partition(":")[0] for image, reason in table["reason"].items()}


def test_the_worker_process_reports_batches_and_publishes_a_sorted_table(
    phantoms, tmp_path, scored
):
    """Progress rises to the number of images; rejects by name are in the table."""
    shutil.copytree(phantoms, tmp_path / "data")
    (tmp_path / "data" / "notes.txt").write_text("no image")
    table = scored("data")
    by_name = table["reason"].str.startswith(("ignored", "not_an_image: extension"))
    done = [event[0] for event in scored.events]
    assert done == sorted(set(done)) and done[0] == 0
    assert {event[1] for event in scored.events} == {done[-1]} == {len(table) - by_name.sum()}
    assert list(table.index) == sorted(table.index) and "notes.txt" in table.index
    assert not list(tmp_path.glob(".*"))


def test_files_are_judged_as_in_training(tmp_path, picture, scored):
    """Any format of a picture, whatever it is called; what is none is listed with its reason, excluded ones too."""
    data = tmp_path / "data"
    (data / "COVID").mkdir(parents=True)
    film = Image.open(io.BytesIO(picture)).convert("L")
    for name, kind in {
        "a.BMP": "BMP",
        "b.tiff": "TIFF",
        "c.webp": "WEBP",
        "d": "PNG",
        "e.img": "JPEG",
        "f.gif": "GIF",
    }.items():
        film.save(data / name, kind)
    film.resize((20, 90)).save(data / "small.png")
    film.save(data / "COVID" / "x.png")
    (data / "g.zip").write_bytes(b"PK\3\4")
    (data / "h.csv").write_text("image,label\n")
    (data / "Thumbs.db").write_bytes(b"x")
    expected = {
        "a.BMP": "", "b.tiff": "", "c.webp": "", "d": "", "e.img": "", "f.gif": "not_an_image", "small.png": "too_small",
        "g.zip": "not_an_image", "h.csv": "not_an_image", "Thumbs.db": "ignored", "COVID/x.png": "excluded",
    }  # fmt: skip
    assert reasons(scored("data", exclude=("COVID",))) == expected
    assert reasons(scored("data", min_side=20, max_aspect=9))["small.png"] == ""


def test_films_as_dicom_are_scored_under_public_names(tmp_path, picture, scored, salt):
    """So are other files beside them; what is damaged or cannot be said otherwise has no real name, either."""
    film = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    folder = tmp_path / "data" / "ward of Meier"
    folder.mkdir(parents=True)
    (folder / "Meier.dcm").write_bytes(dicom_films.film_bytes(film, tags={"PatientName": "Meier"}))
    (folder / "Schulz").write_bytes(dicom_films.film_bytes(film)[:700])
    (folder / "Huber.png").write_bytes(picture)
    (folder / "notes on Meier.txt").write_text("x")
    table = scored("data", exclude=("*.png",))
    names = {
        hidden_names.hide_file(f"ward of Meier/{name}", salt): name
        for name in ("Meier.dcm", "Schulz", "Huber.png", "notes on Meier.txt")
    }
    found = {names[image.rpartition("/")[2]]: reason for image, reason in reasons(table).items()}
    assert found["Meier.dcm"] == ""
    assert found["Huber.png"] == "excluded"
    assert found["notes on Meier.txt"] == "not_an_image"
    assert found["Schulz"] not in {"", "vanished"}
    scored("data/ward of Meier/Schulz", out="q.csv")
    shown = (tmp_path / "p.csv").read_text() + (tmp_path / "q.csv").read_text() + scored.error
    for name in ("Meier", "Schulz", "Huber", "ward"):
        assert name not in shown.replace("q.csv", "")


def test_links_are_followed_where_it_is_asked_for(tmp_path, picture, scored):
    """A folder of links alone says what to give; with the flag each is scored. A link that is named is followed."""
    (tmp_path / "far").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "far" / "a.jpeg").write_bytes(picture)
    (tmp_path / "data" / "one.jpeg").symlink_to(tmp_path / "far" / "a.jpeg")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "far")
    assert reasons(scored("data")) == {"one.jpeg": "outside_root", "more": "outside_root"}
    assert "--follow-links" in scored.error
    assert reasons(scored("data", follow_links=True)) == {"one.jpeg": "", "more/a.jpeg": ""}
    assert reasons(scored("data/one.jpeg")) == {"one.jpeg": ""}


def test_several_addresses_at_once(tmp_path, picture, scored):
    """Each image is called by its address as given, so those of one name stay apart; given twice, it is one row."""
    for name in ("a/1.jpeg", "a/2.jpeg", "b/1.jpeg", "b/deep/1.jpeg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture)
    table = scored("a/1.jpeg", "a/2.jpeg", "b/", "b", tmp_path / "a" / "2.jpeg", "a")
    assert set(table.index) == {
        "a/1.jpeg", "a/2.jpeg", "b/1.jpeg", "b/deep/1.jpeg", f"{tmp_path}/a/2.jpeg"
    } and set(table["status"]) == {"scored"}  # fmt: skip
    assert set(scored("b").index) == {"1.jpeg", "deep/1.jpeg"}, "of one folder: below it"
    assert set(scored((tmp_path / "b").as_uri()).index) == {"1.jpeg", "deep/1.jpeg"}


def test_nothing_scored_is_a_failure_that_says_why(tmp_path, picture, scored):
    """The reasons are counted in the sentence, and in the table, which is published all the same."""
    (tmp_path / "bad").mkdir()
    for i in range(3):
        (tmp_path / "bad" / f"{i}.jpeg").write_bytes(picture[: 500 + i])
    (tmp_path / "bad" / "none.png").write_bytes(b"")
    table = scored("bad")
    assert (
        scored.error
        == "bad: none of 4 files could be scored (3 truncated, 1 empty_file): p.csv lists each with its reason"
    )
    assert len(table) == 4 and set(table["status"]) == {"rejected"}
    scored("bad/none.png")
    assert scored.error == "bad/none.png: not scored: empty_file: 0 bytes"
    (tmp_path / "p.csv").unlink()
    (tmp_path / "empty").mkdir()
    for address, words in [
        ("empty", "no file at all"), ("none/a.jpeg", f"{tmp_path} is there"), ("bad/*.png", "no file fits this pattern"),
        ("bad/0.jpeg/x", "0.jpeg is a file"), ("n" * 300, "shorter name"), ("", "empty text"),
    ]:  # fmt: skip
        assert scored(address) is None and words in scored.error, (address, scored.error)


def test_the_table_itself_is_no_data(tmp_path, picture, scored):
    """Written among the images and predicted again, it and its record are not listed; others are."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpeg").write_bytes(picture)
    first = scored("data", out="data/p.csv")
    assert scored("data", out="data/p.csv").equals(first) and list(first.index) == ["a.jpeg"]
    record = Predictions.read(tmp_path / "data" / "p.json")
    assert (record.images, record.scored, record.out) == (1, 1, "data/p.csv")
    listed = ["a.jpeg", "p.csv", "p.json"]
    assert list(scored("data", out="data/q.csv").index) == listed
    assert list(scored("data", out=tmp_path / "data" / ".." / "data" / "q.csv").index) == listed


def test_a_table_that_cannot_be_written_stops_before_any_scoring(tmp_path, picture, scored):
    """A folder, below a file, a name too long, a name that is a folder's; folders that are missing are made."""
    (tmp_path / "a.jpeg").write_bytes(picture)
    (tmp_path / "folder").mkdir()
    for out, words in [
        ("folder", "found a folder: give folder/predictions.csv"), ("a.jpeg/p.csv", "a file is where a folder is needed"),
        ("/proc/nowhere/p.csv", "give another folder"), ("n" * 300, "shorter name"), ("new/", "the name of a folder"),
        (" ", "empty text"),
    ]:  # fmt: skip
        assert scored("a.jpeg", out=out) is None and words in scored.error, (out, scored.error)
        assert scored.events == []
    assert len(scored("a.jpeg", out="new/deep/p.csv")) == 1 and scored.error == ""
    assert len(scored("a.jpeg", out="new/deep/p.csv")) == 1, "one that is there is replaced"


def test_what_is_no_export_is_told_what_to_give(tmp_path, picture, scored):
    """The run, the work folder, a foreign .keras, HDF5, a SavedModel, a registry without a champion, nothing."""
    (tmp_path / "a.jpeg").write_bytes(picture)
    export = scored.export
    (tmp_path / "saved").mkdir()
    for name in (
        "foreign.keras",
        "weights.h5",
        "saved/saved_model.pb",
        "registry/versions/v/version.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for model, words in [
        (export.parent, f"found a run: give {export}"), (export.parent.parent.parent, f"found a work folder with 1: give {export}"),
        ("foreign.keras", "found a Keras model without model_card.json beside it"), ("weights.h5", "found an HDF5 file"),
        ("saved", "found a SavedModel"), ("registry", "a registry without a champion"), ("nowhere", "no such file or folder"),
        (export / "model_card.json", f"found one file of it: give {export}"), ("a.jpeg", "found a file: give WORK/runs/RUN/export"),
    ]:  # fmt: skip
        assert scored("a.jpeg", model=model) is None and words in scored.error, (
            model,
            scored.error,
        )
    for model in (export, export / "model.keras", (export / "model.keras").as_uri(), f"{export}/"):
        assert len(scored("a.jpeg", model=model)) == 1, model


def test_negatives_of_films_are_rejected(tmp_path, phantoms, scored):
    """Where the card says what a film looks like; a card that does not say it rejects none."""
    (tmp_path / "data").mkdir()
    files = sorted((phantoms / "train" / "NORMAL").glob("*.jpeg"))
    good = scored(phantoms / "train" / "NORMAL")
    films = [
        Image.open(path).convert("L") for path in files if good["status"].get(path.name) == "scored"
    ][:12]
    for number, film in enumerate(films):
        film.save(tmp_path / "data" / f"film{number:02d}.png")
    ImageOps.invert(films[0]).save(tmp_path / "data" / "negative.png")
    assert set(reasons(scored("data")).values()) == {""}
    reference = polarity.learn_reference(
        np.stack([model_input.resize(film, model_input.THUMBNAIL_SIDE) for film in films])
    )
    assert reference is not None
    card = Card.read(scored.export / "model_card.json")
    card.model_copy(update={"data": card.data.model_copy(update={"polarity": reference})}).write(
        scored.export / "model_card.json"
    )
    found = reasons(scored("data"))
    assert found.pop("negative.png") == "negative" and set(found.values()) == {""}


def test_objects_with_odd_keys_are_scored_by_their_names(moto_bucket, picture, scored):
    """A prefix, one object by its name, a prefix whose name ends like an image's; the table goes there too."""
    client = moto_bucket.client()
    keys = ["set/a/../b.jpeg", "set//c.jpeg", "set/ d .jpeg", "set/e", "odd.jpeg/f.png"]
    for key in keys:
        client.put_object(Bucket=moto_bucket.name, Key=key, Body=picture)
    place = f"S3://{moto_bucket.name}"
    assert scored(f"{place}/set", out=f"{place}/out/p.csv") is None and scored.error == ""
    answer = client.get_object(Bucket=moto_bucket.name, Key="out/p.csv")["Body"].read().decode()
    assert [line.split(",")[0] for line in answer.splitlines()[1:]] == [
        " d .jpeg",
        "/c.jpeg",
        "a/../b.jpeg",
        "e",
    ]
    assert list(scored(f"{place}/set/e").index) == ["e"]
    assert list(scored(f"{place}/odd.jpeg").index) == ["f.png"]
    assert set(scored(f"{place}/set/e", f"{place}/odd.jpeg/").index) == {
        f"{place}/set/e",
        f"{place}/odd.jpeg/f.png",
    }
    Path("p.csv").unlink()
    assert scored(f"{place}/none") is None and "no file at all" in scored.error
    assert scored("p.csv", out=f"{place}") is None and "bucket alone" in scored.error
