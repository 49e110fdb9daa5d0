"""Sets of labels: does the right label fit as often as was asked for, in each class, for new patients?

    python -m bench.coverage SCORES [SCORES ...] [--coverage 0.9]

SCORES are tables of calibrated scores of images that the network was not fitted to (scores_val.csv and scores_test.csv of a
run). Their patients are divided in halves at random, 200 times: sets of labels are made of one half, and asked of one
image of each patient of the other. For each class: the mean coverage, and in how many of the 200 divisions the covered
patients are within the 95 % interval of the beta-binomial distribution that the promise implies (95 % are expected, if
images were no more than exchangeable). Then the mean share of images that is referred, and of the answers that is wrong.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import betabinom

from cxr.core.files import read_table
from cxr.stats.abstention.label_sets import fit_label_sets

DIVISIONS = 200
THRESHOLD = 0.5


def one_image_each(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return one image of each patient, drawn at random."""
    return table.iloc[rng.permutation(len(table))].drop_duplicates("patient_id")


def divide(table: pd.DataFrame, coverage: float, seed: int) -> dict[str, float]:
    """Return what one division of the patients finds."""
    rng = np.random.default_rng(seed)
    patients = rng.permutation(table["patient_id"].unique())
    is_fitted = table["patient_id"].isin(patients[: len(patients) // 2])
    fitted = table[is_fitted]
    sets = fit_label_sets(
        fitted["label"].to_numpy(),
        fitted["score"].to_numpy(),
        fitted["patient_id"].to_numpy(),
        coverage,
    )
    found: dict[str, float] = {}
    new = table[~is_fitted]
    for label in (0, 1):
        own = one_image_each(new[new["label"] == label], rng)
        covered = int(sets.contains(own["score"].to_numpy())[:, label].sum())
        units = sets.patients[label] + 1
        left_out = int(units * (1 - coverage) + 1e-9)
        low, high = betabinom(len(own), units - left_out, left_out).interval(0.95)
        found[f"covered {label}"] = covered / len(own)
        found[f"inside {label}"] = float(low <= covered <= high)
    scores = new["score"].to_numpy()
    is_answered = np.array(sets.reasons(scores, THRESHOLD)) == ""
    is_wrong = (scores >= THRESHOLD) != (new["label"] == 1).to_numpy()
    found["referred"] = 1 - is_answered.mean()
    found["wrong"] = is_wrong[is_answered].mean()
    found["wrong where all are answered"] = is_wrong.mean()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", nargs="+", type=Path)
    parser.add_argument("--coverage", type=float, default=0.9)
    given = parser.parse_args()
    table = pd.concat([read_table(path) for path in given.scores], ignore_index=True)
    divisions = [divide(table, given.coverage, seed) for seed in range(DIVISIONS)]
    found = pd.DataFrame(divisions).mean()
    patients = table["patient_id"].nunique()
    print(f"{len(table)} images, {patients} patients, coverage {given.coverage:g}")
    for name, value in found.items():
        print(f"{name:30}{value:8.4f}")


if __name__ == "__main__":
    main()
