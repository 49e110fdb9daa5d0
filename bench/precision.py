"""Half precision against single: images per second below the cut, and in training the top.

    python -m bench.precision [batch; default 16]

Each pair in turn, five times, in one process; random weights, 224 pixels, noise. The least time of
each counts.
"""

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from cxr.core.settings import TrainingSettings
from cxr.models.networks import architectures, model_surgery

POLICIES = ("float32", "mixed_bfloat16")
REPEATS = 5


def rate(work: Mapping[str, Callable[[], Any]], images: int) -> dict[str, float]:
    """Return images per second of each way of working, tried in turn."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS + 1):  # the first round traces
        for name, once in work.items():
            started = time.perf_counter()
            once()
            times[name].append(time.perf_counter() - started)
    return {name: images / min(spent[1:]) for name, spent in times.items()}


def measure(
    title: str,
    work: Mapping[str, Callable[[], Any]],
    images: int,
) -> None:
    """Print the images per second with each policy, and how they compare."""
    rates = rate(work, images)
    cells = "".join(f"{rates[policy]:>16.1f}" for policy in POLICIES)
    ratio = rates["mixed_bfloat16"] / rates["float32"]
    print(f"{title:28}{cells}{ratio:>8.2f}", flush=True)


def compare(name: str, batch: int) -> None:
    """Measure one architecture with random weights."""
    import keras

    settings = TrainingSettings()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, 224, 224, 1), dtype=np.uint8)
    labels = rng.integers(0, 2, (batch, 1)).astype(np.float32)
    score = {}
    train = {}
    for policy in POLICIES:
        model = architectures.build_model(name, settings, None, policy)
        below = model_surgery.submodel(model, name, None, "cut")
        top = model_surgery.submodel(model, name, "cut", "score")
        model_surgery.unfreeze_top(top, name)
        optimizer = keras.optimizers.Adam(1e-5)
        top.compile(optimizer, "binary_crossentropy", jit_compile=False)
        rows = rng.random((batch, *top.input.shape[1:])).astype(np.float32)
        score[policy] = partial(below.predict_on_batch, pixels)
        train[policy] = partial(top.train_on_batch, rows, labels)
    measure(f"{name}: below the cut", score, batch)
    measure(f"{name}: training the top", train, batch)


def main() -> None:
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    cells = "".join(f"{policy:>16}" for policy in POLICIES)
    print(f"{'images per second':28}{cells}{'ratio':>8}")
    for name in architectures.ARCHITECTURES:
        compare(name, batch)


if __name__ == "__main__":
    main()
