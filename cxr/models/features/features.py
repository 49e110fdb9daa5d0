"""Features of the frozen part of a network: activations at an architecture's cut, and pooled ones.

The network below the cut runs over each train image, as it is or in a random augmentation of it;
all that learns lies above the cut and reads from disk. The activations of validation images are
kept in float32, so that scores from them are those of the whole model; those of train images in
float16, computed in half precision where the machine gains by it.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cxr.core.settings import TrainingSettings
from cxr.data.images.changes import augmentation, stress_worlds
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.models.compute import backend
from cxr.models.features import batching
from cxr.models.networks import architectures, model_surgery
from cxr.storage.arrays import Cache, Recipe, Rows

UNCHANGED = "0"  # the version of an image that is the image itself
VERSION = 4  # raise it when rows made from the same pixels and weights change
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)
Array = np.ndarray[Any, Any]
OnImages = Callable[[int], None]


@dataclass
class Source:
    """Where features come from.

    Attributes:
        root: The folder of all caches.
        architecture: Which network.
        settings: How it is trained; the ranges of augmentation are read.
        pixels: The pixels of all images, uint8 (n, side, side).
        keys: The key of each image.
        model: The whole model.
        computed: How many images went through a part of the model so far, because the cache did not
            hold their features.
    """

    root: Path
    architecture: str
    settings: TrainingSettings
    pixels: Rows
    keys: Sequence[str]
    model: Any
    computed: int = field(default=0, init=False)
    _parts: dict[tuple[str | None, str, str], Any] = field(
        default_factory=dict,
        init=False,
        repr=False,
    )

    def part(
        self,
        start: str | None,
        end: str,
        policy: str = "float32",
    ) -> Any:
        """Return a part of the model, the same object each time, because Keras traces each anew.

        Args:
            start: Where it starts, as `model_surgery.submodel` takes it.
            end: Where it ends.
            policy: The Keras dtype policy that it computes in.
        """
        key = (start, end, policy)
        if key not in self._parts:
            whole = self.model if policy == "float32" else self._with_policy(policy)
            self._parts[key] = model_surgery.submodel(whole, self.architecture, start, end)
        return self._parts[key]

    def fused_lower_part(self, policy: str) -> Any:
        """Return the model below the cut, batch normalisation fused into the convolutions before it.

        It takes three quarters of MobileNetV2's time. Its outputs differ by what float32 rounds,
        a hundredth of what float16 does.

        Args:
            policy: The Keras dtype policy that it computes in.
        """
        key = (None, "cut", f"{policy}, fused")
        if key not in self._parts:
            lower = self.part(None, "cut", policy)
            self._parts[key] = model_surgery.fuse_batch_norm(lower)
        return self._parts[key]

    def _with_policy(self, policy: str) -> Any:
        """Return the whole model, computing with another dtype policy."""
        model = architectures.build_model(self.architecture, self.settings, None, policy)
        model.set_weights(self.model.get_weights())
        return model


def augmentation_index(
    key: str,
    number: int,
    augmentations: int,
) -> int:
    """Return the augmentation index (0: the image itself) of an image in a pass.

    It is derived from the image's key, so that each index has its share of the images in each pass,
    and an image has another one in each of `augmentations` + 1 passes.

    Args:
        key: The image's key, hex digits.
        number: Which pass, from 0.
        augmentations: How many augmentations of each image there are beside itself.
    """
    return (int(key[:8], 16) + number) % (augmentations + 1)


def feature_keys(
    source: Source,
    positions: Array,
    versions: Sequence[str],
) -> list[str]:
    """Return the cache keys of images in their versions.

    Args:
        source: Where features come from.
        positions: Which images, int (n,).
        versions: Of each image the version: an augmentation index or the name of a stress world.
    """
    return [
        f"{source.keys[position]}-{version.replace(' ', '_')}"
        for position, version in zip(positions, versions, strict=True)
    ]


def cut_features(
    source: Source,
    positions: Array,
    versions: Sequence[str],
    policy: str,
    dtype: str,
    on_images: OnImages = lambda _: None,
) -> Rows:
    """Return the activations at the cut, computing those that the cache does not hold.

    Args:
        source: Where features come from.
        positions: Which images, int (n,).
        versions: Of each image the version, see `feature_keys`: all augmentations or all worlds.
        policy: The Keras dtype policy to compute in.
        dtype: The dtype to keep them in.
        on_images: Told how many more images are done.

    Returns:
        Rows (n, h, w, c) of that dtype.

    Raises:
        StorageError: The disk is full.
    """
    ranges = source.settings.augmentation
    lower = source.part(None, "cut")
    made = {
        "version": VERSION,
        "architecture": source.architecture,
        "layer": architectures.ARCHITECTURES[source.architecture].cut,
        "weights": _weights_digest(lower),
        "pixels": source.pixels.name,
        "policy": policy,
        "augmentation": "none",
    }
    if any(version in WORLDS for version in versions):
        made["worlds"] = str(stress_worlds.VERSION)
    elif any(version != UNCHANGED for version in versions):
        made["augmentation"] = f"{augmentation.VERSION} {ranges.digest()[:16]}"
    recipe = Recipe(
        kind=f"{source.architecture}-cut",
        made=made,
        shape=tuple(lower.output.shape[1:]),
        dtype=dtype,
    )

    def network() -> Any:
        if dtype == "float16":
            return source.fused_lower_part(policy)
        return source.part(None, "cut", policy)

    def read(rows: Array) -> Array:
        chosen = positions[rows]
        changed = []
        for pixels, row, position in zip(source.pixels[chosen], rows, chosen, strict=True):
            key = source.keys[position]
            version = versions[row]
            if version in WORLDS:
                changed.append(WORLDS[version].change(pixels, key))
            else:
                changed.append(augmentation.augment(pixels, key, int(version), ranges))
        return np.stack(changed)[..., np.newaxis]

    return _cached_rows(
        source,
        Cache(source.root, recipe),
        keys=feature_keys(source, positions, versions),
        read=read,
        network=network,
        on_images=on_images,
    )


def pooled_features(
    source: Source,
    cut: Rows,
    keys: Sequence[str],
    on_images: OnImages = lambda _: None,
) -> Rows:
    """Return the pooled features of images, computing those that the cache does not hold.

    Args:
        source: Where features come from.
        cut: The images' activations at the cut (n, h, w, c).
        keys: Their cache keys.
        on_images: Told how many more images are done.

    Returns:
        Rows float32 (n, width).

    Raises:
        StorageError: The disk is full.
    """
    upper = source.part("cut", "features")
    recipe = Recipe(
        kind=f"{source.architecture}-pooled",
        made={
            "version": VERSION,
            "architecture": source.architecture,
            "from": cut.name,
            "weights": _weights_digest(upper),
        },
        shape=(int(upper.output.shape[-1]),),
        dtype="float32",
    )
    return _cached_rows(
        source,
        Cache(source.root, recipe),
        keys=keys,
        read=lambda rows: cut[rows].astype(np.float32),
        network=lambda: upper,
        on_images=on_images,
    )


def _cached_rows(
    source: Source,
    cache: Cache,
    keys: Sequence[str],
    read: Callable[[Array], Array],
    network: Callable[[], Any],
    on_images: OnImages,
) -> Rows:
    """Return the rows of these keys, computing those that the cache does not hold.

    Args:
        source: Counts the images computed.
        cache: Where the rows are kept.
        keys: Which rows.
        read: Returns the network's inputs for positions in `keys`.
        network: Returns the network; it is not called if there is nothing to compute.
        on_images: Told how many more images are done.
    """
    with cache.filling(keys):
        missing = set(cache.missing(keys))
        to_compute = np.flatnonzero([key in missing for key in keys])
        cache.require_space(len(to_compute))
        on_images(len(keys) - len(to_compute))
        model = network() if len(to_compute) else None
        for start in range(0, len(to_compute), cache.segment_rows):
            positions = to_compute[start : start + cache.segment_rows]
            outputs = _outputs(model, read, positions, on_images)
            rows = [_as_dtype(output, cache.recipe.dtype) for output in outputs]
            cache.add([keys[position] for position in positions], np.concatenate(rows))
    source.computed += len(to_compute)
    return cache.rows(keys)


def _outputs(
    model: Any,
    read: Callable[[Array], Array],
    positions: Array,
    on_images: OnImages,
) -> Iterator[Array]:
    """Yield the network's outputs, in small batches in order."""
    size = backend.inference_batch_size()

    def prepare(batch: Array) -> tuple[Array, int]:
        inputs = read(batch)
        # A shorter last batch would let Keras trace the network once more, which takes seconds.
        return np.resize(inputs, (size, *inputs.shape[1:])), len(batch)

    def compute(prepared: tuple[Array, int]) -> Array:
        inputs, count = prepared
        return np.asarray(model.predict_on_batch(inputs))[:count]

    batches = (positions[start : start + size] for start in range(0, len(positions), size))
    for output in batching.map_batches(prepare, compute, batches):
        on_images(len(output))
        yield output


def _as_dtype(rows: Array, dtype: str) -> Array:
    """Return rows as float32 or float16.

    What float16 cannot hold becomes its largest number, never infinity.
    """
    wide = rows.astype(np.float32)
    if dtype != "float16":
        return wide
    return np.clip(wide, -_LARGEST_FLOAT16, _LARGEST_FLOAT16).astype(dtype)


def _weights_digest(model: Any) -> str:
    """Return 16 hex digits that change with any weight of the model."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:16]
