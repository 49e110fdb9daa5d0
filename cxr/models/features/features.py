"""Frozen features, computed once and kept by content: activations at an architecture's cut, and pooled ones.

The network below the cut runs over each train image in one or several of its versions, view 0 being the image itself;
everything that learns lies above it and reads from disk. Validation activations are kept in float32, so that scores from
them are those of the whole model; those of train, in float16 and computed in half precision where the machine gains by it.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cxr.core.settings import TrainingSettings
from cxr.data.images import augmentation
from cxr.models import architectures, model_surgery
from cxr.models.compute import backend
from cxr.models.features import batching
from cxr.storage.arrays import Cache, Recipe, Rows

VERSION = 2  # raise it when rows made from the same pixels and weights change
_FLOAT16 = float(np.finfo(np.float16).max)
Array = np.ndarray[Any, Any]
OnImages = Callable[[int], None]


@dataclass
class Source:
    """Where features come from: a cache's root, pixels with the key of each row, and the whole model.

    `computed` counts the images that went through a part of the model, because the cache did not hold their features.
    """

    root: Path
    architecture: str
    settings: TrainingSettings
    pixels: Rows
    keys: Sequence[str]
    model: Any
    computed: int = field(default=0, init=False)
    _parts: dict[tuple[str | None, str, str], Any] = field(
        default_factory=dict, init=False, repr=False
    )

    def part(self, start: str | None, end: str, policy: str = "float32") -> Any:
        """Return that part of the model, computing in `policy`: the same one each time, because Keras traces each anew."""
        if (named := (start, end, policy)) not in self._parts:
            whole = self.model if policy == "float32" else self._in_half(policy)
            self._parts[named] = model_surgery.submodel(whole, self.architecture, start, end)
        return self._parts[named]

    def _in_half(self, policy: str) -> Any:
        model = architectures.build_model(self.architecture, self.settings, None, policy)
        model.set_weights(self.model.get_weights())
        return model


def augmentation_index(key: str, turn: int, views: int) -> int:
    """Return the view, 0 to `views`, in which an image has its turn: drawn from its key, another at each of views + 1 turns."""
    return (int(key[:8], 16) + turn) % (views + 1)


def cut_features(
    source: Source,
    positions: Array,
    views: Array,
    policy: str,
    dtype: str,
    on_images: OnImages = lambda _: None,
) -> Rows:
    """Return activations at the cut (n, h, w, c) of the images at `positions`, each in its view.

    `policy` is the Keras dtype policy to compute in, `dtype` what is kept. Raises StorageError for a full disk.
    """
    entry, ranges = architectures.ARCHITECTURES[source.architecture], source.settings.augmentation
    lower = source.part(None, "cut")
    made = {
        "version": VERSION,
        "architecture": source.architecture,
        "layer": entry.cut,
        "weights": _digest(lower),
        "pixels": source.pixels.name,
        "policy": policy,
        "augmentation": f"{augmentation.VERSION} {ranges.digest()[:16]}" if views.any() else "none",
    }
    recipe = Recipe(
        kind=f"{source.architecture}-cut",
        made=made,
        shape=tuple(lower.output.shape[1:]),
        dtype=dtype,
    )

    def seen(some: Array) -> Array:
        pictures = zip(source.pixels[positions[some]], positions[some], views[some], strict=True)
        each = [
            augmentation.augment(one, source.keys[at], int(view), ranges)
            for one, at, view in pictures
        ]
        return np.stack(each)[..., np.newaxis]

    keys = feature_keys(source, positions, views)
    return _filled(
        source,
        Cache(source.root, recipe),
        keys,
        seen,
        lambda: source.part(None, "cut", policy),
        on_images,
    )


def feature_keys(source: Source, positions: Array, views: Array) -> list[str]:
    """Return the keys of rows: the image's own, and its view."""
    return [f"{source.keys[at]}-{view}" for at, view in zip(positions, views, strict=True)]


def pooled_features(
    source: Source, cut: Rows, keys: Sequence[str], on_images: OnImages = lambda _: None
) -> Rows:
    """Return the pooled features, float32 (n, width), of the images `keys` with their activations `cut`."""
    upper = source.part("cut", "features")
    made = {
        "version": VERSION,
        "architecture": source.architecture,
        "from": cut.name,
        "weights": _digest(upper),
    }
    recipe = Recipe(
        kind=f"{source.architecture}-pooled",
        made=made,
        shape=(int(upper.output.shape[-1]),),
        dtype="float32",
    )
    return _filled(
        source,
        Cache(source.root, recipe),
        keys,
        lambda some: cut[some].astype(np.float32),
        lambda: upper,
        on_images,
    )


def _filled(
    source: Source,
    cache: Cache,
    keys: Sequence[str],
    inputs: Callable[[Array], Array],
    network: Callable[[], Any],
    on_images: OnImages,
) -> Rows:
    """Return the rows of `keys`, computing from `inputs(positions)` those that the cache does not hold."""
    with cache.filling(keys):
        missing = set(cache.missing(keys))
        todo = np.flatnonzero([key in missing for key in keys])
        cache.require_space(len(todo))
        on_images(len(keys) - len(todo))
        model = network() if len(todo) else None
        for start in range(0, len(todo), cache.segment_rows):
            some = todo[start : start + cache.segment_rows]
            rows = [
                _narrow(found, cache.recipe.dtype)
                for found in _outputs(model, inputs, some, on_images)
            ]
            cache.add([keys[at] for at in some], np.concatenate(rows))
    source.computed += len(todo)
    return cache.rows(keys)


def _outputs(
    model: Any,
    inputs: Callable[[Array], Array],
    positions: Array,
    on_images: OnImages,
) -> Iterator[Array]:
    """Yield the network's output of small batches, in order."""
    size = backend.inference_batch_size()

    def read(batch: Array) -> tuple[Array, int]:
        given = inputs(batch)
        # A shorter last batch would have Keras trace the network once more, which takes seconds.
        return np.resize(given, (size, *given.shape[1:])), len(batch)

    def compute(given: tuple[Array, int]) -> Array:
        batch, count = given
        return np.asarray(model.predict_on_batch(batch))[:count]

    batches = (positions[at : at + size] for at in range(0, len(positions), size))
    for found in batching.map_batches(read, compute, batches):
        on_images(len(found))
        yield found


def _narrow(rows: Array, dtype: str) -> Array:
    """Return rows as `dtype`; what float16 cannot hold becomes its largest number, never infinity."""
    wide = rows.astype(np.float32)
    return np.clip(wide, -_FLOAT16, _FLOAT16).astype(dtype) if dtype == "float16" else wide


def _digest(model: Any) -> str:
    """Return 16 hex digits that change with any weight of the model."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:16]
