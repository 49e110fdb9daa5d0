"""A GPU's images per second: augmentation that the cores must keep up with, below the cut, and training the top.

    KERAS_BACKEND=jax python -m bench.gpu [images; default 2048] [architecture ...; default all]

Without a GPU, and without a number of images, nothing is measured: it would take hours.

Random weights, 224 pixels, noise. Below the cut: in float32 and in the half precision of this machine, by batch size, pixels
brought and activations taken back. Training the top, an epoch: rows brought from memory batch by batch, and rows that are on the
device (bringing them there, once an epoch, is not counted). The least time counts, the first, which compiles, not.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from bench.precision import rate
from cxr.core.parallel import usable_cores
from cxr.core.settings import Augmentation, TrainingSettings
from cxr.data.images.changes import augmentation
from cxr.models.compute import backend, feeding, keras_internals
from cxr.models.networks import architectures, model_surgery

BATCHES = (32, 128, 512)
Array = np.ndarray[Any, Any]


def augmenting(pixels: Array) -> float:
    """Return the images per second that all cores together augment."""
    ranges = Augmentation()
    with ThreadPoolExecutor(usable_cores()) as pool:

        def once() -> None:
            list(
                pool.map(
                    lambda at: augmentation.augment(pixels[at], f"{at:064x}", 1, ranges),
                    range(len(pixels)),
                )
            )

        return rate({"": once}, len(pixels))[""]


def below(name: str, policy: str, pixels: Array) -> list[float]:
    """Return the images per second below the cut, one figure for each of BATCHES."""
    model = model_surgery.submodel(
        architectures.build_model(name, TrainingSettings(), None, policy), name, None, "cut"
    )

    def once(size: int) -> None:
        for at in range(0, len(pixels) // size * size, size):
            model.predict_on_batch(pixels[at : at + size, ..., np.newaxis])

    return [rate({"": partial(once, size)}, len(pixels) // size * size)[""] for size in BATCHES]


def top(name: str, policy: str, rows: Array, resident: bool) -> float:
    """Return the images per second of an epoch of training above the cut."""
    import keras

    model = model_surgery.submodel(
        architectures.build_model(name, TrainingSettings(), None, policy), name, "cut", "score"
    )
    model_surgery.unfreeze_top(model, name)
    model.compile(
        keras.optimizers.Adam(1e-5), "binary_crossentropy", jit_compile=backend.uses_xla()
    )
    model.optimizer.build(model.trainable_variables)
    learner, size = model, TrainingSettings().batch_size
    if resident:
        learner, place = feeding.keep_on_device(model, rows.shape, str(rows.dtype))
        place.assign(rows)

    def batches() -> Any:
        for at in range(0, len(rows), size):
            some = np.arange(at, min(at + size, len(rows)), dtype=np.int32)
            labels = (some[:, np.newaxis] % 2).astype(np.float32)
            yield (
                (some if resident else rows[some].astype(np.float32)),
                labels,
                np.ones(len(some), np.float32),
            )

    return rate({"": lambda: learner.fit(feeding.as_dataset(batches), verbose=0)}, len(rows))[""]


def main() -> None:
    os.environ.update(backend.child_environment(usable_cores()))
    keras_internals.import_keras()
    backend.configure()
    if len(sys.argv) == 1 and not backend.on_gpu():
        print(f"no GPU that {backend.backend_name()} sees: nothing measured")
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 224, 224), dtype=np.uint8)
    print(f"augmentation, {usable_cores()} cores: {augmenting(pixels):.0f} images/s", flush=True)
    for name in sys.argv[2:] or architectures.ARCHITECTURES:
        half = backend.precision_policy(name)
        for policy in sorted({"float32", half}):
            found = ", ".join(f"{each:.0f}" for each in below(name, policy, pixels))
            print(
                f"{name}, {policy}: below the cut {found} images/s in batches of {BATCHES}",
                flush=True,
            )
        shape = model_surgery.submodel(
            architectures.build_model(name, TrainingSettings(), None), name, None, "cut"
        ).output.shape
        rows = rng.random((count, *shape[1:])).astype(np.float16)
        for policy in sorted({"float32", half}):
            brought, resident = (top(name, policy, rows, each) for each in (False, True))
            print(
                f"{name}, {policy}: top {brought:.0f} images/s brought, {resident:.0f} resident",
                flush=True,
            )


if __name__ == "__main__":
    main()
