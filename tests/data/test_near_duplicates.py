"""Near-duplicates: every kind is found, nothing else is; neither chunks nor the index change the answer."""

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from cxr.data.images import hashing, model_input
from cxr.data.images.decoding import decoder
from cxr.data.leakage import hash_index, near_duplicates, pair_confirmation, views
from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.chest import draw_chest

REAL = ROOT / ".." / "shared" / "data" / "chest_xray_dev"
Film = Image.Image
Turn = Image.Transpose


def jpeg(film: Film, quality: int) -> Film:
    written = io.BytesIO()
    film.save(written, "JPEG", quality=quality)
    return Image.open(written)


def cropped(film: Film, left: float, top: float, right: float, bottom: float) -> Film:
    wide, high = film.size
    return film.crop(
        (
            round(left * wide),
            round(top * high),
            round(wide - right * wide),
            round(high - bottom * high),
        )
    )


def brightened(film: Film, gain: float) -> Film:
    return film.point(lambda value: min(255, round(value * gain)))


KINDS: dict[str, tuple[str, Callable[[Film], Film]]] = {
    "mirrored": ("mirrored", lambda film: film.transpose(Turn.FLIP_LEFT_RIGHT)),
    "mirrored up-down": ("mirrored up-down", lambda film: film.transpose(Turn.FLIP_TOP_BOTTOM)),
    "rotated 90": ("rotated 90", lambda film: film.transpose(Turn.ROTATE_90)),
    "rotated 180": ("rotated 180", lambda film: film.transpose(Turn.ROTATE_180)),
    "rotated 270": ("rotated 270", lambda film: film.transpose(Turn.ROTATE_270)),
    "mirrored and rotated": ("mirrored, rotated 90", lambda film: film.transpose(Turn.TRANSPOSE)),
    "resized": ("same", lambda film: film.resize((90, 140))),
    "JPEG 50": ("same", lambda film: jpeg(film, 50)),
    "JPEG 95": ("same", lambda film: jpeg(film, 95)),
    "brightened": ("same", lambda film: brightened(film, 1.1)),
    "even crop": ("cropped", lambda film: cropped(film, 0.05, 0.05, 0.05, 0.05)),
    "even crop between the steps": (
        "cropped",
        lambda film: cropped(film, 0.032, 0.032, 0.032, 0.032),
    ),
    "left crop": ("cropped", lambda film: cropped(film, 0.05, 0, 0, 0)),
    "top crop": ("cropped", lambda film: cropped(film, 0, 0.05, 0, 0)),
    "right crop": ("cropped", lambda film: cropped(film, 0, 0, 0.05, 0)),
    "bottom crop": ("cropped", lambda film: cropped(film, 0, 0, 0, 0.05)),
    "mirrored, resized, JPEG": (
        "mirrored",
        lambda film: jpeg(film.transpose(Turn.FLIP_LEFT_RIGHT).resize((99, 99)), 75),
    ),
}


def thumbnails(films: list[Film]) -> np.ndarray:
    return np.stack([model_input.resize(film, 64) for film in films])


@pytest.fixture(scope="module")
def films() -> list[Film]:
    """Thirty phantoms of thirty patients, 160 pixels a side."""
    rng = np.random.default_rng(5)
    return [
        Image.fromarray(draw_chest(rng, Anatomy.draw(rng), bool(i % 2), 160)[0]) for i in range(30)
    ]


def test_unrelated_images_are_no_pairs(films: list[Film]):
    """Phantoms of different patients, posed alike, are no near-duplicates."""
    pairs = near_duplicates.find_near_duplicates(thumbnails(films))
    assert len(pairs) == 0
    assert list(pairs.columns) == pair_confirmation.PAIR_POSITIONS


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_copy_is_found(films: list[Film], kind: str):
    """A copy pairs with its original and nothing else, and the variant says how they differ."""
    variant, change = KINDS[kind]
    pairs = near_duplicates.find_near_duplicates(
        thumbnails([*films, change(films[3]), change(films[8])])
    )
    assert list(zip(pairs["a"], pairs["b"], strict=True)) == [(3, 30), (8, 31)]
    assert set(pairs["variant"]) == {variant}
    assert pairs["distance"].between(0, hash_index.MAX_DISTANCE).all()
    assert pairs["correlation"].between(pair_confirmation.MIN_CORRELATION, 1 + 1e-9).all()
    assert [pairs[name].dtype.kind for name in ("a", "b", "distance", "correlation")] == [
        "i",
        "i",
        "i",
        "f",
    ]


@pytest.mark.parametrize("kind", ["rotated 90", "rotated 270", "left crop"])
def test_a_copy_may_stand_before_its_original(films: list[Film], kind: str):
    """Always a < b, whichever is the copy: the variant is then the way back."""
    variant, change = KINDS[kind]
    pairs = near_duplicates.find_near_duplicates(thumbnails([change(films[0]), *films]))
    back = {"rotated 90": "rotated 270", "rotated 270": "rotated 90"}.get(variant, variant)
    assert list(pairs[["a", "b", "variant"]].itertuples(index=False, name=None)) == [(0, 1, back)]


def test_chunks_do_not_change_the_result(films: list[Film], monkeypatch: pytest.MonkeyPatch):
    """One chunk or many, the same table, and every image is counted once."""
    pixels = thumbnails(
        [*films, *(change(films[i]) for i, (_, change) in enumerate(KINDS.values()))]
    )
    whole = near_duplicates.find_near_duplicates(pixels)
    done: list[int] = []
    monkeypatch.setattr(near_duplicates, "CHUNK", 7)
    monkeypatch.setattr(pair_confirmation, "CHUNK", 7)
    parts = near_duplicates.find_near_duplicates(pixels, done.append)
    assert len(whole) == len(KINDS)
    assert whole[["a", "b", "variant", "distance"]].equals(parts[["a", "b", "variant", "distance"]])
    assert np.allclose(whole["correlation"], parts["correlation"])
    assert sum(done) == len(pixels)


def test_the_hash_is_the_one_in_the_table_of_images(films: list[Film]):
    """Computed as matrix products, it differs from `images.perceptual_hashes` by ties at most."""
    pixels = thumbnails(films)
    fast = views.hash_view(pixels, views.VIEWS[0])
    slow = np.array(
        [list(bytes.fromhex(text)) for text in hashing.perceptual_hashes(pixels)], np.uint8
    )
    assert np.bitwise_count(fast ^ slow).sum(axis=1).max() <= 2


def test_a_view_hashes_as_the_image_so_changed(films: list[Film]):
    """Signs and places of DCT terms, and not pixels, are changed: the hash is that of the changed pixels."""
    pixels = thumbnails(films)
    turns = [view for view in views.VIEWS if not any(view.cut)]
    for view in turns:
        changed = np.rot90(
            pixels[:, :, ::-1] if view.mirrored else pixels, view.quarters, axes=(1, 2)
        )
        differing = views.hash_view(pixels, view) ^ views.hash_view(changed, views.VIEWS[0])
        assert np.bitwise_count(differing).sum(axis=1).max() <= 2


def some_hashes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return skewed random hashes (count, 32), and the same with 0 to 24 bits changed."""
    rng = np.random.default_rng(2)
    bits = rng.random((count, 256)) < rng.beta(0.5, 0.5, 256)
    changed = bits ^ (rng.random((count, 256)).argsort(axis=1) < rng.integers(0, 25, (count, 1)))
    return np.packbits(bits, axis=1), np.packbits(changed, axis=1)


@pytest.mark.parametrize(("exact", "least"), [(3000, 1.0), (2999, 0.99)])
def test_the_search_finds_what_brute_force_finds(
    exact: int, least: float, monkeypatch: pytest.MonkeyPatch
):
    """All of it up to the number of hashes that are all compared; above nearly all, and nothing further away."""
    count = 3000
    monkeypatch.setattr(hash_index, "EXACT_LIMIT", exact)
    hashes, queries = some_hashes(count)
    query, found, distance = hash_index.search_index(hash_index.build_index(hashes), queries)
    signs, asked = (
        np.unpackbits(part, axis=1).astype(np.float32) * 2 - 1 for part in (hashes, queries)
    )
    apart = (256 - asked @ signs.T) / 2
    assert (apart[query, found] == distance).all()
    near = set(zip(*np.nonzero(apart <= hash_index.MAX_DISTANCE), strict=True))
    got = set(zip(query, found, strict=True))
    assert got <= near
    assert len(got) >= least * len(near)
    assert len(near) > count / 2


@pytest.mark.parametrize("seed", range(4))
def test_images_added_and_removed_in_steps_give_the_pairs_of_one_search(
    films: list[Film], seed: int
):
    """Whatever comes first, a copy or its original: each step returns what a search of all images there returns."""
    copies = [change(films[i]) for i, (_, change) in enumerate(KINDS.values())]
    more = [change(films[29 - i]) for i, (_, change) in enumerate(KINDS.values())]
    flat = [Image.new("L", (64, 64), value) for value in (0, 0, 0, 128, 128)]
    pixels = thumbnails([*films, *copies, *more, *flat])
    rng = np.random.default_rng(seed)
    pixels = pixels[rng.permutation(len(pixels))]
    there = np.zeros(len(pixels), bool)
    pairs = pd.DataFrame(columns=pair_confirmation.PAIR_POSITIONS)
    for share in (0.5, 0.3, 0.9):
        known = there & (rng.random(len(pixels)) < 0.8)
        there = known | (~there & (rng.random(len(pixels)) < share))
        names = np.flatnonzero(there)
        kept = pairs[pairs["a"].isin(names[known[names]]) & pairs["b"].isin(names[known[names]])]
        positions = kept.assign(
            a=np.searchsorted(names, kept["a"].to_numpy(int)),
            b=np.searchsorted(names, kept["b"].to_numpy(int)),
        )
        previous = near_duplicates.PreviousSearch(known[names], positions)
        found = near_duplicates.find_near_duplicates(pixels[names], previous=previous)
        pd.testing.assert_frame_equal(
            found, near_duplicates.find_near_duplicates(pixels[names]), check_exact=True
        )
        assert len(found) > 3
        pairs = found.assign(a=names[found["a"]], b=names[found["b"]])


def test_known_images_are_not_compared_again(films: list[Film]):
    """A pair that the previous search did not name is not found; new images are compared with known and new ones."""
    mirrored = [film.transpose(Turn.FLIP_LEFT_RIGHT) for film in films[:3]]
    pixels = thumbnails([*films[:3], mirrored[0], mirrored[1], mirrored[2], mirrored[2]])
    known = np.array([True, True, False, True, False, False, False])
    nothing = pd.DataFrame(columns=pair_confirmation.PAIR_POSITIONS)
    done: list[int] = []
    pairs = near_duplicates.find_near_duplicates(
        pixels, done.append, near_duplicates.PreviousSearch(known, nothing)
    )
    assert list(zip(pairs["a"], pairs["b"], strict=True)) == [(1, 4), (2, 5), (2, 6), (5, 6)]
    assert sum(done) == len(pixels)


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_have_no_pairs(films: list[Film], count: int):
    """The empty table has its columns and their types."""
    pairs = near_duplicates.find_near_duplicates(thumbnails(films)[:count])
    assert len(pairs) == 0
    assert [pairs[name].dtype.kind for name in ("a", "b", "distance", "correlation")] == [
        "i",
        "i",
        "i",
        "f",
    ]


def test_constant_images_pair_only_when_equal(films: list[Film]):
    """An all-black thumbnail has no correlation: it pairs with the first all-black one, without a warning."""
    black, gray = np.zeros((3, 64, 64), np.uint8), np.full((1, 64, 64), 128, np.uint8)
    pixels = np.concatenate([black[:1], thumbnails(films[:3]), gray, black[1:]])
    pairs = near_duplicates.find_near_duplicates(pixels)
    assert pairs.to_numpy().tolist() == [[0, 5, "same", 0, 1.0], [0, 6, "same", 0, 1.0]]
    assert near_duplicates.find_near_duplicates(black).to_numpy().tolist() == [
        [0, 1, "same", 0, 1.0],
        [0, 2, "same", 0, 1.0],
    ]


def test_noise_on_black_is_no_copy_of_other_noise():
    """Nearly constant thumbnails have a hash and a correlation like any other."""
    noise = (np.random.default_rng(0).random((20, 64, 64)) < 0.002).astype(np.uint8)
    assert len(near_duplicates.find_near_duplicates(noise)) == 0


def test_an_equal_hash_alone_is_no_pair(films: list[Film]):
    """The correlation decides on what the hashes propose, however close."""
    proposed = pd.DataFrame({"viewed": [0, 1], "indexed": [1, 0], "distance": [0, 0]})
    for view in views.VIEWS:
        assert len(pair_confirmation.confirm_pairs(thumbnails(films[:2]), view, proposed)) == 0


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.is_dir(), reason="the real images (shared/data/chest_xray_dev) are not here"
)
def test_planted_copies_of_real_images_are_all_found_and_no_other_pair():
    """Twenty test images copied into train, resized, re-encoded, mirrored or brightened: these 20 pairs, no other."""
    paths = sorted(REAL.rglob("*.jpeg"))
    pixels = np.unique(
        thumbnails([decoder.decode(path.read_bytes()).image for path in paths]), axis=0
    )
    held_out = [path for path in paths if path.relative_to(REAL).parts[0] == "test"][::31][:20]
    changes: list[Callable[[Film], Film]] = [
        lambda film: film.resize((150, 150)),
        lambda film: jpeg(film, 60),
        lambda film: film.transpose(Turn.FLIP_LEFT_RIGHT),
        lambda film: brightened(film, 1.15),
    ]
    originals = [model_input.to_gray(decoder.decode(path.read_bytes()).image) for path in held_out]
    copies = thumbnails([changes[i % 4](film) for i, film in enumerate(originals)])
    pairs = near_duplicates.find_near_duplicates(np.concatenate([pixels, copies]))
    assert sorted(pairs["b"]) == list(range(len(pixels), len(pixels) + 20))
    sources = pixels[pairs.set_index("b").sort_index()["a"].to_numpy()]
    assert (sources == thumbnails(originals)).all()
