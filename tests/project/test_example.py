"""The example notebook: it runs from top to bottom, and what it says is so."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOK = ROOT / "examples" / "pneumonia.ipynb"
# The notebook trains for a person who reads it; a test has to see that each of its cells works.
SMALLER = {
    'arch=("MobileNetV2", "DenseNet121"))': 'arch=("MobileNetV2", "VGG16"), image_size=32, epochs=1)',
    "images=200, size=128": "images=90, size=96",
}


def outputs_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in outputs_of(notebook))


def pictures_in(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs_of(notebook))


def make_smaller(notebook: nbformat.NotebookNode) -> None:
    for large, small in SMALLER.items():
        (cell,) = [cell for cell in notebook.cells if large in cell.source]
        cell.source = cell.source.replace(large, small)


def test_the_kept_notebook_shows_its_pictures():
    """A reader who runs nothing sees tables and pictures, no error and no folder of the machine."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert pictures_in(notebook) >= 6
    assert not [output for output in outputs_of(notebook) if output.output_type == "error"]
    text = NOTEBOOK.read_text()
    assert "/tmp/" not in text
    assert str(ROOT) not in text


@pytest.mark.slow
@pytest.mark.timeout(600)
# The kernel's ports are this machine's own.
@pytest.mark.filterwarnings("ignore:.*TCP without encryption")
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """Every cell ends well, every picture is drawn, and every check of `cxr verify` passes.

    With fewer, smaller images, and networks of fewer layers.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    expected = pictures_in(notebook)
    make_smaller(notebook)
    client = NotebookClient(
        notebook,
        timeout=500,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    assert pictures_in(notebook) == expected
    text = text_of(notebook)
    assert "checksums of export/" in text
    assert "FAILED" not in text
    assert (tmp_path / "predictions.csv").is_file()
