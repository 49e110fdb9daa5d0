"""Find near-duplicates: an X-ray mirrored, rotated, resized, brightened, cropped or re-encoded.

The search works on 64x64 thumbnails alone. A perceptual hash of each proposes pairs through an
index (`hash_index`), never by comparing all pairs. The correlation of the two thumbnails, seen in
the same view (`views`), decides (`pair_confirmation`). What is not found: crops that are also
mirrored or rotated; crops other than even ones and those of one side, up to 5 % of a side; small
rotations. Two X-rays of one patient are no near-duplicates.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.parallel import usable_cores
from cxr.data.leakage.hash_index import build_index, search_index
from cxr.data.leakage.pair_confirmation import PAIR_POSITIONS, Thumbnails, confirm_pairs
from cxr.data.leakage.views import LOW, VIEWS, Array, hash_view

if TYPE_CHECKING:
    from faiss import IndexBinary

SEARCH_VERSION = 2  # raise it when a search finds other pairs: all images are then compared anew
CHUNK = 1024  # images at a time in each thread: 16 MB as float32
_NOT_FLAT = -1  # in place of the one gray value of a flat thumbnail
_COLUMN_TYPES = {
    "a": "int64",
    "b": "int64",
    "variant": "object",
    "distance": "int64",
    "correlation": "float64",
}


class PreviousSearch(NamedTuple):
    """What a previous search found among these thumbnails.

    Attributes:
        known: Which thumbnails it compared with each other, bool (n,).
        pairs: The pairs among those, in the columns and positions of `find_near_duplicates`.
    """

    known: Array
    pairs: pd.DataFrame


def find_near_duplicates(
    thumbnails: Thumbnails,
    on_images: Callable[[int], None] = lambda _: None,
    previous: PreviousSearch | None = None,
) -> pd.DataFrame:
    """Find all pairs of near-duplicates among thumbnails.

    A flat thumbnail, of a single gray value, has neither hash nor correlation: it pairs, as "same"
    with distance 0 and correlation 1, with the first thumbnail of that very value and no other.

    Up to 20,000 images the search finds every pair within the largest distance, so a search that
    continues a previous one returns what a search of all images would. Above that it finds nearly
    all pairs; `search_index` states the recall. Memory: the hashes, 32 bytes an image, and the
    pairs: k copies of one image are k (k - 1) / 2 pairs.

    Args:
        thumbnails: uint8 (n, 64, 64), read in chunks by several threads.
        on_images: Called with the number of images done after each chunk.
        previous: What need not be compared again: only new images are then compared, with each
            other and with the known ones.

    Returns:
        One row for each pair, sorted: a and b (positions, a < b), variant, distance (bits of 256 in
        which the hashes differ), correlation (Pearson's, of the aligned thumbnails). `variant` is
        the name of a view, or "rotated 270": what makes b out of a. "cropped" does not say which of
        the two was cropped. Where several views agree, it is the one of smallest distance.
    """
    if previous is None:
        nothing_known = np.zeros(len(thumbnails), bool)
        previous = PreviousSearch(nothing_known, pd.DataFrame(columns=PAIR_POSITIONS))
    with ThreadPoolExecutor(
        usable_cores(),
        initializer=_search_in_one_thread,
    ) as pool:
        hashes, gray_values = _hash_thumbnails(thumbnails, pool)
        hashed = np.flatnonzero(gray_values == _NOT_FLAT)
        new = hashed[~previous.known[hashed]]
        known = hashed[previous.known[hashed]]
        # Pairs of flat thumbnails are found anew each time, so previous ones are not taken over.
        tables = [_pair_flat_thumbnails(gray_values), _pairs_within(previous.pairs, known)]
        on_images(len(thumbnails) - len(hashed))
        # Known images are looked at in all views as well: a new image may be a crop of a known one.
        for viewed, indexed in ((new, hashed), (known, new)):
            if not len(indexed):
                on_images(len(viewed))
                continue
            index = build_index(hashes[indexed])
            find_pairs = partial(
                _find_pairs,
                thumbnails,
                index,
                indexed,
            )
            chunks = _split_into_chunks(viewed)
            for chunk, table in zip(chunks, pool.map(find_pairs, chunks), strict=True):
                tables.append(table)
                on_images(len(chunk))
    return _closest_pairs(tables)


def _search_in_one_thread() -> None:
    """Let each thread of the pool search alone: there is one for each core."""
    import faiss

    faiss.omp_set_num_threads(1)


def _split_into_chunks(positions: Array) -> list[Array]:
    """Split positions into runs of at most CHUNK."""
    return [positions[start : start + CHUNK] for start in range(0, len(positions), CHUNK)]


def _hash_thumbnails(thumbnails: Thumbnails, pool: ThreadPoolExecutor) -> tuple[Array, Array]:
    """Return all hashes, uint8 (n, 32), and the gray value of each flat thumbnail, int16 (n,)."""
    chunks = _split_into_chunks(np.arange(len(thumbnails)))
    hashes = [np.empty((0, LOW * LOW // 8), np.uint8)]
    gray_values = [np.empty(0, np.int16)]
    for chunk_hashes, chunk_values in pool.map(partial(_hash_chunk, thumbnails), chunks):
        hashes.append(chunk_hashes)
        gray_values.append(chunk_values)
    return np.concatenate(hashes), np.concatenate(gray_values)


def _hash_chunk(thumbnails: Thumbnails, positions: Array) -> tuple[Array, Array]:
    """Return the hashes of some thumbnails, and the gray value of each flat one."""
    pixels = np.asarray(thumbnails[positions])
    lowest = pixels.min(axis=(1, 2)).astype(np.int16)
    highest = pixels.max(axis=(1, 2))
    return hash_view(pixels, VIEWS[0]), np.where(
        lowest == highest,
        lowest,
        _NOT_FLAT,
    )


def _pair_flat_thumbnails(gray_values: Array) -> pd.DataFrame:
    """Pair each flat thumbnail with the first of its value.

    All pairs of many black images would be too many.
    """
    flat = np.flatnonzero(gray_values != _NOT_FLAT)
    pairs = pd.DataFrame({"b": flat, "value": gray_values[flat]})
    pairs["a"] = pairs.groupby("value")["b"].transform("first")
    pairs = pairs[pairs["a"] < pairs["b"]]
    return pairs.assign(
        variant=VIEWS[0].name,
        distance=0,
        correlation=1.0,
    )[PAIR_POSITIONS]


def _pairs_within(pairs: pd.DataFrame, positions: Array) -> pd.DataFrame:
    """Return the pairs whose images are both at these positions."""
    return pairs[pairs["a"].isin(positions) & pairs["b"].isin(positions)]


def _find_pairs(
    thumbnails: Thumbnails,
    index: "IndexBinary",
    indexed: Array,
    viewed: Array,
) -> pd.DataFrame:
    """Find the pairs of some images with the images in the index.

    Both are positions: of the images that are seen in all views, and of those in the index.
    """
    pixels = np.asarray(thumbnails[viewed])
    proposals = []
    for number, view in enumerate(VIEWS):
        query, match, distance = search_index(index, hash_view(pixels, view))
        columns = {
            "viewed": viewed[query],
            "indexed": indexed[match],
            "view": number,
            "distance": distance,
        }
        proposed = pd.DataFrame(columns)
        if number == 0:
            # The view "same" finds each pair from both sides.
            proposed = proposed[proposed["viewed"] < proposed["indexed"]]
        else:
            # An image that equals its own mirror image is no pair.
            proposed = proposed[proposed["viewed"] != proposed["indexed"]]
        proposals.append(proposed)
    ranked = pd.concat(proposals).sort_values(["viewed", "indexed", "distance", "view"])
    closest = ranked.drop_duplicates(["viewed", "indexed"])
    confirmed = [
        confirm_pairs(
            thumbnails,
            view,
            closest[closest["view"] == number],
        )
        for number, view in enumerate(VIEWS)
    ]
    return _closest_pairs(confirmed)


def _closest_pairs(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of pairs into one with each pair once, in its closest view."""
    # An empty table has no types of its own, and pandas warns when it is concatenated.
    filled = [table for table in tables if len(table)]
    if not filled:
        filled = [pd.DataFrame(columns=PAIR_POSITIONS)]
    pairs = pd.concat(filled).astype(_COLUMN_TYPES)
    ranking = ["a", "b", "distance", "correlation", "variant"]
    pairs = pairs.sort_values(
        ranking,
        ascending=[True, True, True, False, True],
    )
    return pairs.drop_duplicates(
        ["a", "b"],
        ignore_index=True,
    )
