"""The verdict on a batch: how often in-scope images alarm, and how soon other ones do.

    python -m bench.batch EXPORT WORK [--films FOLDER]

EXPORT is an export folder with a scope, WORK the work folder that it is from (its pixel cache is read), FOLDER one of
films of other patients, such as adults. In scope are draws of the test images (images at random, whole patients, one
class alone) against validation, and draws of half of the validation patients against the other half. Out of scope are
test images in the stress worlds, and the films, each in as many changed versions (crops, turns, gray levels) as there
are draws for; so few films are no sample of all, and their line says how many there are. Each line is the share of 200
draws that is called unlike the training data.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.files import read_table
from cxr.data.images import model_input, pixel_cache
from cxr.data.images.changes.changed_images import ChangedImages
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.models import scoring
from cxr.models.scope import Scope, read_scope
from cxr.models.scope.opened_model import open_model
from cxr.results.cards.model_card import Card, read_card
from cxr.serving.prediction.batch_verdict import judge_batch

Array = np.ndarray[Any, Any]
SIZES = (20, 50, 200)
DRAWS = 200
VERSIONS = 40  # of each film


def measure(model: Any, scope: Scope, card: Card, pixels: Any, count: int) -> pd.DataFrame:
    """Return the measurements of images, as a prediction takes them."""
    features = []
    scores = []
    for of_batch, raw in scoring.model_outputs(model, pixels, np.arange(count)):
        features.append(of_batch)
        scores.append(raw.reshape(-1))
    images = np.stack([np.asarray(pixels[np.array([place])])[0] for place in range(count)])
    measured = scope.measure(np.concatenate(features), images)
    return measured.assign(score=card.calibration.apply(np.concatenate(scores).astype(np.float64)))


def films_in(folder: Path, card: Card) -> Array:
    """Return the PNG and JPEG films of a folder as the network wants them, uint8 (n, side, side)."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".jpg", ".jpeg"})
    films = []
    for path in paths:
        with Image.open(path) as image:
            films.append(
                model_input.prepare_for_model(
                    image.convert("L"), card.image_size, card.settings.harmonise
                )
            )
    return np.stack(films)


def versions_of(films: Array) -> Array:
    """Return each film turned and cropped at random, VERSIONS times, uint8 (n, side, side)."""
    frame = [WORLDS["turned"].change, WORLDS["cropped"].change]
    versions = []
    for number, film in enumerate(films):
        for version in range(VERSIONS):
            change = frame[version % 2]
            versions.append(change(film, f"film {number} version {version}"))
    return np.stack(versions)


def whole_patients(patients: Array, images: int, rng: np.random.Generator) -> Array:
    """Return the positions of so many images of patients drawn at random, the last one cut short."""
    found: list[int] = []
    for patient in rng.permutation(np.unique(patients)):
        found.extend(np.flatnonzero(patients == patient).tolist())
        if len(found) >= images:
            break
    return np.array(found[:images])


def share_unlike(draws: Iterator[tuple[pd.DataFrame, pd.DataFrame]]) -> float:
    """Return the share of draws, each of a batch and a reference, that is called unlike."""
    verdicts = [judge_batch(batch, reference).verdict for batch, reference in draws]
    return float(np.mean([verdict == "unlike" for verdict in verdicts]))


Draw = Callable[[int, np.random.Generator], tuple[pd.DataFrame, pd.DataFrame]]


def print_line(name: str, draw: Draw) -> None:
    """Print the share of draws of each size that is called unlike."""
    cells = []
    for size in SIZES:
        rng = np.random.default_rng(size)
        share = share_unlike(draw(size, rng) for _ in range(DRAWS))
        cells.append(f"{share:8.3f}")
    print(f"{name:34}{''.join(cells)}", flush=True)


def from_pool(pool: pd.DataFrame, reference: pd.DataFrame, replace: bool = False) -> Draw:
    """Return a draw of images at random."""

    def draw(size: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
        return pool.iloc[rng.choice(len(pool), size, replace=replace)], reference

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--films", type=Path)
    given = parser.parse_args()
    import keras

    card = read_card(given.export)
    scope = read_scope(given.export)
    assert scope is not None, "an export with a scope is needed"
    model = open_model(keras.models.load_model(given.export / "model.keras")).model
    table = read_table(given.work / "clean_metadata.csv")
    rows = table[table["split"] == "test"]
    (cache,) = given.work.glob("cache/pixels-*")
    stored = pixel_cache.load_pixels(cache, rows)
    test = measure(model, scope, card, stored, len(rows))
    labels = rows["label"].to_numpy()
    patients = rows["patient_id"].to_numpy(dtype=str)
    reference = scope.validation

    print(f"{'n':34}{''.join(f'{size:8}' for size in SIZES)}")
    print_line("test", from_pool(test, reference))
    print_line(
        "test, whole patients",
        lambda size, rng: (test.iloc[whole_patients(patients, size, rng)], reference),
    )
    print_line("test, PNEUMONIA alone", from_pool(test[labels == 1], reference))
    print_line("test, NORMAL alone", from_pool(test[labels == 0], reference))

    def halves(size: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
        numbers = reference["patient"].to_numpy()
        known = rng.permutation(np.unique(numbers))
        is_batch = np.isin(numbers, known[: len(known) // 2])
        pool = reference[is_batch]
        places = whole_patients(pool["patient"].to_numpy(), size, rng)
        return pool.iloc[places], reference[~is_batch]

    print_line("validation, halves by patient", halves)
    for world in WORLDS.values():
        changed = ChangedImages(stored, list(rows["pixel_sha256"]), world.change)
        measured = measure(model, scope, card, changed, len(rows))
        print_line(world.name, from_pool(measured, reference))
    if given.films:
        films = films_in(given.films, card)
        versions = versions_of(films)
        measured = measure(model, scope, card, versions, len(versions))
        name = f"{len(films)} films of {given.films.name}, versions"
        print_line(name, from_pool(measured, reference, replace=True))


if __name__ == "__main__":
    main()
