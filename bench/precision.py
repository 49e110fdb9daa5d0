"""Half precision against single: images per second through the network below the cut, and training its top.

    python -m bench.precision [batch; default 16]

Each pair in turn, five times, in one process; random weights, 224 pixels, noise. The least time of each counts.
"""

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from cxr.core.settings import TrainingSettings
from cxr.models import architectures, model_surgery

POLICIES, REPEATS = ("float32", "mixed_bfloat16"), 5


def rate(work: Mapping[str, Callable[[], Any]], images: int) -> dict[str, float]:
    """Return images per second of each way of working, tried in turn."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS + 1):  # the first round traces
        for name, once in work.items():
            started = time.perf_counter()
            once()
            times[name].append(time.perf_counter() - started)
    return {name: images / min(spent[1:]) for name, spent in times.items()}


def main() -> None:
    import keras

    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    settings, rng = TrainingSettings(), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, 224, 224, 1), dtype=np.uint8)
    labels = rng.integers(0, 2, (batch, 1)).astype(np.float32)
    print(
        f"{'images per second':28}" + "".join(f"{name:>16}" for name in POLICIES) + f"{'ratio':>8}"
    )
    for name in architectures.ARCHITECTURES:
        models = {
            policy: architectures.build_model(name, settings, None, policy) for policy in POLICIES
        }
        lower = {
            policy: model_surgery.submodel(model, name, None, "cut") for policy, model in models.items()
        }
        upper = {
            policy: model_surgery.submodel(model, name, "cut", "score") for policy, model in models.items()
        }
        for model in upper.values():
            model_surgery.unfreeze_top(model, name)
            model.compile(keras.optimizers.Adam(1e-5), "binary_crossentropy", jit_compile=False)
        rows = rng.random((batch, *upper["float32"].input.shape[1:])).astype(np.float32)
        for what, work in (
            (
                "below the cut",
                {p: partial(model.predict_on_batch, pixels) for p, model in lower.items()},
            ),
            (
                "training the top",
                {p: partial(model.train_on_batch, rows, labels) for p, model in upper.items()},
            ),
        ):
            found = rate(work, batch)
            ratio = found["mixed_bfloat16"] / found["float32"]
            print(
                f"{name + ': ' + what:28}"
                + "".join(f"{found[p]:>16.1f}" for p in POLICIES)
                + f"{ratio:>8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
