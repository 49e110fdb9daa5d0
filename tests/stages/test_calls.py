"""The five calls behind `import cxr`, from files to predictions without Prefect."""

import subprocess
import sys

import pandas as pd
import pytest

import cxr
from cxr.core.errors import DataError
from cxr.core.settings import PixelSettings
from cxr.results.verify.checks import verify_run
from tests.conftest import ROOT


def test_import_is_quick_and_offers_the_five_calls():
    """`import cxr` brings neither pandas nor Keras; the calls appear when they are asked for."""
    code = (
        "import sys, cxr\n"
        "heavy = {'pandas', 'keras', 'tensorflow', 'prefect', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy), [name for name in dir(cxr) if name[0] != '_'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split("\n")[0] == (
        "[] ['explore', 'export', 'predict', 'preprocess', 'train']"
    )


def test_no_call_has_the_name_of_a_folder():
    """Importing a folder of that name would put the module in the place of the call."""
    folders = {path.name for path in (ROOT / "cxr").iterdir() if path.is_dir()}
    assert not folders & set(cxr.__all__)


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt call is told as Python tells it everywhere."""
    with pytest.raises(AttributeError, match="preproces"):
        cxr.preproces  # noqa: B018 - the access is what is tested


def test_preprocess_and_explore_tell_their_progress(phantoms, tmp_path, tiny):
    """Counts are those of the record; progress ends at its total."""
    told = []
    ingest = cxr.preprocess(
        phantoms,
        tmp_path / "work",
        pixels=PixelSettings(image_size=tiny.image_size),
        on_progress=lambda *progress: told.append(progress),
    )
    assert ingest.found == ingest.kept + sum(ingest.rejected.values())
    step, done, total = told[-1]
    assert step == "inspect images"
    assert done == total > 0
    told.clear()
    explored = cxr.explore(
        tmp_path / "work", tiny, on_progress=lambda *progress: told.append(progress)
    )
    assert {"pictures", "shift"} <= {step for step, _, _ in told}
    for name in explored.figures:
        assert (tmp_path / "work" / "eda" / name).is_file()


def test_calls_in_the_wrong_order_say_what_comes_first(tmp_path, phantoms, tiny):
    """Each missing stage is named."""
    work = tmp_path / "work"
    with pytest.raises(DataError, match="preprocess"):
        cxr.explore(work, tiny)
    cxr.preprocess(phantoms, work, pixels=PixelSettings(image_size=tiny.image_size))
    with pytest.raises(DataError, match="explore"):
        cxr.train(work, "MobileNetV2", tiny)
    with pytest.raises(DataError, match="train one first"):
        cxr.export(work)
    with pytest.raises(DataError, match="run abc"):
        cxr.export(work, run="abc")
    cxr.explore(work, tiny)
    with pytest.raises(DataError, match=r"settings.arch \(MobileNetV2\).*found VGG16"):
        cxr.train(work, "VGG16", tiny)


@pytest.mark.slow
def test_from_files_to_predictions(phantoms, tmp_path, tiny):
    """What the calls leave is a run like any other: it is verified, and predicts."""
    work = tmp_path / "work"
    settings = tiny.model_copy(update={"arch": ("MobileNetV2", "VGG16")})
    cxr.preprocess(phantoms, work, pixels=PixelSettings(image_size=settings.image_size))
    cxr.explore(work, settings)
    training = cxr.train(work, "MobileNetV2", settings)
    assert cxr.train(work, "MobileNetV2", settings) == training, "done, not done again"
    exported = cxr.export(work)
    run = work / "runs" / exported.run
    assert not [check for check in verify_run(run) if check.problem]
    comparison = pd.read_csv(run / "comparison.csv")
    assert list(comparison["name"]) == ["MobileNetV2", "VGG16"]
    assert "not trained" in (run / "selection.json").read_text(), "what was left out is told"
    predictions = cxr.predict(exported.model, phantoms / "test", tmp_path / "predictions.csv")
    table = pd.read_csv(predictions.out)
    assert len(table) == predictions.images
    assert (table["status"] == "scored").sum() == predictions.scored > 0
