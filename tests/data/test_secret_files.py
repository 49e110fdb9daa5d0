"""The salt and the key map: files that whoever gets the results must not get."""

import csv
import os
import stat
from pathlib import Path

import pytest

from cxr.core.errors import DataError, UsageError
from cxr.core.settings import FileSettings, ReadingSettings
from cxr.data.patients import hidden_names
from cxr.data.patients.hidden_names import HiddenNames
from cxr.data.patients.pseudonyms import find_salt, make_salt, require_secret_place
from cxr.serving.prediction.inputs import find_images
from cxr.stages import data_steps
from tests.data.test_hidden_names import write

PRIVATE = 0o600


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_salt_is_made_once(tmp_path, monkeypatch):
    """It is long, random, for its owner alone, found by its file, and never replaced."""
    paths = [tmp_path / "new" / "salt.txt", tmp_path / "salt.txt"]
    salts = set()
    for path in paths:
        make_salt(str(path))
        assert permissions(path) == PRIVATE
        monkeypatch.setenv("CXR_SALT_FILE", str(path))
        salts.add(find_salt())
    assert len(salts) == 2
    assert min(map(len, salts)) >= 40
    with pytest.raises(UsageError, match="with another salt every patient would be another"):
        make_salt(str(paths[0]))
    assert paths[0].read_text().strip() in salts


@pytest.mark.parametrize(
    "records", [("ingest.json", "clean_metadata.csv"), ("inspection/1/listed.csv",)]
)
def test_no_secret_lies_in_a_work_folder(tmp_path, records):
    """Work folders are handed on; links do not lead around that, and one that is open is known."""
    work = tmp_path / "work"
    for name in records:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).touch()
    (tmp_path / "link").symlink_to(work)
    for place in ("work/salt.txt", "work/deep/salt.txt", "link/salt.txt"):
        with pytest.raises(UsageError, match="outside the work folder"):
            make_salt(str(tmp_path / place))
    with pytest.raises(UsageError, match="outside the work folder"):
        require_secret_place(str(tmp_path / "fresh" / "map.csv"), "the key map", tmp_path / "fresh")
    with pytest.raises(UsageError, match="a place on another machine"):
        make_salt("s3://bucket/salt.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_salt_that_cannot_be_written_is_an_error(tmp_path):
    """The folder may be somebody else's."""
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be written"):
        make_salt(str(tmp_path / "salt.txt"))


def test_a_key_map_tells_who_is_who(tmp_path, salt):
    """Columns image and key, for its owner alone; an earlier one is replaced, no other file is."""
    names = HiddenNames(ReadingSettings(), salt)
    keys = ["train/Meier, Hans.dcm", "b\udcff", "a\nb"]
    path = hidden_names.require_key_map(str(tmp_path / "map.csv"))
    for _ in range(2):
        hidden_names.write_key_map(path, [(names.key(key), key) for key in keys])
        assert hidden_names.require_key_map(str(path)) == path
    assert permissions(path) == PRIVATE
    assert [file.name for file in tmp_path.iterdir()] == ["map.csv"]
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == keys
    assert [names.real_key(row["image"]) for row in rows] == keys
    (tmp_path / "other.csv").write_text("mine\n")
    with pytest.raises(UsageError, match="found another file"):
        hidden_names.require_key_map(str(tmp_path / "other.csv"))


def test_a_scan_writes_a_key_map_where_asked_for(tmp_path, salt):
    """It is there also where the scan stops with a question: a person needs it for the answer."""
    assert salt
    write(tmp_path / "data", "ward/Meier.dcm", "ward/Schulz.dcm")
    (tmp_path / "work").mkdir()
    path = tmp_path / "map.csv"
    reading = ReadingSettings()
    with pytest.raises(DataError, match="--key-map"):
        data_steps.scan_images(
            str(tmp_path / "data"), tmp_path / "work", reading, "dicom", key_map=str(path)
        )
    assert "ward/Meier.dcm" in path.read_text()
    with pytest.raises(UsageError, match="outside the work folder"):
        data_steps.scan_images(
            str(tmp_path / "data"),
            tmp_path / "work",
            reading,
            "dicom",
            key_map=str(tmp_path / "work" / "map.csv"),
        )


@pytest.mark.usefixtures("salt")
def test_images_to_score_have_public_names(tmp_path):
    """Of one address and of several; the key map leads back, and patterns mean the real names."""
    write(tmp_path / "data", "ward/Meier.dcm", "ward/Schulz", "Huber/x.dcm")
    data = str(tmp_path / "data")
    path = tmp_path / "map.csv"
    files = FileSettings(exclude=("Huber",))
    for addresses in ([data], [data, f"{data}/ward/Meier.dcm"], [f"{data}/ward/Meier.dcm"]):
        exclude = files if len(addresses[0]) == len(data) else FileSettings()
        inputs = find_images(addresses, str(tmp_path / "out.csv"), exclude, str(path))
        names = [image.name for image in inputs.wanted] + [name for name, _, _ in inputs.rejects]
        shown = f"{names} {inputs.judged} {inputs.rejects}"
        for word in ("Meier", "Schulz", "ward"):
            assert word not in shown
        assert len(names) == len(set(names)) == (3 if addresses[0] == data else 1)
        with path.open(newline="") as file:
            keys = {row["image"]: row["key"] for row in csv.DictReader(file)}
        assert keys.keys() == set(names)
        assert any(key.endswith("Meier.dcm") for key in keys.values())
