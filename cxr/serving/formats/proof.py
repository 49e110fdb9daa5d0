"""Prove that a file decides as the model does: in a fresh interpreter that has only its runtime."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import ModelError
from cxr.results.evaluation.formats.agreement import find_objection, measure_agreement
from cxr.results.evaluation.formats.files import digest, size
from cxr.results.evaluation.formats.records import Format
from cxr.serving.formats import fresh_interpreter
from cxr.serving.formats.conversion import Target
from cxr.stats.metrics import Vector

# The package that runs each format, and what it has to do without.
_RUNTIMES = {"onnx": "onnxruntime", "litert": "ai-edge-litert", "savedmodel": "tensorflow"}
_REFUSED = ("cxr", "tasks", "flows", "keras", "tf_keras", "tensorflow", "onnx", "tf2onnx", "jax")
_LOG_LINES_SHOWN = 6


class Films(NamedTuple):
    """Test images as files, which reader.py has to read to the pixels that the model was tested with.

    Attributes:
        paths: The files.
        digests: Of each, the SHA-256 of its pixels in the cache.
        note: Why they are none, or not all that were asked for; empty where nothing is to be said.
    """

    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    note: str = ""


class Expected(NamedTuple):
    """What the model said of the test images.

    Attributes:
        scores: The rows of scores_test.csv.
        judgements: The rows of scope_test.csv; None where the model does not know its scope.
        threshold: The lowest score that counts as positive.
        pixels: The file with their pixels in the order of the scores, uint8 (n, side, side).
        films: Some of them as files.
    """

    scores: pd.DataFrame
    judgements: pd.DataFrame | None
    threshold: float
    pixels: Path
    films: Films


class Proof(NamedTuple):
    """What came of a proof.

    Attributes:
        record: The format; published is set where nothing speaks against it.
        answers: Its rows of scores_test_formats.csv; None where it did not run.
    """

    record: Format
    answers: pd.DataFrame | None


def prove(target: Target, folder: Path, expected: Expected) -> Proof:
    """Run a file over all test images in a fresh interpreter, and compare the answers with the model's.

    Args:
        target: The file.
        folder: Where it lies, with pipeline.json, reader.py and scope.npz beside it.
        expected: What the model said.
    """
    path = folder / target.file
    described = Format(
        name=target.format,
        precision=target.precision,
        file=target.file,
        sha256=digest(path),
        bytes=size(path),
    )
    try:
        found = _run(target, folder, expected)
        answers = _answer_table(target, expected, found)
    except ModelError as error:
        return Proof(described.model_copy(update={"reason": str(error)}), None)
    agreement = measure_agreement(
        expected.scores, expected.judgements, answers, expected.threshold, target.precision
    )
    objection = find_objection(agreement)
    equal = [own == read for own, read in zip(expected.films.digests, found["films"], strict=True)]
    if not all(equal):
        unequal = f"reader.py reads {len(equal) - sum(equal)} of {len(equal)} films to other pixels"
        objection = f"{objection}; {unequal}" if objection else unequal
    proven = {
        "published": not objection,
        "reason": objection,
        "runtime": found["runtime"],
        "milliseconds": round(float(found["milliseconds"]), 2),
        "films": sum(equal),
        "films_note": expected.films.note,
        "agreement": agreement,
    }
    return Proof(described.model_copy(update=proven), answers)


def _run(target: Target, folder: Path, expected: Expected) -> dict[str, Any]:
    """Return what a fresh interpreter answers.

    Raises:
        ModelError: It ended with an error.
    """
    runtime = _RUNTIMES[target.format]
    order = folder / f"order_{target.file}.json"
    answers = folder / f"answers_{target.file}.json"
    content = {
        "folder": str(folder),
        "file": target.file,
        "runtime": runtime,
        "pixels": str(expected.pixels),
        "films": [str(path) for path in expected.films.paths],
        "refused": [name for name in _REFUSED if name != runtime],
        "answers": str(answers),
    }
    order.write_text(json.dumps(content), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-I", fresh_interpreter.__file__, str(order)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if ended.returncode or not answers.is_file():
        lines = ended.stderr.strip().splitlines()[-_LOG_LINES_SHOWN:]
        raise ModelError(f"{runtime} ended with status {ended.returncode}: {' | '.join(lines)}")
    found: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
    return found


def _answer_table(target: Target, expected: Expected, found: dict[str, Any]) -> pd.DataFrame:
    """Return the rows of scores_test_formats.csv.

    Raises:
        ModelError: A score is not a number from 0 to 1.
    """
    raw = np.array(found["raw_score"], np.float64)
    is_score: Vector = (raw >= 0) & (raw <= 1)
    if not is_score.all():
        raise ModelError(
            f"{(~is_score).sum()} of {len(raw)} raw scores are not a number from 0 to 1"
        )
    return pd.DataFrame(
        {
            "file": target.file,
            "image": expected.scores["image"].to_numpy(),
            "raw_score": raw,
            "score": np.array(found["score"], np.float64),
            "status": found["status"],
        }
    )
