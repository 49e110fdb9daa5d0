"""Negatives are told from films, and nothing else is called a negative."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.data.images import measurement, model_input
from cxr.data.inverted_films import drawn_film, polarity
from cxr.data.phantoms import dataset
from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.chest import draw_chest
from tests.support.pictures import soft

ROOT = Path(__file__).parent.parent.parent
REAL = ROOT / ".." / "shared" / "data"
SIDE = model_input.THUMBNAIL_SIDE
_SPLITS = ("train", "val", "test")


def films(number: int, seed: int = 0, size: int = 96) -> np.ndarray:
    """Return thumbnails of made-up films of both classes, uint8 (number, 64, 64)."""
    rng = np.random.default_rng([seed, size])
    drawn = (
        draw_chest(rng, Anatomy.draw(rng), bool(index % 2), size)[0] for index in range(number)
    )
    return np.stack([model_input.resize(Image.fromarray(pixels), SIDE) for pixels in drawn])


FILMS = films(60)
OTHERS = films(60, seed=1)


def changed(thumbnails: np.ndarray, change) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(thumbnail))) for thumbnail in thumbnails])


def framed(gray: int, share: float):
    def frame(image: Image.Image) -> Image.Image:
        around = Image.new("L", image.size, gray)
        inner = round(SIDE * share)
        around.paste(image.resize((inner, inner)), ((SIDE - inner) // 2, (SIDE - inner) // 2))
        return around

    return frame


def test_films_are_no_suspects_and_all_their_negatives_are():
    """What was learnt on some films holds for others."""
    reference = polarity.learn_reference(FILMS)
    assert reference is not None
    assert reference.images == 60 and reference.negatives == 0
    assert not polarity.find_suspects(reference, OTHERS).any()
    assert polarity.find_suspects(reference, 255 - OTHERS).all()
    assert polarity.find_suspects(reference, OTHERS[:0]).shape == (0,)


def test_films_on_their_side_are_told_from_negatives():
    """A lying film may look like a negative; turned back it is a film, which no negative is."""
    reference = polarity.learn_reference(FILMS)
    assert reference is not None
    for turns in (1, 3):
        assert polarity.find_turned(reference, np.rot90(OTHERS, turns, (1, 2))).all()
    assert not polarity.find_turned(reference, OTHERS).any()
    assert not polarity.find_turned(reference, 255 - OTHERS).any()


@pytest.mark.parametrize("share", [0.1, 0.4, 0.5, 0.7, 1.0])
def test_negatives_within_train_do_not_mislead(share):
    """However many of train are negatives, even all, exactly they are suspects."""
    negative = np.arange(len(FILMS)) < share * len(FILMS)
    mixed = np.where(negative[:, None, None], 255 - FILMS, FILMS)
    reference = polarity.learn_reference(mixed)
    assert reference is not None
    assert np.array_equal(polarity.find_suspects(reference, mixed), negative)
    assert reference.negatives == negative.sum()
    assert not polarity.find_suspects(reference, OTHERS).any()


def test_only_the_given_positions_are_learnt_from():
    """Val and test teach nothing, and a folder read from disk is asked for its train images alone."""
    mixed = np.concatenate([FILMS, 255 - FILMS])
    reference = polarity.learn_reference(mixed, np.arange(60))
    assert reference == polarity.learn_reference(FILMS)


CHANGES = {
    "darker": lambda image: image.point(lambda gray: gray * 0.5),
    "lighter": lambda image: image.point(lambda gray: 127 + gray * 0.5),
    "harder": lambda image: image.point(lambda gray: 255 * (gray / 255) ** 2),
    "softer": lambda image: image.point(lambda gray: 255 * (gray / 255) ** 0.5),
    "turned left": lambda image: image.rotate(12),
    "turned right": lambda image: image.rotate(-12),
    "cropped": lambda image: image.resize((SIDE, SIDE), box=(8, 8, 56, 56)),
    "cropped above": lambda image: image.resize((SIDE, SIDE), box=(6, 0, 58, 52)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "in a white frame": framed(255, 0.8),
    "in a black frame": framed(0, 0.8),
}


@pytest.mark.parametrize("name", CHANGES)
def test_exposure_cropping_turning_and_frames_do_not_make_a_negative(name):
    """A film stays a film and a negative a negative, however it was exposed, cropped, laid or framed."""
    reference = polarity.learn_reference(FILMS)
    assert reference is not None
    assert not polarity.find_suspects(reference, changed(OTHERS, CHANGES[name])).any()
    assert polarity.find_suspects(reference, changed(255 - OTHERS, CHANGES[name])).all()


def test_pictures_without_anything_in_common_give_no_verdict():
    """Random noise and random patches have no typical film: nothing may be flagged by them."""
    noise = np.random.default_rng(0).integers(0, 256, (60, SIDE, SIDE), dtype=np.uint8)
    patches = np.stack([model_input.resize(soft(seed=seed), SIDE) for seed in range(60)])
    assert polarity.learn_reference(noise) is None
    for few in (8, 12, 24, 60):
        assert polarity.learn_reference(patches[:few]) is None
    assert polarity.learn_reference(np.full((60, SIDE, SIDE), 9, np.uint8)) is None


def test_too_few_pictures_give_no_verdict():
    """From seven films nothing is learnt."""
    assert polarity.learn_reference(FILMS[:7]) is None
    assert polarity.learn_reference(FILMS, np.arange(0)) is None


def test_a_picture_of_one_gray_is_no_suspect():
    """Where nothing is brighter than anything else there is no polarity."""
    reference = polarity.learn_reference(FILMS)
    assert reference is not None
    assert not polarity.find_suspects(reference, np.full((3, SIDE, SIDE), 200, np.uint8)).any()


def test_a_reference_survives_its_file():
    """What is written to a model's card judges as what was learnt."""
    reference = polarity.learn_reference(FILMS)
    assert reference is not None
    again = polarity.Reference.model_validate_json(reference.model_dump_json())
    assert again == reference
    assert polarity.find_suspects(again, 255 - OTHERS).all()


def test_a_reference_of_version_0_1_is_read():
    """Its card says two things more, which nothing reads: they are passed over."""
    reference = polarity.learn_reference(FILMS)
    assert reference is not None
    earlier = reference.model_dump() | {"agreement": 0.857, "whole_is_negative": False}
    assert polarity.Reference.model_validate(earlier) == reference
    with pytest.raises(ValueError, match="unknown"):
        polarity.Reference.model_validate(earlier | {"unknown": 1})


def test_the_drawn_film_is_that_of_the_phantoms():
    """The film that decides about train as a whole is like the phantoms: brighter in the same places."""
    reference = polarity.learn_reference(np.concatenate([FILMS, OTHERS]))
    assert reference is not None
    assert (
        np.corrcoef(drawn_film.DRAWN_FILM.ravel(), np.array(reference.template).ravel())[0, 1]
        > 0.98
    )


def read(folder: Path) -> np.ndarray:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return np.stack([measurement.measure_image(path.read_bytes())[1] for path in paths])


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real images (shared/data) are not here")
def test_no_real_film_is_a_suspect_and_every_negative_is():
    """Learnt on train, no film of any folder is flagged, and no inverted one is missed; not adults' either."""
    folders = {
        f"{split}/{name}": read(REAL / "chest_xray_dev" / split / name)
        for split in _SPLITS
        for name in ("NORMAL", "PNEUMONIA")
    }
    folders["full resolution"] = read(REAL / "full_resolution_sample")
    adults = [path.read_bytes() for path in sorted((REAL / "hospital").glob("*.[jp][pn]g"))]
    folders["adults"] = np.stack([measurement.measure_image(data)[1] for data in adults])
    train = np.concatenate([folders["train/NORMAL"], folders["train/PNEUMONIA"]])
    reference = polarity.learn_reference(train)
    assert reference is not None
    assert reference.negatives < 0.002 * reference.images
    for name, thumbnails in folders.items():
        assert polarity.find_suspects(reference, thumbnails).mean() < 0.002, name
        assert polarity.find_suspects(reference, 255 - thumbnails).mean() > 0.998, name
    inverted = polarity.learn_reference(255 - train)
    assert inverted is not None
    assert inverted.negatives > 0.998 * inverted.images


@pytest.mark.slow
def test_no_folder_of_made_up_films_reaches_the_share_that_stops_a_run(tmp_path):
    """Of 50 phantom sets, small ones too, no folder has 5 % of suspects."""
    for seed in range(50):
        folder = tmp_path / str(seed)
        dataset.make_dataset(
            folder, images=60, seed=seed, size=(64, 96, 128, 256)[seed % 4], broken=False
        )
        reference = polarity.learn_reference(read(folder / "train"))
        assert reference is not None
        assert reference.negatives == 0
        for split in _SPLITS:
            for name in ("NORMAL", "PNEUMONIA"):
                assert polarity.find_suspects(reference, read(folder / split / name)).mean() < 0.05
