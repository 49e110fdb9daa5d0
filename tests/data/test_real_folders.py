"""Folders as people have them: every file is used, or counted with its reason, or the run stops.

The pictures are made up, each unlike the others. Tested is how folders and names are read.
"""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.settings import ReadingSettings, SplitSettings
from cxr.data.manifest.records import Ingest
from tests.conftest import preprocess


def put(path: Path) -> Path:
    """Write a picture that no other path has: smooth patches and grain."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(str(path.name).encode() + str(path.parent).encode()))
    low = Image.fromarray(rng.integers(20, 230, (9, 9), dtype=np.uint8)).resize(
        (80, 72), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(low, float) + rng.normal(0, 4, (72, 80))
    options = {} if path.suffix == ".gif" else {"quality": 90}
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, **options)
    return path


def fill(folder: Path, images: int, prefix: str = "img", suffix: str = ".jpeg") -> Path:
    for number in range(images):
        put(folder / f"{prefix}{number}{suffix}")
    return folder


def tree(
    data: Path, splits=("train", "test"), classes=("NORMAL", "PNEUMONIA"), images: int = 8
) -> Path:
    """Write `images` pictures below each data/SPLIT/CLASS."""
    for split in splits:
        for name in classes:
            fill(data / split / name, images)
    return data


@pytest.fixture
def read(tmp_path):
    """Return a function that preprocesses tmp_path/data into a fresh work folder."""

    def call(carving: SplitSettings | None = None, **reading) -> Ingest:
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        ingest = preprocess(
            tmp_path / "data", tmp_path / "work", carving, ReadingSettings(**reading)
        )
        assert ingest.found == ingest.kept + sum(ingest.rejected.values())
        return ingest

    return call


def sizes(ingest: Ingest) -> dict[str, int]:
    return {split: sum(counts.values()) for split, counts in ingest.splits.items()}


def notes(ingest: Ingest) -> list[str]:
    """Return the notes, except that made-up patches have no polarity: it is not at issue here."""
    return [
        note
        for note in ingest.notes
        if not note.startswith("negatives of films were not looked for")
    ]


def rows(work: Path) -> dict[str, str]:
    """Return the split of each kept image."""
    table = read_table(work / "clean_metadata.csv")
    return dict(zip(table["image"], table["source_split"], strict=True))


KNOWN_SPLITS = [
    ("training_set", "test_set"),
    ("Training", "Testing"),
    ("chest_xray_train", "chest_xray_test"),
    ("train", "holdout"),
    ("train", "hold-out"),
    ("train", "Hold Out"),
    ("TRAIN ", "eval"),
    ("train.images", "test images"),
]


@pytest.mark.parametrize("names", KNOWN_SPLITS)
@pytest.mark.parametrize("above", [True, False])
def test_split_words_are_known_in_the_spellings_that_people_use(names, above, tmp_path, read):
    """Above and below the class folders, the second folder is test, and all of it."""
    for name, images in zip(names, (12, 6), strict=True):
        for label in ("NORMAL", "PNEUMONIA"):
            fill(tmp_path / "data" / (f"{name}/{label}" if above else f"{label}/{name}"), images)
    ingest = read()
    assert sizes(ingest)["test"] == 12 and sizes(ingest)["train"] + sizes(ingest)["val"] == 24
    assert ingest.split_policy.startswith("test as published")


@pytest.mark.parametrize("word", ["val", "valid", "validation", "dev", "val_set"])
def test_validation_has_many_names(word, tmp_path, read):
    """The published validation, where it is kept, is the folder of that name."""
    tree(tmp_path / "data", ("train", word, "test"))
    ingest = read(SplitSettings(keep_published_val=True))
    assert sizes(ingest) == {"train": 16, "val": 16, "test": 16}


@pytest.mark.parametrize(
    "name", ["testset", "train_test", "holdout2024", "Test2", "chestTest", "site B"]
)
def test_a_folder_that_may_be_a_split_is_asked_for(name, tmp_path, read):
    """The run stops, names the folder with its count and both flags; each of them answers."""
    tree(tmp_path / "data", ("train", name))
    with pytest.raises(DataError) as stop:
        read()
    assert f"{name} (16 images" in str(stop.value) or f"{name}/NORMAL (8 images" in str(stop.value)
    assert "--splits" in str(stop.value) and "--exclude" in str(stop.value)
    ingest = read(splits=(f"{name}=test",))
    assert sizes(ingest)["test"] == 16 and ingest.rejected == {}
    ingest = read(exclude=(name,))
    assert ingest.rejected == {"excluded": 16} and "carved" in ingest.split_policy


def test_a_test_folder_below_a_class_folder_of_train_is_asked_for(tmp_path, read):
    """train/NORMAL/test is below folders of two splits: it is asked about, and used as told."""
    tree(tmp_path / "data", images=30)
    fill(tmp_path / "data" / "train" / "NORMAL" / "test", 1, "deep")
    with pytest.raises(DataError, match=r"train/NORMAL/test \(1 image: unknown_split\)"):
        read()
    assert read(splits=("train/NORMAL/test=none",)).kept == 121
    assert read(exclude=("train/NORMAL/test",)).rejected == {"excluded": 1}


def test_an_unlabelled_test_is_never_replaced_in_silence(tmp_path, read):
    """A flat test/ stops the run; if it is excluded, test is carved and the policy says so."""
    tree(tmp_path / "data", ("train",), images=20)
    fill(tmp_path / "data" / "test", 15)
    with pytest.raises(DataError, match=r"test \(15 images: unknown_class\).*--exclude test"):
        read()
    ingest = read(exclude=("test",))
    assert ingest.rejected == {"excluded": 15} and ingest.split_policy.startswith(
        "test carved from train"
    )


def test_an_empty_test_folder_is_asked_about(tmp_path, read):
    """A copy that failed: no other test set is carved in its place until somebody says so."""
    tree(tmp_path / "data", ("train",), images=20)
    (tmp_path / "data" / "test" / "NORMAL").mkdir(parents=True)
    with pytest.raises(DataError, match=r"test \(empty\).*--exclude test"):
        read()
    assert read(exclude=("test",)).split_policy.startswith("test carved")


UNKNOWN_CLASSES = [
    (("NORMAL", "BACTERIA", "VIRUS"), ("PNEUMONIA=BACTERIA,VIRUS",)),
    (("0", "1"), ("NORMAL=0", "PNEUMONIA=1")),
    (("normal", "opacity"), ("PNEUMONIA=opacity",)),
    (("NORMAL", "Viral Pneumonia"), ("PNEUMONIA=Viral Pneumonia",)),
    (("no_pneumonia", "pneumonia"), ("NORMAL=no_pneumonia",)),
    (
        ("Normal", "Pneumonia-Bacterial", "Pneumonia-Viral"),
        ("PNEUMONIA=Pneumonia-Bacterial,Pneumonia-Viral",),
    ),
]


@pytest.mark.parametrize(("names", "classes"), UNKNOWN_CLASSES)
def test_other_class_words_are_proposed_and_never_assumed(names, classes, tmp_path, read):
    """The message has each folder with its count and the --classes value that uses all images."""
    tree(tmp_path / "data", classes=names)
    with pytest.raises(DataError) as stop:
        read()
    unknown = [name for name in names if name.lower() not in {"normal", "pneumonia"}]
    assert all(name in str(stop.value) and "8 images" in str(stop.value) for name in unknown)
    assert all(item in str(stop.value) for item in classes), str(stop.value)
    ingest = read(classes=classes)
    assert ingest.kept == 16 * len(names) and not ingest.rejected
    etiologies = set(read_table(tmp_path / "work" / "clean_metadata.csv")["etiology"])
    expected = {""}
    if "Bact" in str(names).title():
        expected.add("bacteria")
    if "Vir" in str(names).title():
        expected.add("virus")
    assert etiologies == expected


def test_case_and_surrounding_blanks_of_class_words_do_not_matter(tmp_path, read):
    """Neither in the names of folders nor in the values of --classes."""
    tree(tmp_path / "data", classes=("normal", "PNEUMONIA ", " virus"))
    assert read(classes=("pneumonia=VIRUS",)).kept == 48


def test_a_third_class_stops_the_run(tmp_path, read):
    """Images of a class that is not asked for are not left out by themselves: --exclude does it."""
    tree(tmp_path / "data", classes=("NORMAL", "PNEUMONIA", "COVID19"))
    with pytest.raises(
        DataError, match=r"train/COVID19 \(8 images: unknown_class\).*--exclude COVID19"
    ):
        read()
    ingest = read(exclude=("COVID19",))
    assert ingest.rejected == {"excluded": 16} and ingest.kept == 32


def test_a_single_stray_image_is_a_warning(tmp_path, read):
    """One image beside the class folders is listed and named in the account; the run goes on."""
    tree(tmp_path / "data", images=20)
    put(tmp_path / "data" / "train" / "stray.jpeg")
    ingest = read()
    assert ingest.rejected == {"unknown_class": 1}
    (row,) = [row for row in ingest.folders if row.folder == "train"]
    assert (
        row.left_out == {"unknown_class": 1}
        and not row.asks
        and "sort the images into" in row.advice
    )


def test_masks_are_their_own_reason(tmp_path, read):
    """Of images/ and masks/ below each class the images are kept, and the masks are rejected."""
    for name in ("Normal", "Viral Pneumonia", "COVID"):
        fill(tmp_path / "data" / name / "images", 12, name)
        fill(tmp_path / "data" / name / "masks", 12, name)
    with pytest.raises(DataError, match="Viral Pneumonia"):
        read()
    ingest = read(classes=("PNEUMONIA=viral pneumonia",), exclude=("COVID",))
    assert ingest.kept == 24 and ingest.rejected == {"excluded": 24, "mask": 24}
    assert all("/images/" in image for image in rows(tmp_path / "work"))


def test_a_copy_is_a_copy_only_with_the_same_bytes(tmp_path, read):
    """A nested copy of the data set is told by its bytes; a changed one is asked about."""
    data = tree(tmp_path / "data", images=10)
    shutil.copytree(data, tmp_path / "copy")
    shutil.move(tmp_path / "copy", data / "chest_xray")
    ingest = read()
    assert ingest.rejected == {"nested_copy": 40} and ingest.kept == 40
    changed = data / "chest_xray" / "train" / "NORMAL" / "img0.jpeg"
    whole = changed.read_bytes()
    changed.write_bytes(whole[:-40] + bytes(38) + whole[-2:])
    with pytest.raises(DataError, match=r"chest_xray.*unknown_split"):
        read()


def test_two_data_sets_can_be_named_as_splits(tmp_path, read):
    """Two hospitals side by side are refused, with the flag that makes one of them the hold-out."""
    tree(tmp_path / "data", ("hospital a", "hospital b"))
    with pytest.raises(
        DataError, match=r"several: hospital a \(16 images\), hospital b \(16 images\).*--splits"
    ):
        read()
    assert sizes(read(splits=("hospital a=train", "hospital b=test")))["test"] == 16


def test_links_are_said_and_followed_on_request(tmp_path, read):
    """Linked files and folders stop the run with their number and the flag; it reads them."""
    store = tree(tmp_path / "store")
    for split in ("train", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for path in sorted((store / split / name).iterdir()):
                (tmp_path / "data" / split / name / path.name).symlink_to(path)
    with pytest.raises(DataError, match=r"train/NORMAL \(8 links: outside_root\).*--follow-links"):
        read()
    assert read(follow_links=True).kept == 32
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(store / "train", tmp_path / "data" / "train")
    (tmp_path / "data" / "test").symlink_to(store / "test")
    with pytest.raises(DataError, match=r"test \(1 linked folder: outside_root\).*--follow-links"):
        read()
    assert sizes(read(follow_links=True))["test"] == 16
    assert read(exclude=("test",)).rejected == {"excluded": 1}


def test_backslashes_of_a_windows_archive_are_folders_on_request(tmp_path, read):
    r"""Files named train\NORMAL\a.jpeg in one folder: the message offers the flag, which works."""
    for split in ("train", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            for number in range(8):
                put(tmp_path / "data" / f"{split}\\{name}\\img{number}.jpeg")
    with pytest.raises(DataError, match="--backslash-folders"):
        read()
    ingest = read(backslash_folders=True)
    assert ingest.kept == 32 and sizes(ingest)["test"] == 16
    (tmp_path / "data" / "train\\NORMAL\\broken.jpeg").write_bytes(b"x")
    put(tmp_path / "data" / "train\\NORMAL\\masks\\m.jpeg")
    assert read(backslash_folders=True).rejected == {"not_an_image": 1, "mask": 1}
    put(tmp_path / "data" / "train\\COVID\\c.jpeg")
    with pytest.raises(DataError, match=r"train/COVID .*--exclude COVID leaves"):
        read(backslash_folders=True)


def dicom(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + bytes(300))


@pytest.mark.usefixtures("salt")
def test_what_is_no_image_is_named(tmp_path, read):
    """Damaged DICOM with and without a suffix, archives, tables: what was found, how many, what to do."""
    for number in range(4):
        dicom(
            tmp_path
            / "data"
            / "train"
            / "NORMAL"
            / (f"IM{number}" + (".dcm" if number % 2 else ""))
        )
    with pytest.raises(DataError, match=r"none of 4 images can be used: .'truncated': 4"):
        read()
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chest_xray.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match=r"\.zip.*unpack"):
        read()
    fill(tmp_path / "data" / "images_001" / "images", 12)
    (tmp_path / "data" / "Data_Entry_2017.csv").write_text("Image Index,Finding Labels\n")
    with pytest.raises(DataError, match=r"NIH ChestX-ray14: give --labels nih:.*--negative"):
        read()


def test_a_gif_is_a_reject_and_a_folder_of_them_a_question(tmp_path, read):
    """One among films is listed; a class of nothing else would be missing."""
    tree(tmp_path / "data", images=10)
    fill(tmp_path / "data" / "train" / "NORMAL", 1, "moving", ".gif")
    assert read().rejected == {"not_an_image": 1}
    fill(tmp_path / "data" / "train" / "ward 7" / "NORMAL", 3, "moving", ".gif")
    with pytest.raises(
        DataError, match=r"train/ward 7/NORMAL \(3 GIF pictures: not_an_image\).*GIF"
    ):
        read()


def test_a_packed_test_set_is_not_replaced(tmp_path, read):
    """test.zip beside train/ wants unpacking; the archive of the whole data set is no question."""
    tree(tmp_path / "data", ("train",), images=20)
    (tmp_path / "data" / "chest_xray.zip").write_bytes(b"PK\3\4")
    assert read().rejected == {"not_an_image": 1}
    (tmp_path / "data" / "test.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match="unpack the archive"):
        read()


def test_a_folder_whose_images_all_fail_stops_the_run(tmp_path, read):
    """A test set of 16-bit files would be replaced by another: the message names the flag."""
    tree(tmp_path / "data", images=20)
    for path in sorted((tmp_path / "data" / "test").rglob("*.jpeg")):
        pixels = np.asarray(Image.open(path)).astype(np.uint16) * 16
        path.unlink()
        Image.fromarray(pixels).save(path.with_suffix(".png"))
    with pytest.raises(
        DataError, match=r"test/NORMAL \(20 images: unsupported_mode\).*--bit-depth"
    ):
        read()
    assert sizes(read(bit_depth=12))["test"] == 40


def test_the_work_folder_inside_data_is_no_data(tmp_path):
    """Run twice into DATA/work, and once more elsewhere: found and kept stay the same."""
    from cxr.data.manifest import scanning
    from cxr.storage.addresses import open_storage
    from cxr.storage.workspace import workspace

    data = tree(tmp_path / "data")
    storage = open_storage(str(data))
    work = data / "work"
    for _ in range(2):
        scan = scanning.scan(storage, work, own=workspace.key_inside(work, storage))
        assert scan.found == scan.images == 32
        (work / "eda").mkdir(exist_ok=True)
        put(work / "eda" / "picture.png")
        (work / "ingest.json").write_text("{}")
        (work / "clean_metadata.csv").write_text("image\n")
    ingest = preprocess(data, tmp_path / "elsewhere")
    assert ingest.kept == 32 and set(ingest.rejected) == {"ignored"}
    with pytest.raises(DataError, match="--out is DATA itself"):
        workspace.key_inside(data, storage)


def test_an_excluded_pattern_has_names_and_paths(tmp_path, read):
    """A name fits at every depth, a path from the top, both with wildcards."""
    tree(tmp_path / "data", images=10)
    fill(tmp_path / "data" / "train" / "NORMAL", 3, "copy_")
    assert read(exclude=("copy_*",)).rejected == {"excluded": 3}
    assert read(exclude=("train/NORMAL/copy_*", "test/*/img1.jpeg")).rejected == {"excluded": 5}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"splits": ("hold=test",)}, "--splits hold=test fits no folder"),
        ({"exclude": ("COVD",)}, "--exclude COVD fits no file"),
    ],
)
def test_a_misspelt_flag_stops_the_run(flags, message, tmp_path, read):
    """What it should exclude would be used; a pattern with wildcards may fit nothing today."""
    tree(tmp_path / "data", images=10)
    with pytest.raises(DataError, match=message):
        read(**flags)
    ingest = read(exclude=("*.bmp",), classes=("PNEUMONIA=vrus,PNEUMONIA",))
    assert notes(ingest) == [
        "--exclude *.bmp fits no file",
        "--classes PNEUMONIA=vrus,PNEUMONIA: there is no folder named vrus",
    ]


@pytest.mark.parametrize(
    "inside",
    [
        (".DS_Store",),
        ("labels.csv",),
        ("README.txt", "a/b.txt"),
        ("NORMAL.zip", "PNEUMONIA.zip"),
        ("NORMAL/a.jp2",),
        ("NORMAL/a.heic", "PNEUMONIA/b.heic"),
        ("NORMAL/a.npy",),
        ("scan.nii.gz",),
        ("NORMAL/pointer",),
    ],
)
def test_a_test_folder_without_a_usable_image_is_not_replaced(inside, tmp_path, read):
    """Whatever is in it: the run stops and names it; left out on purpose, another is carved."""
    tree(tmp_path / "data", ("train",), images=20)
    for name in inside:
        path = tmp_path / "data" / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"this would not be used: test.*leaves"):
        read()
    assert read(exclude=("test",)).split_policy.startswith("test carved")


@pytest.mark.parametrize(
    "name", ["test.zip", "testset.tar.gz", "holdout2024.zip", "test.npz", "test"]
)
def test_a_file_or_a_broken_link_in_the_place_of_test_is_asked_about(name, tmp_path, read):
    """An archive, a bare name and a broken link may be a test set; a table test.csv is none."""
    tree(tmp_path / "data", ("train",), images=20)
    (tmp_path / "data" / "test.csv").write_text("a,b\n")
    assert read().kept == 40
    (tmp_path / "data" / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match="this would not be used: "):
        read()
    (tmp_path / "data" / name).unlink()
    (tmp_path / "data" / "test").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="this would not be used: test"):
        read()


def test_a_class_of_a_split_that_is_packed_is_asked_about(tmp_path, read):
    """train/PNEUMONIA.zip beside train/NORMAL."""
    tree(tmp_path / "data", images=10)
    shutil.rmtree(tmp_path / "data" / "train" / "PNEUMONIA")
    (tmp_path / "data" / "train" / "PNEUMONIA.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match=r"train/PNEUMONIA\.zip.*unpack"):
        read()


def test_the_flag_that_is_proposed_does_not_hit_what_is_used(tmp_path, read):
    """A name that is used elsewhere, or is a split word, is proposed with its path."""
    tree(tmp_path / "data", images=30)
    fill(tmp_path / "data" / "train" / "NORMAL" / "test", 3, "deep")
    with pytest.raises(
        DataError, match=r"--splits train/NORMAL/test=none .*--exclude train/NORMAL/test "
    ):
        read()
    ingest = read(splits=("train/NORMAL/test=none",))
    assert sizes(ingest)["test"] == 60 and ingest.kept == 123
    for name in ("NORMAL", "PNEUMONIA", "COVID"):
        for split in ("train", "test"):
            fill(tmp_path / "other" / name / split, 6)
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "other").rename(tmp_path / "data")
    with pytest.raises(
        DataError, match=r"COVID \(12 images: unknown_class\)\. What to do: --exclude COVID leaves"
    ):
        read()


def test_a_hospital_whose_name_holds_a_split_word(tmp_path, read):
    """train/Test Hospital is below folders of two splits: asked, and answered by =none."""
    for place in ("train/St Mary", "train/Test Hospital", "test/St Mary"):
        tree(tmp_path / "data", (place,), images=10)
    with pytest.raises(
        DataError, match=r"train/Test Hospital \(20 images.*--splits 'train/Test Hospital=none'"
    ):
        read()
    assert sizes(read(splits=("Test Hospital=none",)))["test"] == 20


@pytest.mark.parametrize("place", ["external", "NORMAL/external"])
def test_images_without_a_split_beside_others_with_one_are_asked_about(place, tmp_path, read):
    """They would all become train."""
    if place == "external":
        tree(tmp_path / "data", images=10)
        for name in ("NORMAL", "PNEUMONIA"):
            fill(tmp_path / "data" / name, 5, "loose")
        expected, answer = r"/NORMAL=train /PNEUMONIA=train", ("/NORMAL=train", "/PNEUMONIA=train")
    else:
        for name in ("NORMAL", "PNEUMONIA"):
            for split in ("train", "test", "external"):
                fill(tmp_path / "data" / name / split, 8)
        expected, answer = (
            r"NORMAL/external=train PNEUMONIA/external=train",
            ("external=none", "external=test"),
        )
    with pytest.raises(DataError, match=f"no split folder.*--splits {expected}"):
        read()
    if place == "external":
        assert sizes(read(splits=answer))["test"] == 20
        assert read(exclude=("/NORMAL", "/PNEUMONIA")).rejected == {"excluded": 10}
    else:
        assert sizes(read(splits=answer[1:]))["test"] == 32


def test_several_folders_become_one_test_set_only_when_that_is_said(tmp_path, read):
    """Two test folders: pooled on request, or one left out; several trains are a note."""
    tree(tmp_path / "data", ("train", "train_old", "test", "holdout"), images=8)
    with pytest.raises(
        DataError,
        match=r"one test set: holdout \(16 images\), test \(16 images\).*--splits holdout=test",
    ):
        read()
    ingest = read(splits=("test=test", "holdout=test"))
    assert sizes(ingest)["test"] == 32 and notes(ingest) == [
        "several folders are read as train: train (16 images), train_old (16 images)"
    ]
    assert sizes(read(exclude=("holdout",)))["test"] == 16


def test_films_of_a_class_called_masks_are_asked_about(tmp_path, read):
    """A class in which nothing else is; --splits FOLDER=none reads it."""
    fill(tmp_path / "data" / "NORMAL" / "oxygen mask", 12)
    fill(tmp_path / "data" / "PNEUMONIA", 12)
    with pytest.raises(DataError, match=r"NORMAL/oxygen mask \(12 images: mask\).*=none"):
        read()
    assert read(splits=("oxygen mask=none",)).kept == 24
    shutil.rmtree(tmp_path / "data")
    tree(tmp_path / "data" / "cxr_and_masks", images=10)
    put(tmp_path / "data" / "docs" / "figure.jpeg")
    assert read(exclude=("docs",)).kept == 40


def test_a_class_folder_below_the_other_class_is_asked_about(tmp_path, read):
    """train/NORMAL/viral pneumonia is not NORMAL by itself."""
    tree(tmp_path / "data", images=10)
    fill(tmp_path / "data" / "train" / "NORMAL" / "viral pneumonia", 4)
    with pytest.raises(
        DataError, match=r"train/NORMAL/viral pneumonia \(4 images: unknown_class\).*move"
    ):
        read()
    assert read(exclude=("viral pneumonia",)).rejected == {"excluded": 4}


def test_a_site_of_which_nothing_can_be_used_is_asked_about(tmp_path, read):
    """Twelve of twelve images of a site are asked about; two of a patient of two are not."""
    tree(tmp_path / "data", images=30)
    for number in range(12):
        put(tmp_path / "data" / "train" / "NORMAL" / "site A" / f"{number}.jpeg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"train/NORMAL/site A \(12 images: not_an_image\)"):
        read()
    for number in range(2, 12):
        (tmp_path / "data" / "train" / "NORMAL" / "site A" / f"{number}.jpeg").unlink()
    assert read().rejected == {"not_an_image": 2}


def test_most_of_a_class_lost_to_its_format_is_asked_about(tmp_path, read):
    """More than half of a folder that a flag would bring in, or that lies under both classes."""
    tree(tmp_path / "data", images=20)
    for path in sorted((tmp_path / "data" / "train" / "PNEUMONIA").iterdir())[:15]:
        pixels = np.asarray(Image.open(path)).astype(np.uint16) * 16
        path.unlink()
        Image.fromarray(pixels).save(path.with_suffix(".png"))
    with pytest.raises(
        DataError, match=r"train/PNEUMONIA \(15 files: unsupported_mode\).*--bit-depth"
    ):
        read()
    for path in sorted((tmp_path / "data" / "train" / "PNEUMONIA").glob("*.png")):
        path.unlink()
        fill(tmp_path / "data" / "train" / "PNEUMONIA", 20)
    for path in sorted((tmp_path / "data" / "train" / "NORMAL").iterdir())[:15]:
        shutil.copy(path, tmp_path / "data" / "train" / "PNEUMONIA" / f"copy of {path.name}")
    with pytest.raises(DataError, match=r"label_conflict.*both classes"):
        read()


def test_a_flag_that_contradicts_itself_is_wrong_usage():
    """One folder, two splits."""
    with pytest.raises(ValueError, match="found two for 'A'"):
        ReadingSettings(splits=("a=test", "A=train"))


def test_an_earlier_work_folder_around_the_data_hides_none_of_them(tmp_path, read):
    """DATA is the folder of a project: what cxr wrote there is ignored, the images are not."""
    tree(tmp_path / "data" / "chest_xray", images=8)
    for name in ("ingest.json", "clean_metadata.csv", "eda/a.png"):
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    ingest = read()
    assert ingest.kept == 32 and ingest.rejected == {"ignored": 3}


def test_thousands_of_folders_make_one_short_sentence(tmp_path, read):
    """The first ones, how many more, and a pattern that would fit them."""
    for number in range(60):
        tree(tmp_path / "data", (f"site{number}",), images=1)
    with pytest.raises(DataError) as stop:
        read()
    assert len(str(stop.value)) < 1500 and "and 54 more" in str(stop.value)


def test_the_account_tells_of_every_folder(tmp_path, read):
    """ingest.json has a row for each class folder and each excluded one, and they add up."""
    tree(tmp_path / "data", images=10)
    fill(tmp_path / "data" / "train" / "NORMAL" / "ward 7", 4)
    fill(tmp_path / "data" / "COVID" / "deep" / "er", 3)
    (tmp_path / "data" / "labels.csv").write_text("a,b\n")
    (tmp_path / "data" / "README.txt").write_text("x")
    ingest = read(exclude=("COVID",))
    account = {
        row["folder"]: row
        for row in json.loads((tmp_path / "work" / "ingest.json").read_text())["folders"]
    }
    assert set(account) == {
        ".",
        "COVID",
        "train/NORMAL",
        "train/PNEUMONIA",
        "test/NORMAL",
        "test/PNEUMONIA",
    }
    assert account["train/NORMAL"]["files"] == 14 and account["COVID"]["left_out"] == {
        "excluded": 3
    }
    assert account["."]["kinds"] == {"tables": 1}
    assert sum(sum(row["used"].values()) for row in account.values()) == ingest.kept


MENDELEY = {"NORMAL": ("NORMAL",), "PNEUMONIA": ("BACTERIA", "VIRUS")}


def test_the_first_publisher_s_names_have_a_built_in_reading(tmp_path, read):
    """NORMAL-1049278-0001.jpeg: no child is in two splits; bacteria and virus are told apart."""
    for split, start in (("train", 1000), ("test", 9000)):
        for name, kinds in MENDELEY.items():
            for child in range(12):
                for picture in range(3):
                    kind = kinds[child % len(kinds)]
                    put(
                        tmp_path
                        / "data"
                        / split
                        / name
                        / f"{kind}-{start + child:07d}-{picture:04d}.jpeg"
                    )
    ingest = read()
    table = read_table(tmp_path / "work" / "clean_metadata.csv")
    assert ingest.patient_wise and "by patient" in ingest.split_policy
    assert (
        table.groupby("patient_id")["split"].nunique().max() == 1
        and table["patient_id"].nunique() == 48
    )
    assert set(table["etiology"]) == {"", "bacteria", "virus"}
