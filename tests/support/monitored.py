"""Made-up measurements of images at validation and at work, for the tests of monitoring."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.results.cards.model_card import Card
from cxr.serving.monitoring import store

COMPONENTS = ("c0", "c1", "c2", "c3")
SIGNALS = ("features", "darkness")
THRESHOLD = 0.5


def measure(
    rng: np.random.Generator,
    patients: int,
    share: float = 0.7,
    shift: float = 0.0,
) -> pd.DataFrame:
    """Return made-up images of patients who have one to four each, those of a patient alike.

    The scores are probabilities of the labels.

    Args:
        rng: The generator.
        patients: How many patients.
        share: The share of positive patients.
        shift: Added to each component and signal, in standard deviations.
    """
    images = rng.choice([1, 2, 4], patients, p=[0.7, 0.2, 0.1])
    patient = np.repeat(np.arange(patients), images)
    label = (rng.random(patients) < share).astype(int)[patient]
    table = pd.DataFrame({"label": label, "patient": patient})
    # Normal evidence at -1 and 1 gives the log odds exactly, so that scores are calibrated.
    evidence = _alike(rng, patient, 1.0) + 2 * label - 1
    odds = np.log(share / (1 - share)) + 2 * evidence
    table["score"] = 1 / (1 + np.exp(-odds))
    for number, name in enumerate([*COMPONENTS, *SIGNALS]):
        table[name] = _alike(rng, patient, 0.7) + 0.3 * number * label + shift
    return table


def _alike(rng: np.random.Generator, patient: NDArray[Any], own: float) -> NDArray[np.float64]:
    """Return standard normal values, those of a patient sharing 1 - own of their variance."""
    shared = rng.normal(0, np.sqrt(1 - own), patient.max() + 1)[patient]
    return np.asarray(shared + rng.normal(0, np.sqrt(own), len(patient)))


def at_work(
    images: pd.DataFrame,
    day: str = "2026-03-01",
    device: str = "",
    prefix: str = "image",
) -> pd.DataFrame:
    """Return images as a prediction measures them: with names, day and device, without labels."""
    measured = images.drop(columns=["label", "patient"]).reset_index(drop=True)
    measured["image"] = [f"{prefix}-{number}.png" for number in range(len(measured))]
    measured["prediction"] = np.where(measured["score"] >= THRESHOLD, "PNEUMONIA", "NORMAL")
    measured["status"] = "scored"
    measured["device"] = device
    measured["day"] = day
    return measured


def predictions(measured: pd.DataFrame, rejected: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return the table of predictions of measured images and of files rejected for these reasons."""
    table = measured[["image", "score", "prediction", "status"]].copy()
    table["reason"] = ""
    others = pd.DataFrame({"image": [f"no-{number}.png" for number in range(len(rejected))]})
    others["score"] = np.nan
    others["prediction"] = ""
    others["status"] = "rejected"
    others["reason"] = list(rejected)
    both = pd.concat([table, others]) if len(others) else table
    both["threshold"] = THRESHOLD
    return both.sort_values("image", ignore_index=True)


def append(
    place: str,
    card: Card,
    measured: pd.DataFrame,
    validation: pd.DataFrame | None,
    rejected: tuple[str, ...] = (),
) -> bool:
    """Add a prediction to a store; see `store.append`."""
    return store.append(place, card, measured, predictions(measured, rejected), validation)
