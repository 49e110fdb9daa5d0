"""The random changes made to training images: Keras layers that live in the model and act in training only.

Run as `python -m cxr.augmentation` by `child.run`, it draws them on samples for the EDA: the same layers.
"""

from pathlib import Path
from typing import Any

import numpy as np

from cxr.settings import Augmentation

VARIANTS = 5


def layers(ranges: Augmentation, seed: int) -> list[Any]:
    """Return Keras layers that rotate, zoom, shift and vary contrast and brightness of pixels 0..255; no flips."""
    from keras import layers as built_in

    black: dict[str, Any] = {"fill_mode": "constant", "fill_value": 0.0, "interpolation": "bilinear"}
    shift, brightness = ranges.shift, ranges.brightness
    return [
        built_in.RandomRotation(ranges.rotation / 360, seed=seed, name="augment_rotation", **black),
        built_in.RandomZoom(ranges.zoom, seed=seed + 1, name="augment_zoom", **black),
        built_in.RandomTranslation(shift, shift, seed=seed + 2, name="augment_shift", **black),
        built_in.RandomContrast(ranges.contrast, value_range=(0, 255), seed=seed + 3, name="augment_contrast"),
        built_in.RandomBrightness(brightness, value_range=(0, 255), seed=seed + 4, name="augment_brightness"),
    ]


def draw(job: dict[str, Any], emit: Any) -> None:
    """Write eda/augmentation.png: originals beside VARIANTS augmented versions of each."""
    from cxr import child, eda

    child.limit_threads()
    ranges = Augmentation.model_validate(job["augmentation"])
    originals = np.load(job["originals"])
    steps = layers(ranges, job["seed"])
    variants = []
    for _ in range(VARIANTS):
        pixels: Any = originals[..., np.newaxis].astype("float32")
        for step in steps:
            pixels = step(pixels, training=True)
        variants.append(np.clip(np.asarray(pixels)[..., 0], 0, 255).astype(np.uint8))
    path = eda.draw_augmentation(originals, np.stack(variants, axis=1), job["names"], ranges, Path(job["folder"]))
    emit({"figure": str(path)})


if __name__ == "__main__":
    from cxr import child

    child.serve(draw)
