"""Pictures inside the page, so that the report is one file."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_WIDE = 1.25  # width by height


@dataclass(frozen=True)
class Picture:
    """A PNG file inside the page.

    Attributes:
        name: Its file name without suffix.
        caption: What it shows.
        uri: Its bytes as a data URI.
        width: In pixels.
        height: In pixels.
    """

    name: str
    caption: str
    uri: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Whether the picture takes the whole width of the page rather than half of it."""
        return self.width > _WIDE * self.height


def embed_sections(
    folder: Path,
    captions: Mapping[str, Mapping[str, str]],
) -> dict[str, list[Picture]]:
    """Return the pictures of each section that are in a folder; missing ones are left out.

    Args:
        folder: Of the PNG files.
        captions: By section, the captions of its pictures by file name without suffix.
    """
    sections = {}
    for section, captions_by_name in captions.items():
        pictures = []
        for name, caption in captions_by_name.items():
            path = folder / f"{name}.png"
            if path.is_file():
                pictures.append(_embed(path, caption))
        sections[section] = pictures
    return sections


def _embed(path: Path, caption: str) -> Picture:
    """Return a PNG file for the page."""
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return Picture(
        name=path.stem,
        caption=caption,
        uri=f"data:image/png;base64,{content}",
        width=width,
        height=height,
    )
