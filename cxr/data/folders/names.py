"""What the name of a folder means: a split, a class, masks, or nothing.

Names are compared in Unicode form NFC, without case and without surrounding blanks. What a name
means for certain is told apart from what it only suggests: suggestions appear in messages and are
never assumed.
"""

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
# Words that say nothing about the class: "Normal_Images (1)" usually means NORMAL.
_FILLER_WORDS = {
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
# What a folder of this name usually means. Messages propose it; it is never assumed.
USUAL_CLASSES = {
    "NORMAL": {
        "normal",
        "healthy",
        "no finding",
        "no pneumonia",
        "negative",
        "control",
        "non pneumonia",
        "0",
    },
    "PNEUMONIA": {
        "pneumonia",
        "pneumonic",
        "bacteria",
        "bacterial",
        "bacterial pneumonia",
        "pneumonia bacteria",
        "pneumonia bacterial",
        "virus",
        "viral",
        "viral pneumonia",
        "pneumonia virus",
        "pneumonia viral",
        "opacity",
        "lung opacity",
        "positive",
        "1",
    },
}
UNCLEAR = "?"  # the split of a folder whose name may mean one, but does not say so clearly

_SEPARATORS = re.compile(r"[\s_.\-()\[\],]+")
_CAMEL_CASE_BOUNDARY = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Words that hold a split word and something more: testset, train2017, holdout2024.
_NEARLY_SPLIT_WORD = re.compile(
    rf"(?:{'|'.join(SPLIT_WORDS)})(?:set|sets|data|images|imgs|split|fold|part)?\d*"
    rf"|(?:train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?){{2,}}"
)


def normalise_name(name: str) -> str:
    """Return a name in the form in which names are compared: NFC, stripped, case-folded."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def name_words(name: str) -> list[str]:
    """Return the words of a folder's name; "hold-out" counts as one word.

    >>> name_words("Chest_X-ray.hold-out")
    ['chest', 'x', 'ray', 'holdout']
    """
    words = [word for word in _SEPARATORS.split(normalise_name(name)) if word]
    joined = " ".join(words)
    return re.sub(
        r"\bhold out\b",
        "holdout",
        joined,
    ).split()


def _camel_case_words(name: str) -> list[str]:
    """Return the words of a folder's name, "chestTest" being two of them."""
    words = []
    for part in _CAMEL_CASE_BOUNDARY.split(name):
        words.extend(name_words(part))
    return words


@lru_cache(maxsize=100_000)
def split_of(name: str) -> str:
    """Return the split that a folder's name means.

    >>> [split_of(name) for name in ("chest_xray_train", "hold-out", "ward 3")]
    ['train', 'test', '']
    >>> [split_of(name) for name in ("train_test", "testset")]
    ['?', '?']

    Args:
        name: The name of one folder.

    Returns:
        train, val or test; "" where the name means no split; UNCLEAR where a person has to say.
    """
    words = name_words(name)
    split_words = [word for word in words if word in SPLIT_WORDS]
    if len(split_words) == 1:
        return SPLIT_WORDS[split_words[0]]
    if split_words:
        return UNCLEAR
    if any(_NEARLY_SPLIT_WORD.fullmatch(word) for word in words):
        return UNCLEAR
    if any(word in SPLIT_WORDS for word in _camel_case_words(name)):
        return UNCLEAR
    return ""


def likely_split(name: str) -> str:
    """Return the split that a name suggests, for use in a message; test where it suggests none.

    >>> [likely_split(name) for name in ("TrainData", "val2", "site b")]
    ['train', 'val', 'test']
    """
    normal_name = normalise_name(name)
    places = [
        (normal_name.find(word), split)
        for word, split in SPLIT_WORDS.items()
        if word in normal_name
    ]
    if not places:
        return "test"
    _, first_split = min(places)
    return first_split


@lru_cache(maxsize=100_000)
def is_of_masks(name: str) -> bool:
    """Return whether a folder's name says that its pictures are masks.

    >>> [is_of_masks(name) for name in ("lung masks", "ManualMask", "mask1", "unmasked")]
    [True, True, True, False]
    """
    words = {word.rstrip("0123456789") for word in _camel_case_words(name)}
    return not MASK_WORDS.isdisjoint(words)


def usual_class(name: str) -> str | None:
    """Return the class that a folder of this name usually means, None where nobody can say.

    >>> [usual_class(name) for name in ("Viral Pneumonia", "no_finding", "COVID19")]
    ['PNEUMONIA', 'NORMAL', None]
    """
    words = name_words(name)
    telling_words = [word for word in words if word not in _FILLER_WORDS and not word.isdigit()]
    if telling_words and len(words) > 1:
        words = telling_words
    phrase = " ".join(words)
    for label_name, phrases in USUAL_CLASSES.items():
        if phrase in phrases:
            return label_name
    return None


def parent_paths(folder: str) -> list[str]:
    """Return a path and all paths above it, from the top.

    >>> parent_paths("train/NORMAL")
    ['train', 'train/NORMAL']
    """
    if not folder:
        return []
    paths = []
    path = ""
    for depth, part in enumerate(folder.split("/")):
        path = f"{path}/{part}" if depth else part
        paths.append(path)
    return paths
