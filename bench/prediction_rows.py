"""Peak memory of the tables of `cxr predict` by number of images: in the worker that writes them, and where they are read again.

    python -m bench.prediction_rows [n ...; default 10000 200000]

The rows are made up, with 32 measurements each, as of a model with its scope; no image is decoded and no network runs, so what
grows are the tables alone. Each number is that of a process of its own, less what Python has imported. Wanted: at most 1,000
bytes an image in the worker, and 2,500 where verdict and counts are made, so that a million images fit a machine with 4 GB.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np

from cxr.core.files import read_table
from cxr.core.settings import LABEL_NAMES
from cxr.results.cards.model_card import Card
from cxr.serving.prediction.rows import Row, abstain, read_measurements, scored_row, write_tables

MEASUREMENTS = [
    "features",
    *(f"c{number}" for number in range(20)),
    *(f"signal {n}" for n in range(11)),
]
BATCH = 32


def batches(images: int, card: Card) -> Iterator[list[Row]]:
    """Yield the rows of made-up images, one in fifty of which is abstained from."""
    rng = np.random.default_rng(0)
    for start in range(0, images, BATCH):
        numbers = range(start, min(start + BATCH, images))
        yield [make_row(rng, number, card) for number in numbers]


def make_row(rng: np.random.Generator, number: int, card: Card) -> Row:
    """Return the row of one image."""
    values = rng.normal(size=len(MEASUREMENTS))
    row = scored_row(f"2026/ward {number % 30}/film {number:09d}.jpeg", float(rng.random()), card)
    row |= {"scope_p": float(rng.random()), "device": "Agfa DX-D", "day": "2026-03-10"}
    row.update(zip(MEASUREMENTS, values, strict=True))
    return abstain(row, "features far from training: p = 0.003") if number % 50 == 0 else row


def do(what: str, images: int, folder: Path) -> None:
    """Write the tables, or read them again."""
    path = folder / "predictions.csv"
    measured_path = folder / "measured.csv"
    if what == "write":
        # All that the tables take from a card.
        card = cast(Card, SimpleNamespace(labels=LABEL_NAMES, threshold=0.5))
        write_tables(batches(images, card), [], card, path, measured_path, MEASUREMENTS)
    else:
        measured = read_measurements(measured_path)
        assert len(measured) == len(read_table(path)) == images


def measure(what: str, images: int, folder: Path) -> float:
    """Do it in a process of its own; return its peak memory in MB."""
    command = [
        sys.executable,
        "-m",
        "bench.prediction_rows",
        "--do",
        what,
        str(images),
        str(folder),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Print a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, nargs="*", default=[10_000, 200_000])
    given = parser.parse_args()
    print(f"{'images':>8} {'write MB':>9} {'read MB':>8}")
    for images in given.n:
        with tempfile.TemporaryDirectory() as name:
            peaks = [measure(what, images, Path(name)) for what in ("write", "read")]
        print(f"{images:>8} {peaks[0]:>9.0f} {peaks[1]:>8.0f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--do"]:
        do(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main()
