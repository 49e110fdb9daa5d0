"""What DICOM tags say that occurs in one class only: one site, device or window a class.

Where the films of one class come from another device, a network can learn to tell the devices
apart. No look at the pixels is needed to find that, and no model.
"""

from typing import Any

import numpy as np
import pandas as pd

from cxr.core.formatting import printable
from cxr.core.settings import EXCLUDED, LABEL_NAMES, Strict
from cxr.data.patients import splits

# Columns of the manifest that some data have, and what they are called.
TEXTS = {
    "manufacturer": "manufacturer",
    "device_model": "device model",
    "detector": "detector",
    "station": "station",
    "institution": "institution",
    "modality": "modality",
    "view": "view",
    "transfer_syntax": "transfer syntax",
    "photometric": "photometric interpretation",
    "window": "gray window",
    "burned_in": "burned-in text",
}
NUMBERS = {
    "bits_stored": "bits stored",
    "pixel_spacing": "pixel spacing",
    "year": "year",
}
FEWEST_PATIENTS = 10  # with a value: fewer prove nothing
NEARLY_ALL = 0.95  # share of one class among the patients with a value
# Fifty clean data sets are to pass: the chance that one of them is named is at most 5 %.
SIGNIFICANCE_LEVEL = 0.001
_MOST_SHOWN = 6  # in one sentence


class GiveAway(Strict):
    """A value that occurs in one class only, or nearly so.

    Attributes:
        column: The column of the manifest.
        value: The value; "" stands for images without one.
        label_name: The class in which it occurs.
        images: Images of that class with the value.
        others: Images of the other class with the value.
        patients: Patients with the value; images of whom no patient is known count alone.
        p: Of Fisher's exact test of patients by class and value, corrected for all values (Bonferroni).
    """

    column: str
    value: str
    label_name: str
    images: int
    others: int
    patients: int
    p: float


def find_give_aways(table: pd.DataFrame) -> tuple[GiveAway, ...]:
    """Find the values of TEXTS and NUMBERS that occur in one class only, or nearly so.

    Nearly: in at least NEARLY_ALL of the patients with that value. What chance does as well is no
    finding: a value is named where its classes differ from those of all other patients.

    Args:
        table: The manifest; columns may be missing.

    Returns:
        In the order of the columns, the most frequent values first.
    """
    rows = table[table["split"] != EXCLUDED].reset_index(drop=True)
    patients = pd.factorize(splits.patient_groups(rows))[0]
    labels = rows["label"].groupby(patients).max().to_numpy()
    if len(np.unique(labels)) < len(LABEL_NAMES):
        return ()
    candidates = []
    for column in (*TEXTS, *NUMBERS):
        if column not in rows:
            continue
        places = rows.groupby(rows[column].fillna("").astype(str)).indices
        for value, positions in sorted(places.items(), key=lambda item: -len(item[1])):
            numbers = np.unique(patients[positions])
            if FEWEST_PATIENTS <= len(numbers) < len(labels):
                candidates.append((column, str(value), positions, numbers))
    give_aways = []
    for column, value, positions, numbers in candidates:
        images = np.bincount(rows["label"].to_numpy()[positions], minlength=2)
        if images.max() < NEARLY_ALL * images.sum():
            continue
        p = min(1.0, _fisher_p_value(labels, numbers) * len(candidates))
        if p < SIGNIFICANCE_LEVEL:
            give_aways.append(
                GiveAway(
                    column=column,
                    value=value,
                    label_name=LABEL_NAMES[int(images.argmax())],
                    images=int(images.max()),
                    others=int(images.min()),
                    patients=len(numbers),
                    p=p,
                )
            )
    return tuple(give_aways)


def _fisher_p_value(
    labels: "np.ndarray[Any, Any]",
    patients: "np.ndarray[Any, Any]",
) -> float:
    """Return p of Fisher's exact test: are the classes of some patients those of all others?

    Args:
        labels: Label of each patient of the data, int (n,).
        patients: Numbers of some of them, int (k,).
    """
    from scipy.stats import fisher_exact

    some = np.bincount(labels[patients], minlength=2)
    others = np.bincount(labels, minlength=2) - some
    return float(fisher_exact([some, others]).pvalue)


def warn_of_give_aways(give_aways: tuple[GiveAway, ...]) -> str:
    """Return what to tell a person about values that occur in one class only, "" for none."""
    if not give_aways:
        return ""
    shown = [_in_words(give_away) for give_away in give_aways[:_MOST_SHOWN]]
    hidden = len(give_aways) - len(shown)
    if hidden:
        shown.append(f"{hidden:,} more in audit.json")
    return (
        f"The class can be told from where a film was taken: {'; '.join(shown)}. A network may "
        "learn the device or site instead of the disease: use films of both classes from each, or "
        "test on a device that has both (--test-by)"
    )


def _in_words(give_away: GiveAway) -> str:
    """Return e.g. "manufacturer Acme is in PNEUMONIA only (120 images of 60 patients)"."""
    name = (TEXTS | NUMBERS)[give_away.column]
    what = f"{name} {printable(give_away.value)}" if give_away.value else f"no {name}"
    of_patients = f"of {give_away.patients:,} patients"
    if give_away.others == 0:
        counts = f"{give_away.images:,} images {of_patients}"
        return f"{what} occurs in {give_away.label_name} only ({counts})"
    total = give_away.images + give_away.others
    counts = f"{give_away.images:,} of {total:,} images {of_patients}"
    return f"{what} occurs in {give_away.label_name} nearly alone ({counts})"
