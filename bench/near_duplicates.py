"""Search for near copies among many images: recall of planted ones by kind, false pairs, time, peak memory.

    python -m bench.near_duplicates [n ...; default 20000 100000] [--images FOLDER, default ../shared/data/chest_xray_dev]
                                    [--added K]

The thumbnails are drawn from the principal components of the thumbnails in FOLDER (phantoms where it is missing), so
that their hashes are as unevenly spread as real ones; each is made anew when it is read, which the time includes.
2,000 copies are planted, made at 256 pixels a side. n counts everything. With `--added`, a second search follows in which
all but K of the n images are known: its time against that of the first, and whether it returns the same pairs.
"""

import argparse
import io
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from cxr.data.images import measurement, model_input
from cxr.data.images.decoding import formats
from cxr.data.leakage import hash_index, near_duplicates, views

FOLDER = Path(__file__).parent.parent / ".." / "shared" / "data" / "chest_xray_dev"
PLANTED, COMPONENTS, SAMPLE, BLOCK = 2000, 300, 2000, 32
Array = np.ndarray[Any, Any]
Film = Image.Image


def jpeg(film: Film, quality: int) -> Film:
    written = io.BytesIO()
    film.save(written, "JPEG", quality=quality)
    return Image.open(written)


def cropped(film: Film, *cut: float) -> Film:
    left, top, right, bottom = (share * film.width for share in cut)
    return film.crop(
        (round(left), round(top), round(film.width - right), round(film.height - bottom))
    )


def brightened(film: Film, gain: float) -> Film:
    return film.point(lambda value: min(255, round(value * gain)))


def one_sided(film: Film, side: int, share: float = 0.05) -> Film:
    return cropped(film, *(share if here == side else 0 for here in range(4)))


MIRROR, QUARTER = Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90
KINDS: dict[str, Callable[[Film], Film]] = {
    "mirrored": lambda film: film.transpose(MIRROR),
    "mirrored up-down": lambda film: film.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "rotated 90": lambda film: film.transpose(QUARTER),
    "rotated 180": lambda film: film.transpose(Image.Transpose.ROTATE_180),
    "rotated 270": lambda film: film.transpose(Image.Transpose.ROTATE_270),
    "resized": lambda film: film.resize((96, 130)),
    "JPEG 50": lambda film: jpeg(film, 50),
    "JPEG 95": lambda film: jpeg(film, 95),
    "brightened 15 %": lambda film: brightened(film, 1.15),
    "centre crop 5 %": lambda film: cropped(film, 0.025, 0.025, 0.025, 0.025),
    "centre crop 5 % a side": lambda film: cropped(film, 0.05, 0.05, 0.05, 0.05),
    "centre crop 3.2 % a side": lambda film: cropped(film, 0.032, 0.032, 0.032, 0.032),
    "crop left 5 %": lambda film: one_sided(film, 0),
    "crop top 5 %": lambda film: one_sided(film, 1),
    "crop right 5 %": lambda film: one_sided(film, 2),
    "crop bottom 5 %": lambda film: one_sided(film, 3),
    "crop left 2.5 %": lambda film: one_sided(film, 0, 0.025),
    "crop top 4.2 %": lambda film: one_sided(film, 1, 0.042),
    "centre crop 5 % a side, JPEG 70": lambda film: jpeg(cropped(film, 0.05, 0.05, 0.05, 0.05), 70),
    "mirrored, resized, JPEG 75": lambda film: jpeg(film.transpose(MIRROR).resize((160, 160)), 75),
}


class Made:
    """Thumbnails drawn when they are read, the same at each reading; the last PLANTED are copies of the others."""

    def __init__(self, n: int, model: tuple[Array, Array]):
        self.n, self.originals, (self.mean, self.components) = n, n - PLANTED, model
        self.source = np.random.default_rng(1).choice(self.originals, PLANTED, replace=False)
        self.kind = [list(KINDS)[i % len(KINDS)] for i in range(PLANTED)]
        self.copies = np.stack([self.copy(i) for i in range(PLANTED)])

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, positions: Array) -> Array:
        out = np.empty((len(positions), 64, 64), np.uint8)
        for block in np.unique(positions[positions < self.originals] // BLOCK):
            here = positions // BLOCK == block
            out[here] = self.drawn(int(block))[positions[here] % BLOCK]
        planted = positions >= self.originals
        if planted.any():
            out[planted] = self.copies[positions[planted] - self.originals]
        return out

    def drawn(self, block: int) -> Array:
        """Return the originals of one block: uint8 (BLOCK, 64, 64)."""
        weights = np.random.default_rng([2, block]).standard_normal(
            (BLOCK, len(self.components)), np.float32
        )
        return (
            (self.mean + weights @ self.components)
            .clip(0, 255)
            .astype(np.uint8)
            .reshape(BLOCK, 64, 64)
        )

    def copy(self, i: int) -> Array:
        """Return the planted copy number i: uint8 (64, 64)."""
        film = Image.fromarray(self[self.source[i : i + 1]][0]).resize(
            (256, 256), Image.Resampling.BICUBIC
        )
        return model_input.resize(KINDS[self.kind[i]](film), 64)


def real_or_phantom(folder: Path) -> Array:
    """Return SAMPLE thumbnails to learn from: uint8 (SAMPLE, 64, 64)."""
    rng = np.random.default_rng(0)
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in formats.KNOWN_SUFFIXES
    )
    if len(paths) >= SAMPLE:
        chosen = rng.choice(len(paths), SAMPLE, replace=False)
        return np.stack([measurement.measure_image(paths[i].read_bytes())[1] for i in chosen])
    print(f"fewer than {SAMPLE} images in {folder}: learning from phantoms")
    from cxr.data.phantoms.drawing.anatomy import Anatomy
    from cxr.data.phantoms.drawing.chest import draw_chest

    films = (draw_chest(rng, Anatomy.draw(rng), bool(i % 2), 128)[0] for i in range(SAMPLE))
    return np.stack([model_input.resize(Image.fromarray(film), 64) for film in films])


def components(thumbnails: Array) -> tuple[Array, Array]:
    """Return the mean (4096,) and COMPONENTS directions (.., 4096), each as long as its standard deviation."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    mean = flat.mean(axis=0)
    _, lengths, directions = np.linalg.svd(flat - mean, full_matrices=False)
    return mean, directions[:COMPONENTS] * lengths[:COMPONENTS, None] / np.sqrt(len(flat) - 1)


def closest(made: Made) -> Array:
    """Return the smallest distance of each planted copy to its original over all views: what could be found."""
    original, copy = made[made.source], made.copies
    whole = [views.hash_view(pixels, views.VIEWS[0]) for pixels in (original, copy)]
    distances = []
    for view in views.VIEWS:
        for seen, other in ((original, whole[1]), (copy, whole[0])):
            differing = views.hash_view(seen, view) ^ other
            distances.append(np.bitwise_count(differing).sum(axis=1, dtype=np.int64))
    least: Array = np.min(distances, axis=0)
    return least


def spread(made: Made) -> str:
    """Return how unalike the hashes of 4,000 thumbnails are: uniform bits would be 128 apart, with deviation 8."""
    bits = np.unpackbits(views.hash_view(made[np.arange(4000)], views.VIEWS[0]), axis=1)
    signs = bits.astype(np.float32) * 2 - 1
    apart = (256 - signs @ signs.T)[np.triu_indices(len(signs), 1)] / 2
    return f"{apart.mean():.0f} bits apart, deviation {apart.std():.1f}, nearest {apart.min():.0f}"


def measure_added(made: Made, pairs: pd.DataFrame, added: int) -> None:
    """Search once more, with all but `added` images known; print the time and whether the pairs are the same."""
    known = np.ones(len(made), bool)
    known[np.random.default_rng(3).choice(len(made), added, replace=False)] = False
    both = known[pairs["a"].to_numpy()] & known[pairs["b"].to_numpy()]
    previous = near_duplicates.PreviousSearch(known, pairs[both])
    started = time.perf_counter()
    worked = time.process_time()
    found = near_duplicates.find_near_duplicates(made, previous=previous)
    seconds = time.perf_counter() - started
    busy = time.process_time() - worked
    missed = len(pairs.merge(found, "left", ["a", "b"], indicator=True).query("_merge != 'both'"))
    print(
        f"{added:,} added: {seconds:.0f} s ({busy:.0f} s of processor), {(~both).sum()} pairs to find, {missed} of all "
        f"missed, {'the same table' if found.equals(pairs) else 'another table'}"
    )


def measure(n: int, model: tuple[Array, Array], added: int) -> None:
    made = Made(n, model)
    print(
        f"\n{n:,} images, {PLANTED:,} of them planted copies; hashes of unrelated images: {spread(made)}"
    )
    started, worked = time.perf_counter(), time.process_time()
    pairs = near_duplicates.find_near_duplicates(made)
    seconds, busy = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sources = dict(zip(range(made.originals, n), made.source.tolist(), strict=True))
    true = pairs["b"].map(sources) == pairs["a"]
    found = np.isin(np.arange(made.originals, n), pairs.loc[true, "b"])
    within = closest(made) <= hash_index.MAX_DISTANCE
    rows = pd.DataFrame(
        {"kind": made.kind, "planted": 1, "within": within, "found": found, "b": sorted(sources)}
    )
    rows = rows.merge(pairs.loc[true, ["b", "distance", "correlation"]], on="b", how="left")
    print(
        rows.groupby("kind", sort=False)
        .agg(
            planted=("planted", "sum"),
            within=("within", "sum"),
            found=("found", "sum"),
            furthest=("distance", "max"),
            least_correlation=("correlation", "min"),
        )
        .to_string()
    )
    print(
        f"recall {found.mean():.4f} of the planted, {found[within].mean():.4f} of those within the distance"
    )
    print(
        f"false pairs {(~true).sum()}; {seconds:.0f} s ({busy:.0f} s of processor), peak memory {peak:.0f} MB"
    )
    if added:
        measure_added(made, pairs, added)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("n", type=int, nargs="*", default=[20_000, 100_000])
    arguments.add_argument("--images", type=Path, default=FOLDER)
    arguments.add_argument("--added", type=int, default=0, metavar="K")
    given = arguments.parse_args()
    model = components(real_or_phantom(given.images))
    with threadpool_limits(
        1
    ):  # drawing thumbnails in two threads of two BLAS threads each would be measured too
        for n in sorted(given.n):  # rising: the peak memory is that of the process so far
            measure(n, model, given.added)


if __name__ == "__main__":
    main()
