"""The report of a finished run: one self-contained HTML page for people, printable, readable on a phone.

Left out: any figure of its own. What it shows was measured by the stages before and is read from their files.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.core.files import atomic_write, read_table
from cxr.core.formatting import format_duration, format_p_value, format_percent, printable
from cxr.core.settings import LABEL_NAMES
from cxr.core.timing import Stage, read_timings
from cxr.data.survey import account_table
from cxr.exploration.shift import Shift
from cxr.models.selection import MIN_SPECIFICITY
from cxr.models.training.records import Training
from cxr.results.model_card import Card
from cxr.results.rendering import load_templates

REJECT_ROWS = 200
FOLDER_ROWS = 60
MEASURES = {
    "sensitivity": "Sensitivity (recall)",
    "specificity": "Specificity",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "Accuracy",
    "precision": "PPV (precision)",
    "npv": "NPV",
}
_COUNTS = {  # k of n behind each proportion: what is counted, among what
    "sensitivity": (("tp",), ("tp", "fn")), "specificity": (("tn",), ("tn", "fp")),
    "accuracy": (("tp", "tn"), ("tp", "fp", "tn", "fn")), "precision": (("tp",), ("tp", "fp")),
    "npv": (("tn",), ("tn", "fn")),
}  # fmt: skip
_REASONS = {
    "not_an_image": "not an image file", "unreadable": "cannot be decoded", "truncated": "the file ends too early",
    "empty_file": "no bytes", "too_large": "more pixels than allowed", "unsupported_mode": "pixel format not known",
    "duplicate": "same picture as a kept image", "near_duplicate": "almost the same picture as a kept image",
    "label_conflict": "same picture under both labels: all copies left out", "ignored": "system file",
    "outside_root": "outside the data folder", "unknown_class": "not below a NORMAL or PNEUMONIA folder",
    "nested_copy": "lies in a copy of the data set inside itself", "vanished": "gone between listing and reading",
    "excluded": "left out by --exclude", "unknown_split": "which split its folder is, is not known",
    "mask": "a mask or a two-valued picture", "negative": "negative of a film",
    "too_small": "too few pixels", "extreme_shape": "far too long or too wide", "flat": "hardly any contrast",
}  # fmt: skip
STAGES = {
    "inspect": "Read, check, hash and measure each file", "compare": "Look for near copies",
    "decode": "Decode and resize, once for all", "explore": "Explore, audit shortcuts, test for shift",
    "features": "frozen features of the images and their views", "frozen": "the last layer alone",
    "fine_tune": "the top of the network", "test": "Prove the export, score the test images",
}  # fmt: skip
_TEST = {
    "confusion_matrix": "Every test image, by the label of its folder (rows) and what the model says (columns).",
    "scores_test": "Scores of the test images; what lies on the wrong side of the threshold is in full colour.",
    "roc_test": "Sensitivity against false alarms for every possible threshold, on test.",
    "precision_recall_test": "PPV against sensitivity. PPV depends on how common pneumonia is in the set.",
}
_VALIDATION = {
    "roc_val": "The architectures on the same validation images, each with its own operating point.",
    "histories": "Epoch by epoch. At epoch 0 the last layer alone is fitted, once for each of a few regularisations (a point each); "
    "from the best of these on, in the shaded part, the top of the network learns too.",
}
_TRUST = {
    "leakage": {
        "pairs": "Pairs of nearly the same picture, as they were compared; where each is now."
    },
    "shortcuts": {
        "shortcuts": "How well signals that are no disease separate the classes. Every network has to beat these."
    },
    "shift": {
        "shift": "Where the other splits differ from train within one class. Filled marks: significant and not trivial."
    },
    "calibration": {
        "reliability": "Of the images with such a score, how many are labelled PNEUMONIA; on the dotted line a score is a "
        "probability. The number beside a point is that of its images, the line its 95 % interval (Wilson).",
    },
    "attention": {"gradcam": "Grad-CAM on test images, chosen by rule and not by hand."},
}
_DATA = {
    "class_distribution": "How many images of each class are in each split.",
    "image_sizes": "Width and height of the images as they were found, before resizing.",
    "intensity": "Brightness and contrast. Where the classes differ, a model can learn that, not the disease.",
    "samples": "Train images drawn at random, both classes, as the files have them.",
    "augmentation": "Train images and random changes of them. Never mirrored: the heart is on one side.",
    "modes": "How the files store their pixels (L: gray, RGB: colour).",
}


@dataclass(frozen=True)
class Picture:
    """A PNG file inside the page: its name, its caption, its bytes as a data URI, its size in pixels."""

    name: str
    caption: str
    uri: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Return whether the picture takes the whole width of the page rather than half of it."""
        return self.width > 1.25 * self.height


def write_report(run: Path) -> Path:
    """Publish `run`/report.html and return its path; see `page`."""
    with atomic_write(run / "report.html") as temporary:
        temporary.write_text(report_page(run), encoding="utf-8")
    return run / "report.html"


def report_page(run: Path) -> str:
    """Return the report of a finished run as HTML.

    Reads data/, export/model_card.json, comparison.csv, scores_test.csv and the pictures under `run`. Pictures that are missing are left out; raises FileNotFoundError for the rest.
    """
    card = Card.read(run / "export" / "model_card.json")
    environment = load_templates()
    environment.filters.update(
        percent=format_percent, duration=format_duration, chance=format_p_value
    )
    return environment.get_template("report.html.j2").render(
        card=card,
        comparison=_comparison(run / "comparison.csv"),
        measures=MEASURES,
        methods=_methods(card),
        against_floor=_against_floor(card),
        floors=(card.audit.floors[0], card.audit.container_after, *card.audit.floors[1:]),
        counts=_count_words(card),
        missed=_missed_by_cause(run / "scores_test.csv", card.threshold),
        low_specificity=(card.training.val["specificity"] or 0) < MIN_SPECIFICITY,
        pictures={
            "test": _pictures(run, _TEST),
            "validation": _pictures(run, _VALIDATION),
            "data": _pictures(run / "data", _DATA),
            "leakage": _pictures(run / "data", _TRUST["leakage"]),
            "shortcuts": _pictures(run / "data", _TRUST["shortcuts"]),
            "shift": _pictures(run / "data", _TRUST["shift"]),
            "calibration": _pictures(run, _TRUST["calibration"]),
            "attention": _pictures(run, _TRUST["attention"]),
        },
        shifted=Shift.read(run / "data" / "shift.json"),
        class_weights=_class_weights(run / "data" / "class_weights.json"),
        settings=_settings(card),
        stages=_stages(run, card),
        reasons=_REASONS,
        folders=account_table.table_cells(card.data.folders[:FOLDER_ROWS]),
        **_rejects(run / "data" / "rejects.csv"),
    )


def _methods(card: Card) -> str:
    """Return in words how the intervals of the test figures were made."""
    known = [each for each in card.evaluation.intervals.values() if each]
    patients = card.evaluation.intervals["accuracy"]
    words = (
        f"patients drawn with replacement, 2,000 times ({patients.patients} patients)"
        if patients
        else "none estimable"
    )
    if any(each.method == "Wilson" for each in known):
        words += "; Wilson's for proportions of exactly 0 or 1, which takes images as independent"
    return words


def _against_floor(card: Card) -> str:
    """Return in a sentence how the network's test AUROC stands to the highest floor."""
    known = [floor for floor in card.audit.floors if floor.test.auroc is not None]
    if not known:
        return "No floor could be estimated on test."
    best = max(known, key=lambda floor: floor.test.auroc or 0.0)
    found, ends, floor = (
        card.evaluation.test["auroc"] or 0.0,
        card.evaluation.intervals["auroc"],
        best.test.auroc or 0.0,
    )
    words = f"The {best.signal} alone reaches AUROC {floor:.3f} on test; {card.architecture} reaches {found:.3f}: "
    if found <= floor:
        return words + "the network is not above that floor."
    if ends is None or best.test.interval is None or ends.low <= best.test.interval.high:
        return words + "above that floor, but their intervals overlap."
    return words + "clearly above that floor, their intervals apart."


def _comparison(path: Path) -> list[dict[str, Any]]:
    """Return the rows of comparison.csv; columns that hold numbers as numbers, NaN where there is none."""
    rows = read_table(path).to_dict("records")
    words = ("name", "architecture", "status", "weights", "calibration", "error")
    return [{str(k): v if k in words else float(v) for k, v in row.items()} for row in rows]


def _stages(run: Path, card: Card) -> list[tuple[str, Stage]]:
    """Return (what it is, how long it took) of every stage: of the data, of each trained model, of the test."""
    trained = [Training.read(path) for path in sorted(run.glob("*/training.json"))]
    trained.sort(key=lambda training: training.name != card.training.name)
    of_data = sorted(read_timings(run / "data"), key=lambda stage: list(STAGES).index(stage.name))
    each = [(STAGES[stage.name], stage) for stage in of_data]
    each += [
        (f"{training.name}: {STAGES[stage.name]}", stage)
        for training in trained
        for stage in training.stages
    ]
    return each + [(STAGES[stage.name], stage) for stage in read_timings(run)]


def _count_words(card: Card) -> dict[str, str]:
    """Return "k of n" for each proportion of the test figures."""
    test = card.evaluation.test

    def total(names: Iterable[str]) -> int:
        return int(sum(test[name] or 0 for name in names))

    return {
        name: f"{total(counted)} of {total(among)}" for name, (counted, among) in _COUNTS.items()
    }


def _missed_by_cause(path: Path, threshold: float) -> list[tuple[str, int, int]]:
    """Return (cause, missed, of) for each cause of pneumonia that the file names of test give."""
    table = read_table(path)
    table = table[(table["label"] == LABEL_NAMES.index("PNEUMONIA")) & (table["etiology"] != "")]
    below = table["score"] < threshold
    return [
        (str(cause), int(missed.sum()), len(missed))
        for cause, missed in below.groupby(table["etiology"])
    ]


def _pictures(folder: Path, captions: dict[str, str]) -> list[Picture]:
    found = [(folder / f"{name}.png", caption) for name, caption in captions.items()]
    return [_picture(path, caption) for path, caption in found if path.is_file()]


def _picture(path: Path, caption: str) -> Picture:
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
    return Picture(path.stem, caption, uri, width, height)


def _class_weights(path: Path) -> dict[str, float]:
    """Return the loss weight of each class by its name, or nothing where the file is missing."""
    if not path.is_file():
        return {}
    return {
        LABEL_NAMES[int(label)]: float(weight)
        for label, weight in json.loads(path.read_text()).items()
    }


def _settings(card: Card) -> list[tuple[str, Any, str]]:
    """Return (name, value, meaning) of every setting, the augmentation's after the others."""
    both = (("", card.settings), ("augmentation.", card.settings.augmentation))
    return [
        (prefix + name, getattr(group, name), field.description or "")
        for prefix, group in both
        for name, field in type(group).model_fields.items()
        if name != "augmentation"
    ]


def _rejects(path: Path) -> dict[str, Any]:
    """Return the first rows of rejects.csv, made printable, and how many there are in all."""
    table: pd.DataFrame = read_table(path)
    rows = [
        {str(k): printable(str(v)) for k, v in row.items()}
        for row in table.head(REJECT_ROWS).to_dict("records")
    ]
    return {"rejects": rows, "rejects_total": len(table)}
