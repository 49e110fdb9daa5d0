"""abstention.json: how the selected model does on the test images that it answers."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import file_sha256, read_table
from cxr.core.records import Record
from cxr.core.settings import Strict
from cxr.models.training.records import Training
from cxr.stats.abstention.answered import (
    Answered,
    measure_answered,
    risk_coverage,
    threshold_distance,
)
from cxr.stats.abstention.label_sets import fit_label_sets
from cxr.stats.metrics import Vector

NAME = "abstention.json"
JUDGEMENTS_NAME = "scope_test.csv"  # image, scope_p, status and reason of each test image
COVERAGES = (0.99, 0.95, 0.9)  # that `cxr predict --coverage` would be given
EVERYTHING = "every image answered"
SCOPE = "scope"


class Policy(Strict):
    """One way to decide which images are answered, and what comes of it.

    Attributes:
        name: Its name in tables.
        coverage: The coverage of the sets of labels; None where they are not asked.
        answered: The metrics among the answered; None where the policy is not possible.
        reasons: How many images are referred by reason, the most frequent first.
        note: Why it is not possible; empty where it is.
    """

    name: str
    coverage: float | None = None
    answered: Answered | None = None
    reasons: dict[str, int]
    note: str = ""


class Abstention(Record):
    """The selected model on the test images that it answers, by several policies.

    Attributes:
        architecture: Of the model.
        model_sha256: Of the model.
        threshold: The lowest score that counts as positive.
        policies: Every image answered; those in scope; those whose label the sets leave no doubt of.
        risk: The share of wrong answers where every image is answered.
        threshold_area: The area under the risk-coverage curve (AURC) where images close to the
            threshold are referred first.
        scope_area: The same where images unlike those of training are referred first.
        scores_sha256: Of scores_test.csv.
        judgements_sha256: Of scope_test.csv.
    """

    architecture: str
    model_sha256: str
    threshold: float
    policies: tuple[Policy, ...]
    risk: float
    threshold_area: float
    scope_area: float
    scores_sha256: str
    judgements_sha256: str

    def summary(self) -> str:
        """Return how many test images are referred by default, in one sentence without full stop."""
        scope = next(policy for policy in self.policies if policy.name == SCOPE)
        assert scope.answered is not None  # the scope is always possible
        reasons = ", ".join(f"{reason}: {count}" for reason, count in scope.reasons.items())
        return (
            f"{scope.answered.referred} of {scope.answered.images} test images are referred to a "
            f"person as unlike those of the training{f' ({reasons})' if reasons else ''}"
        )


def read_abstention(run: Path) -> Abstention | None:
    """Return abstention.json of a run, None where an earlier version wrote none."""
    path = run / NAME
    return Abstention.read(path) if path.is_file() else None


def read_judgements(folder: Path, name: str = JUDGEMENTS_NAME) -> pd.DataFrame | None:
    """Return the judgements in a run's folder with numbers for p-values; None where there are none.

    Args:
        folder: The run's folder.
        name: Of the table.
    """
    path = folder / name
    if not path.is_file():
        return None
    table = read_table(path)
    return table.assign(scope_p=table["scope_p"].astype(float))


def write_abstention(run: Path, training: Training) -> Abstention | None:
    """Measure the test images that are answered, and write abstention.json.

    Args:
        run: The run's folder, with scores_test.csv, scope_test.csv and the scores of validation.
        training: The record of the selected model.

    Returns:
        The record; None where the test images were not judged.
    """
    judgements = read_judgements(run)
    if judgements is None:
        (run / NAME).unlink(missing_ok=True)  # that of another model
        return None
    scores_path = run / "scores_test.csv"
    record = Abstention(
        architecture=training.architecture,
        model_sha256=training.model_sha256,
        threshold=training.threshold,
        **abstention_metrics(
            read_table(scores_path),
            judgements,
            read_table(run / training.name / "scores_val.csv"),
            training.threshold,
        ),
        scores_sha256=file_sha256(scores_path),
        judgements_sha256=file_sha256(run / JUDGEMENTS_NAME),
    )
    return record.write(run / NAME)


def abstention_metrics(
    scores: pd.DataFrame,
    judgements: pd.DataFrame,
    validation: pd.DataFrame,
    threshold: float,
) -> dict[str, Any]:
    """Return what an Abstention says about scores and judgements, from these alone.

    Args:
        scores: The rows of scores_test.csv.
        judgements: The rows of scope_test.csv, of the same images.
        validation: The rows of the training's scores_val.csv.
        threshold: The lowest score that counts as positive.

    Returns:
        policies, risk, threshold_area and scope_area of an Abstention.

    Raises:
        DataError: The two tables of test images are not of the same images.
    """
    if set(scores["image"]) != set(judgements["image"]):
        raise DataError(
            f"expected {JUDGEMENTS_NAME} to have the {len(scores)} images of scores_test.csv, found "
            f"{len(judgements)}, others among them: delete export.json, run again"
        )
    judged = judgements.set_index("image").loc[scores["image"]]
    calibrated = scores["score"].to_numpy()
    is_wrong = (calibrated >= threshold) != (scores["label"] == 1).to_numpy()
    distance = threshold_distance(calibrated, threshold)
    return {
        "policies": tuple(_measure_policies(scores, judged, validation, threshold)),
        "risk": float(is_wrong.mean()),
        "threshold_area": risk_coverage(is_wrong, distance).area,
        "scope_area": risk_coverage(is_wrong, judged["scope_p"].to_numpy()).area,
    }


def _measure_policies(
    scores: pd.DataFrame,
    judged: pd.DataFrame,
    validation: pd.DataFrame,
    threshold: float,
) -> Iterator[Policy]:
    """Yield each policy with its metrics on the test images."""
    nothing = np.full(len(scores), "", dtype=object)
    is_out = (judged["status"] == "abstained").to_numpy()
    of_scope = np.where(is_out, judged["reason"].to_numpy(dtype=object), "")
    yield _measure_policy(EVERYTHING, scores, nothing, threshold)
    yield _measure_policy(SCOPE, scores, of_scope, threshold)
    for coverage in COVERAGES:
        name = f"{SCOPE}, coverage {coverage:g}"
        try:
            sets = fit_label_sets(
                validation["label"].to_numpy(),
                validation["score"].to_numpy(),
                validation["patient_id"].to_numpy(),
                coverage,
            )
        except DataError as error:
            yield Policy(name=name, coverage=coverage, reasons={}, note=str(error))
            continue
        of_sets = np.array(sets.reasons(scores["score"].to_numpy(), threshold), dtype=object)
        reasons = np.where(is_out, of_scope, of_sets)
        policy = _measure_policy(name, scores, reasons, threshold)
        yield policy.model_copy(update={"coverage": coverage})


def _measure_policy(
    name: str,
    scores: pd.DataFrame,
    reasons: Vector,
    threshold: float,
) -> Policy:
    """Return one policy.

    Args:
        name: Its name.
        scores: The rows of scores_test.csv.
        reasons: Why each image is referred, text (n,), empty where it is answered.
        threshold: The lowest score that counts as positive.
    """
    counts = Counter(str(reason).partition(":")[0] for reason in reasons if reason)
    return Policy(
        name=name,
        answered=measure_answered(
            scores["label"].to_numpy(),
            scores["score"].to_numpy(),
            scores["patient_id"].to_numpy(),
            threshold,
            reasons == "",
        ),
        reasons=dict(counts.most_common()),
    )
