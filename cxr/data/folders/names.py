"""The words that folders are called by, and the split or class that a name means."""

import re
import unicodedata
from functools import lru_cache

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "holdout": "test",
    "eval": "test",
    "evaluation": "test",
}
MASK_WORDS = {
    "mask",
    "masks",
    "segmentation",
    "segmentations",
    "seg",
    "gt",
    "groundtruth",
    "groundtruths",
    "annotation",
    "annotations",
    "heatmap",
    "heatmaps",
    "gradcam",
}
# Words that say nothing of the class: "Normal_Images (1)" is usually NORMAL.
_FILLING = {
    "image",
    "images",
    "img",
    "imgs",
    "cxr",
    "xray",
    "xrays",
    "x",
    "ray",
    "rays",
    "cases",
    "patients",
    "class",
}
# What a folder of this name usually means. It is proposed in messages and never assumed.
USUAL_CLASSES = {
    "NORMAL": {"normal", "healthy", "no finding", "no pneumonia", "negative", "control", "non pneumonia", "0"},
    "PNEUMONIA": {
        "pneumonia", "bacteria", "bacterial", "virus", "viral", "opacity", "lung opacity", "positive",
        "bacterial pneumonia", "viral pneumonia", "pneumonia bacterial", "pneumonia viral", "1",
        "pneumonia bacteria", "pneumonia virus", "pneumonic",
    },
}  # fmt: skip
_SEPARATORS = re.compile(r"[\s_.\-()\[\],]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Words that hold a split word and something more: testset, train2017, holdout2024.
_NEARLY = re.compile(
    rf"(?:{'|'.join(SPLIT_WORDS)})(?:set|sets|data|images|imgs|split|fold|part)?\d*"
    rf"|(?:train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?){{2,}}"
)
UNCLEAR = "?"


def normalise_name(name: str) -> str:
    """Return a name as names are compared: NFC, without surrounding blanks, case folded."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def words_of(name: str) -> list[str]:
    """Return the words of a folder's name; "hold-out" is one word.

    >>> words_of("Chest_X-ray.hold-out")
    ['chest', 'x', 'ray', 'holdout']
    """
    words = [word for word in _SEPARATORS.split(normalise_name(name)) if word]
    joined = " ".join(words)
    return re.sub(r"\bhold out\b", "holdout", joined).split()


@lru_cache(maxsize=100_000)
def split_of(name: str) -> str:
    """Return the split that a folder's name means, "" for none, UNCLEAR where it has to be asked.

    >>> [split_of(name) for name in ("chest_xray_train", "hold-out", "ward 3", "train_test", "testset")]
    ['train', 'test', '', '?', '?']
    """
    words = words_of(name)
    meant = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    if len(meant) == 1:
        return meant[0]
    humps = [word for part in _HUMP.split(name) for word in words_of(part)]
    nearly = any(_NEARLY.fullmatch(word) for word in words) or any(
        word in SPLIT_WORDS for word in humps
    )
    return UNCLEAR if meant or nearly else ""


def likely_split(name: str) -> str:
    """Return the split that a name suggests, for a message: test where it suggests none.

    >>> [likely_split(name) for name in ("TrainData", "val2", "site b")]
    ['train', 'val', 'test']
    """
    found = [
        (normalise_name(name).find(word), split)
        for word, split in SPLIT_WORDS.items()
        if word in normalise_name(name)
    ]
    return min(found)[1] if found else "test"


@lru_cache(maxsize=100_000)
def is_of_masks(name: str) -> bool:
    """Return whether a folder's name says that its pictures are masks.

    >>> [is_of_masks(name) for name in ("lung masks", "ManualMask", "mask1", "unmasked")]
    [True, True, True, False]
    """
    words = {word.rstrip("0123456789") for part in _HUMP.split(name) for word in words_of(part)}
    return not MASK_WORDS.isdisjoint(words)


def usual_class(name: str) -> str | None:
    """Return the class that a folder of this name usually means, None where nobody can say.

    >>> [usual_class(name) for name in ("Viral Pneumonia", "no_finding", "COVID19")]
    ['PNEUMONIA', 'NORMAL', None]
    """
    words = words_of(name)
    telling = [word for word in words if word not in _FILLING and not word.isdigit()]
    spelled = " ".join(telling if telling and len(words) > 1 else words)
    return next((label for label, names in USUAL_CLASSES.items() if spelled in names), None)


def parent_paths(folder: str) -> list[str]:
    """Return a path and those above it, from the top.

    >>> parent_paths("train/NORMAL")
    ['train', 'train/NORMAL']
    """
    parts = folder.split("/") if folder else []
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]
