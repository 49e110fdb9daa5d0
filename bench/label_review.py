"""Label review: of labels changed on purpose, how many are among the first that a reader looks at?

    python -m bench.label_review WORK [--share 0.05] [--seeds 10] [--penalties]

WORK is a work folder with a run (its caches may grow). The labels of whole patients of train and
validation are changed until `--share` of the images have another one. Heads are fitted to the pooled features that
`cxr labels` uses, out of fold, and the images are ranked in four ways:

    self-confidence       the probability of the label that an image has
    normalised margin     the same against the other label, each adjusted by its class's average (cleanlab)
    entropy               the self-confidence weighted by the entropy of the prediction (cleanlab)
    confident learning    what cleanlab's filter takes for wrong labels first, by self-confidence, then the others

Printed for each: the share of the changed labels that is in the first 5 and 10 %, mean and range over the seeds; then how
many labels `disputed` names, and how many of them were changed. `--penalties` compares penalties.
Labels that were wrong before count as unchanged, so the shares are lower bounds where a data set has such. Needs cleanlab.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from cxr.data.patients import splits
from cxr.models import runs
from cxr.models.compute import backend
from cxr.models.training.session import Session
from cxr.results.label_review import scores
from cxr.results.label_review.job import pooled_features
from cxr.results.label_review.scores import Array
from cxr.stages import data_steps, label_steps

FIRST = (0.05, 0.1)  # of the images


def read_data(work: Path) -> tuple[Array, Array, Array]:
    """Return features, labels and patients of the train and validation images of a work folder."""
    run = runs.require_current_data(work, runs.latest_run(work))
    cache = data_steps.cache_pixels(work, run.settings)
    session = Session(label_steps.scores_job(run, work, cache), lambda _: None)
    with backend.device_scope():
        pooled = pooled_features(session)
    positions = np.flatnonzero(session.table["split"].isin(["train", "val"]))
    rows = session.table.iloc[positions]
    patients = splits.patient_groups(rows, "patient_group").to_numpy()
    features = np.stack([pooled[int(position)] for position in positions])
    return features, session.labels(positions), patients


def change_labels(labels: Array, patients: Array, share: float, seed: int) -> Array:
    """Return which labels are changed: those of patients in random order, until there are enough."""
    order = np.random.default_rng(seed).permutation(np.unique(patients))
    counts = np.array([np.sum(patients == patient) for patient in order])
    enough = np.searchsorted(np.cumsum(counts), share * len(labels)) + 1
    changed: Array = np.isin(patients, order[:enough])
    return changed


def rankings(labels: Array, found: Array) -> Iterator[tuple[str, Array]]:
    """Yield each ranking with its order of the images, the least credible label first."""
    both = np.stack([1 - found, found], axis=1)
    own = np.argsort(scores.self_confidence(labels, found), kind="stable")
    yield "self-confidence", own
    margin = get_label_quality_scores(
        labels, both, method="normalized_margin", adjust_pred_probs=True
    )
    yield "normalised margin", np.argsort(margin, kind="stable")
    entropy = get_label_quality_scores(labels, both, method="confidence_weighted_entropy")
    yield "entropy", np.argsort(entropy, kind="stable")
    issues = find_label_issues(labels, both, return_indices_ranked_by="self_confidence", n_jobs=1)
    yield "confident learning", np.concatenate([issues, own[~np.isin(own, issues)]])


def share_found(order: Array, changed: Array, first: float) -> float:
    """Return the share of the changed labels that is in the first part of an order."""
    return float(changed[order[: round(first * len(order))]].sum() / changed.sum())


def describe(values: list[float]) -> str:
    """Return mean and range."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def compare_rankings(
    data: tuple[Array, Array, Array],
    share: float,
    seeds: int,
) -> None:
    """Print what each ranking finds over the seeds."""
    features, labels, patients = data
    found_by: dict[str, dict[float, list[float]]] = {}
    named = []
    right = []
    for seed in range(seeds):
        changed = change_labels(labels, patients, share, seed)
        given = np.where(changed, 1 - labels, labels)
        found = scores.out_of_fold_scores(features, given, patients, seed)
        for name, order in rankings(given, found):
            shares = found_by.setdefault(name, {first: [] for first in FIRST})
            for first, values in shares.items():
                values.append(share_found(order, changed, first))
        disputed = scores.disputed(given, found)
        named.append(float(disputed.sum() / changed.sum()))
        right.append(float(changed[disputed].mean()))
    for name, shares in found_by.items():
        parts = [f"first {first:.0%} {describe(values)}" for first, values in shares.items()]
        print(f"{name:<20}{', '.join(parts)}")
    print(f"disputed labels by changed ones {describe(named)}, of them changed {describe(right)}")


def compare_penalties(data: tuple[Array, Array, Array], share: float, seeds: int) -> None:
    """Print what self-confidence finds in the first tenth by penalty."""
    features, labels, patients = data
    for penalty in (1e-4, 1e-3, 1e-2, 1e-1):
        values = []
        for seed in range(seeds):
            changed = change_labels(labels, patients, share, seed)
            given = np.where(changed, 1 - labels, labels)
            found = scores.out_of_fold_scores(features, given, patients, seed, penalty)
            order = np.argsort(scores.self_confidence(given, found), kind="stable")
            values.append(share_found(order, changed, 0.1))
        print(f"penalty {penalty:g}: first 10% {describe(values)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--penalties", action="store_true")
    arguments = parser.parse_args()
    data = read_data(arguments.work)
    _, labels, patients = data
    print(
        f"{len(labels)} images, {labels.mean():.3f} PNEUMONIA, {len(np.unique(patients))} patients"
    )
    compare_rankings(data, arguments.share, arguments.seeds)
    if arguments.penalties:
        compare_penalties(data, arguments.share, arguments.seeds)


if __name__ == "__main__":
    main()
