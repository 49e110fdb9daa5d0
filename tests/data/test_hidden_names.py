"""Public names of data sets with DICOM: what they keep, what they hide, and how files are read by them."""

from pathlib import Path

import pytest

from cxr.core.errors import StorageError, UsageError
from cxr.core.settings import ReadingSettings
from cxr.data.folders.layout import Layout
from cxr.data.folders.names import is_of_masks, split_of
from cxr.data.images.decoding import formats
from cxr.data.patients import hidden_storage
from cxr.data.patients.hidden_names import HiddenNames, hide_file, is_hidden_key
from cxr.data.patients.hidden_storage import DataStorage, open_data
from cxr.data.survey.survey import survey_folders
from cxr.storage.addresses import open_storage
from cxr.storage.base import Entry

SALT = "a salt of the tests, long enough"
DICOM = bytes(128) + b"DICM" + bytes(200)


@pytest.fixture(autouse=True)
def no_index(salt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index of an earlier test."""
    assert salt == SALT
    monkeypatch.setattr(hidden_storage, "_indexes", {})


def write(folder: Path, *keys: str) -> None:
    for key in keys:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(DICOM + key.encode())


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("train/NORMAL/Meier.dcm", "train/NORMAL"),
        ("chest_xray/Test Set/Viral Pneumonia/1.dcm", "chest_xray/Test Set/Viral Pneumonia"),
        ("No_Finding/x", "No_Finding"),
        ("x.dcm", ""),
    ],
)
def test_folders_that_say_a_split_or_a_class_alone_keep_their_names(key, shown):
    """The words of splits, classes and masks name nobody."""
    public = HiddenNames(ReadingSettings(), SALT).key(key)
    folder, _, name = public.rpartition("/")
    assert folder == shown
    assert name == hide_file(key, SALT)
    assert is_hidden_key(public)


@pytest.mark.parametrize(
    "folder",
    ["Meier^Hans", "4711", "1", "2024-03-01", "normal 12", "patients 3", "19450302_normal", ".."],
)
def test_other_folders_are_hidden(folder):
    """A name, a number or a date beside a known word may be a patient's."""
    public = HiddenNames(ReadingSettings(), SALT).folder(f"train/{folder}")
    assert public.startswith("train/folder-") or folder == ".."
    assert folder not in public or folder == ".."


@pytest.mark.parametrize(
    "name",
    ["Meier_train", "site 7 hold-out", "MeierTest", "test19450302", "masks of Meier", "ward"],
)
def test_a_hidden_folder_is_read_as_the_real_one(name):
    """What makes a folder a split, an unclear one or one of masks stays readable."""
    public = HiddenNames(ReadingSettings(), SALT).folder(name)
    assert "Meier" not in public
    assert "1945" not in public
    assert split_of(public) == split_of(name)
    assert is_of_masks(public) == is_of_masks(name)


@pytest.mark.parametrize(
    "key",
    [
        "ward 3/normal_cases/a",
        "old/holdout 2024/lungs ok/a",
        "x/Meier_test/PNEUMONIA/site/a",
        "PNEUMONIA/bacterial Meier/a",
    ],
)
def test_given_names_are_kept_so_that_flags_mean_the_same(key):
    """A layout reads public names as real ones, by known words and by those that were given."""
    settings = ReadingSettings(
        splits=("holdout*=test", "ward 3=train"), classes=("NORMAL=normal_cases,lungs ok",)
    )
    layout = Layout(settings)
    real = layout.read(key)
    public = layout.read(HiddenNames(settings, SALT).key(key))
    assert (public.split, public.label, public.etiology) == (real.split, real.label, real.etiology)


def test_names_lead_back_to_the_real_ones():
    """Copies and tables are matched by what files are really called."""
    names = HiddenNames(ReadingSettings(backslash_folders=True), SALT)
    public = names.key("Meier\\train\\NORMAL\\a.dcm")
    assert names.real_key(public) == "Meier\\train\\NORMAL\\a.dcm"
    assert public.split("/")[1:3] == ["train", "NORMAL"]
    assert names.real_folder(names.folder("Meier/train")) == "Meier/train"


def test_files_are_read_by_public_names(tmp_path):
    """Another process finds a file by listing once; a file that comes later is found, too."""
    write(tmp_path, "train/Meier.dcm", "b")
    storage = open_data(str(tmp_path))
    public = f"train/{hide_file('train/Meier.dcm', SALT)}"
    content = (tmp_path / "train/Meier.dcm").read_bytes()
    entry = storage.find(public)
    assert entry is not None
    assert entry.key == public
    assert storage.read(public, entry.version) == storage.peek(public, 999) == content
    assert storage.version(public) == entry.version
    assert list(storage.read_many([(public, None), ("b", None)])) == [
        (public, content),
        ("b", (tmp_path / "b").read_bytes()),
    ]


def test_a_vanished_file_is_looked_for_once(tmp_path, monkeypatch):
    """Of many lost files not each is looked for in a new listing; later ones are."""
    write(tmp_path, "a")
    storage = open_data(str(tmp_path))
    listings = []

    def listed(prefix: str = ""):
        listings.append(prefix)
        return iter([Entry("a", 1, "1")])

    monkeypatch.setattr(storage.plain, "list", listed)
    for name in ("x", "y", "z"):
        with pytest.raises(FileNotFoundError):
            storage.read(hide_file(name, SALT))
    assert len(listings) == 1
    monkeypatch.setattr(hidden_storage, "_REFRESH_SECONDS", 0.0)
    with pytest.raises(FileNotFoundError):
        storage.read(hide_file("x", SALT))
    assert len(listings) == 2


def test_errors_name_no_file(tmp_path):
    """Neither the system's errors nor a storage's own say what a file is really called."""
    write(tmp_path, "ward/Meier/Hans.dcm")
    storage = open_data(str(tmp_path))
    names = HiddenNames(ReadingSettings(), SALT)
    public = names.key("ward/Meier/Hans.dcm")
    assert storage.read(public)
    with pytest.raises(StorageError) as changed:
        storage.read(public, "another version")
    (tmp_path / "ward/Meier/Hans.dcm").unlink()
    with pytest.raises(FileNotFoundError) as vanished:
        storage.read(public)
    ((_, answer),) = storage.read_many([(public, None)])
    ((_, unhidden),) = storage.read_many([("ward/Meier/Hans.dcm", None)])
    for error in (changed.value, vanished.value, answer, unhidden):
        assert "Meier" not in f"{error} {error!r}"
        assert "Hans" not in f"{error} {error!r}"
        assert error.__cause__ is None
        assert error.__context__ is None


class FailingStorage:
    """A storage whose errors hold what it was asked for in several spellings."""

    uri = "s3://bucket"
    place = "failing"

    def list(self, _prefix: str = ""):
        """List one file."""
        yield Entry("Meier/Hans\n.dcm", 1, "1")

    def read(self, key: str, _version: str | None):
        """Fail as no storage here does."""
        folder = key.partition("/")[0]
        raise StorageError(f"cannot read s3://bucket/{key} ({key!r}; {folder})")


def test_a_spelling_that_was_not_thought_of_does_not_show_either():
    """An error that would still hold a part of the name says less."""
    storage = DataStorage(FailingStorage(), SALT)
    public = HiddenNames(ReadingSettings(), SALT).key("Meier/Hans\n.dcm")
    with pytest.raises(StorageError, match="cannot be read") as failed:
        storage.read(public)
    assert "Meier" not in str(failed.value)


def test_a_process_without_the_salt_says_so(tmp_path, monkeypatch):
    """Otherwise every file would seem to have vanished."""
    write(tmp_path, "a")
    monkeypatch.delenv("CXR_SALT")
    with pytest.raises(UsageError, match="cxr salt"):
        open_data(str(tmp_path)).read(hide_file("a", SALT))


def test_a_plain_file_of_such_a_name_is_read(tmp_path):
    """Somebody may call a file like a public name."""
    write(tmp_path, "film-0123456789abcdef")
    assert open_data(str(tmp_path)).read("film-0123456789abcdef").startswith(DICOM)


def test_a_survey_of_dicom_holds_public_names_alone(tmp_path):
    """Folders, rejects, questions and tables of what was found: none has a real name."""
    data = tmp_path / "data"
    write(
        data,
        "train/NORMAL/Meier.dcm",
        "train/PNEUMONIA/Schulz.OTTO",
        "train/Huber/x.dcm",
        "Berg masks/train/NORMAL/1.dcm",
    )
    (data / "test" / "Vogel").mkdir(parents=True)
    (data / "test" / "Wolf").symlink_to(data / "train")
    survey = survey_folders(open_storage(str(data)), ReadingSettings(), tmp_path / "memory")
    shown = str(survey._replace(names=None))
    shown += "".join(path.read_text() for path in (tmp_path / "memory").glob("*"))
    for name in ("Meier", "Schulz", "OTTO", "Huber", "Berg", "Vogel", "Wolf"):
        assert name.lower() not in shown.lower()
    assert "train/NORMAL" in shown
    assert survey.names.real_key(f"train/NORMAL/{hide_file('train/NORMAL/Meier.dcm', SALT)}") == (
        "train/NORMAL/Meier.dcm"
    )


def test_a_survey_of_dicom_needs_a_salt(tmp_path, monkeypatch):
    """Without one, nothing is told and nothing remembered; the error says how to make one."""
    monkeypatch.delenv("CXR_SALT")
    write(tmp_path / "data", "train/NORMAL/Meier")
    memory = tmp_path / "memory"
    with pytest.raises(UsageError, match=r"1 DICOM file.*cxr salt") as refused:
        survey_folders(open_storage(str(tmp_path / "data")), ReadingSettings(), memory)
    assert "Meier" not in str(refused.value)
    assert not list(memory.glob("*"))


def test_what_is_excluded_may_be_named_either_way(tmp_path):
    """A person who reads a public name in a question can answer with it."""
    write(tmp_path, "train/NORMAL/a.dcm", "train/NORMAL/Meier/b.dcm", "train/Schulz/c.dcm")
    folder = HiddenNames(ReadingSettings(), SALT).folder("Meier")
    settings = ReadingSettings(exclude=(folder, "Schulz"))
    survey = survey_folders(open_storage(str(tmp_path)), settings)
    reasons = [reason for _, reason, _ in survey.rejects]
    assert reasons.count("excluded") == 2
    assert "fits no file" not in survey.question


def test_a_data_set_without_dicom_keeps_its_names(tmp_path):
    """A salt alone hides nothing."""
    (tmp_path / "train/NORMAL").mkdir(parents=True)
    (tmp_path / "train/NORMAL/Meier.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + bytes(formats.FIRST_BYTES)
    )
    survey = survey_folders(open_storage(str(tmp_path)), ReadingSettings())
    assert [image.entry.key for image in survey.images] == ["train/NORMAL/Meier.png"]


def test_dicom_that_is_left_out_needs_no_salt(tmp_path, monkeypatch):
    """A stray DICOM file among JPEGs stops a run that has no salt; with --exclude it does not, and names stay."""
    monkeypatch.delenv("CXR_SALT")
    storage = open_storage(str(tmp_path))
    for name in ("train", "test"):
        for label in ("NORMAL", "PNEUMONIA"):
            write(tmp_path, f"{name}/{label}/a.png")
    write(tmp_path, "train/NORMAL/stray.dcm")
    with pytest.raises(UsageError, match=r"1 DICOM file.*cxr salt.*--exclude '\*\.dcm'"):
        survey_folders(storage, ReadingSettings())
    survey = survey_folders(storage, ReadingSettings(exclude=("*.dcm",)))
    assert survey.images[0].entry.key == "test/NORMAL/a.png"
    assert ("train/NORMAL/stray.dcm", "excluded") in [row[:2] for row in survey.rejects]
