"""Export folders and registries of synthetic content, for the tests of serving."""

import shutil
from pathlib import Path

import pandas as pd

from cxr.core.files import file_sha256, write_table
from cxr.results import exporting
from cxr.results.cards.model_card import Card
from cxr.serving.retraining import challenge_rule
from cxr.serving.retraining.challenge import Challenge, Side
from tests.support import finished


def exported(
    source: Path, folder: Path, run: str, model: bytes, manifest: Path | None = None
) -> Path:
    """Copy an export folder with another model in it; card and checksums fit that model."""
    shutil.copytree(source, folder)
    (folder / "model.keras").write_bytes(model)
    card = Card.read(folder / "model_card.json")
    changes: dict[str, object] = {"run": run, "model_sha256": file_sha256(folder / "model.keras")}
    if manifest:
        changes["data"] = card.data.model_copy(update={"manifest_sha256": file_sha256(manifest)})
    card.model_copy(update=changes).write(folder / "model_card.json")
    exporting.write_checksums(folder)
    return folder


def manifest(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    """Write the columns of a manifest that the registry reads.

    Args:
        path: The file.
        rows: pixel_sha256, patient_id and split of each image.
    """
    write_table(pd.DataFrame(rows, columns=["pixel_sha256", "patient_id", "split"]), path)
    return path


def side(
    work: Path, folder: Path, version: str, apart: float, seed: int = 0, threshold: float = 0.5
) -> Side:
    """Return a model with synthetic scores of 40 NORMAL and 60 PNEUMONIA, see `finished.scores`."""
    card = Card.read(next(work.glob("runs/*/export/model_card.json"))).model_copy(
        update={"threshold": threshold}
    )
    return Side(
        version=version, card=card, scores=finished.scores(folder / f"{version}.csv", seed, apart)
    )


def won(work: Path, challenger: str, champion: str | None, promote: bool = True) -> Challenge:
    """Return a comparison whose outcome is `promote`."""
    card = Card.read(next(work.glob("runs/*/export/model_card.json")))
    return Challenge(
        challenger=challenger,
        champion=champion,
        manifest_sha256="34" * 32,
        promote=promote,
        images=100,
        seen=0,
        compared=100,
        reason="made up",
        challenger_figures=card.evaluation.test,
        challenger_intervals=card.evaluation.intervals,
        champion_figures=None,
        champion_intervals=None,
        auroc=None,
        decisions=(),
        audit={},
        rule=challenge_rule.RULE,
    )
