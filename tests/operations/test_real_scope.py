"""The scope of a real model, on real films of children, and on images that it was not made for."""

import shutil
from pathlib import Path

import pytest

import cxr
from cxr.core.files import read_table
from cxr.core.settings import ScopeSettings, SplitSettings, training_settings
from tests.conftest import ROOT
from tests.support import foreign_images

SHARED = ROOT.parent / "shared"
FILMS = SHARED / "data" / "chest_xray_dev"
ADULTS = SHARED / "data" / "hospital"
WEIGHTS = SHARED / "weights"
EACH = {"train": 350, "test": 100}  # images of each class


def copy_films(data: Path) -> None:
    """Copy the first films of each class of train and test."""
    for split, count in EACH.items():
        for label in ("NORMAL", "PNEUMONIA"):
            folder = data / split / label
            folder.mkdir(parents=True)
            for path in sorted((FILMS / split / label).iterdir())[:: 1 if split == "test" else 3][
                :count
            ]:
                shutil.copy(path, folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not (FILMS.is_dir() and WEIGHTS.is_dir()), reason=f"needs {SHARED}")
def test_a_real_model_knows_films_of_its_kind_from_all_else(tmp_path: Path):
    """Few test films are marked, photographs, noise, negatives, turns and slices nearly all.

    Films of adults are closer: a model that saw 700 films marks them at a rate of 3 %.
    """
    copy_films(tmp_path / "data")
    settings = training_settings("quick", arch=("MobileNetV2",), weights=str(WEIGHTS))
    work = tmp_path / "work"
    cxr.preprocess(
        tmp_path / "data", work, splits=SplitSettings(val_fraction=0.3), pixels=settings.pixels()
    )
    cxr.explore(work, settings)
    cxr.train(work, "MobileNetV2", settings)
    export = Path(cxr.export(work).model).parent
    judged = read_table(next((work / "runs").iterdir()) / "scope_test.csv")
    assert len(judged) >= 190
    assert (judged["status"] == "abstained").mean() <= 0.04  # 2 % and its uncertainty in 200

    films = foreign_images.films_of(FILMS / "test", 40)
    sets = foreign_images.all_made() | {
        "negatives": list(foreign_images.negatives(films)),
        "turns": list(foreign_images.quarter_turns(films)),
        "corners": list(foreign_images.corners(films)),
    }
    foreign = tmp_path / "foreign"
    for name, images in sets.items():
        (foreign / name).mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(foreign / name / f"{number:03}.png")
    found = cxr.predict(export, foreign, tmp_path / "foreign.csv")
    assert found.scored <= 0.05 * found.images
    adults = [path for path in ADULTS.iterdir() if path.suffix in {".png", ".jpg"}]
    loose = ScopeSettings(scope_rate=0.03)
    found = cxr.predict(export, adults, tmp_path / "adults.csv", scope=loose)
    assert found.scored == 0 and found.images == len(adults)
