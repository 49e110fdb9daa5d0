"""Pictures inside markdown artifacts: an image artifact would print its whole data address as text."""

import base64
from pathlib import Path


def markdown(path: Path) -> str:
    """Return markdown that shows a PNG under a heading made from its name; the bytes are inside it."""
    data = base64.b64encode(path.read_bytes()).decode()
    title = path.stem.replace("_", " ").capitalize()
    return f"## {title}\n\n![{title}](data:image/png;base64,{data})"
