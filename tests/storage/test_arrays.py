"""Arrays by content on disk: whole or not there, never out of date, listed, pruned, and clear words on a full disk."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from filelock import Timeout

from cxr.core.errors import StorageError
from cxr.storage import arrays
from cxr.storage.arrays import Cache, Recipe
from tests.conftest import ROOT

RECIPE = Recipe(kind="pixels", made={"side": 4}, shape=(4, 4), dtype="uint8")


def rows(*values):
    return np.stack([np.full((4, 4), value, np.uint8) for value in values])


@pytest.fixture
def held(tmp_path):
    """A cache with rows a..e in two segments."""
    made = Cache(tmp_path / "cache", RECIPE)
    made.add(["a", "b", "c"], rows(1, 2, 3))
    made.add(["d", "e"], rows(4, 5))
    return made


def test_rows_come_in_the_order_asked_for(held):
    """By int, by positions, by mask and by slice; across segments; the same key twice."""
    found = held.rows(["e", "a", "c", "a"])
    assert found.shape == (4, 4, 4) and len(found) == 4 and found.dtype == np.uint8
    assert found[0].shape == (4, 4) and found[np.int64(0)][0, 0] == 5
    assert found[np.array([3, 0, 2])][:, 0, 0].tolist() == [1, 5, 3]
    assert found[1:3][:, 0, 0].tolist() == [1, 3] and found[
        np.array([True, False, False, True])
    ].shape == (2, 4, 4)
    assert held.missing(["x", "a", "y", "x"]) == ["x", "y"]
    with pytest.raises(StorageError, match="1 of 2 rows are missing"):
        held.rows(["a", "x"])


def test_a_recipe_is_the_folder(held, tmp_path):
    """Another size, dtype or way of making: another folder; the folder alone opens the cache."""
    assert Cache.open(held.folder).rows(["d"])[0][0, 0] == 4
    others = [
        RECIPE.model_copy(update=change)
        for change in ({"shape": (5, 5)}, {"dtype": "float16"}, {"made": {"side": 5}})
    ]
    assert len({Cache(tmp_path, each).folder for each in (*others, RECIPE)}) == 4


def test_what_an_interrupted_process_left_is_never_read(held):
    """An array without its keys, and a temporary file, are as if they were not there; the rows are made again."""
    (held.folder / "feedfacefeedface.npy").write_bytes(b"half an array")
    (held.folder / ".writing-x.npy").write_bytes(b"half an array")
    assert held.missing(["a", "f"]) == ["f"]
    held.add(["f"], rows(6))
    assert held.rows(["f"])[0][0, 0] == 6


def test_killed_while_it_writes(tmp_path):
    """A kill -9 of a process that adds rows without end: what is listed is whole, the lock is free, filling goes on."""
    code = f"""
import numpy as np
from pathlib import Path
from cxr.storage.arrays import Cache, Recipe
held = Cache(Path({str(tmp_path)!r}), Recipe(kind="big", made={{}}, shape=(200, 200), dtype="float32"))
with held.filling(["any"]):
    for start in range(0, 10**6, 50):
        keys = [str(at) for at in range(start, start + 50)]
        held.add(keys, np.stack([np.full((200, 200), at, np.float32) for at in range(start, start + 50)]))
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        while len(list(tmp_path.glob("*/[!.]*.keys"))) < 4:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    held = Cache(tmp_path, Recipe(kind="big", made={}, shape=(200, 200), dtype="float32"))
    known = [key for path in held.folder.glob("[!.]*.keys") for key in path.read_text().split()]
    found = held.rows(known)
    assert len(known) >= 200 and all(
        (found[at] == float(key)).all() for at, key in enumerate(known)
    )
    with held.filling(["any"]).acquire(timeout=5):
        held.add(["new"], np.zeros((1, 200, 200), np.float32))


def test_others_fill_other_rows_at_the_same_time(held):
    """Who adds the same rows waits, so that they are made once; who adds others does not."""
    with held.filling(["x", "y"]), held.filling(["z"]).acquire(timeout=5), pytest.raises(Timeout):
        held.filling(["x", "y"]).acquire(timeout=0)


def test_a_full_disk_is_said_with_what_was_needed(held, monkeypatch):
    """Before anything is written where it cannot fit, and where the system refuses in the middle; nothing half-kept."""
    monkeypatch.setattr(
        arrays.shutil, "disk_usage", lambda path: arrays.shutil._ntuple_diskusage(9, 9, 1000)
    )
    with pytest.raises(StorageError, match=r"16 GB more are needed.*cxr cache prune"):
        held.require_space(10**9)
    monkeypatch.undo()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(arrays.np, "save", full)
    with pytest.raises(StorageError, match="the disk is full"):
        held.add(["f"], rows(6))
    monkeypatch.undo()
    assert held.missing(["a", "f"]) == ["f"] and not list(held.folder.glob(".writing*"))


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path):
    """A small file system of its own: the error comes, what was there stays whole, and after making room it goes on."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(place)], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system was refused")
    try:
        held = Cache(
            place / "cache", Recipe(kind="big", made={}, shape=(1000, 1000), dtype="uint8")
        )
        held.add(["a"], np.ones((1, 1000, 1000), np.uint8))
        with pytest.raises(StorageError, match="disk is full"):
            held.add(["b"], np.ones((1, 1000, 1000), np.uint8))
        assert held.missing(["a", "b"]) == ["b"]
        with pytest.raises(StorageError, match="disk is full"):
            held.require_space(2)
        [removed] = arrays.prune_caches(place / "cache", 0)
        assert removed.rows == 1
        held.add(["b"], np.ones((1, 1000, 1000), np.uint8))
        assert held.rows(["b"])[0].all()
    finally:
        arrays._map_segment.cache_clear()  # what is mapped keeps the file system busy
        subprocess.run(["umount", str(place)], check=True)


def test_listing_and_pruning(held, tmp_path):
    """Newest use first; what was not used for so long goes, then the longest unused beyond the bytes to keep."""
    other = Cache(tmp_path / "cache", RECIPE.model_copy(update={"kind": "VGG16-cut"}))
    other.add(["a"], rows(9))
    os.utime(other.folder / "recipe.json", (0, 0))
    listed = arrays.list_caches(tmp_path / "cache")
    assert [(each.kind, each.rows) for each in listed] == [("pixels", 5), ("VGG16-cut", 1)]
    assert listed[0].size > 5 * 16 and arrays.describe_recipe(listed[0].made) == "side 4"
    assert [each.kind for each in arrays.prune_caches(tmp_path / "cache", 30)] == ["VGG16-cut"]
    assert not other.folder.exists() and other.missing(["a"]) == ["a"]
    assert arrays.prune_caches(tmp_path / "cache", 30, most_bytes=10**6) == []
    assert [each.kind for each in arrays.prune_caches(tmp_path / "cache", 30, most_bytes=10)] == [
        "pixels"
    ]


def test_reading_much_does_not_grow_the_process(tmp_path):
    """Rows of many segments read at random: only a few segments are mapped at a time."""
    held = Cache(tmp_path, Recipe(kind="big", made={}, shape=(8,), dtype="uint8"))
    for at in range(3 * arrays._MAPPED_SEGMENTS):
        held.add([str(at)], np.full((1, 8), at, np.uint8))
    found = held.rows([str(at) for at in range(3 * arrays._MAPPED_SEGMENTS)])
    order = np.random.default_rng(0).permutation(len(found))
    assert found[order][:, 0].tolist() == order.tolist()
    assert arrays._map_segment.cache_info().currsize <= arrays._MAPPED_SEGMENTS
