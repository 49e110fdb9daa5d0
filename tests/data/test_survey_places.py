"""A folder and a bucket are read alike, by the command `scan` and by a run."""

import os
import subprocess
import sys
from pathlib import Path

from cxr.core.settings import ReadingSettings
from cxr.data.survey.survey import Survey, survey_folders
from cxr.storage.addresses import open_storage
from tests.conftest import ROOT, preprocess
from tests.data.test_real_folders import fill, tree


def upload(folder: Path, uri: str) -> None:
    storage = open_storage(uri)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        storage.write(path.relative_to(folder).as_posix(), path.read_bytes())


def keys_of_images(survey: Survey) -> list[str]:
    return [image.entry.key for image in survey.images]


def test_a_bucket_is_read_like_a_folder(tmp_path, bucket):
    """Images, rejects, account and question are equal; bare names are judged by first bytes."""
    data = tree(tmp_path / "data", images=8)
    fill(data / "train" / "COVID", 3)
    for path in sorted((data / "test" / "NORMAL").iterdir()):
        path.rename(path.with_suffix(""))
    (data / "notes").write_bytes(b"no image")
    (data / "train" / "NORMAL" / "scan.gif").write_bytes(b"GIF89a" + bytes(99))
    upload(data, bucket.uri)
    local = survey_folders(open_storage(str(data)), ReadingSettings(exclude=("COVID",)))
    remote = survey_folders(open_storage(bucket.uri), ReadingSettings(exclude=("COVID",)))
    assert keys_of_images(remote) == keys_of_images(local)
    assert remote.rejects == local.rejects
    assert remote.account == local.account
    question = survey_folders(open_storage(bucket.uri), ReadingSettings()).question
    assert question.startswith(bucket.uri)
    assert "train/COVID (3 images: unknown_class)" in question
    ingest = preprocess(
        bucket.uri, tmp_path / "work", reading=ReadingSettings(exclude=("COVID", "*.gif"))
    )
    assert ingest.kept == 32
    assert ingest.rejected == {"not_an_image": 1, "excluded": 4}


def test_odd_keys_of_a_bucket_are_files_like_others(tmp_path, moto_bucket):
    """Keys with two dots, two slashes or blanks are kept as they are, not as system files."""
    data = tree(tmp_path / "data", images=8)
    upload(data, moto_bucket.uri)
    picture = next((data / "train" / "NORMAL").iterdir()).read_bytes()
    odd_keys = ["train/NORMAL/../a.jpeg", "train/NORMAL//b.jpeg", "train/NORMAL/c .jpeg"]
    for number, key in enumerate(odd_keys):
        changed = (
            picture[:-2] + b"\xff\xfe\0\3" + bytes([number]) + picture[-2:]
        )  # a comment: same pixels
        moto_bucket.client().put_object(
            Bucket=moto_bucket.name, Key=f"a b/ü%41/{key}", Body=changed
        )
    survey = survey_folders(open_storage(moto_bucket.uri), ReadingSettings())
    assert set(odd_keys) <= set(keys_of_images(survey))
    assert not survey.question


def test_a_copy_inside_a_bucket_is_told_by_its_etag(tmp_path, moto_bucket, monkeypatch):
    """Equal ETags of equal sizes are equal bytes: nothing is read for them."""
    data = tree(tmp_path / "data", images=4)
    upload(data, moto_bucket.uri)
    upload(data, f"{moto_bucket.uri}/chest_xray")
    storage = open_storage(moto_bucket.uri)
    monkeypatch.setattr(
        type(storage), "read_many", lambda self, wanted: iter([]) if not list(wanted) else 1 / 0
    )
    survey = survey_folders(storage, ReadingSettings())
    assert {reason for _, reason, _ in survey.rejects} == {"nested_copy"}
    assert len(survey.rejects) == 16


def scan(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.command", "scan", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "160"},
    )


def test_scan_shows_the_account_and_changes_nothing(tmp_path):
    """It exits with 0 and a row a folder, or with 1 and the question of a run; no file is made."""
    data = tree(tmp_path / "data", images=8)
    before = sorted(tmp_path.rglob("*"))
    done = scan(data)
    assert (
        done.returncode == 0 and "train/NORMAL" in done.stdout and "8 test PNEUMONIA" in done.stdout
    )
    (data / "train").rename(data / "trainset")
    asked = scan(data)
    assert asked.returncode == 1 and "--splits trainset=train (or" in asked.stderr
    answered = scan(data, "--splits", "trainset=train")
    assert answered.returncode == 0 and "8 train NORMAL" in answered.stdout
    (data / "trainset").rename(data / "train")
    assert sorted(tmp_path.rglob("*")) == before
