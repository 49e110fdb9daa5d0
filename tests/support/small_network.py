"""A network of 8x8 pixels as an ONNX file, what it says of noise, and a scope in its features: no Keras."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from cxr.core.settings import training_settings
from cxr.models.scope import Scope, ScopeReference, read_scope, write_scope
from cxr.models.scope.neighbours import learn_neighbours
from cxr.models.scope.reference import SIGNALS, component_names
from cxr.models.training.records import Training
from cxr.results.evaluation.formats.pipeline import NAME, build_pipeline
from cxr.stats.calibration import Calibration

SIDE = 8
CUT_WIDTH = 40  # of its 64 features
Array = np.ndarray[Any, Any]


def features_of(pixels: Array) -> Array:
    """Return what the network has as features, float32 (n, 64)."""
    features: Array = pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)
    return features


def scores_of(pixels: Array) -> Array:
    """Return its raw scores, float64 (n,)."""
    scores: Array = expit(20 * (features_of(pixels).mean(axis=1, dtype=np.float64) - 0.5))
    return scores


def write_network(path: Path) -> None:
    """Write the network as ONNX."""
    from onnx import TensorProto, checker, helper, save

    def constant(name: str, values: list[float], kind: int) -> Any:
        return helper.make_tensor(name, kind, [len(values)], values)

    nodes = [
        helper.make_node("Reshape", ["pixels", "shape"], ["flat"]),
        helper.make_node("Div", ["flat", "white"], ["features"]),
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["mean", "middle"], ["centred"]),
        helper.make_node("Mul", ["centred", "slope"], ["logit"]),
    ]
    values = [
        constant("shape", [-1, SIDE * SIDE], TensorProto.INT64),
        constant("white", [255.0], TensorProto.FLOAT),
        constant("middle", [0.5], TensorProto.FLOAT),
        constant("slope", [20.0], TensorProto.FLOAT),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", SIDE, SIDE, 1])
    outputs = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", SIDE * SIDE]),
        helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n", 1]),
    ]
    graph = helper.make_graph(nodes, "small", [pixels], outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    checker.check_model(model)
    save(model, str(path))


def noise(images: int, seed: int) -> Array:
    """Return images of noise around their own gray, uint8 (images, 8, 8)."""
    rng = np.random.default_rng(seed)
    gray = rng.uniform(60, 190, (images, 1, 1))
    drawn: Array = (gray + rng.normal(0, 25, (images, SIDE, SIDE))).clip(0, 255).astype(np.uint8)
    return drawn


def write_small_scope(folder: Path, patients: int = 60) -> Scope:
    """Learn a scope from noise, write it to a folder and return it as it is read there."""
    neighbours = learn_neighbours(features_of(noise(80, 1)), CUT_WIDTH)
    images = 2 * patients
    validation = pd.DataFrame(
        {"score": 0.5, "label": np.arange(images) % 2, "patient": np.arange(images) // 2}
    )
    zeros = np.zeros(images)
    measured = dict.fromkeys([*component_names(16), *SIGNALS], zeros)
    measured["features"] = neighbours.distances(features_of(noise(images, 2)))
    reference = ScopeReference(
        model_sha256="ab" * 32,
        train_images=80,
        train_patients=80,
        val_images=images,
        val_patients=patients,
    )
    scope = Scope(reference, validation.assign(**measured), neighbours, np.zeros((16, 16)))
    write_scope(folder, scope)
    read = read_scope(folder)
    assert read is not None  # it was written just now
    return read


def write_pipeline(
    folder: Path,
    training: Training,
    calibration: Calibration,
    scope: ScopeReference | None = None,
) -> None:
    """Write pipeline.json of a training with another calibration and 8x8 pixels."""
    own = training.model_copy(update={"calibration": calibration, "image_size": SIDE})
    build_pipeline("abc", training_settings("demo"), own, scope).write(folder / NAME)
