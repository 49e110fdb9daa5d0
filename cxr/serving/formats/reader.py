"""Score chest films with an exported network: the whole decision, without cxr, Keras or TensorFlow.

    python reader.py model.onnx film.jpeg ...      needs numpy, Pillow and onnxruntime
    python reader.py model.tflite film.jpeg ...    needs numpy, Pillow and ai-edge-litert

It prints image, score, prediction and status as CSV. pipeline.json, and scope.npz where the model
knows its scope, lie beside the network. Films are files of 8 bits a channel (JPEG, PNG, BMP, TIFF, WebP).
"""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

Array = np.ndarray[Any, Any]
Network = Callable[[Array], dict[str, Array]]  # pixels to "features" and "logit"
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # of Pillow: 8 bits a channel, gray or colour
TINY = 1e-6


class Answer(NamedTuple):
    """What the network says of a film; score is calibrated, prediction empty unless scored."""

    raw: float
    score: float
    prediction: str
    status: str


class Reader:
    """A network with what decides beside it."""

    def __init__(self, file: Path, network: Network | None = None):
        self.network = network or load_network(file)
        self.pipeline = json.loads((file.parent / "pipeline.json").read_text(encoding="utf-8"))
        self.scope: dict[str, Array] = {}
        if self.pipeline["scope"]:
            with np.load(file.parent / self.pipeline["scope"]["arrays"]) as arrays:
                self.scope = {name: arrays[name] for name in arrays.files}

    def answer(self, pixels: Array) -> Answer:
        """Return what the network says of pixels, uint8 (side, side)."""
        outputs = self.network(pixels[np.newaxis, :, :, np.newaxis].astype(np.float32))
        raw = sigmoid(outputs["logit"][0, 0], 88)  # in float32, as the network is trained
        score = calibrate(raw, self.pipeline["calibration"])
        if self.scope and is_out_of_scope(
            outputs["features"][0], self.scope, self.pipeline["scope"]
        ):
            return Answer(raw, score, "", "abstained")
        label = self.pipeline["labels"][int(score >= self.pipeline["threshold"])]
        return Answer(raw, score, label, "scored")


def load_network(file: Path) -> Network:
    """Return a network that runs in the runtime of its file."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = ["features", "logit"]
        return lambda pixels: dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))
    if file.suffix != ".tflite":
        raise ValueError(f"{file}: expected a file ending with .onnx or .tflite")
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner()
    return lambda pixels: dict(runner(pixels=pixels))


def read_pixels(file: Path, contract: dict[str, Any]) -> Array:
    """Return what the network sees of a film, uint8 (side, side); ValueError if it is none."""
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode not in MODES:
        raise ValueError(f"{image.mode}: expected 8 bits a channel, gray or colour")
    has_alpha = "A" in image.mode or "transparency" in image.info
    if has_alpha and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise ValueError("transparent pixels: expected none")
    gray = image if image.mode == "L" else image.convert("RGB").convert("L")
    shorter, longer = sorted(gray.size)
    if shorter < contract["min_side"] or longer > contract["max_aspect"] * shorter:
        raise ValueError(f"{gray.width}x{gray.height} pixels: too small, or no shape of a film")
    if np.asarray(gray).std() < contract["min_contrast"]:
        raise ValueError("hardly any contrast")
    size = (contract["side"], contract["side"])
    resized = gray.resize(size, Image.Resampling.BILINEAR, reducing_gap=contract["reducing_gap"])
    if contract["jpeg_quality"] is None:
        return np.asarray(resized)
    encoded = io.BytesIO()
    resized.save(encoded, "JPEG", quality=contract["jpeg_quality"])
    return np.asarray(Image.open(encoded))


def calibrate(raw: float, contract: dict[str, Any]) -> float:
    """Return the calibrated score of a raw one."""
    if contract["method"] == "none":
        return raw
    if contract["method"] == "isotonic":
        return float(np.interp(raw, contract["x"], contract["y"]))
    clipped = np.clip(raw, contract["clip"], 1 - contract["clip"])
    logit = np.log(clipped) - np.log1p(-clipped)
    return sigmoid(logit / contract["temperature"] + contract["intercept"])


def sigmoid(logit: Any, largest: float = 700) -> float:
    """Return 1 / (1 + exp(-logit)) in the precision of the logit, whose exponential ends at `largest`."""
    return float(1 / (1 + np.exp(min(-logit, largest))))


def is_out_of_scope(features: Array, scope: dict[str, Array], contract: dict[str, Any]) -> bool:
    """Return whether a film lies too far from those of train: a conformal p-value by patient."""
    distance = find_distance(features, scope, contract["neighbour"])
    reference = scope["val_signals"][:, contract["signal"]]
    _, numbers, images = np.unique(scope["val_patients"], return_inverse=True, return_counts=True)
    smallest = 1 / (len(images) + 1)
    if 0 < contract["rate"] < smallest:  # too few patients for this rate
        is_far = distance > reference.max() + np.ptp(reference)
        return bool(is_far and len(images) >= contract["fewest_patients"])
    p = smallest * (1 + (1 / images[numbers])[reference >= distance].sum())
    return bool(p <= contract["rate"])


def find_distance(features: Array, scope: dict[str, Array], neighbour: int) -> float:
    """Return the mean of two distances to the films of train, each with mean 0 and deviation 1."""
    width = len(scope["cut_mean"])
    at_cut = (features[:width] - scope["cut_mean"]) / scope["cut_scale"]
    pooled = features[width:] / max(np.linalg.norm(features[width:]), TINY)
    pooled = (pooled - scope["pooled_mean"]) @ scope["directions"].astype(np.float32)
    distances = [
        log_distance(at_cut, scope["cut"].astype(np.float32), neighbour),
        log_distance(pooled, scope["pooled"].astype(np.float32), neighbour),
    ]
    return float(np.mean((np.array(distances) - scope["balance"][:, 0]) / scope["balance"][:, 1]))


def log_distance(row: Array, reference: Array, neighbour: int) -> float:
    """Return the logarithm of the distance of a row to its k-th nearest of a reference."""
    squares = (row**2).sum() + (reference**2).sum(axis=1) - 2 * reference @ row
    place = min(neighbour, len(squares)) - 1
    return float(np.log(max(np.partition(squares, place)[place], TINY)) / 2)


def main(network: str, *films: str) -> None:
    """Print a row for each film."""
    reader = Reader(Path(network))
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["image", "score", "prediction", "status"])
    for film in films:
        try:
            answer = reader.answer(read_pixels(Path(film), reader.pipeline["pixels"]))
        except (OSError, ValueError) as error:
            table.writerow([film, "nan", "", f"rejected: {error}"])
        else:
            table.writerow([film, answer.score, answer.prediction, answer.status])


if __name__ == "__main__":
    main(*sys.argv[1:])
