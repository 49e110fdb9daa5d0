"""Images per second through each network below its cut: one large batch at a time, or small ones in a stream a core.

    python -m bench.streams [architecture ...; default all]

Random weights, 224 pixels, noise; all ways in turn, five times in one process. The least time of each counts.
"""

import sys
from functools import partial
from typing import Any

import numpy as np

from bench.precision import rate
from cxr.core.settings import TrainingSettings
from cxr.models.compute import backend, keras_internals
from cxr.models.features import batching
from cxr.models.networks import architectures, model_surgery

IMAGES, BATCHES = 48, (32, 8, 4, 3, 2)


def one_at_a_time(model: Any, pixels: np.ndarray, size: int) -> None:
    for at in range(0, len(pixels), size):
        model.predict_on_batch(pixels[at : at + size])


def in_streams(model: Any, pixels: np.ndarray, size: int) -> None:
    parts = (pixels[at : at + size] for at in range(0, len(pixels), size))
    for _ in batching.map_batches(None, model.predict_on_batch, parts):
        pass


def main() -> None:
    keras_internals.import_keras()
    backend.configure()
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 224, 224, 1), dtype=np.uint8)
    ways = {f"{size}, one at a time": partial(one_at_a_time, size=size) for size in BATCHES}
    ways |= {
        f"{size}, {backend.parallel_batches()} streams": partial(in_streams, size=size)
        for size in BATCHES
    }
    print(f"{'images per second':18}" + "".join(f"{way:>20}" for way in ways), flush=True)
    for name in sys.argv[1:] or architectures.ARCHITECTURES:
        model = model_surgery.submodel(
            architectures.build_model(name, TrainingSettings(), None), name, None, "cut"
        )
        found = rate({way: partial(work, model, pixels) for way, work in ways.items()}, IMAGES)
        print(f"{name:18}" + "".join(f"{found[way]:>20.1f}" for way in ways), flush=True)


if __name__ == "__main__":
    main()
