"""Which files are read, and how folders are read as splits and classes."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cxr.core.settings.base import LABEL_NAMES, Strict
from cxr.core.settings.labels import LabelSettings

ImageSize = Annotated[
    int, Field(ge=32, le=1024, description="Side of the square images, in pixels.")
]
Harmonise = Annotated[
    bool,
    Field(
        description="Encode every image with the same last JPEG compression, so that traces of its "
        "file's compression cannot give the class away."
    ),
]


def parse_split(item: str) -> tuple[str, str]:
    """Return (pattern, split) of one `--splits` item.

    Args:
        item: FOLDER=train, val, test or none.

    Returns:
        The pattern without slashes at its end, and the split; an empty text for none.

    Raises:
        ValueError: The item is not of this form.
    """
    pattern, _, split = item.rpartition("=")
    split = split.strip().lower()
    if not pattern.strip("/ ") or split not in {"train", "val", "test", "none"}:
        raise ValueError(
            f"expected FOLDER=train, val, test or none, as in holdout=test, found {item!r}"
        )
    pattern = pattern.strip().rstrip("/")
    return pattern, "" if split == "none" else split


def parse_class(item: str) -> tuple[str, list[str]]:
    """Return (class name, spellings) of one `--classes` item.

    Args:
        item: NORMAL=… or PNEUMONIA=… with spellings between commas.

    Raises:
        ValueError: The item is not of this form, or has no spelling.
    """
    name, _, spellings = item.partition("=")
    name = name.strip().upper()
    words = [word.strip() for word in spellings.split(",") if word.strip()]
    if name not in LABEL_NAMES or not words:
        raise ValueError(f"expected NORMAL=a,b or PNEUMONIA=c,d, found {item!r}")
    return name, words


class FileSettings(Strict):
    """Which files are read, and what an image must be to be accepted as an X-ray.

    Training and prediction use the same rules.
    """

    exclude: tuple[str, ...] = Field(
        (),
        description="Leave out files and folders that match this pattern: a name (COVID, *.bmp), "
        "or a path from the top folder (train/COVID). Several can be given.",
    )
    follow_links: bool = Field(
        False,
        description="Follow symbolic links that lead out of the folder, for datasets made of "
        "links.",
    )
    backslash_folders: bool = Field(
        False,
        description="Read a backslash in a file name as a folder: some archives made on Windows "
        "unpack to names like train\\NORMAL\\a.jpeg.",
    )
    bit_depth: int | None = Field(
        None,
        ge=9,
        le=16,
        description="Bits in use in 16-bit gray PNG and TIFF files (12 for most detectors): white "
        "is 2^N - 1. If not given, such files are rejected, because their scale is unknown.",
    )
    min_side: int = Field(
        28,
        ge=1,
        description="Reject images whose shorter side has fewer pixels (reason too_small).",
    )
    max_aspect: float = Field(
        5.0,
        gt=1,
        description="Reject images whose longer side is more than this many times the shorter one "
        "(reason extreme_shape).",
    )
    min_contrast: float = Field(
        2.0,
        ge=0,
        description="Reject images whose gray values, 0 to 255, have a smaller standard deviation "
        "(reason flat).",
    )
    views: tuple[str, ...] = Field(
        ("PA", "AP"),
        min_length=1,
        description="The views (DICOM ViewPosition, or a label table's view) that are used; films "
        "of another view are set aside (reason other_view), those of an unknown one are kept.",
    )
    window: str = Field(
        "",
        description="The name of the window (DICOM WindowCenterWidthExplanation) by which a film "
        "of several windows is shown; the first one if not given.",
    )

    @field_validator("views", mode="before")
    @classmethod
    def _split_views(cls, views: object) -> object:
        """Take PA,AP in one word, too, and write views in capitals."""
        items = views if isinstance(views, list | tuple) else [views]
        words = [word.strip().upper() for item in items for word in str(item).split(",")]
        return tuple(word for word in words if word)


class ReadingSettings(FileSettings, LabelSettings):
    """How DATA is read: which folder is which split and class, and what is left out."""

    splits: tuple[str, ...] = Field(
        (),
        description="Which split a folder is, where its name does not say so: holdout2024=test "
        "(train, val or test). FOLDER=none: it is neither a split nor a folder of masks. FOLDER is "
        "a name, or a path from the top folder (/NORMAL is the folder NORMAL at the top).",
    )
    classes: tuple[str, ...] = Field(
        (),
        description="Which class other folder names are: NORMAL=healthy,no_finding "
        "PNEUMONIA=bacteria,virus.",
    )
    negatives: Literal["report", "reject", "invert"] = Field(
        "report",
        description="What to do with film negatives (bright background): report them, and stop if "
        "more than 5 % of a folder are negatives; reject them; or invert them.",
    )

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse two splits for one folder, whose name is matched without regard to case."""
        split_by_folder: dict[str, str] = {}
        for item in items:
            folder, split = parse_split(item)
            if split_by_folder.setdefault(folder.lower(), split) != split:
                raise ValueError(f"expected one split for each folder, found two for {folder!r}")
        return items

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse two classes for one folder name, which is matched without regard to case."""
        class_by_folder: dict[str, str] = {name.lower(): name for name in LABEL_NAMES}
        for item in items:
            name, spellings = parse_class(item)
            for spelling in spellings:
                if class_by_folder.setdefault(spelling.lower(), name) != name:
                    raise ValueError(
                        f"expected one class for each folder name, found two for {spelling!r}"
                    )
        return items


class PixelSettings(Strict):
    """The pixels that are kept of each image for all work after inspection."""

    image_size: ImageSize = 224
    harmonise: Harmonise = True
