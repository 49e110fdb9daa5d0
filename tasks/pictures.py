"""Pictures inside markdown artifacts: an image artifact would print its whole data address as text."""

import base64
from pathlib import Path

TITLES = {
    "modes": "How pixels are stored",
    "pairs": "Near copies",
    "roc_val": "ROC on validation",
    "roc_test": "ROC on test",
    "precision_recall_test": "Precision and recall on test",
    "scores_test": "Scores on test",
    "gradcam": "Where the model looks (Grad-CAM)",
    "histories": "Training histories",
}


def markdown(path: Path) -> str:
    """Return markdown that shows a PNG under a heading; the bytes are inside it."""
    data = base64.b64encode(path.read_bytes()).decode()
    title = TITLES.get(path.stem, path.stem.replace("_", " ").capitalize())
    return f"## {title}\n\n![{title}](data:image/png;base64,{data})"
