"""Batch scoring of image files against the barest loop: `model.predict_on_batch` on pixels decoded beforehand.

    python -m bench.inference [FOLDER ...]

FOLDER: images, default ../shared/data/chest_xray_dev and ../shared/data/full_resolution_sample; phantoms where neither is
there. MobileNetV2 with random weights at 224 pixels, exported and loaded as `cxr predict` does. All sides see the same
320 images in one process, and neither loading the model nor its first batches count. The barest loop runs before and
after each side, and the ratio is to the mean of the two: others' load on the machine then weighs on both alike.
"""

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cxr.core.files import file_sha256
from cxr.core.parallel import usable_cores
from cxr.core.settings import FileSettings, training_settings
from cxr.data.images import model_input
from cxr.data.images.decoding import decoder
from cxr.data.phantoms import dataset
from cxr.data.survey import file_kinds
from cxr.models import scoring
from cxr.models.compute import backend, keras_internals
from cxr.models.networks import architectures, model_surgery
from cxr.results.cards.model_card import Card, read_card
from cxr.serving.prediction import batch_scoring, inputs
from cxr.serving.prediction.answers import Network
from cxr.storage.local import LocalStorage
from tests.support import finished

DATA = Path(__file__).parent.parent / ".." / "shared" / "data"
IMAGES, REPEATS = 320, 3
THREADS = (1, 2, 8)


def exported(work: Path) -> tuple[Any, Card]:
    """Return a loaded export: a network at full size behind the card of a made-up run."""
    import keras

    folder = finished.finish(work) / "export"
    settings = training_settings("standard", arch=("MobileNetV2",))
    architectures.build_model("MobileNetV2", settings, None).save(folder / "model.keras")
    card = Card.read(folder / "model_card.json")
    changed = {"image_size": settings.image_size, "settings": settings}
    card.model_copy(update=changed | {"model_sha256": file_sha256(folder / "model.keras")}).write(
        folder / "model_card.json"
    )
    return keras.models.load_model(folder / "model.keras"), read_card(folder)


def bare(model: Any, pixels: np.ndarray) -> None:
    size = backend.inference_batch_size()  # at which this loop is fastest
    for start in range(0, len(pixels), size):
        model.predict_on_batch(pixels[start : start + size])


def from_files(
    model: Any, storage: LocalStorage, keys: list[str], card: Card, threads: int
) -> None:
    """What the child of `cxr predict` does with listed images."""
    batch_scoring.THREADS = threads
    wanted = [inputs.ImageToScore(storage, key, None, key) for key in keys]
    batches = batch_scoring.score_images(Network(model, card), wanted, FileSettings())
    rows = list(itertools.chain.from_iterable(batches))
    assert len(rows) == len(keys) and {row["status"] for row in rows} == {"scored"}


def spent(work: Callable[[], Any]) -> np.ndarray:
    """Return milliseconds per image: (wall, processor)."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - wall, time.process_time() - processor]) * 1000 / IMAGES


def measure(model: Any, card: Card, folder: Path, work: Path) -> None:
    storage = LocalStorage(folder)
    judged = file_kinds.judge_files(storage, storage.list(), FileSettings())
    found = [one.entry.key for one in judged if one.problem is None]
    keys = (found[:: max(1, len(found) // IMAGES)] * IMAGES)[:IMAGES]
    decoded = (decoder.decode(storage.read(key)).image for key in keys)
    pixels = np.stack(
        [
            model_input.prepare_for_model(image, card.image_size, card.settings.harmonise)
            for image in decoded
        ]
    )
    np.save(work / "pixels.npy", pixels)
    cache = np.load(work / "pixels.npy", mmap_mode="r")
    folded = model_surgery.fuse_batch_norm(model)
    sides: dict[str, Callable[[], Any]] = {
        f"files, {n} threads": partial(from_files, folded, storage, keys, card, n) for n in THREADS
    }
    sides["`scoring.score` on a memory map"] = partial(
        scoring.score_images, model, cache, np.arange(IMAGES)
    )
    report(sides, partial(bare, model, pixels[..., np.newaxis]))


def report(sides: dict[str, Callable[[], Any]], barest: Callable[[], Any]) -> None:
    spent(barest)
    times: dict[str, list[np.ndarray]] = {name: [] for name in sides}
    around = [spent(barest)]
    for _ in range(REPEATS):
        for name, side in sides.items():
            own = spent(side)
            around.append(spent(barest))
            times[name].append(np.array([*own, *(around[-2] + around[-1]) / 2]))
            print(name, np.round(times[name][-1], 1), file=sys.stderr)
    both = np.median(around, axis=0)
    print(
        "| | images/s | ratio to the barest loop: median (lowest to highest) | processor ms per image | their ratio |"
    )
    print("|---|---|---|---|---|")
    print(f"| `predict_on_batch` | {1000 / both[0]:.0f} | 1 | {both[1]:.1f} | 1 |")
    for name, runs in times.items():
        own, processor, bare_own, bare_processor = np.array(runs).T
        ratio = sorted(bare_own / own)
        print(
            f"| {name} | {1000 / np.median(own):.0f} | {statistics.median(ratio):.2f} ({ratio[0]:.2f} to {ratio[-1]:.2f}) "
            f"| {np.median(processor):.1f} | {np.median(bare_processor / processor):.2f} |"
        )


def main() -> None:
    os.environ.update(backend.child_environment(usable_cores()))
    keras_internals.import_keras()
    backend.configure()
    given = [Path(folder) for folder in sys.argv[1:]] or [
        DATA / "chest_xray_dev",
        DATA / "full_resolution_sample",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        folders = [folder for folder in given if folder.is_dir()] or [work / "phantoms"]
        if folders == [work / "phantoms"]:
            dataset.make_dataset(work / "phantoms", images=IMAGES, size=512, broken=False)
        model, card = exported(work / "run")
        for folder in folders:
            print(f"\n{folder.name}\n", flush=True)
            measure(model, card, folder, work)


if __name__ == "__main__":
    main()
