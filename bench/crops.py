"""Cheaper variety than views: random crops of a larger feature map, with and without views beside them.

    python -m bench.crops WORK [--weights DIR] [--flags "--train-fraction 0.3"]

WORK was preprocessed (`cxr preprocess DATA --out WORK`). Each train image gets a black border of 16 pixels, one cell of the map at
MobileNetV2's cut, before it goes through the network, once; fine-tuning learns from a crop of the map that
leaves out two rows and two columns of cells, drawn anew in each epoch, and the last layer from one crop. The rows to compare with are those of
`bench.quality --ablate`: "no views" and "standard". Validation figures, two seeds.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from bench.quality import NAME, WORLDS, figures, shown, trained
from cxr.core.parallel import usable_cores
from cxr.data import splits
from cxr.models import architectures, runs
from cxr.models.compute import worker
from cxr.models.compute.worker import Emit
from cxr.models.features import features
from cxr.models.training.trainer import TrainingJob
from cxr.storage.arrays import Rows, Stored

BORDER = 16  # pixels: one cell at the cut
Array = np.ndarray[Any, Any]


class Bordered:
    """Pixels (n, side, side) with a black border."""

    def __init__(self, pixels: Rows):
        self.pixels, self.name = pixels, f"{pixels.name} with a border of {BORDER}"

    def __getitem__(self, at: Any) -> Array:
        around = (BORDER, BORDER)
        return np.pad(self.pixels[at], ((0, 0), around, around))


class Crops:
    """Activations (n, h, w, c) of which each access gets crops two rows and columns smaller, drawn anew."""

    def __init__(self, rows: Stored, name: str, seed: int):
        self.rows, self.name, self.dtype, self.rng = (
            rows,
            f"{name} cropped",
            rows.dtype,
            np.random.default_rng(seed),
        )
        count, height, width, channels = rows.shape
        self.shape = (count, height - 2, width - 2, channels)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> Array:
        whole, (_, height, width, _) = self.rows[at], self.shape
        corners = self.rng.integers(0, 3, (len(whole), 2))
        return np.stack(
            [one[y : y + height, x : x + width] for one, (y, x) in zip(whole, corners, strict=True)]
        )


class CropsJob(TrainingJob):
    """Train as ever, but for what train's rows at the cut are."""

    def work(self, emit: Emit) -> None:
        """Train on the crops."""
        with mock.patch.object(features, "cut_features", _cropping(features.cut_features)):
            super().work(emit)


def _cropping(at_cut: Callable[..., Rows]) -> Callable[..., Rows | Crops]:
    """Return what stands in for `at_cut`: it gives train's images crops of their activations."""

    def cropped(
        source: Any, positions: Array, views: Array, policy: str, dtype: str, *rest: Any
    ) -> Rows | Crops:
        if dtype == "float32":  # validation
            return at_cut(source, positions, views, policy, dtype, *rest)
        settings = source.settings.model_copy(
            update={"image_size": source.settings.image_size + 2 * BORDER}
        )
        model = architectures.build_model(NAME, settings, None)
        model.set_weights(source.model.get_weights())
        pixels: Any = Bordered(source.pixels)
        larger = features.Source(source.root, NAME, settings, pixels, source.keys, model)
        rows = at_cut(larger, positions, views, policy, dtype, *rest)
        return Crops(rows, f"{rows.name} {settings.seed}", settings.seed)

    return cropped


def compare() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--flags", default="", help="more flags of `cxr train`, for all")
    given = parser.parse_args()
    below: dict[str, Array] = {}
    print(
        f"{'validation, 2 seeds':28}"
        + "".join(f"{world:>19}" for world in WORLDS)
        + f"{'minutes':>9}"
    )
    for name, flags in {"crops": ["--views", "0"], "crops and 2 views": []}.items():
        run = trained(given.work, given.weights, [*flags, *given.flags.split()], 2)
        cache = next(each for each in (given.work / "cache").glob("pixels-*"))
        folder = run.folder(given.work) / "crops"
        shutil.rmtree(
            folder, ignore_errors=True
        )  # a training that is there already is not done again
        weight_of = splits.class_weights(runs.read_ingest(given.work).splits["train"])
        for member in run.members():
            weights, digest = run.weights[NAME]
            job = CropsJob(
                name=member.name,
                architecture=NAME,
                folder=folder / member.name,
                pixels=cache,
                settings=run.settings.model_copy(update={"seed": member.seed}),
                weights=weights,
                weights_sha256=digest,
                manifest=given.work / "clean_metadata.csv",
                class_weights={str(label): weight for label, weight in weight_of.items()},
            )
            worker.run_job(job, folder / f"{member.name}.log", usable_cores())
        print(shown(name, figures(given.work, run, "val", below, folder)), flush=True)


if __name__ == "__main__":
    # The module as children import it: in `__main__` they would not find the job.
    from bench import crops  # noqa: PLW0406

    crops.compare()
