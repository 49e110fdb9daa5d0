"""What the intervals of a test set cost: the bootstrap of every figure, at 1,000 and 10,000 images.

    python -m bench.intervals

Two images per patient, 2,000 draws; the median of three runs, and beside it scikit-learn's AUROC alone in a plain loop
over the draws (timed on 50 of them).
"""

import statistics
import time
import tracemalloc

import numpy as np
from sklearn.metrics import roc_auc_score

from cxr.stats import intervals

DRAWS, REPEATS, LOOPED = 2000, 3, 50


def made(images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, images)
    return (
        labels,
        np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1),
        (np.arange(images) // 2).astype(str),
    )


def seconds(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> float:
    start = time.perf_counter()
    intervals.bootstrap_intervals(labels, scores, patients, 0.5, draws=DRAWS)
    return time.perf_counter() - start


def looped(labels: np.ndarray, scores: np.ndarray) -> float:
    rng, start = np.random.default_rng(0), time.perf_counter()
    for _ in range(LOOPED):
        drawn = rng.integers(0, len(labels), len(labels))
        roc_auc_score(labels[drawn], scores[drawn])
    return (time.perf_counter() - start) / LOOPED * DRAWS


def main() -> None:
    print(f"{'images':>8} {'bootstrap, s':>14} {'peak, MB':>10} {'AUROC in a loop, s':>20}")
    for images in (1_000, 10_000):
        data = made(images)
        found = statistics.median(seconds(*data) for _ in range(REPEATS))
        tracemalloc.start()
        seconds(*data)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        print(f"{images:>8,} {found:>14.2f} {peak:>10.0f} {looped(*data[:2]):>20.2f}")


if __name__ == "__main__":
    main()
