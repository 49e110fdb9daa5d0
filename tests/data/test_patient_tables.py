"""Tables of patients, as spreadsheets and scripts save them, are read right or refused."""

import unicodedata
from pathlib import Path

import pytest

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.settings import SplitSettings
from cxr.data.manifest.records import Ingest
from tests.conftest import preprocess
from tests.data.test_real_folders import fill, notes


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Return a folder of 48 images, two a patient, their umlauts in one code point; read only."""
    folder = tmp_path_factory.mktemp("tables") / "chest films"
    for split in ("train", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            fill(folder / split / name, 12, f"Müller-{split}-{name}-")
    return folder


def keys(data: Path) -> list[str]:
    return sorted(path.relative_to(data).as_posix() for path in data.rglob("*.jpeg"))


def patient(key: str) -> str:
    folder, _, name = key.rpartition("/")
    return f"P{folder}{int(name.rpartition('-')[2].removesuffix('.jpeg')) // 2}"


FORMS = {
    "as they are": lambda key, data: key,
    "backslashes": lambda key, data: key.replace("/", "\\"),
    "absolute": lambda key, data: str(data / key),
    "with the folder's name": lambda key, data: f"{data.name}/{key}",
    "with a dot": lambda key, data: f"./{key}",
    "decomposed": lambda key, data: unicodedata.normalize("NFD", key),
    "upper case": lambda key, data: key.upper(),
    "blanks around": lambda key, data: f" {key} ",
    "file names alone": lambda key, data: key.rpartition("/")[2],
}


def write(
    path: Path, rows: list[tuple[str, str]], separator: str = ",", encoding: str = "utf-8"
) -> Path:
    path.write_bytes("".join(f"{separator.join(row)}\r\n" for row in rows).encode(encoding))
    return path


def table(data: Path, form: str = "as they are", header: tuple[str, str] = ("image", "patient_id")):
    return [header, *((FORMS[form](key, data), patient(key)) for key in keys(data))]


def run(data: Path, work: Path, path: Path) -> Ingest:
    return preprocess(data, work, SplitSettings(patient_key=f"csv:{path}"))


@pytest.mark.parametrize("form", FORMS)
def test_paths_are_matched_however_they_are_written(form, data, tmp_path):
    """Every image gets its patient, the split is by patient, and no patient is in two splits."""
    ingest = run(data, tmp_path / "work", write(tmp_path / "p.csv", table(data, form)))
    rows = read_table(tmp_path / "work" / "clean_metadata.csv")
    assert {image: patient(image) for image in rows["image"]} == dict(
        zip(rows["image"], rows["patient_id"], strict=True)
    )
    assert ingest.patient_wise and "by patient" in ingest.split_policy and not notes(ingest)


@pytest.mark.parametrize(
    ("separator", "encoding", "header"),
    [
        (";", "utf-8-sig", ("image", "patient_id")),
        ("\t", "utf-16", ("Image", "Patient ID")),
        (",", "utf-16", ("IMAGE", "Patient_Id")),
    ],
)
def test_what_spreadsheets_save_is_read(separator, encoding, header, data, tmp_path):
    """Semicolons, tabs, byte order marks, UTF-16, headings with capitals and blanks."""
    path = write(tmp_path / "p.csv", table(data, header=header), separator, encoding)
    assert run(data, tmp_path / "work", path).patient_wise


def test_another_encoding_is_an_error_that_says_how_to_save(data, tmp_path):
    """cp1252 would read as other names: nothing is guessed."""
    with pytest.raises(DataError, match="UTF-8"):
        run(data, tmp_path / "work", write(tmp_path / "p.csv", table(data), encoding="cp1252"))
    (tmp_path / "p.xlsx").write_bytes(b"PK\3\4rest of a spreadsheet")
    with pytest.raises(DataError, match="found a spreadsheet"):
        run(data, tmp_path / "work", tmp_path / "p.xlsx")


def test_a_table_of_other_images_is_an_error_with_both_sides(data, tmp_path):
    """If no row fits, one name of the table and one image are shown, to see the difference."""
    path = write(tmp_path / "p.csv", [("image", "patient_id"), ("scans/0001.png", "7")])
    with pytest.raises(DataError, match=r"names scans/0001\.png, the first image is test/NORMAL/M"):
        run(data, tmp_path / "work", path)


def test_half_a_table_is_said_everywhere(data, tmp_path):
    """The share is a note, the split is not called patient-wise, and images without are counted."""
    ingest = run(
        data, tmp_path / "work", write(tmp_path / "p.csv", [*table(data)[:25], ("gone.jpeg", "x")])
    )
    assert "24 of 48 images have a patient (50%)" in notes(ingest)[0]
    assert "1 rows name no image, for example gone.jpeg" in notes(ingest)[1]
    assert (
        "by patient" not in ingest.split_policy
        and "24 of 48 images have none" in ingest.split_policy
    )
    assert not ingest.patient_wise and ingest.leakage.without_patient == 24
    assert ingest.doubts == "no patient is known for 24 of 48 images"


def test_one_image_of_two_patients_is_an_error(data, tmp_path):
    """In two spellings of one path, too."""
    first = keys(data)[0]
    rows = [*table(data), (f"./{first}", "somebody else")]
    with pytest.raises(DataError, match="one patient for each image, found two"):
        run(data, tmp_path / "work", write(tmp_path / "p.csv", rows))


def test_a_file_name_of_several_images_gives_none_of_them_a_patient(tmp_path):
    """a.jpeg is in four folders: the row is counted as unclear, not given to one of them."""
    for split in ("train", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            fill(tmp_path / "data" / split / name, 8, "x")
            fill(tmp_path / "data" / split / name, 1, f"{split}{name}")
    rows = [("image", "patient_id"), ("x1.jpeg", "1"), ("trainNORMAL0.jpeg", "2")]
    ingest = run(tmp_path / "data", tmp_path / "work", write(tmp_path / "p.csv", rows))
    assert any("1 rows fit several images" in note for note in ingest.notes)


def test_a_table_in_a_bucket(data, tmp_path, moto_bucket):
    """csv: takes an address, too."""
    path = write(tmp_path / "p.csv", table(data))
    from cxr.storage.addresses import open_storage

    open_storage(moto_bucket.uri).write("tables/p.csv", path.read_bytes())
    ingest = preprocess(
        data, tmp_path / "work", SplitSettings(patient_key=f"csv:{moto_bucket.uri}/tables/p.csv")
    )
    assert ingest.patient_wise


def test_a_pattern_that_fits_no_image_is_an_error(data, tmp_path):
    """The whole rule would be dropped, and the split not be by patient."""
    with pytest.raises(DataError, match=r"fits no image, for example not"):
        preprocess(
            data, tmp_path / "work", SplitSettings(patient_key=r"regex:(?P<patient>ward\d+)")
        )


def test_words_for_no_patient_join_nobody(data, tmp_path):
    """nan, unknown and a dash are no patient: as one patient they would empty train in silence."""
    words = ["nan", "unknown", "-", "N/A"]
    rows = [
        (key, words[number % 4] if number % 2 else patient)
        for number, (key, patient) in enumerate(table(data)[1:])
    ]
    ingest = run(
        data, tmp_path / "work", write(tmp_path / "p.csv", [("image", "patient_id"), *rows])
    )
    assert ingest.leakage.without_patient == 24 and ingest.leakage.excluded == 0
    assert "24 of 48 images have a patient" in notes(ingest)[0]


def test_images_set_aside_for_their_patient_are_said(data, tmp_path):
    """Images of train are excluded if their patient is in test, and the account says so."""
    rows = table(data)[1:]
    rows = [
        (key, "P1" if key.endswith(("-0.jpeg", "-1.jpeg")) else patient) for key, patient in rows
    ]
    ingest = run(
        data, tmp_path / "work", write(tmp_path / "p.csv", [("image", "patient_id"), *rows])
    )
    assert ingest.leakage.excluded == 4
    assert sum(row.left_out.get("patient_in_another_split", 0) for row in ingest.folders) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,patient_id,Image\na,b,c\n", "found two named image"),
        ('image,patient_id\na,"P1\nb,P2\n', "line break inside a cell"),
        ("", "found an empty file"),
        ("image,patient_id\n" + "a" * 200_000 + ",P1\n", "field larger than field limit"),
    ],
)
def test_broken_tables_are_errors_in_words(text, words, data, tmp_path):
    """Columns twice, an open quote, nothing at all, a cell of any length: a sentence each."""
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        run(data, tmp_path / "work", tmp_path / "p.csv")
    with pytest.raises(DataError, match="expected csv:FILE"):
        preprocess(data, tmp_path / "work", SplitSettings(patient_key="csv:"))


def test_paths_of_another_machine_fit_by_their_end(data, tmp_path):
    """A drive letter, or a folder that is not here: folders and name must be those of one image."""
    rows = [(f"C:\\films\\{key}".replace("/", "\\"), who) for key, who in table(data)[1:]]
    assert run(
        data, tmp_path / "work", write(tmp_path / "p.csv", [("image", "patient_id"), *rows])
    ).patient_wise


def test_a_bare_name_never_goes_to_a_namesake(tmp_path):
    """Its image was rejected: the row is of that one, not of another image of the same name."""
    for split in ("train", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            fill(tmp_path / "data" / split / name, 8, f"{split}{name}")
    fill(tmp_path / "data" / "test" / "NORMAL", 1, "x")
    (tmp_path / "data" / "train" / "NORMAL" / "x0.jpeg").write_bytes(b"broken")
    rows = [("image", "patient_id"), ("x0.jpeg", "1"), ("trainNORMAL0.jpeg", "2")]
    ingest = run(tmp_path / "data", tmp_path / "work", write(tmp_path / "p.csv", rows))
    assert any("1 rows fit several images" in note for note in ingest.notes)
