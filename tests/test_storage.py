"""The storage seam: the same answers from a folder and from S3 (moto, in this process)."""

import shutil

import boto3
import pytest
from moto import mock_aws

from cxr import storage
from cxr.errors import DataError, StorageError
from cxr.records import read_table
from tests.conftest import preprocess


@pytest.fixture
def s3(monkeypatch):
    """A mock S3 client with a bucket; no real credentials can be used by accident."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="scans")
        yield client


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    """(uri, put): the same verbs over each backend."""
    if request.param == "local":
        folder = tmp_path / "data"
        folder.mkdir()

        def put(key: str, data: bytes) -> None:
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(data)

        return str(folder), put
    client = request.getfixturevalue("s3")
    return "s3://scans/a b/c", lambda key, data: client.put_object(Bucket="scans", Key=f"a b/c/{key}", Body=data)


def test_listing_and_reading(place):
    """Every file once, with its size; bytes as written; a version that changes with the content."""
    uri, put = place
    put("x/ü, 1.jpeg", b"abc")
    put("y.png", b"")
    found = {entry.key: entry for entry in storage.open_storage(uri).list()}
    assert {key: entry.size for key, entry in found.items()} == {"x/ü, 1.jpeg": 3, "y.png": 0}
    assert storage.open_storage(uri).read("x/ü, 1.jpeg") == b"abc"
    put("y.png", b"other")
    again = {entry.key: entry for entry in storage.open_storage(uri).list()}
    assert again["y.png"].version != found["y.png"].version
    assert again["x/ü, 1.jpeg"] == found["x/ü, 1.jpeg"]


def test_a_missing_file_is_file_not_found(place):
    """What vanished is told apart from what cannot be reached."""
    uri, put = place
    put("x.png", b"abc")
    with pytest.raises(FileNotFoundError):
        storage.open_storage(uri).read("gone.png")


def test_s3_listing_goes_through_all_pages(s3):
    """More objects than one page holds."""
    for i in range(1003):
        s3.put_object(Bucket="scans", Key=f"many/{i:04d}.jpeg", Body=b"")
    assert len(list(storage.open_storage("s3://scans/many").list())) == 1003


def test_a_missing_bucket_is_a_final_error(s3):
    """The error names operation and URI, and trying again is pointless."""
    with pytest.raises(StorageError, match="cannot list s3://nowhere: NoSuchBucket") as caught:
        list(storage.open_storage("s3://nowhere").list())
    assert not caught.value.transient


def test_unknown_scheme_and_remote_work_folder_are_refused():
    """Expected, found, what to do."""
    with pytest.raises(DataError, match="expected a path"):
        storage.open_storage("gs://bucket/x")
    with pytest.raises(DataError, match="must be on this machine"):
        storage.local_folder("s3://bucket/work")


def test_preprocessing_from_s3_equals_that_from_a_folder(s3, phantoms, tmp_path):
    """The same images give the same rows; an unchanged ETag is not read again."""
    local = tmp_path / "copy"
    shutil.copytree(phantoms, local)
    for path in sorted(p for p in local.rglob("*") if p.is_file()):
        s3.put_object(Bucket="scans", Key=f"set/{path.relative_to(local).as_posix()}", Body=path.read_bytes())
    preprocess(local, tmp_path / "a")
    first = preprocess("s3://scans/set", tmp_path / "b")
    for name in ("clean_metadata.csv", "rejects.csv"):
        here, there = (read_table(tmp_path / work / name).drop(columns="thumbnail", errors="ignore") for work in "ab")
        assert here.equals(there), name
    assert first.newly_read > 0 and preprocess("s3://scans/set", tmp_path / "b").newly_read == 0
