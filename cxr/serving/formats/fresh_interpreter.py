"""Run reader.py over pixels and films in an interpreter in which nothing else can be imported.

    python -I fresh_interpreter.py ORDER.json

It is a script that imports nothing of this project: the order names what may not be imported, and an
import of it fails, now or later. What was answered goes into the file that the order names.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


def refuse(packages: Sequence[str]) -> None:
    """Let every import of these packages fail, as if they were not installed."""
    for name in packages:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own sign for "not importable"


def load_reader(folder: Path) -> ModuleType:
    """Return reader.py of a folder as a module."""
    spec = importlib.util.spec_from_file_location("reader", folder / "reader.py")
    assert spec and spec.loader  # it ends with .py
    module = importlib.util.module_from_spec(spec)
    sys.modules["reader"] = module
    spec.loader.exec_module(module)
    return module


def load_saved_model(folder: Path) -> Any:
    """Return a SavedModel as reader.py wants a network: pixels to the arrays of its outputs."""
    import tensorflow

    loaded = tensorflow.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]

    def network(pixels: Any) -> dict[str, Any]:
        outputs = serve(pixels=tensorflow.constant(pixels))
        # The loaded object has the variables: it has to live as long as this function.
        assert loaded is not None
        return {name: value.numpy() for name, value in outputs.items()}

    return network


def answer(order: dict[str, Any]) -> dict[str, Any]:
    """Return the answers to the pixels of an order, and what reader.py makes of its films."""
    folder = Path(order["folder"])
    reading = load_reader(folder)
    import numpy as np

    network = None
    if order["file"] == "saved_model":
        network = load_saved_model(folder / order["file"])
    reader = reading.Reader(folder / order["file"], network)
    images = np.load(order["pixels"], mmap_mode="r")
    reader.answer(images[0])  # the first call of a runtime takes longer
    answers = []
    seconds = []
    for image in images:
        started = time.perf_counter()
        answers.append(reader.answer(image))
        seconds.append(time.perf_counter() - started)
    digests = []
    for film in order["films"]:
        pixels = reading.read_pixels(Path(film), reader.pipeline["pixels"])
        digests.append(hashlib.sha256(pixels.tobytes()).hexdigest())
    return {
        "raw_score": [each.raw for each in answers],
        "score": [each.score for each in answers],
        "status": [each.status for each in answers],
        "milliseconds": 1000 * statistics.median(seconds),
        "films": digests,
        "runtime": f"{order['runtime']} {importlib.metadata.version(order['runtime'])}",
    }


def main(path: str) -> None:
    """Do what an order says; the exit status is 1 where something refused was there all the same."""
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    refuse(order["refused"])
    answers = answer(order)
    imported = [name for name in order["refused"] if sys.modules.get(name) is not None]
    if imported:
        sys.exit(f"imported all the same: {', '.join(imported)}")
    Path(order["answers"]).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
