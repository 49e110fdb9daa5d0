"""The exploration's numbers are right, and its figures can be drawn from any manifest."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cxr.core import plotting
from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.core.settings import LABEL_NAMES, Augmentation
from cxr.exploration import summary
from cxr.exploration.figures import attributes, distributions, samples

FIGURES = ["class_distribution.png", "image_sizes.png", "modes.png", "intensity.png", "samples.png"]
MIXED = {
    ("train", 0): 12,
    ("train", 1): 20,
    ("val", 0): 4,
    ("val", 1): 5,
    ("test", 0): 6,
    ("test", 1): 9,
}


def row(split: str, label: int, number: int, rng: np.random.Generator) -> dict[str, object]:
    name = LABEL_NAMES[label]
    return {
        "image": f"{split}/{name}/image-{number}.jpeg", "label": label, "label_name": name, "split": split,
        "source_split": split, "patient_id": f"p{number // 2}", "etiology": ["", "virus"][label], "md5": "",
        "pixel_sha256": "", "phash": "", "width": int(rng.integers(500, 2000)), "height": 1000,
        "mode": ["L", "RGB"][number % 2], "format": "JPEG", "bytes": 1000 + number,
        "mean": float(rng.normal(120, 20)), "std": float(rng.normal(60, 8)),
    }  # fmt: skip


def manifest(counts: dict[tuple[str, int], int], **fixed: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [row(*key, number, rng) for key, count in counts.items() for number in range(count)]
    return pd.DataFrame(rows).assign(**fixed)


def picture(key: str) -> np.ndarray:
    return np.full((30, 40), len(key), dtype=np.uint8)


def noise(key: str) -> np.ndarray:
    return np.random.default_rng(len(key)).integers(0, 256, (300, 400), dtype=np.uint8)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that would be published, as matplotlib sees it: rendering is the slow part, and left out."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        figures.append(figure)
        return path

    monkeypatch.setattr(plotting, "save_png", keep)
    return figures


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return distributions.draw_all(
        manifest(MIXED), tmp_path_factory.mktemp("published") / "eda", noise, seed=1
    )


def texts(figure: Figure) -> str:
    return "\n".join(
        item.get_text() for item in figure.findobj(lambda item: hasattr(item, "get_text"))
    )


def test_the_summary_counts_images_patients_and_causes():
    """Two images per patient here; a split without images has zeros, not gaps."""
    numbers = summary.summarise(manifest({("train", 0): 4, ("train", 1): 6, ("test", 1): 2}))
    assert numbers["images"]["train"] == {"NORMAL": 4, "PNEUMONIA": 6}
    assert numbers["patients"]["train"] == {"NORMAL": 2, "PNEUMONIA": 3}
    assert numbers["images"]["val"] == numbers["patients"]["val"] == {"NORMAL": 0, "PNEUMONIA": 0}
    assert numbers["etiology"]["test"] == {"bacteria": 0, "virus": 2, "not stated": 0}
    assert numbers["modes"] == {
        "L": {"NORMAL": 2, "PNEUMONIA": 4},
        "RGB": {"NORMAL": 2, "PNEUMONIA": 4},
    }


def test_the_summary_measures_sizes_and_intensity():
    """Worked by hand: means 10, 20, 30, 60 have mean 30, median 25, quartiles 17.5 and 37.5."""
    table = manifest({("train", 0): 4}, mean=[10.0, 20.0, 30.0, 60.0], width=[100, 200, 300, 400])
    numbers = summary.summarise(table)
    assert numbers["intensity"]["train"]["NORMAL"]["mean"] == {
        "n": 4, "mean": 30.0, "q1": 17.5, "median": 25.0, "q3": 37.5
    }  # fmt: skip
    assert numbers["sizes"]["train"]["width"] == {"min": 100, "median": 250.0, "max": 400}
    assert numbers["sizes"]["val"]["width"] == {"min": None, "median": None, "max": None}
    assert numbers["intensity"]["val"]["PNEUMONIA"]["std"]["n"] == 0


def test_the_summary_survives_json():
    """No NumPy number and no NaN in it: it comes back equal."""
    numbers = summary.summarise(manifest(MIXED))
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


def test_images_without_a_patient_id_are_not_counted_as_one_patient():
    """An empty id is unknown, not a person."""
    numbers = summary.summarise(manifest(MIXED, patient_id=""))
    assert numbers["patients"]["train"] == {"NORMAL": 0, "PNEUMONIA": 0}


def test_five_png_under_300_kb_are_drawn(published: list[Path]):
    """In a fixed order, with nothing else left in the folder; noise is the hardest picture to compress."""
    assert [path.name for path in published] == FIGURES
    assert sorted(path.name for path in published[0].parent.iterdir()) == sorted(FIGURES)
    for path in published:
        assert path.stat().st_size < 300_000
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width > 500


def test_equal_tables_give_equal_pictures(published: list[Path], tmp_path: Path):
    """The seed decides which samples are shown, nothing else does."""
    again = distributions.draw_all(manifest(MIXED), tmp_path, noise, seed=1)
    assert [path.read_bytes() for path in published] == [path.read_bytes() for path in again]


def test_samples_are_five_train_images_of_each_class(tmp_path: Path, drawn: list[Figure]):
    """Only what is shown is read, and another seed shows others."""
    asked: dict[int, list[str]] = {}
    for seed in (0, 1):
        asked[seed] = []
        distributions.draw_all(
            manifest(MIXED),
            tmp_path,
            lambda key, to=asked[seed]: (to.append(key), picture(key))[1],
            seed,
        )
    assert [key.split("/")[:2] for key in asked[0]] == [["train", "NORMAL"]] * 5 + [
        ["train", "PNEUMONIA"]
    ] * 5
    assert asked[0] != asked[1]


@pytest.mark.parametrize(
    "table",
    [
        manifest({("train", 0): 1}),
        manifest({("train", 1): 2, ("test", 0): 1}),
        manifest({("test", 0): 3, ("test", 1): 3}),
        manifest({("train", 0): 3, ("train", 1): 300, ("val", 1): 1}),
        manifest(MIXED, width=224, height=224, mean=100.0, std=0.0, patient_id="", etiology=""),
    ],
    ids=["one row", "a class per split", "no train", "lopsided", "all alike"],
)
def test_any_manifest_can_be_drawn(tmp_path: Path, table: pd.DataFrame):
    """Empty groups, single images and constant values draw without a warning (warnings are errors here)."""
    assert [path.name for path in distributions.draw_all(table, tmp_path, picture)] == FIGURES


def test_odd_file_names_are_drawn_escaped(tmp_path: Path, drawn: list[Figure]):
    """Line breaks, undecodable bytes, foreign scripts and mathematics in a name, after a trip through the CSV."""
    names = ["a\nb.jpeg", "r\udce9sum.jpeg", "肺炎.jpeg", "$x^2$ $.jpeg", "long" * 30 + ".jpeg"]
    write_table(
        manifest({("train", 1): 5}, image=[f"train/PNEUMONIA/{name}" for name in names]),
        tmp_path / "t.csv",
    )
    table = read_table(tmp_path / "t.csv")
    distributions.draw_all(table, tmp_path, picture)
    drawn[-1].savefig(io.BytesIO())
    shown = texts(drawn[-1])
    for expected in (
        "a\\nb.jpeg",
        "r\\udce9sum.jpeg",
        "\\u80ba\\u708e.jpeg",
        "$x^2$ $.jpeg",
        "longlonglonglong...",
    ):
        assert expected in shown


def test_an_empty_manifest_is_refused(tmp_path: Path):
    """There is nothing to look at, and the message says where the images went."""
    with pytest.raises(DataError, match=r"rejects\.csv"):
        distributions.draw_all(manifest(MIXED).iloc[:0], tmp_path, picture)


def test_figures_say_what_is_seen_and_how_many(tmp_path: Path, drawn: list[Figure]):
    """56 images: titles carry n, axes carry units, splits stand in the order train, val, test."""
    distributions.draw_all(manifest(MIXED, width=224, height=224), tmp_path, picture)
    classes, sizes, modes, intensity, _ = map(texts, drawn)
    assert "56 images, 61% of them PNEUMONIA" in classes
    assert "Images, n = 56" in classes
    assert classes.index("train") < classes.index("val") < classes.index("test")
    assert "All images are 224 x 224 px" in sizes
    assert "width (pixels)" in sizes
    assert "n = 56" in modes
    assert "train\nn = 32" in intensity


def test_augmentation_shows_the_original_first_and_states_the_ranges(
    tmp_path: Path, drawn: list[Figure]
):
    """Two originals with three augmentations each: eight pictures, and the sentence of the settings in the title."""
    original = np.full((2, 32, 40), 7, np.uint8)
    augmented = np.full((2, 3, 32, 40), 9, np.uint8)
    path = samples.draw_augmentation(
        original, augmented, ["NORMAL", "PNEUMONIA"], Augmentation(), tmp_path
    )
    assert path == tmp_path / "augmentation.png"
    [figure] = drawn
    pictures = [int(axes.images[0].get_array()[0, 0]) for axes in figure.axes]
    assert pictures == [7, 9, 9, 9] * 2
    title = " ".join(texts(figure).split())
    assert (
        "parts of at least 30% of the area, stretched by up to 1.33 either way, rotation up to ±14°, "
        "contrast ±40 %, brightness ±15 %, gamma 0.55 to 1.8; no flips"
        in title.replace("\N{NO-BREAK SPACE}", " ")
    )


def test_augmentation_of_noise_is_under_300_kb(tmp_path: Path):
    """Twenty-four pictures of noise are the worst there is to compress."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 224, 224), dtype=np.uint8)
    path = samples.draw_augmentation(
        pixels[:, 0], pixels[:, 1:], ["NORMAL"] * 4, Augmentation(), tmp_path
    )
    assert 10_000 < path.stat().st_size < 300_000


def test_augmentation_of_images_that_do_not_fit_is_refused(tmp_path: Path):
    """Originals and augmentations of different sizes are a mistake of the caller."""
    with pytest.raises(ValueError, match="pass images of one size"):
        samples.draw_augmentation(
            np.zeros((2, 8, 8), np.uint8),
            np.zeros((2, 3, 8, 9), np.uint8),
            ["a", "b"],
            Augmentation(),
            tmp_path,
        )


def test_nothing_is_left_in_pyplot(tmp_path: Path, drawn: list[Figure]):
    """Figures are free objects: drawing in a thread or a server keeps none of them."""
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    distributions.draw_all(manifest(MIXED), tmp_path, picture)
    assert pyplot.get_fignums() == before


def test_what_tags_say_is_drawn_by_split_and_class():
    """A panel for each thing that is known; the bars are the shares that pandas counts."""
    table = manifest(MIXED)
    table["sex"] = [("F", "M", "")[number % 3] for number in range(len(table))]
    table["age"] = [str(float(number)) for number in range(len(table))]
    figure = attributes.draw_attributes(table)
    assert figure is not None
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}
    assert list(panels) == ["Age", "Sex"]
    is_train = (table["split"] == "train") & (table["label_name"] == "PNEUMONIA")
    expected = table.loc[is_train, "sex"].value_counts(normalize=True)
    legend = [text.get_text() for text in panels["Sex"].get_legend().get_texts()]
    assert legend == ["F", "M", "not known"]
    second_bars = [bars[1].get_width() for bars in panels["Sex"].containers]  # train PNEUMONIA
    assert second_bars == pytest.approx([expected["F"], expected["M"], expected[""]])
    assert "train PNEUMONIA, n = 20" in texts(figure)


def test_without_tags_there_is_no_figure_of_them():
    """Neither where columns are missing nor where all of them are empty."""
    table = manifest(MIXED)
    assert attributes.draw_attributes(table) is None
    assert attributes.draw_attributes(table.assign(sex="", age="", view="")) is None
