"""Draw docs/refused.png: films that a model scores, and what it does not answer.

    python docs/refused.py [--weights FOLDER] [--work FOLDER]

Phantoms are made up, a model is trained on them and exported, and `cxr.predict` is given two films of patients that it
never saw and four pictures that it was not made for. A few minutes on two cores; with `--work` an earlier model is kept.
"""

import argparse
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter, ImageOps

import cxr
from cxr.core import plotting
from cxr.core.settings import training_settings
from cxr.data.phantoms import dataset
from cxr.data.phantoms.films import draw_film
from cxr.data.phantoms.plan import PlannedImage
from cxr.results.plots import style

PICTURE = Path(__file__).with_suffix(".png")
LARGEST = 95_000  # bytes
IMAGES = 1200  # phantoms, of which 55 patients validate
SIDE = 224
SEED = 5
COLOURS = {"scored": "#1a7f37", "abstained": "#9a6700", "rejected": "#cf222e"}


def main() -> None:
    """Train, predict and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = given.work or Path(scratch)
        model = train(place, given.weights)
        films = Path(scratch) / "inbox"
        names = write_films(films)
        table_path = Path(scratch) / "predictions.csv"
        cxr.predict(model, [str(films)], str(table_path))
        table = pd.read_csv(table_path, keep_default_na=False).set_index("image")
        print(table.to_string())  # noqa: T201
        draw(films, names, table)


def train(place: Path, weights: str) -> str:
    """Return the export folder of a model of phantoms, which is made if it is not there."""
    data = place / "phantoms"
    dataset.make_dataset(data, images=IMAGES, size=SIDE, seed=SEED, broken=False)
    settings = training_settings("quick", arch=("MobileNetV2",), weights=weights)
    work = str(place / "work")
    cxr.preprocess(str(data), work)
    cxr.explore(work, settings)
    cxr.train(work, "MobileNetV2", settings)
    return str(cxr.export(work).model)


def write_films(folder: Path) -> dict[str, str]:
    """Write the pictures; return the caption of each file, in the order in which they are drawn."""
    folder.mkdir()
    healthy = film_of(label=0, patient=900_001)
    ill = film_of(label=1, patient=900_002)
    made = {
        "a film": healthy,
        "another film": ill,
        "its negative": ImageOps.invert(ill),
        "on its side": healthy.transpose(Image.Transpose.ROTATE_90),
        "out of focus": ill.filter(ImageFilter.GaussianBlur(SIDE / 18)),
        "a photograph": landscape(),
    }
    captions = {}
    for number, (caption, picture) in enumerate(made.items()):
        name = f"{number}.png"
        picture.save(folder / name)
        captions[name] = caption
    return captions


def film_of(label: int, patient: int) -> Image.Image:
    """Return the phantom of a patient who is in no data set."""
    planned = PlannedImage(key="", patient=patient, label=label, number=patient)
    return draw_film(planned, seed=SEED, size=SIDE)[0]


def landscape() -> Image.Image:
    """Return a made-up photograph: a sky, hills, a house."""
    rng = np.random.default_rng(SEED)
    sky = np.linspace(215, 150, SIDE)[:, None] * np.ones((1, SIDE + 40))
    picture = Image.fromarray(sky.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for height, gray in ((95, 120), (130, 92), (165, 66)):
        tops = height + np.cumsum(rng.normal(0, 2.2, SIDE + 40))
        outline = [(x, float(y)) for x, y in enumerate(tops)]
        pen.polygon([*outline, (SIDE + 40, SIDE), (0, SIDE)], fill=gray)
    pen.rectangle((150, 120, 225, 190), fill=205)
    pen.polygon([(140, 122), (188, 82), (235, 122)], fill=52)
    for left in (160, 200):
        pen.rectangle((left, 136, left + 16, 156), fill=38)
    grain = rng.normal(0, 5, (SIDE, SIDE + 40))
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def draw(
    folder: Path,
    captions: dict[str, str],
    table: pd.DataFrame,
) -> None:
    """Draw each picture with what the model says of it."""
    figure = style.new_figure(11.4, 3.7, "What a model scores, and what it does not answer")
    plots = figure.subplots(1, len(captions))
    for axes, (name, caption) in zip(plots, captions.items(), strict=True):
        row = table.loc[name]
        status = str(row["status"])
        axes.imshow(Image.open(folder / name), cmap="gray", vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[], anchor="S")
        axes.spines[:].set_edgecolor(COLOURS[status])
        axes.spines[:].set_linewidth(3)
        axes.set_title(caption, fontsize=10, color=style.INK)
        axes.set_xlabel(status, fontsize=11, fontweight="bold", color=COLOURS[status])
        axes.annotate(
            describe(row),
            (0.5, 0),
            xytext=(0, -28),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8.5,
            color=style.INK,
            linespacing=1.35,
            parse_math=False,
        )
    plotting.save_png(figure, PICTURE, LARGEST)


def describe(row: "pd.Series[str]") -> str:
    """Return the answer under a picture: class and score, or the reason in short lines."""
    if row["status"] == "scored":
        return f"{row['prediction']}\nscore {float(row['score']):.3f}"
    reason, _, detail = str(row["reason"]).partition(":")
    detail = detail.partition(", the smallest")[0].strip()
    return "\n".join([*textwrap.wrap(reason, 22), *textwrap.wrap(detail, 24)])


if __name__ == "__main__":
    main()
