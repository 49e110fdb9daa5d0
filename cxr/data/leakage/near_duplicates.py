"""Near copies: pairs of images that show the same film mirrored, turned, resized, re-encoded, brightened or cropped.

Works on 64x64 thumbnails alone. A 256-bit perceptual hash of each proposes pairs through an index over the hashes,
never by comparing all pairs; the correlation of the two thumbnails, brought to the same view, decides. What a copy
may have gone through is the table VIEWS: turns and mirrors of the whole image, or a crop.
Left out: which image of a pair goes (`duplicates`); crops that are also mirrored or turned; crops other than even
ones and those of one side, up to 5 % of a side; small rotations; two films of one patient, which are no copies.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from cxr.core.parallel import usable_cores

if TYPE_CHECKING:
    from faiss import IndexBinary
from cxr.data.leakage.views import LOW, SIDE, VIEWS, Array, View, hash_view, stretch

SEARCH_VERSION = (
    2  # raise it when `find` changes what it returns: all images are then compared anew
)
# Measured on 5,190 real images: copies seen as in VIEWS are at most 18 bits of 256 apart and, aligned, correlate at
# 0.985 or more; other pairs begin at 32 bits. Correlation alone would not do: two films of one child reach 0.981.
MAX_DISTANCE = 20
MIN_CORRELATION = 0.98
COLUMNS = ["a", "b", "variant", "distance", "correlation"]
_EXACT = 20_000  # up to so many hashes each is compared with every query: lists would save little
_PROBES = 64  # lists searched for each query where there are more hashes
_CHUNK = 1024  # images at a time in each thread: 16 MB as float32
_NUDGE = 0.007  # of the side: half the steps between neighbouring crops of VIEWS


class Thumbnails(Protocol):
    """What `find` reads from several threads: an array or memory map of uint8 (n, 64, 64), or what acts like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Any, /) -> Any: ...


_SEEN_FROM_B = {"rotated 90": "rotated 270"}  # every other view is its own inverse


class Earlier(NamedTuple):
    """What an earlier search found among these thumbnails.

    Attributes:
        known: Which thumbnails it compared with each other, bool (n,).
        pairs: The pairs among those, in the columns and positions of `find`.
    """

    known: Array
    pairs: pd.DataFrame


def find_near_duplicates(
    thumbnails: Thumbnails,
    on_images: Callable[[int], None] = lambda _: None,
    earlier: Earlier | None = None,
) -> pd.DataFrame:
    """Return the pairs of near copies: a, b (positions, a < b, each pair once, sorted), variant, distance, correlation.

    `variant` is a name of VIEWS (or "rotated 270"): what makes b out of a, turns being counterclockwise; "cropped" does
    not say which of the two is. `distance`: bits of 256 in which the hashes differ, at most MAX_DISTANCE;
    `correlation`: Pearson's, of the aligned thumbnails, at least MIN_CORRELATION. Where several views agree, the one
    of smallest distance is given. A thumbnail of one value has neither hash nor correlation: it pairs, as "same" at 0
    and 1.0, with the first thumbnail of that very value and no other.

    Up to _EXACT images the search finds every pair within MAX_DISTANCE, so a search that goes on from an earlier one
    returns what a search of all images would. Above, it finds nearly all pairs: see `search` for its recall. Memory:
    the hashes, 32 bytes an image, and the pairs: k copies of one image are k (k - 1) / 2 pairs.

    Args:
        thumbnails: uint8 (n, 64, 64), read in chunks, in several threads.
        on_images: Called with the number of images done after each chunk.
        earlier: What need not be compared again: new images alone are compared, with each other and the known ones.
    """
    if earlier is None:
        nothing = pd.DataFrame(columns=COLUMNS)
        earlier = Earlier(np.zeros(len(thumbnails), bool), nothing)
    with ThreadPoolExecutor(usable_cores(), initializer=_one_thread) as pool:
        start = np.empty((0, LOW * LOW // 8), np.uint8), np.empty(0, np.int16)
        parts = pool.map(partial(_hashed_whole, thumbnails), _chunks(np.arange(len(thumbnails))))
        hashes, flat = (np.concatenate(columns) for columns in zip(start, *parts, strict=True))
        able = np.flatnonzero(flat < 0)
        new = able[~earlier.known[able]]
        known = able[earlier.known[able]]
        tables = [_equal(flat), _between(earlier.pairs, known)]
        on_images(len(flat) - len(able))
        # Known images are looked at in all views as well: a new image may be a crop of a known one.
        for seen, others in ((new, able), (known, new)):
            if not len(others):
                on_images(len(seen))
                continue
            pairs = partial(_pairs, thumbnails, build_index(hashes[others]), others)
            for part, table in zip(_chunks(seen), pool.map(pairs, _chunks(seen)), strict=True):
                tables.append(table)
                on_images(len(part))
    return _table(tables)


def _between(pairs: pd.DataFrame, positions: Array) -> pd.DataFrame:
    """Return the pairs of two of these positions: those of thumbnails of one value are sought anew each time."""
    return pairs[pairs["a"].isin(positions) & pairs["b"].isin(positions)]


def _chunks(positions: Array) -> list[Array]:
    return [positions[at : at + _CHUNK] for at in range(0, len(positions), _CHUNK)]


def _one_thread() -> None:
    """Let each thread of the pool search alone: there is one for each core."""
    import faiss

    faiss.omp_set_num_threads(1)


def _hashed_whole(thumbnails: Thumbnails, chunk: Array) -> tuple[Array, Array]:
    """Return the hashes of the uncropped thumbnails, and for each the one value it consists of, or -1."""
    pixels = np.asarray(thumbnails[chunk])
    lowest, highest = pixels.min(axis=(1, 2)).astype(np.int16), pixels.max(axis=(1, 2))
    return hash_view(pixels, VIEWS[0]), np.where(lowest == highest, lowest, -1)


def _equal(flat: Array) -> pd.DataFrame:
    """Return each thumbnail of one value with the first of that value: all pairs of many black images would be many."""
    at = pd.DataFrame({"b": np.flatnonzero(flat >= 0), "value": flat[flat >= 0]})
    at["a"] = at.groupby("value")["b"].transform("first")
    return at[at["a"] < at["b"]].assign(variant=VIEWS[0].name, distance=0, correlation=1.0)[COLUMNS]


def _table(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return one table with each pair once, as seen in its closest view."""
    types = dict(zip(COLUMNS, ("int64", "int64", "object", "int64", "float64"), strict=True))
    # An empty table has no types of its own, and pandas warns when it is concatenated.
    rows = pd.concat([t for t in tables if len(t)] or [pd.DataFrame(columns=COLUMNS)]).astype(types)
    rows = rows.sort_values(
        ["a", "b", "distance", "correlation", "variant"], ascending=[True, True, True, False, True]
    )
    return rows.drop_duplicates(["a", "b"], ignore_index=True)


def build_index(hashes: Array) -> "IndexBinary":
    """Return an index over hashes (n, 32), n > 0, for `search`.

    Up to _EXACT hashes it is a plain list. Above, each lies in the list of the nearest of 2 sqrt(n) of them, drawn: an
    inverted file rather than bands of bits, since many bits of chest X-rays are nearly the same in all, which makes a
    few buckets of any band huge; lists around drawn images are as even as the images. Sivic, Zisserman, "Video
    Google" (2003); the binary one of Douze et al., "The Faiss library" (2024).
    """
    import faiss

    bits = hashes.shape[1] * 8
    if len(hashes) <= _EXACT:
        flat = faiss.IndexBinaryFlat(bits)
        flat.add(hashes)
        return flat
    lists = round(2 * np.sqrt(len(hashes)))
    centres = faiss.IndexBinaryFlat(bits)
    centres.add(hashes[np.random.default_rng(0).choice(len(hashes), lists, replace=False)])
    index = faiss.IndexBinaryIVF(centres, bits, lists)
    index.is_trained = True  # the centres are there; training would look for better ones, at length
    index.nprobe = min(lists, _PROBES)
    index.add(hashes)
    return index


def search_index(index: "IndexBinary", queries: Array) -> tuple[Array, Array, Array]:
    """Return (query, found, distance), int64 (m,) each: the indexed hashes within MAX_DISTANCE of queries (k, 32).

    Exact while n is at most _EXACT. Above, what lies in none of the 64 nearest lists is missed: among 300,000 hashes,
    none of 12,000 that differed as real copies do in up to 14 bits, 1 in 1,000 with 15 to 20 bits. The time for n
    queries then grows as n sqrt(n). `bench.near_duplicates` measures both.
    """
    limits, distances, found = index.range_search(queries, MAX_DISTANCE + 1)  # faiss: strictly less
    query = np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
    return query, found, distances.astype(np.int64)


def _pairs(
    thumbnails: Thumbnails, index: "IndexBinary", others: Array, part: Array
) -> pd.DataFrame:
    """Return the confirmed pairs of the images at `part` with any indexed image; `others` are the indexed positions."""
    pixels = np.asarray(thumbnails[part])
    tables = []
    for number, view in enumerate(VIEWS):
        query, found, distance = search_index(index, hash_view(pixels, view))
        seen, other = part[query], others[found]
        # A film that equals its own mirror image is no pair; "same" finds each pair from both sides.
        kept = seen < other if number == 0 else seen != other
        columns = {"seen": seen, "other": other, "view": number, "distance": distance}
        tables.append(pd.DataFrame(columns)[kept])
    proposed = pd.concat(tables).sort_values(["seen", "other", "distance", "view"])
    closest = proposed.drop_duplicates(["seen", "other"])
    by_view = (closest[closest["view"] == number] for number in range(len(VIEWS)))
    return _table(
        [confirm_pairs(thumbnails, view, rows) for view, rows in zip(VIEWS, by_view, strict=True)]
    )


def confirm_pairs(thumbnails: Thumbnails, view: View, proposed: pd.DataFrame) -> pd.DataFrame:
    """Return those pairs, in the columns of `find`, whose thumbnails correlate once `seen` is looked at in this view.

    `proposed` has columns seen, other (positions) and distance. Where they do not correlate at first, crops up to
    0.7 % of a side off the view are tried: between two views, a true copy can be at 0.95.
    """
    seen, other = proposed["seen"].to_numpy(), proposed["other"].to_numpy()
    correlation = np.empty(len(seen))
    for at in range(0, len(seen), _CHUNK):
        part = slice(at, at + _CHUNK)
        looked, wanted = (
            _turned(_pixels(thumbnails, seen[part]), view),
            _pixels(thumbnails, other[part]),
        )
        left, top, right, bottom = view.cut
        straight = _correlations(stretch(top, bottom) @ looked @ stretch(left, right).T, wanted)
        for i in np.flatnonzero(straight < MIN_CORRELATION):
            straight[i] = _aligned(looked[i], wanted[i], view)
        correlation[part] = straight
    name = np.where(seen < other, view.name, _SEEN_FROM_B.get(view.name, view.name))
    columns = (
        np.minimum(seen, other),
        np.maximum(seen, other),
        name,
        proposed["distance"].to_numpy(),
        correlation,
    )
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))[correlation >= MIN_CORRELATION]


def _pixels(thumbnails: Thumbnails, positions: Array) -> Array:
    """Return float32 (k, 64, 64), each position read once, in rising order: kind to files and compressed stores."""
    once, where = np.unique(positions, return_inverse=True)
    pixels: Array = np.asarray(thumbnails[once]).astype(np.float32)[where]
    return pixels


def _turned(pixels: Array, view: View) -> Array:
    return np.rot90(pixels[..., ::-1] if view.mirrored else pixels, view.quarters, axes=(-2, -1))


def _aligned(looked: Array, wanted: Array, view: View) -> float:
    """Return the highest correlation over 81 crops: each edge of the view as it is, a little out, a little in."""
    left, top, right, bottom = view.cut
    nudges = list(itertools.product((-_NUDGE, 0.0, _NUDGE), repeat=2))
    down = np.stack([stretch(top + start, bottom + end) for start, end in nudges])
    across = np.stack([stretch(left + start, right + end).T for start, end in nudges])
    crops = (down @ looked)[:, None] @ across
    return float(_correlations(crops.reshape(-1, SIDE, SIDE), wanted[None]).max())


def _correlations(one: Array, other: Array) -> Array:
    """Return Pearson's correlation of each pair of (k, 64, 64): float64 (k,); 0 where one of the two is constant."""
    x, y = (part.reshape(len(part), -1).astype(np.float64) for part in (one, other))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    together = (x * y).sum(axis=1)
    correlations: Array = np.divide(together, scale, out=np.zeros(len(together)), where=scale > 0)
    return correlations
