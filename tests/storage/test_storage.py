"""The storage seam: the same answers from a folder, a mock S3 server and (slow) a real one."""

import contextlib
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from cxr.core.environment import GIB
from cxr.core.errors import ConflictError, DamagedError, DataError, StorageError
from cxr.core.files import file_sha256, read_table
from cxr.storage import addresses, object_cache
from cxr.storage.addresses import open_storage
from cxr.storage.base import ANY, Entry, Storage
from cxr.storage.s3 import writing
from tests.conftest import preprocess


@pytest.fixture(params=["local", "moto", pytest.param("ceph", marks=pytest.mark.slow)])
def place(request, tmp_path) -> Storage:
    """An empty place on each backend, with odd characters in its address."""
    if request.param == "local":
        (tmp_path / "a b").mkdir()
        return open_storage(str(tmp_path / "a b"))
    return open_storage(request.getfixturevalue(f"{request.param}_bucket").uri)


def entries(place: Storage, prefix: str = "") -> dict[str, Entry]:
    return {entry.key: entry for entry in place.list(prefix)}


def test_listing_and_reading(place):
    """Every file once, with its size; bytes as written; a version that changes with the content."""
    place.write("x/ü, 1 %41.jpeg", b"abc")
    version = place.write("y.png", b"")
    found = entries(place)
    assert {key: entry.size for key, entry in found.items()} == {"x/ü, 1 %41.jpeg": 3, "y.png": 0}
    assert found["y.png"].version == version == place.version("y.png")
    assert place.read("x/ü, 1 %41.jpeg") == b"abc"
    assert place.write("y.png", b"other") == place.version("y.png") != version
    assert entries(place)["x/ü, 1 %41.jpeg"] == found["x/ü, 1 %41.jpeg"]
    place.delete("y.png")
    place.delete("y.png")
    assert list(entries(place)) == ["x/ü, 1 %41.jpeg"] and place.version("y.png") is None


def test_listing_by_prefix(place):
    """Keys that start with the prefix, whether it ends at a folder or within a name; nothing is no error."""
    for key in ("runs/a/x", "runs/ab/y", "run", "z"):
        place.write(key, b"1")
    assert set(entries(place, "runs/")) == {"runs/a/x", "runs/ab/y"}
    assert set(entries(place, "runs/a/")) == {"runs/a/x"} and set(entries(place, "runs/ab")) == {
        "runs/ab/y"
    }
    assert set(entries(place, "run")) == {"runs/a/x", "runs/ab/y", "run"} and not entries(
        place, "none/here"
    )
    assert not entries(open_storage(f"{place.uri}/not/made"), "run") and not list(
        place.list("none")
    )


def test_a_missing_file_is_file_not_found(place):
    """What vanished is told apart from what cannot be reached."""
    place.write("x.png", b"abc")
    with pytest.raises(FileNotFoundError):
        place.read("gone.png")
    with pytest.raises(FileNotFoundError):
        place.download("gone.png", Path("never-written"))
    assert not Path("never-written").exists()


def test_a_file_that_changed_since_it_was_listed_is_a_conflict(place):
    """Reading with the listed version never gives other bytes than those listed, cached or not."""
    place.write("x.png", b"one")
    version = entries(place)["x.png"].version
    place.write("x.png", b"two")
    with pytest.raises(ConflictError, match=rf"x\.png: expected version {version}"):
        place.read("x.png", version)
    ((key, error),) = place.read_many([("x.png", version)])
    assert key == "x.png" and isinstance(error, ConflictError) and not error.transient
    assert place.read("x.png", place.version("x.png")) == b"two"


def test_reading_many_keeps_their_order_and_tells_each_failure(place):
    """One answer for each that was wanted, with and without a version; a missing one does not stop the others."""
    wanted = [(f"{i:03d}", place.write(f"{i:03d}", bytes([i]) * i)) for i in range(60)]
    mixed = [(key, version if i % 2 else None) for i, (key, version) in enumerate(wanted)]
    for _ in range(2):  # the second time from the local cache, where there is one
        found = list(place.read_many([*mixed[:30], ("gone", None), *mixed[30:]]))
        assert [key for key, _ in found] == [
            *(key for key, _ in mixed[:30]),
            "gone",
            *(key for key, _ in mixed[30:]),
        ]
        assert isinstance(found.pop(30)[1], FileNotFoundError)
        assert [data for _, data in found] == [bytes([i]) * i for i in range(60)]


def test_a_write_may_expect_what_is_there(place):
    """None: nothing yet; a version: still that one; ANY: whatever. A refused write changes nothing."""
    with pytest.raises(ConflictError):
        place.write("k", b"0", expected="0" * 32)
    first = place.write("k", b"1", expected=None)
    with pytest.raises(ConflictError, match="expected nothing there yet, found version") as refused:
        place.write("k", b"2", expected=None)
    assert not refused.value.transient and place.read("k") == b"1"
    second = place.write("k", b"3", expected=first)
    with pytest.raises(ConflictError, match=f"expected version {first}, found version {second}"):
        place.write("k", b"4", expected=first)
    assert place.read("k") == b"3"
    place.write("k", b"5", expected=ANY)
    assert place.read("k") == b"5" and list(entries(place)) == ["k"]


@pytest.mark.parametrize("what", ["create", "replace"])
def test_of_several_writes_at_once_exactly_one_wins(place, what):
    """Ten writers expecting the same: one version comes back, nine conflicts, and the winner's bytes are there."""
    expected = place.write("k", b"before") if what == "replace" else None
    start, won = threading.Barrier(10), []

    def write(i: int) -> None:
        start.wait()
        with contextlib.suppress(ConflictError):
            won.append((place.write("k", f"writer {i}".encode(), expected=expected), i))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((version, i),) = won
    assert place.read("k") == f"writer {i}".encode() and place.version("k") == version


@pytest.mark.parametrize(
    ("size", "largest"),
    [
        (0, writing.LARGEST_PUT),
        (1000, writing.LARGEST_PUT),
        (20_000_123, writing.LARGEST_PUT),
        (20_000_123, 1000),
    ],
)
def test_files_travel_whole(place, tmp_path, monkeypatch, size, largest):
    """Up and down again, in one piece or in parts: the same SHA-256 and the same time of change."""
    monkeypatch.setattr("cxr.storage.s3.writing.LARGEST_PUT", largest)
    source, back = tmp_path / "source", tmp_path / "deeper" / "back"
    source.write_bytes(os.urandom(size))
    os.utime(source, ns=(10**18 + 5, 10**18 + 5))
    version = place.upload(source, "big/model.keras")
    assert place.version("big/model.keras") == version == place.download("big/model.keras", back)
    assert file_sha256(back) == file_sha256(source) and back.stat().st_mtime_ns == 10**18 + 5
    assert entries(place)["big/model.keras"].size == size
    assert not list(back.parent.glob(".writing-*"))


@pytest.mark.parametrize("size", [1000, 20_000_123])
def test_an_upload_may_expect_what_is_there(bucket, tmp_path, size):
    """As for a write, and for large files, too: whoever comes second is told, and the first one's bytes stay."""
    place, source = open_storage(bucket.uri), tmp_path / "source"
    source.write_bytes(os.urandom(size))
    version = place.upload(source, "model.keras", None)
    before = file_sha256(source)
    source.write_bytes(os.urandom(size))
    for expected in (None, "0" * 32):
        with pytest.raises(ConflictError, match=f"found version {version}"):
            place.upload(source, "model.keras", expected)
    assert place.sha256("model.keras") == before
    assert place.upload(source, "model.keras", version) != version


@pytest.mark.slow  # the mock checks no MD5
def test_a_file_that_changes_while_it_is_put_is_refused(ceph_bucket, tmp_path, monkeypatch):
    """What was read for the digests is what is stored, or nothing is."""
    place, source = open_storage(ceph_bucket.uri), tmp_path / "source"
    source.write_bytes(b"before")
    digests = writing._digests

    def digests_then_change(file):
        found = digests(file)
        source.write_bytes(b"after ")
        return found

    monkeypatch.setattr(writing, "_digests", digests_then_change)
    with pytest.raises(StorageError, match="BadDigest"):
        place.upload(source, "x")
    assert place.version("x") is None


def test_a_key_never_leads_out_of_the_folder(tmp_path):
    """.. and absolute keys are refused."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    place = open_storage(str(tmp_path / "in"))
    for key in ("../secret", str(tmp_path / "secret"), "a/../../secret", ""):
        with pytest.raises(StorageError, match="leads out of it"):
            place.read(key)
        with pytest.raises(StorageError, match="leads out of it"):
            place.write(key, b"y")


def test_versions_of_a_folder_s_file_never_repeat(tmp_path):
    """Two writes within one tick of the system's clock, or after the clock went back, still have two versions."""
    place = open_storage(str(tmp_path))
    versions = [place.write("k", b"same") for _ in range(50)]
    assert len(set(versions)) == 50 and versions == sorted(
        versions, key=lambda version: int(version.partition("-")[0])
    )


def test_listing_goes_through_all_pages(bucket):
    """More objects than one page holds."""
    client = bucket.client()
    for i in range(1003):
        client.put_object(Bucket=bucket.name, Key=f"many/{i:04d}.jpeg", Body=b"")
    assert len(list(open_storage(f"s3://{bucket.name}/many").list())) == 1003


def test_what_was_damaged_in_place_is_noticed(bucket, tmp_path, monkeypatch):
    """Bytes that are not those of their SHA-256 are refused by every way of reading, naming both digests."""
    monkeypatch.setattr("cxr.storage.s3.retries.DELAYS", ())
    place = open_storage(f"s3://{bucket.name}")
    good, bad = "1" * 64, b"bytes of somebody else"
    bucket.client().put_object(Bucket=bucket.name, Key="x", Body=bad, Metadata={"sha256": good})
    for read in (
        lambda: place.read("x"),
        lambda: place.download("x", tmp_path / "x"),
        lambda: raised(next(place.read_many([("x", place.version("x"))]))[1]),
    ):
        with pytest.raises(DamagedError, match=f"x: expected SHA-256 {good}, found [0-9a-f]{{64}}"):
            read()
    assert not (tmp_path / "x").exists()


def raised(error: bytes | Exception) -> None:
    assert isinstance(error, Exception)
    raise error


def test_an_object_is_fetched_once(bucket, tmp_path):
    """By whichever way it is read first; a changed one is fetched again; a damaged copy is not used."""
    place, client = open_storage(f"s3://{bucket.name}"), bucket.client()
    for key in "ab":
        client.put_object(Bucket=bucket.name, Key=key, Body=b"one " * 1000)
    version = place.version("a")
    assert place.read("a", version) == b"one " * 1000
    (kept,) = (tmp_path / "cxr-cache" / "objects").glob("??/*")
    first = kept.stat().st_mtime_ns, kept.stat().st_ino
    assert (
        place.read("a")
        == place.read("b")
        == next(place.read_many([("b", version)]))[1]
        == b"one " * 1000
    )
    assert list((tmp_path / "cxr-cache" / "objects").glob("??/*")) == [kept], (
        "the same bytes are kept once"
    )
    assert kept.stat().st_ino == first[1] and kept.stat().st_mtime_ns >= first[0]
    kept.write_bytes(b"spoilt")
    assert place.read("a") == next(place.read_many([("a", version)]))[1] == b"one " * 1000
    client.put_object(Bucket=bucket.name, Key="a", Body=b"two")
    assert place.read("a") == b"two"


def test_the_cache_keeps_to_its_limit(tmp_path, monkeypatch):
    """The least recently used go first; what is too large for it is not kept; 0 keeps nothing."""
    monkeypatch.setenv("CXR_CACHE", str(tmp_path))
    monkeypatch.setenv("CXR_CACHE_GB", str(100_000 / GIB))
    for i in range(40):
        object_cache.keep(f"place {i}", "etag", os.urandom(4000))
        assert object_cache.find("place 0"), "used all the time"
    assert sum(path.stat().st_size for path in tmp_path.glob("*/??/*")) <= 110_000
    assert not object_cache.find("place 1") and object_cache.find("place 39")
    object_cache.keep("large", "etag", os.urandom(10_000))
    monkeypatch.setenv("CXR_CACHE_GB", "0")
    object_cache.keep("none", "etag", b"1")
    assert not object_cache.find("large") and not object_cache.find("none")


def test_unknown_schemes_and_credentials_in_a_uri_are_refused():
    """Expected, found, what to do; a secret is never repeated."""
    with pytest.raises(DataError, match="expected a path"):
        open_storage("gs://bucket/x")
    with pytest.raises(DataError, match="another machine"):
        addresses.local_folder("s3://bucket/work")
    with pytest.raises(DataError, match="credentials never belong") as refused:
        open_storage("s3://AKIAEXAMPLE:verysecret@bucket/x")
    assert "verysecret" not in str(refused.value)


def test_preprocessing_from_s3_equals_that_from_a_folder(bucket, phantoms, tmp_path):
    """The same images give the same rows; an unchanged ETag is not read again."""
    local = tmp_path / "copy"
    shutil.copytree(phantoms, local)
    client, uri = bucket.client(), f"s3://{bucket.name}/set"
    for path in sorted(p for p in local.rglob("*") if p.is_file()):
        client.put_object(
            Bucket=bucket.name,
            Key=f"set/{path.relative_to(local).as_posix()}",
            Body=path.read_bytes(),
        )
    preprocess(local, tmp_path / "a")
    first = preprocess(uri, tmp_path / "b")
    for name in ("clean_metadata.csv", "rejects.csv"):
        here, there = (
            read_table(tmp_path / work / name).drop(columns="thumbnail", errors="ignore")
            for work in "ab"
        )
        assert here.equals(there), name
    assert first.newly_read > 0 and preprocess(uri, tmp_path / "b").newly_read == 0


def test_the_first_bytes_of_files(place):
    """So many as are wanted, or as there are; none of an empty file; one answer for each, in order, with its failure."""
    versions = {
        key: place.write(key, b"0123456789"[:size])
        for key, size in (("long", 10), ("short", 3), ("none", 0))
    }
    assert [place.peek(key, 4) for key in versions] == [b"0123", b"012", b""]
    wanted = [*versions.items(), ("long", None), ("gone", None), ("long", versions["short"])]
    for _ in range(2):  # the second time from the local cache, where there is one
        found = list(place.peek_many(wanted, 4))
        assert [key for key, _ in found] == [key for key, _ in wanted]
        answers = [answer for _, answer in found]
        assert answers[:4] == [b"0123", b"012", b"", b"0123"] and isinstance(
            answers[4], FileNotFoundError
        )
        assert isinstance(answers[5], ConflictError)
        place.read("long", versions["long"])
    with pytest.raises(FileNotFoundError):
        place.peek("gone", 4)


def test_one_file_is_found_as_it_is_listed(place):
    """Also where others begin with its name; nothing, or a folder, is None."""
    for key in ("a/b", "a/b.jpeg", "a/bc"):
        place.write(key, key.encode())
    listed = entries(place)
    assert place.find("a/b") == listed["a/b"] and place.find("a/b.jpeg") == listed["a/b.jpeg"]
    assert [place.find(key) for key in ("a", "a/", "b", "a/b/c")] == [None] * 4


ODD_KEYS = (
    "a/../b.jpeg", "../up.jpeg", "./here.jpeg", "/top.jpeg", "x//y.jpeg", "end ", " begin", "back\\slash.jpeg",
    "ünï ☃.jpeg", "new\nline", "return\rtab\t", "q?a=b&c#d.jpeg", "100%41.jpeg", "a+b.jpeg", "..", "...", "<&\">'.jpeg",
)  # fmt: skip


def test_a_folder_s_marker_is_no_file(bucket):
    """Consoles put an object without bytes for each folder, called like it with a slash: it is not listed."""
    for key in ("set/", "set/train/", "set/train/x.jpeg"):
        bucket.client().put_object(Bucket=bucket.name, Key=key, Body=b"")
    assert list(entries(open_storage(f"s3://{bucket.name}/set"))) == ["train/x.jpeg"]


@pytest.mark.parametrize("prefix", ["", "/top/", "a//b/", "x/../y/"])
def test_odd_keys_of_objects_survive(bucket, prefix):
    """Each is listed, found, read, peeked, read in bulk and changed under its own name, its first letter included."""
    place = open_storage(f"S3://{bucket.name}/{prefix}".rstrip("/"))
    # The mock does not know an address with an end of a line in it.
    odd = [key for key in ODD_KEYS if bucket.server.key != "testing" or "\n" not in key]
    versions = {key: place.write(key, key.encode()) for key in odd}
    found = entries(place)
    assert {key: entry.version for key, entry in found.items()} == versions
    for key in odd:
        assert place.find(key) == found[key], key
        assert place.read(key) == key.encode() and place.peek(key, 2) == key.encode()[:2], key
    object_cache.shrink(0)
    assert list(place.peek_many(versions.items(), 3)) == [(key, key.encode()[:3]) for key in odd]
    assert list(place.read_many(versions.items())) == [(key, key.encode()) for key in odd]
    for key in odd:
        place.delete(key)
    assert not entries(place)


def test_addresses_are_understood_in_any_case(tmp_path):
    """S3:// and File:// are s3:// and file://; a lone slash, an empty text, an unknown home are said in one line."""
    assert not addresses.is_local("S3://bucket/x") and addresses.is_local("FILE:///data")
    assert addresses.local_folder(f"File://{tmp_path}/a%20b") == tmp_path / "a b"
    for address, words in [
        ("s3:/bucket/x", "two slashes"), ("", "empty text"), (" ", "empty text"), ("~nobody-there/x", "home folder"),
        ("FTP://host/x", "found ftp://"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=words):
            open_storage(address)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_another(tmp_path):
    """Its version differs, however it came there: written in place, renamed over, or copied with its time."""
    place, path = open_storage(str(tmp_path)), tmp_path / "x.png"
    other = tmp_path / "other"
    seen = set()

    def write(target, data):
        target.write_bytes(data)
        os.utime(target, ns=(10**18, 10**18))

    for way in (
        lambda: write(path, b"one"),
        lambda: write(path, b"two"),
        lambda: (write(other, b"six"), other.rename(path)),
        lambda: (write(other, b"ten"), shutil.copy2(other, path)),
    ):
        way()
        (entry,) = place.list("x")
        assert entry.version == place.version("x.png") == place.find("x.png").version
        assert path.stat().st_mtime_ns == 10**18
        seen.add(entry.version)
        time.sleep(0.02)  # longer than a tick of the system's clock
    assert len(seen) == 4


@pytest.fixture
def linked(tmp_path):
    """A data folder with links of every kind, and what they lead to."""
    data, far = tmp_path / "data", tmp_path / "far"
    for folder in (data / "real" / "deep", far / "inner"):
        folder.mkdir(parents=True)
    for path in (data / "real" / "deep" / "a.png", far / "b.png", far / "inner" / "c.png"):
        path.write_bytes(path.name.encode())
    for name, target in {
        "file_out.png": far / "b.png", "folder_out": far, "file_in.png": data / "real" / "deep" / "a.png",
        "folder_in": data / "real", "broken.png": far / "none.png", "real/deep/up": data, "real/self": "self",
    }.items():  # fmt: skip
        (data / name).symlink_to(target)
    (far / "inner" / "back").symlink_to(far)
    return data


def test_links_are_not_followed_out_of_the_folder(linked):
    """Each is told apart: to a file or a folder, in or out, broken; a link to a file inside is read."""
    found = {entry.key: entry.problem for entry in open_storage(str(linked)).list()}
    assert found == {
        "real/deep/a.png": None,
        "file_in.png": None,
        "file_out.png": ("outside_root", "link out of the data folder"),
        "folder_out": ("outside_root", "link to a folder out of the data folder"),
        "folder_in": ("ignored", "link to a folder: its files are read at their own place"),
        "real/deep/up": ("ignored", "link to a folder: its files are read at their own place"),
        "broken.png": ("unreadable", "broken link"),
        "real/self": ("unreadable", "broken link"),
    }


def test_links_are_followed_where_it_is_asked_for(linked):
    """Files and folders behind links are listed and read, out of the folder too; loops end; broken links stay."""
    place = open_storage(str(linked), follow_links=True)
    found = {entry.key: entry.problem for entry in place.list()}
    back, broken = ("ignored", "link back to a folder above it"), ("unreadable", "broken link")
    assert found == {
        "real/deep/a.png": None, "real/deep/up": back, "real/self": broken, "broken.png": broken,
        "file_in.png": None, "file_out.png": None, "folder_in/deep/a.png": None, "folder_in/deep/up": back,
        "folder_in/self": broken, "folder_out/b.png": None, "folder_out/inner/c.png": None, "folder_out/inner/back": back,
    }  # fmt: skip
    assert (
        place.read("folder_out/inner/c.png") == b"c.png" and place.peek("file_out.png", 1) == b"b"
    )
    good = [(entry.key, entry.version) for entry in place.list() if not entry.problem]
    read = dict(place.read_many(good))
    assert read.pop("file_in.png") == b"a.png" and read.pop("file_out.png") == b"b.png"
    assert read == {key: key.rpartition("/")[2].encode() for key in read}
    (linked / "alias").symlink_to(linked)
    assert {entry.key for entry in open_storage(str(linked / "alias")).list() if not entry.problem} == {
        "real/deep/a.png", "file_in.png"
    }, "the folder itself may be a link"  # fmt: skip


def test_a_folder_that_is_none_is_named_with_its_cause(tmp_path):
    """Missing, a file, below a file, an archive, a broken link, a name too long: one line each."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "data.zip").write_bytes(b"PK")
    (tmp_path / "gone").symlink_to("nowhere")
    for name, words in [
        ("none/below", rf"no such file or folder \({tmp_path} is there\)"), ("file", "is a file, not a folder"),
        ("file/below", "file is a file"), ("data.zip", "unpack it"), ("gone", "broken link"), ("n" * 300, "shorter name"),
    ]:  # fmt: skip
        with pytest.raises((DataError, StorageError), match=words) as refused:
            list(open_storage(str(tmp_path / name)).list())
        assert "\n" not in str(refused.value)


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path):
    """Records are JSON: which name it is is shown with its bytes escaped, wherever in the path it stands."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/r\xf6ntgen")
    for address in (odd, f"{odd}/train"):
        with pytest.raises(DataError, match=r"r\\udcf6ntgen.*not UTF-8"):
            open_storage(address)
