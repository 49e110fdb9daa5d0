"""Pictures on Markdown pages: an image artifact would print its whole data address as text."""

import base64
from pathlib import Path

TITLES = {
    "modes": "How pixels are stored",
    "pairs": "Near-duplicates",
    "roc_val": "ROC on validation",
    "roc_test": "ROC on test",
    "precision_recall_test": "Precision and recall on test",
    "scores_test": "Scores on test",
    "gradcam": "Where the model looks (Grad-CAM)",
    "stress": "Sensitivity and specificity in the stress worlds",
    "worlds": "The stress worlds",
    "masks": "What the network saw with parts hidden",
    "risk_coverage": "Where the model does not answer",
    "referred": "Test images that are referred to a person",
    "histories": "Training histories",
}


def to_markdown(path: Path, level: int = 2) -> str:
    """Return Markdown that shows a PNG under a heading, with its bytes inside.

    Args:
        path: The PNG.
        level: Of the heading.
    """
    data = base64.b64encode(path.read_bytes()).decode()
    title = TITLES.get(path.stem, path.stem.replace("_", " ").capitalize())
    return f"{'#' * level} {title}\n\n![{title}](data:image/png;base64,{data})"
