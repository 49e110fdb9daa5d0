"""Batch scoring with a made-up model: read ahead in threads, in order, within bounds, in batches of one size."""

import itertools
import shutil
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cxr import backend, images, manifest, prediction, scoring, streams
from cxr.ahead import in_order
from cxr.errors import StorageError
from cxr.export import Card
from cxr.images import Rejected
from cxr.records import read_table
from cxr.storage import LocalStorage


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
    return list(itertools.chain.from_iterable(prediction.score_images(model, storage, keys, card)))


def one_by_one(storage, keys, card):
    """The same rows from the plainest loop: one image after another, each in a batch of its own."""
    for key in keys:
        row = {"image": key, "score": "nan", "prediction": "", "threshold": card.threshold, "status": "rejected"}
        try:
            image = images.decode(manifest.read_bytes(storage, key)).image
        except Rejected as reject:
            yield row | {"reason": f"{reject.reason}: {reject.detail}"}
            continue
        pixels = images.for_model(image, card.image_size, card.settings.harmonise)
        raw = Darkness().predict_on_batch(pixels[np.newaxis, ..., np.newaxis])[:, 0]
        score = float(card.calibration.apply(raw)[0])
        name = card.labels[int(score >= card.threshold)]
        yield row | {"score": score, "prediction": name, "status": "scored", "reason": ""}


def test_reading_ahead_gives_what_one_image_after_another_gives(phantoms, card):
    """All phantoms, broken ones among them: the same rows, to the last digit, and every image once."""
    storage = LocalStorage(phantoms)
    keys = sorted(entry.key for entry in storage.list() if entry.key.endswith(images.SUFFIXES))
    found = rows_of(Darkness(), storage, keys, card)
    expected = list(one_by_one(storage, keys, card))
    assert sorted(found, key=lambda row: row["image"]) == expected
    assert {row["status"] for row in found} == {"scored", "rejected"}


def test_a_broken_image_in_the_middle_moves_no_other_score(picture, card):
    """The middle one of seventy is listed with its reason; the others have their own scores, by their own names."""
    other = images.uniform_jpeg(np.full((64, 64), 200, np.uint8))
    storage = Copies(picture, 70, {"0035.jpeg": picture[:500], "0036.jpeg": other})
    found = {row["image"]: row for row in rows_of(Darkness(), storage, storage.keys, card)}
    assert list(found.values()) != [] and sorted(found) == storage.keys
    assert found["0035.jpeg"]["status"] == "rejected" and found["0035.jpeg"]["reason"].startswith("truncated: ")
    assert [found[key] for key in storage.keys] == list(one_by_one(storage, storage.keys, card))
    assert found["0036.jpeg"]["score"] != found["0037.jpeg"]["score"]


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), PermissionError(13, "Permission denied")])
def test_a_file_that_cannot_be_read_is_listed(picture, card, error):
    """A file that vanished or is locked is a rejected row; the rest is scored."""
    storage = Copies(picture, 40, {"0020.jpeg": error})
    found = {row["image"]: row for row in rows_of(Darkness(), storage, storage.keys, card)}
    assert found["0020.jpeg"]["reason"].split(":")[0] == ("vanished" if error.args == ("gone",) else "unreadable")
    assert sum(row["status"] == "scored" for row in found.values()) == 39


def test_a_storage_error_in_the_middle_stops_with_its_own_words(picture, card):
    """The batches before it come out, then the storage's error itself; of what lies far behind nothing is read."""
    error = StorageError(
        "cannot read memory://copies/0300.jpeg: SlowDown: check bucket, endpoint and credentials", True
    )
    storage = Copies(picture, 1000, {"0300.jpeg": error})
    before = threading.active_count()
    batches = prediction.score_images(Darkness(), storage, storage.keys, card)
    done = []
    with pytest.raises(StorageError, match=r"0300.jpeg: SlowDown") as caught:
        done.extend(len(batch) for batch in batches)
    assert caught.value is error and 300 - 32 <= sum(done) <= 300
    assert storage.reads <= 300 + 32 + prediction.AHEAD
    assert threading.active_count() == before


def test_reading_goes_on_while_the_model_works_and_stays_within_its_bound(picture, card):
    """While a batch is scored, AHEAD images behind it are read, and no more than AHEAD behind the batches that wait."""
    storage, begun, size = Copies(picture, 300), itertools.count(1), backend.batch()

    def wait_for_reads():
        batches = next(begun)
        least = min(batches * size + prediction.AHEAD, 300)
        most = min((batches + 2 * backend.streams()) * size + prediction.AHEAD, 300)
        deadline = time.monotonic() + 60
        while storage.reads < least - 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert least - 1 <= storage.reads <= most, "as far ahead as allowed, and no further"

    model = Darkness(wait_for_reads)
    assert len(rows_of(model, storage, storage.keys, card)) == 300 and len(model.shapes) == 300 // size


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
        assert list(in_order(work, range(5), pool, 3)) == [0, 1, 2, 3, 4]


def test_batches_go_through_the_network_several_at_once_but_the_first_alone(monkeypatch):
    """With three streams three batches meet in the network; before the first is done none begins; order is kept."""
    monkeypatch.setattr(backend, "streams", lambda: 3)
    inside, meeting = [], threading.Barrier(3, timeout=60)

    def network(batch):
        inside.append(batch)
        if batch == 0:
            time.sleep(0.2)
            assert inside == [0]
        else:
            meeting.wait()
        return batch

    assert list(streams.through(int, network, "0123456")) == list(range(7))
    assert list(streams.through(int, network, "")) == []


def test_one_network_at_a_time_is_prepared_for_by_every_thread(monkeypatch):
    """With one stream, as a GPU has, three batches meet in preparation; the network takes them in order, in one thread."""
    monkeypatch.setattr(backend, "streams", lambda: 1)
    monkeypatch.setattr(backend, "threads", lambda: 3)
    meeting, inside = threading.Barrier(3, timeout=60), set()

    def prepare(batch):
        meeting.wait()
        return -batch

    def network(batch):
        inside.add(threading.get_ident())
        return batch

    assert list(streams.through(prepare, network, range(6))) == [0, -1, -2, -3, -4, -5]
    assert inside == {threading.get_ident()}
    assert list(streams.through(None, network, range(3))) == [0, 1, 2], "nothing to prepare: as they come"


def test_an_endless_list_is_taken_only_as_far_as_asked():
    """Nothing is held for each item of the list: an endless one works; closed, it begins nothing more."""
    begun = []
    with ThreadPoolExecutor(2) as pool:
        results = in_order(lambda item: begun.append(item) or item, itertools.count(), pool, 8)
        assert list(itertools.islice(results, 20)) == list(range(20))
        results.close()
    assert len(begun) <= 28


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
def test_the_model_sees_one_batch_size(picture, card, count):
    """A last, short batch and one with a rejected image are filled up: a second shape would be a second tracing."""
    storage, model = Copies(picture, count, {"0007.jpeg": b"no image"}), Darkness()
    assert len(rows_of(model, storage, storage.keys, card)) == count
    assert len(set(model.shapes)) == 1 and model.shapes[0][0] <= backend.batch()
    assert len(model.shapes) == -(-count // backend.batch())


def test_a_batch_of_rejects_alone_is_not_scored(picture, card):
    """Where nothing could be decoded the model is not called."""
    storage, model = Copies(b"no image", 3), Darkness()
    assert [row["status"] for row in rows_of(model, storage, storage.keys, card)] == ["rejected"] * 3
    assert model.shapes == []


@pytest.mark.parametrize(("count", "most"), [(0, 32), (1, 32), (33, 32), (64, 32), (97, 32), (5, 1), (300, 7)])
def test_scores_of_any_positions_in_equal_batches(count, most):
    """Scores in the order of the positions, repeated ones too; every batch of one size; progress counts images."""
    rng = np.random.default_rng(count)
    pixels, positions = rng.integers(0, 256, (50, 4, 4)).astype(np.uint8), rng.integers(0, 50, count)
    model, seen = Darkness(), []
    found = scoring.score(model, pixels, positions, most, seen.append)
    assert found.dtype == np.float64 and np.array_equal(found, pixels[positions].mean(axis=(1, 2)) / 255)
    assert sum(seen) == count and len(model.shapes) == -(-count // most)
    assert len(set(model.shapes)) <= 1 and all(shape[0] <= most for shape in model.shapes)


def test_equal_batches_waste_less_than_a_place_each():
    """For all counts: as few batches as can be, and fewer places over than there are batches."""
    for count in range(1, 3000):
        size, batches = scoring.even_batch(count), -(-count // 32)
        assert 1 <= size <= 32 and (batches - 1) * size < count <= batches * size and batches * size - count < batches


def test_the_child_reports_batches_and_publishes_a_sorted_table(phantoms, finished_work, tmp_path, monkeypatch):
    """Keras replaced by a made-up model: progress rises to the number of images, rejects by name are in the table."""
    loader = types.SimpleNamespace(models=types.SimpleNamespace(load_model=lambda path: Darkness()))
    monkeypatch.setitem(sys.modules, "keras", loader)
    monkeypatch.setattr(prediction.backend, "configure", lambda: None)
    monkeypatch.setattr(prediction.architectures, "folded", lambda model: model)
    shutil.copytree(phantoms, tmp_path / "data")
    (tmp_path / "data" / "notes.txt").write_text("no image")
    export, events = next((finished_work / "runs").iterdir()) / "export", []
    job = {"export": str(export), "data": str(tmp_path / "data"), "out": str(tmp_path / "p.csv")}
    prediction.main(job, events.append)
    table = read_table(tmp_path / "p.csv")
    by_name = table["reason"].str.startswith(("ignored", "not_an_image: extension"))
    assert [event["done"] for event in events] == sorted({event["done"] for event in events})
    assert {event["of"] for event in events} == {events[-1]["done"]} == {len(table) - by_name.sum()}
    assert list(table["image"]) == sorted(table["image"]) and "notes.txt" in set(table["image"])
