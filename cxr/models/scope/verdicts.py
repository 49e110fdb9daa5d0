"""The verdict on an image: whether it is in the scope of a model, and why not, in words."""

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.formatting import describe_p_value
from cxr.models.scope.conformal import p_values, smallest_p

# An image that is no chest film correlates with the typical one by less than this, however turned.
_ALIKE = 0.4
# What a lying or a negative film correlates better by than as it is: films have a top and a bottom.
_CLEARLY = 0.1
# With too few patients for a rate, an image is out of scope this many times the spread of the
# validation images beyond the farthest of them: no rate can be promised, and a photograph is seen.
_BEYOND = 1.0
# Of fewer the spread is not known either: of a demo's own films half would be out of scope.
FEWEST_PATIENTS = 20

Status = Literal["scored", "abstained"]


class Judgement(NamedTuple):
    """The verdict on one image.

    Attributes:
        status: "scored", or "abstained" where the image is out of scope.
        reason: Why it is; empty where it is not. What stands before a colon is the kind of reason.
        p: The conformal p-value of its distance from training.
    """

    status: Status
    reason: str
    p: float


def describe_shortage(patients: int, rate: float) -> str:
    """Return what too few validation patients for a rate mean, without a full stop; "" if enough.

    >>> describe_shortage(390, 0.01)
    ''
    """
    least = smallest_p(patients)
    if not 0 < rate < least:
        return ""
    if patients < FEWEST_PATIENTS:
        return (
            f"{patients} validation patients are too few to say what is out of scope, which takes "
            f"{FEWEST_PATIENTS}: no image is called so"
        )
    return (
        f"{patients} validation patients allow no p below {least:.3f}, so a rate of {rate:g} cannot "
        "be held: only images far beyond all validation images are called out of scope"
    )


def judge_images(
    measured: pd.DataFrame,
    validation: pd.DataFrame,
    rate: float,
) -> list[Judgement]:
    """Judge images by how far they lie from training.

    Args:
        measured: Their measurements: a column for each signal.
        validation: Those of the validation images, with `patient`.
        rate: The share of images like those of validation that may be called out of scope; none
            is at 0.

    Returns:
        A verdict for each image.
    """
    distances = measured["features"].to_numpy(np.float64)
    reference = validation["features"].to_numpy(np.float64)
    patients = validation["patient"].to_numpy()
    found = p_values(distances, reference, patients)
    units = len(np.unique(patients))
    is_out = found <= rate
    if describe_shortage(units, rate):
        is_far = distances > reference.max() + _BEYOND * np.ptp(reference)
        is_out = is_far & (units >= FEWEST_PATIENTS)
    judgements = []
    for position, p in enumerate(found.tolist()):
        if not is_out[position]:
            judgements.append(Judgement("scored", "", p))
            continue
        kind = _kind_of_reason(measured.iloc[position], validation)
        judgements.append(Judgement("abstained", f"{kind}: {_describe_p(p, units)}", p))
    return judgements


def _describe_p(p: float, patients: int) -> str:
    """Return a p-value in words, and whether it could be smaller."""
    is_smallest = p <= smallest_p(patients)
    limit = f", the smallest that {patients:,} patients allow" if is_smallest else ""
    return f"{describe_p_value(p)}{limit}"


def _kind_of_reason(image: "pd.Series[Any]", validation: pd.DataFrame) -> str:
    """Return what is strange about an image that lies far from training.

    A property is named where no validation image has it in that degree.
    """
    lowest = validation.min()
    highest = validation.max()
    views = {
        "negative of a film": -image["upright"],
        "rotated by 90 degrees": image["sideways"],
        "rotated by 180 degrees": image["upside_down"],
    }
    likeliest = max(views, key=lambda name: float(views[name]))
    if views[likeliest] >= _ALIKE and views[likeliest] > image["upright"] + _CLEARLY:
        return likeliest
    if image["upright"] < min(_ALIKE, lowest["upright"]):
        return "not a chest film like those of training"
    ends = {
        "too blurred": image["sharpness"] < lowest["sharpness"],
        "too noisy": image["sharpness"] > highest["sharpness"],
        "too dark": image["darkness"] > highest["darkness"],
        "too bright": image["darkness"] < lowest["darkness"],
        "too little contrast": image["contrast"] < lowest["contrast"],
    }
    for kind, is_so in ends.items():
        if is_so:
            return kind
    return "features far from training"
