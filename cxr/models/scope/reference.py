"""The scope of an exported model in its files: scope.json and scope.npz, without any image or name.

scope.npz holds arrays alone and is read without trust (`allow_pickle=False`).
"""

import io
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.errors import DataError, ModelError
from cxr.core.files import atomic_write
from cxr.core.records import Versioned
from cxr.models.scope.neighbours import Neighbours
from cxr.models.scope.properties import PROPERTIES, measure_properties
from cxr.models.scope.verdicts import Judgement, judge_images
from cxr.stats.metrics import Vector

NAME = "scope.json"
ARRAYS_NAME = "scope.npz"
SIGNALS = ("features", *PROPERTIES)
COMPONENTS = 16  # that measurements keep, of those of the pooled features
METHOD = (
    "distance to the 5th nearest train image, in the statistics of the channels at the cut and in "
    "the pooled features; conformal p-value among validation patients"
)
_HALF = ("cut", "pooled", "directions")  # arrays of Neighbours that are kept as float16


class ScopeReference(Versioned):
    """scope.json: what the scope of a model was learned from, and what it costs.

    Attributes:
        model_sha256: The digest of the model's file.
        method: How an image is judged, in words.
        signals: What is measured of an image beside the components: its distance, its properties.
        components: How many components of the pooled features measurements keep.
        train_images: How many images of train the reference holds, each as it is and changed.
        train_patients: Of how many patients.
        val_images: How many validation images p-values count.
        val_patients: Of how many patients: the units.
        arrays_sha256: The digest of scope.npz.
        arrays_bytes: Its size.
        seconds: What learning took.
        milliseconds: What measuring takes an image, beside the network.
    """

    model_sha256: str
    method: str = METHOD
    signals: tuple[str, ...] = SIGNALS
    components: int = COMPONENTS
    train_images: int
    train_patients: int
    val_images: int
    val_patients: int
    arrays_sha256: str = ""
    arrays_bytes: int = 0
    seconds: float = 0.0
    milliseconds: float = 0.0


@dataclass(frozen=True)
class Scope:
    """What a model was made for.

    Attributes:
        reference: What it was learned from.
        validation: A row for each validation image: score (calibrated), label, patient (a number),
            c0, c1, … (components), then the signals.
        neighbours: The images of train in features.
        film: The typical film, float64 (16, 16).
    """

    reference: ScopeReference
    validation: pd.DataFrame
    neighbours: Neighbours
    film: Vector

    def measure(self, features: Vector, pixels: Vector) -> pd.DataFrame:
        """Measure images.

        Args:
            features: float32 (n, d), as the opened model gives them.
            pixels: uint8 (n, side, side).

        Returns:
            A row for each image: c0, c1, …, then the signals.
        """
        return measure_images(self.neighbours, self.film, features, pixels)

    def judge(self, measured: pd.DataFrame, rate: float) -> list[Judgement]:
        """Judge measured images.

        Args:
            measured: What `measure` returned.
            rate: The share of images like those of training that may be called out of scope.
        """
        return judge_images(measured, self.validation, rate)


def measure_images(
    neighbours: Neighbours,
    film: Vector,
    features: Vector,
    pixels: Vector,
) -> pd.DataFrame:
    """Measure images against a reference; see `Scope.measure`."""
    components = neighbours.components(features)[:, :COMPONENTS]
    table = pd.DataFrame(components, columns=component_names(components.shape[1]))
    table["features"] = neighbours.distances(features)
    return pd.concat([table, measure_properties(pixels, film)], axis=1)


def component_names(count: int) -> list[str]:
    """Return the columns of the components.

    >>> component_names(2)
    ['c0', 'c1']
    """
    return [f"c{number}" for number in range(count)]


def write_scope(folder: Path, scope: Scope) -> ScopeReference:
    """Write scope.npz, then scope.json.

    Args:
        folder: The export folder.
        scope: What to write; the digest and the size are filled in.

    Returns:
        The record that was written.
    """
    kept = {
        field.name: getattr(scope.neighbours, field.name).astype(
            np.float16 if field.name in _HALF else np.float32
        )
        for field in fields(Neighbours)
    }
    validation = scope.validation
    components = component_names(scope.reference.components)
    arrays = kept | {
        "film": scope.film.astype(np.float32),
        "val_scores": validation["score"].to_numpy(np.float32),
        "val_labels": validation["label"].to_numpy(np.int8),
        "val_patients": validation["patient"].to_numpy(np.int32),
        "val_components": validation[components].to_numpy(np.float32),
        "val_signals": validation[list(scope.reference.signals)].to_numpy(np.float32),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    data = buffer.getvalue()
    with atomic_write(folder / ARRAYS_NAME) as temporary:
        temporary.write_bytes(data)
    written = scope.reference.model_copy(
        update={"arrays_sha256": sha256(data).hexdigest(), "arrays_bytes": len(data)}
    )
    return written.write(folder / NAME)


def read_scope(folder: Path) -> Scope | None:
    """Return the scope of an exported model, None where it was exported without one.

    Args:
        folder: The export folder.

    Raises:
        ModelError: One of both files is missing or damaged, or they do not belong together.
    """
    path = folder / NAME
    arrays_path = folder / ARRAYS_NAME
    if not path.is_file() and not arrays_path.is_file():
        return None
    try:
        reference = ScopeReference.read(path)
        data = arrays_path.read_bytes()
    except (DataError, OSError) as error:
        raise ModelError(f"{folder}: its scope cannot be read ({error}): export again") from error
    if sha256(data).hexdigest() != reference.arrays_sha256:
        raise ModelError(
            f"{arrays_path}: not the file that {NAME} describes (SHA-256 differs): export again"
        )
    try:
        return _load_scope(reference, data)
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{arrays_path}: not as this version of cxr writes it ({error}): export again"
        ) from error


def _load_scope(reference: ScopeReference, data: bytes) -> Scope:
    """Return the scope in the bytes of scope.npz."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        learned = {
            field.name: arrays[field.name].astype(np.float32) for field in fields(Neighbours)
        }
        validation = pd.DataFrame(
            arrays["val_components"], columns=component_names(reference.components)
        )
        validation.insert(0, "score", arrays["val_scores"])
        validation.insert(1, "label", arrays["val_labels"])
        validation.insert(2, "patient", arrays["val_patients"])
        signals = pd.DataFrame(arrays["val_signals"], columns=list(reference.signals))
        film = arrays["film"].astype(np.float64)
    table = pd.concat([validation, signals], axis=1)
    return Scope(reference, table, Neighbours(**learned), film)
