"""The stress worlds and the masks: fixed, drawn from the image's digest, and doing what they say."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from cxr.data.images.border import border_mask
from cxr.data.images.changes import masks, stress_worlds
from cxr.data.images.changes.masks import CENTRE_HIDDEN, MASKS
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.exploration import signals

SIDE = 112
KEYS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(200)]
# By world and mask: the beginning of the SHA-256 of what becomes of `picture()`. After a change:
# raise VERSION of the module, because figures of before can't be compared any more.
DIGESTS = {
    "stretched 0.8": "af6c73258eb8",
    "stretched 0.89": "7c0b27c46a95",
    "stretched 1.12": "ca7191562a53",
    "stretched 1.25": "d64f115a7505",
    "turned": "2794a883f433",
    "cropped": "700dc94411be",
    "darker": "f84cbdb330f7",
    "lighter": "0af0aefd6e83",
    "less contrast": "92021bea0e34",
    "coarser": "02a2290a8601",
    "blurred": "7245d227755b",
    "noisy": "d9a8585c3585",
    "re-encoded": "52ea59121781",
    "centre hidden": "e8630b084a29",
    "border hidden": "12f2fb2828f1",
    "lung fields alone": "4a3110de9697",
    "low resolution": "b4ee29bde0cc",
}


def picture() -> np.ndarray:
    """Return a smooth image with an edge and fine texture, the same on every machine, uint8."""
    rows, columns = np.indices((SIDE, SIDE))
    levels = 40 + rows + (columns * 3) // 4 + 20 * ((rows // 28 + columns // 28) % 2)
    return (levels + (rows * 7 + columns * 13) % 11).astype(np.uint8)


def ramp() -> np.ndarray:
    """Return an image whose gray levels are its columns, from 100 on."""
    return np.tile(np.arange(100, 100 + SIDE, dtype=np.uint8), (SIDE, 1))


def slopes(name: str, key: str) -> tuple[float, float]:
    """Return the width and the height of what a world shows, as shares of the image, read off ramps."""
    change = WORLDS[name].change
    middle = slice(20, 93)
    across = change(ramp(), key)[SIDE // 2, middle].astype(float)
    down = change(ramp().T.copy(), key)[middle, SIDE // 2].astype(float)
    width = np.polyfit(np.arange(len(across)), across, 1)[0]
    height = np.polyfit(np.arange(len(down)), down, 1)[0]
    return float(width), float(height)


@pytest.mark.parametrize("name", [*WORLDS, *MASKS])
def test_what_becomes_of_an_image_is_fixed(name):
    """The same pixels on every machine and day; size and dtype stay, and so does the image that was given."""
    change = (WORLDS | MASKS)[name].change
    image = picture()
    changed = change(image, KEYS[0])
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert np.array_equal(image, picture())
    assert np.array_equal(changed, change(picture(), KEYS[0]))
    assert not np.array_equal(changed, image)
    assert (stress_worlds.VERSION, masks.VERSION) == (1, 1)
    assert hashlib.sha256(changed.tobytes()).hexdigest()[:12] == DIGESTS[name]


def test_the_table_has_the_worlds_that_were_fixed_before_any_training():
    """Thirteen worlds of four kinds; what stands beside them in tables is none of them."""
    kinds = [world.kind for world in WORLDS.values()]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    assert counts == {"stretch": 4, "frame": 2, "gray": 3, "detail": 4}
    assert stress_worlds.CLEAN not in WORLDS
    assert not WORLDS.keys() & MASKS.keys()


@pytest.mark.parametrize("factor", [0.8, 0.89, 1.12, 1.25])
def test_a_stretch_changes_width_over_height_by_its_factor(factor):
    """Read off ramps: what is shown is narrower by its root and higher by it, so the area stays."""
    width, height = slopes(f"stretched {factor}", KEYS[0])
    assert height / width == pytest.approx(factor, rel=0.01)
    assert height * width == pytest.approx(1, rel=0.01)


def test_a_crop_shows_85_percent_of_each_side_at_a_place_of_its_own():
    """Width and height read off ramps; nothing from beyond the image comes in; places differ by key."""
    places = []
    for key in KEYS[:20]:
        assert slopes("cropped", key) == pytest.approx((0.85, 0.85), abs=0.01)
        shown = WORLDS["cropped"].change(ramp(), key)
        assert shown.min() >= 100
        places.append(int(shown[0, 0]) - 100)
    assert min(places) >= 0
    assert max(places) <= 0.15 * SIDE + 1
    assert len(set(places)) > 5


def test_an_image_is_turned_by_8_degrees_either_way():
    """About as often to the one side as to the other; the angle is read off the moments of a bar."""
    bar = np.zeros((SIDE, SIDE), np.uint8)
    bar[SIDE // 2 - 2 : SIDE // 2 + 2, 8:-8] = 255
    rows, columns = np.indices(bar.shape) - (SIDE - 1) / 2
    angles = []
    for key in KEYS:
        weight = WORLDS["turned"].change(bar, key).astype(float)
        angles.append(
            np.rad2deg(np.arctan2((weight * rows * columns).sum(), (weight * columns**2).sum()))
        )
    assert np.abs(angles) == pytest.approx(8, abs=0.3)
    assert 70 < (np.array(angles) > 0).sum() < 130


def test_gray_levels_change_as_the_table_says():
    """Gamma 1.6 and 0.6 of levels as shares of white; contrast 0.6 about the middle gray."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    shares = levels / 255
    expected = {
        "darker": shares**1.6,
        "lighter": shares**0.6,
        "less contrast": 0.5 + 0.6 * (shares - 0.5),
    }
    for name, shares_after in expected.items():
        changed = WORLDS[name].change(levels, KEYS[0]).astype(int)
        assert np.abs(changed - 255 * shares_after).max() <= 0.5 + 1e-9


def test_details_are_lost_as_the_table_says():
    """Blur as SciPy's Gaussian; noise of 10 gray levels, each image its own; coarser and re-encoded lose fine texture."""
    image = picture()
    sigma = 1.5 / 224 * SIDE
    expected = ndimage.gaussian_filter(image.astype(float), sigma, mode="nearest")
    blurred = WORLDS["blurred"].change(image, KEYS[0])
    assert np.abs(blurred - expected)[4:-4, 4:-4].max() < 3
    gray = np.full((SIDE, SIDE), 128, np.uint8)
    noise = [WORLDS["noisy"].change(gray, key).astype(float) - 128 for key in KEYS[:2]]
    assert noise[0].std() == pytest.approx(10, rel=0.05)
    assert abs(noise[0].mean()) < 0.5
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05
    stripes = np.tile(np.array([100, 156], np.uint8), (SIDE, SIDE // 2))
    assert WORLDS["coarser"].change(stripes, KEYS[0])[4:-4, 4:-4].std() < 0.5 * stripes.std()
    encoded = WORLDS["re-encoded"].change(image, KEYS[0]).astype(int)
    assert 1 < np.abs(encoded - image).mean() < 10


@pytest.mark.parametrize("name", [CENTRE_HIDDEN, "border hidden", "lung fields alone"])
def test_nothing_of_what_is_hidden_shows_through(name):
    """Other pixels where nothing is visible: the same result, because the fill is the mean of what stays."""
    change = MASKS[name].change
    ring = border_mask(SIDE, SIDE)
    masked = change(picture(), "")
    visible = masked == picture()
    hidden_share = 1 - visible.mean()
    other = np.where(visible, picture(), 255 - picture())
    again = change(other, "")
    assert np.array_equal(again, masked)
    assert 0.3 < hidden_share < 0.7
    if name == CENTRE_HIDDEN:
        assert visible[ring].all()
        assert abs(int(masked[SIDE // 2, SIDE // 2]) - picture()[ring].mean()) <= 0.5
    else:
        assert len(np.unique(masked[ring])) == 1


def test_low_resolution_is_that_of_the_thumbnail_baseline():
    """As many cells as the shortcut audit looks at, each the mean of its pixels."""
    assert masks.LOW_RESOLUTION_SIDE == signals.THUMBNAIL_SIDE
    blocks = np.kron(np.arange(0, 256, 8).reshape(1, 32), np.ones((224, 7))).astype(np.uint8)
    shown = MASKS["low resolution"].change(blocks, "")
    assert np.array_equal(shown[:, 3::7], blocks[:, 3::7])
