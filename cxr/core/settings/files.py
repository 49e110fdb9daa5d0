"""Which files are looked at, and how folders are read as splits and classes."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cxr.core.settings.base import LABEL_NAMES, Strict

ImageSize = Annotated[
    int, Field(ge=32, le=1024, description="Side of the square images, in pixels.")
]
Harmonise = Annotated[
    bool,
    Field(
        description="Give every image the same last JPEG encoding, so that its file cannot give the label away."
    ),
]


def parse_split(item: str) -> tuple[str, str]:
    """Return (pattern, split) of one `--splits` item; "" for none.

    Raises:
        ValueError: The item is not FOLDER=train, val, test or none.
    """
    pattern, _, split = item.rpartition("=")
    split = split.strip().lower()
    if not pattern.strip("/ ") or split not in {"train", "val", "test", "none"}:
        raise ValueError(
            f"expected FOLDER=train, val, test or none, as in holdout=test, found {item!r}"
        )
    return pattern.strip().rstrip("/"), "" if split == "none" else split


def parse_class(item: str) -> tuple[str, list[str]]:
    """Return (class name, spellings) of one `--classes` item.

    Raises:
        ValueError: The item is not NORMAL=… or PNEUMONIA=… with at least one spelling.
    """
    name, _, spellings = item.partition("=")
    words = [word.strip() for word in spellings.split(",") if word.strip()]
    if name.strip().upper() not in LABEL_NAMES or not words:
        raise ValueError(f"expected NORMAL=a,b or PNEUMONIA=c,d, found {item!r}")
    return name.strip().upper(), words


class FileSettings(Strict):
    """Which files are looked at, and what a picture must be to count as a film. One rule for training and prediction."""

    exclude: tuple[str, ...] = Field(
        (),
        description="Leave out what fits this pattern: a folder's or file's name (COVID, *.bmp), or a path from the "
        "top (train/COVID). May be given several times.",
    )
    follow_links: bool = Field(
        False,
        description="Follow symbolic links out of the folder, for data sets that are made of links.",
    )
    backslash_folders: bool = Field(
        False,
        description="Read a backslash in a file name as a folder: archives from Windows unpack to names like "
        "train\\NORMAL\\a.jpeg.",
    )
    bit_depth: int | None = Field(
        None,
        ge=9,
        le=16,
        description="Bits in use in 16-bit gray PNG and TIFF files (12 for most detectors): white is 2^N - 1. "
        "Without it such files are rejected, because the scale cannot be known.",
    )
    min_side: int = Field(
        28, ge=1, description="Reject pictures whose shorter side has fewer pixels (too_small)."
    )
    max_aspect: float = Field(
        5.0,
        gt=1,
        description="Reject pictures whose longer side is more than so many times the shorter (extreme_shape).",
    )
    min_contrast: float = Field(
        2.0,
        ge=0,
        description="Reject pictures whose gray values have a smaller standard deviation, of 255 (flat).",
    )


class ReadingSettings(FileSettings):
    """How DATA is read: which folder is which split and class, and what is left out."""

    splits: tuple[str, ...] = Field(
        (),
        description="What other split folders mean: holdout2024=test. FOLDER=none: the name means neither a split nor "
        "masks. A name, or a path from the top (/NORMAL is the folder NORMAL at the top).",
    )
    classes: tuple[str, ...] = Field(
        (),
        description="What other class folders mean: NORMAL=healthy,no_finding PNEUMONIA=bacteria,virus.",
    )
    negatives: Literal["report", "reject", "invert"] = Field(
        "report",
        description="Negatives of films (bright surround): report them, and stop where more than 5 % of a folder are; "
        "reject them; or invert them.",
    )

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        meant: dict[str, str] = {}
        for item in items:
            folder, split = parse_split(item)
            if meant.setdefault(folder.lower(), split) != split:
                raise ValueError(f"expected one split for each folder, found two for {folder!r}")
        return items

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        meant: dict[str, str] = {name.lower(): name for name in LABEL_NAMES}
        for item in items:
            name, spellings = parse_class(item)
            for word in spellings:
                if meant.setdefault(word.lower(), name) != name:
                    raise ValueError(
                        f"expected one class for each folder name, found two for {word!r}"
                    )
        return items


class PixelSettings(Strict):
    """The pixels that are kept of each image, for all that looks at images after inspection."""

    image_size: ImageSize = 224
    harmonise: Harmonise = True
