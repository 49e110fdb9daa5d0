"""Convert an exported model to the formats of other runtimes, in a worker process that has Keras.

A format has one graph with two outputs, logit and features, so that a runtime scores a film and judges
its scope in one pass. Gray pixels go in as they are: scaling is a part of the graph. The logit's sigmoid is
left to the reader: that of ONNX Runtime turns scores below 3e-8 into 0, where a threshold may lie.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr.core.errors import DeviceError, ModelError
from cxr.core.files import read_table
from cxr.core.settings import Strict
from cxr.data.images import pixel_cache
from cxr.models.compute import backend
from cxr.models.compute.worker import Emit, Job
from cxr.models.networks.model_surgery import with_fixed_pixels
from cxr.models.scope.opened_model import open_model
from cxr.results.evaluation.formats.records import Precision
from cxr.stats.metrics import Vector

CALIBRATION_IMAGES = 200  # of train, from which the ranges of int8 are read
FAILURES_NAME = "failures.json"  # why a file could not be converted, by its name


class Target(NamedTuple):
    """A file to make.

    Attributes:
        format: Its format.
        precision: Of its weights.
        file: Its name.
    """

    format: str
    precision: Precision
    file: str


TARGETS = (
    Target("onnx", "float32", "model.onnx"),
    Target("litert", "float32", "model.tflite"),
    Target("litert", "float16", "model_float16.tflite"),
    Target("litert", "int8", "model_int8.tflite"),
    Target("savedmodel", "float32", "saved_model"),
)


def targets_of(formats: tuple[str, ...]) -> list[Target]:
    """Return the files of formats, in the order of TARGETS."""
    return [target for target in TARGETS if target.format in formats]


def require_converters(formats: tuple[str, ...]) -> None:
    """Raise an error if formats cannot be converted to here, before anything is trained.

    Raises:
        ModelError: A package is not installed.
        DeviceError: Keras runs on another backend than TensorFlow, which converters read.
    """
    import importlib.util

    needed = {"onnx": ("onnx", "tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}
    packages = [name for format_ in formats for name in needed.get(format_, ())]
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"--format {' '.join(formats)}: expected {', '.join(missing)}, found it not installed: "
            "`pip install 'cxr-pipeline[formats]'`, or leave the format out"
        )
    if targets_of(formats) and backend.backend_name() != "tensorflow":
        raise DeviceError(
            f"--format {' '.join(formats)}: expected the backend tensorflow, found "
            f"{backend.backend_name()}: unset KERAS_BACKEND for `cxr export`; a model that was "
            "trained with either is read by both"
        )


class Failures(Strict):
    """Why files could not be converted.

    Attributes:
        reasons: By the name of the file.
    """

    reasons: dict[str, str]


class ConversionJob(Job):
    """Convert an exported model.

    Attributes:
        export: The export folder.
        side: The image size.
        files: The names of the files to make, of TARGETS.
        manifest: clean_metadata.csv.
        pixels: The folder of the pixel cache.
        folder: Where the files go.
    """

    export: Path
    side: int
    files: tuple[str, ...]
    manifest: Path
    pixels: Path
    folder: Path

    def work(self, emit: Emit) -> None:  # noqa: ARG002 - the converters tell no progress
        """Write each file, and the failures of those that a converter refuses."""
        import keras

        opened = open_model(keras.models.load_model(self.export / "model.keras"))
        fixed = with_fixed_pixels(opened.model, self.side)
        fixed.get_layer("score").activation = keras.activations.linear
        features, logit = fixed.outputs
        network = keras.Model(
            fixed.inputs[0], {"features": features, "logit": logit}, name="network"
        )
        network(np.zeros((1, self.side, self.side, 1), np.float32))  # an export wants a called one
        reasons = {}
        for target in TARGETS:
            if target.file not in self.files:
                continue
            try:
                self._convert(network, target)
            except Exception as error:  # noqa: BLE001 - converters raise anything; the reason is kept
                lines = str(error).strip().splitlines() or [""]
                reasons[target.file] = f"{type(error).__name__}: {lines[0][:200]}"
        failures = Failures(reasons=reasons)
        (self.folder / FAILURES_NAME).write_text(failures.model_dump_json())

    def _convert(self, network: Any, target: Target) -> None:
        """Write one file."""
        path = self.folder / target.file
        if target.format == "onnx":
            network.export(path, format="onnx", verbose=False)
        elif target.format == "savedmodel":
            network.export(path, format="tf_saved_model", verbose=False)
        else:
            path.write_bytes(_to_litert(network, self.folder, target.precision, self._train_images))

    def _train_images(self) -> Iterator[list[Vector]]:
        """Yield some images of train, evenly spread, each as a batch of one."""
        table = read_table(self.manifest)
        train = table[table["split"] == "train"]
        places = np.linspace(0, len(train) - 1, min(len(train), CALIBRATION_IMAGES)).round()
        rows = train.iloc[places.astype(int)]
        images = pixel_cache.load_pixels(self.pixels, rows)
        for number in range(len(rows)):
            yield [images[[number]][..., np.newaxis].astype(np.float32)]


def _to_litert(
    network: Any,
    folder: Path,
    precision: Precision,
    train_images: Callable[[], Iterator[list[Vector]]],
) -> bytes:
    """Return a network as a LiteRT file that takes one image at a time.

    Args:
        network: Pixels to features and logit.
        folder: Where its graph for one image is kept meanwhile.
        precision: Of the weights; float16 computes in float32, int8 in whole numbers.
        train_images: What the ranges of int8 are read from.
    """
    import keras
    import tensorflow

    graph = folder / "graph_of_one"
    if not graph.is_dir():
        one = keras.InputSpec(shape=(1, *network.input.shape[1:]), dtype="float32", name="pixels")
        network.export(graph, format="tf_saved_model", verbose=False, input_signature=[one])
    converter = tensorflow.lite.TFLiteConverter.from_saved_model(str(graph))
    if precision != "float32":
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tensorflow.float16]
    if precision == "int8":
        converter.representative_dataset = train_images
    converted: bytes = converter.convert()
    return converted
