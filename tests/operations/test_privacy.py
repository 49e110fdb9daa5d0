"""Nothing that identifies a person leaves: forty names in DICOM, and a search of every byte that is written."""

import contextlib
import logging
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

import cxr as library
from cxr.core.errors import CxrError
from cxr.core.files import read_table
from cxr.core.settings import PixelSettings, ReadingSettings, SplitSettings, TrainingSettings
from cxr.data.images import pixel_cache
from cxr.data.manifest import scanning
from cxr.stages import data_steps
from flows.server import process
from tests.conftest import SMALLEST, Command
from tests.support import planted

SALT = "a salt of the tests, long enough"
SIDE = 32


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films that name people in every way."""
    folder = tmp_path_factory.mktemp("hospital")
    planted.write_films(folder, images=36, size=48)
    return folder


def test_the_search_finds_what_is_planted(films, tmp_path):
    """In the files themselves, and in archives, pages, pictures and databases: the search is not blind."""
    values = planted.planted_values()
    assert len(set(values)) >= 40
    found = {line.partition(" in ")[0] for line in planted.find_planted(films)}
    assert set(values) - found == {planted.LOST, "2021-04-13", "1934-02-17"}
    picture = tmp_path / "a.json"
    picture.write_text('"\\u5c71\\u7530\\u592a\\u90ce" and "Zeltinger_Film"')
    shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path, "a.json")
    picture.unlink()
    assert len(planted.find_planted(tmp_path)) == 2


def test_preprocessing_writes_no_name(films, tmp_path, salt, capfd, caplog):
    """The work folder, the log, what is printed, and the errors of runs that fail."""
    caplog.set_level(logging.DEBUG)
    data = tmp_path / "data"
    shutil.copytree(films, data)
    work = tmp_path / "work"
    ingest = library.preprocess(data, work, pixels=PixelSettings(image_size=SIDE))
    assert ingest.kept == 36
    texts = [str(ingest)]
    texts += errors_of(data, tmp_path)
    table = read_table(work / "clean_metadata.csv")
    assert (table["patient_id"].str.len() == 16).all()
    assert table["image"].str.contains("film-").all()
    output = capfd.readouterr()
    texts += [output.out, output.err, caplog.text, salt]
    shutil.rmtree(data)
    assert planted.find_planted(tmp_path, *texts) == []


def errors_of(data: Path, place: Path) -> list[str]:
    """Return what is said of runs that fail on purpose."""
    files = sorted((data / "train" / "NORMAL" / planted.FOLDER).iterdir())
    work = place / "work-of-failures"
    work.mkdir()
    files[0].write_bytes(files[0].read_bytes()[:900])
    files[1].chmod(0o000)
    files[2].write_bytes(b"no film" * 99)
    lost = data / "train" / planted.LOST
    shutil.copytree(data / "test" / "NORMAL", lost)
    table = place / "patients.csv"
    table.write_text("image,patient_id\nsomething,else\n")
    texts = [said(lambda: library.preprocess(data, work))]
    assert "unknown_class" in texts[0]
    shutil.rmtree(lost)
    for key in (f"csv:{table}", "regex:(?P<patient>nothing at all)"):
        splits = SplitSettings(patient_key=key)
        texts.append(said(lambda splits=splits: library.preprocess(data, work, splits=splits)))
        assert "--patient-key" in texts[-1]
    scan = data_steps.scan_images(str(data), work, ReadingSettings(), "dicom")
    for file in files[3:5]:
        file.unlink()
    data_steps.inspect_all(scan, work, lambda *_: None)
    # Files that vanish after the inspection, and are wanted once more.
    folder = scanning.folder_of(scan, work)
    listed = read_table(folder / "listed.csv")
    storage = data_steps.open_data(str(data))
    for image in listed.loc[listed["image"].str.startswith("train/NORMAL"), "image"]:
        row = pd.Series({"image": image, "md5": ""})
        texts += [said(lambda row=row: pixel_cache.original(storage, row))]
    assert any("cannot be read any more" in text for text in texts)
    return texts


def said(call) -> str:
    """Return the message of an error, with those of the errors behind it."""
    with pytest.raises(CxrError) as failed:
        call()
    texts = []
    error: BaseException | None = failed.value
    while error is not None:
        texts.append(f"{error} {error!r}")
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


@contextlib.contextmanager
def serving(home: Path, temporary: Path):
    """Give the API of a server for the commands after the first; what it knows is on disk after the block.

    It is what each of them would start for itself, where the first one kept its database and logs.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("TMPDIR", str(temporary))
        server = process.Server(home / "cache" / "prefect")
    try:
        server.wait()
        yield {"PREFECT_API_URL": f"{server.address}/api"}
    finally:
        server.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_command_writes_a_name(films, tmp_path):
    """From preprocessing to prediction, with Prefect's database and logs; also where runs fail."""
    data = tmp_path / "data"
    shutil.copytree(films, data)
    home = tmp_path / "home"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "CXR_"))
    }
    environment |= {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PREFECT_HOME": str(home / "prefect"),
        "CXR_CACHE": str(home / "cache"),
    }
    work = tmp_path / "work"
    ran = Command(environment | {"CXR_SALT": SALT})(
        "run", data, "--out", work, *SMALLEST, "--epochs", "0"
    )
    assert ran.returncode == 0, ran.stderr
    (export,) = work.glob("runs/*/export")
    with serving(home, temporary) as there:
        cxr = Command(environment | there | {"CXR_SALT": SALT})
        calls = [
            ran,
            cxr("explore", "--out", work, "--preset", "demo", "--image-size", "48"),
            cxr("predict", export, data, "--out", tmp_path / "predictions.csv"),
            cxr("predict", export, data / "test", next(data.glob("test/NORMAL/*/*")), "--out",
                tmp_path / "several.csv"),
            cxr("scan", data),
            cxr("doctor", "--data", data, "--out", work),
            cxr("verify", next(work.glob("runs/*"))),
        ]  # fmt: skip
        assert [call.returncode for call in calls[:4]] == [0, 0, 0, 0], calls
        assert len(read_table(tmp_path / "predictions.csv")) == 36
        without_salt = Command(environment | there)
        failures = fail_on_purpose(cxr, without_salt, data, work, export)
    said_by_all = [text for call in calls + failures for text in (call.stdout, call.stderr)]
    assert all(call.returncode for call in failures), failures
    shutil.rmtree(data)
    assert planted.find_planted(tmp_path, *said_by_all) == []
    written = "".join(said_by_all)
    assert SALT not in written
    assert not list(holding(tmp_path, SALT.encode()))


def fail_on_purpose(
    cxr: Command, without_salt: Command, data: Path, work: Path, export: Path
) -> list:
    """Return the finished commands that cannot do what they should."""
    folder = work.parent
    out = folder / "failed"
    bad_salt = Command(cxr.environment | {"CXR_SALT": "short"})
    calls = [
        without_salt("preprocess", data, "--out", out),
        without_salt("predict", export, data, "--out", folder / "none.csv"),
        bad_salt("preprocess", data, "--out", out),
    ]
    shutil.copytree(data / "test" / "NORMAL", data / "train" / planted.LOST)
    calls.append(cxr("preprocess", data, "--out", out))
    shutil.rmtree(data / "train" / planted.LOST)
    for path in data.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:700])
    # The inspected films are gone: another size has to be decoded from them.
    calls.append(cxr("explore", "--out", work, "--preset", "demo", "--image-size", "64"))
    calls.append(cxr("predict", export, data, "--out", folder / "broken.csv"))
    calls.append(cxr("preprocess", data, "--out", out))
    return calls


def holding(folder: Path, value: bytes):
    """Yield the files below a folder that hold these bytes."""
    for path in folder.rglob("*"):
        if path.is_file() and value in path.read_bytes():
            yield path


def test_training_settings_hold_no_salt():
    """Settings are records; the salt is none."""
    for settings in (ReadingSettings, SplitSettings, TrainingSettings):
        assert not [name for name in settings.model_fields if "salt" in name]
