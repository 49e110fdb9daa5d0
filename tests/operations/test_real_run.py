"""A whole run on a folder as people have it: links, deep pictures, negatives, other names, and prediction after it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from cxr.core.files import read_table
from cxr.data.manifest.records import Ingest
from cxr.data.phantoms import dataset
from tests.conftest import SMALLEST

SMALL = (
    *SMALLEST,
    "--epochs",
    "1",
)
READING = (
    "--follow-links",
    "--bit-depth",
    "12",
    "--negatives",
    "invert",
    "--classes",
    "PNEUMONIA=opacity",
)


@pytest.fixture(scope="module")
def links(tmp_path_factory) -> Path:
    """Phantoms as links to a store: test films with 12 of 16 bits, four of train as negatives, splits by other names."""
    store = tmp_path_factory.mktemp("store") / "phantoms"
    dataset.make_dataset(store, images=90, size=64, broken=False)
    data = tmp_path_factory.mktemp("links") / "data"
    negatives = 0
    for path in sorted(store.rglob("t*/*/*.jpeg")):
        film = Image.open(path).convert("L")
        split, label, _ = path.relative_to(store).parts
        made = path.with_suffix(".png")
        if split == "test":
            Image.fromarray(
                (np.asarray(film).astype(np.uint32) * 4095 // 255).astype(np.uint16)
            ).save(made)
        elif label == "NORMAL" and negatives < 4:
            negatives += 1
            ImageOps.invert(film).save(made)
        else:
            made = path
        place = (
            {"train": "training_set", "test": "hold-out"}[split],
            {"PNEUMONIA": "opacity"}.get(label, label),
        )
        link = data.joinpath(*place, made.name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(made)
    return data


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_folder_of_links_deep_pictures_and_negatives_from_files_to_scores(links, cxr, tmp_path):
    """Without the flags: one sentence. With them: every image used; prediction gives test's own scores."""
    refused = cxr("run", links, "--out", tmp_path / "work", *SMALL)
    assert (
        refused.returncode == 1
        and "--follow-links" in refused.stderr
        and "Traceback" not in refused.stderr
    )
    done = cxr("run", links, "--out", tmp_path / "work", *SMALL, *READING)
    assert done.returncode == 0, done.stderr[-2000:]
    books = Ingest.read(tmp_path / "work" / "ingest.json")
    table = read_table(tmp_path / "work" / "clean_metadata.csv")
    assert books.kept == books.found == len(table) and table["inverted"].sum() == 4
    assert set(table.loc[table["split"] == "test", "bit_depth"]) == {12}
    (run,) = (tmp_path / "work" / "runs").iterdir()
    report = (run / "report.html").read_text()
    assert "Files by folder" in report and "hold-out/opacity" in report
    export = run / "export"
    predicted = cxr(
        "predict", export, links / "hold-out", "--out", tmp_path / "p.csv", "--follow-links"
    )
    assert predicted.returncode == 0, predicted.stderr[-2000:]
    expected = read_table(run / "scores_test.csv").assign(
        image=lambda t: t["image"].str.removeprefix("hold-out/")
    )
    both = expected.merge(read_table(tmp_path / "p.csv"), on="image", suffixes=("", "_again"))
    assert len(both) == len(expected) and (both["score"] - both["score_again"]).abs().max() < 1e-4
    other = cxr(
        "predict", export, links / "hold-out", "--out", tmp_path / "q.csv", "--bit-depth", "16"
    )
    assert other.returncode == 1 and "trained with --bit-depth 12" in other.stderr
    missing = cxr("predict", export, links / "hold-out", "--out", tmp_path / "q.csv")
    assert missing.returncode == 1 and "--follow-links" in missing.stderr

    # Negatives among new images: rejected with the reason; films are scored.
    new = tmp_path / "new"
    new.mkdir()
    films = sorted(path for path in (links / "training_set" / "opacity").iterdir())[:12]
    for number, path in enumerate(films):
        film = Image.open(path).convert("L")
        (ImageOps.invert(film) if number % 2 else film).save(new / f"{number:02d}.png")
    # Which films a network of so few is sure of is another test's business.
    predicted = cxr("predict", export, new, "--out", tmp_path / "p.csv", "--scope-rate", "0")
    assert predicted.returncode == 0, predicted.stderr[-2000:]
    table = read_table(tmp_path / "p.csv")
    assert list(table["status"]) == ["scored", "rejected"] * 6
    assert table.loc[table["status"] == "rejected", "reason"].str.startswith("negative: ").all()
