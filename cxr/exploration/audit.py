"""The shortcut audit: how well signals that are not clinical separate the classes, as floors for every network.

Three of them: the file's container, the border ring of the pixels, and a 32x32 thumbnail. A network that does
not clearly beat these has learned nothing a ruler could not. The container's floor is measured again on
uniformly encoded pixels, to show what harmonising takes away. Left out: which pixels a network looks at.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.parallel import usable_cores
from cxr.core.records import Record
from cxr.core.settings import Strict
from cxr.data import splits
from cxr.data.images.border import border_mask
from cxr.data.images.model_input import UNIFORM_QUALITY, encode_uniformly
from cxr.stats.intervals import Interval, bootstrap_intervals
from cxr.storage.arrays import Stored

if TYPE_CHECKING:
    pass

CONTAINER_LIMIT = 0.75  # AUROC of the container above which the audit warns
FEWEST_PATIENTS = 5  # of each class: one for every fold
DRAWS = 1_000
_MOST_ROWS = {False: 15_000, True: 5_000}  # by "is test": 300,000 images must not take hours
THUMBNAIL_SIDE = 32  # of the thumbnail
_CATEGORIES = ("mode", "format", "icc", "exif", "quantisation")
_RARE, _MOST_VALUES = (
    5,
    20,
)  # a stored value seen less often, or beyond the commonest 20, counts as "other"
_FOLDS = 5
Vector = np.ndarray[Any, Any]


class Separation(Strict):
    """How a signal's scores separate the classes on one set; None and a note where that is not estimable.

    All figures 0..1; intervals of 95 % by a bootstrap of whole patients (`cxr.stats.intervals`), None where every draw is the
    same, as for an AUROC of 1. Sensitivity and specificity are at 0.5, of test only.
    """

    n: int
    positives: int
    patients: int
    auroc: float | None = None
    interval: Interval | None = None
    sensitivity: float | None = None
    sensitivity_interval: Interval | None = None
    specificity: float | None = None
    specificity_interval: Interval | None = None
    note: str = ""


class Baseline(Strict):
    """One signal's floor: `train` is cross-validated over train + val, `test` fitted there and applied once."""

    signal: str
    features: str
    train: Separation
    test: Separation


class Audit(Record):
    """eda/audit.json: the floors of these data, the container's after uniform encoding, and a warning or ""."""

    manifest_sha256: str
    harmonised: bool
    seed: int
    images: int
    floors: tuple[Baseline, ...]
    container_after: Baseline
    warning: str


class _Study(NamedTuple):
    """What all signals share: labels int (n,), patient numbers int (n,), is-test bool (n,), and the seed."""

    labels: Vector
    patients: Vector
    tested: Vector
    seed: int


def run_audit(
    table: pd.DataFrame,
    pixels: Stored,
    manifest_sha256: str,
    harmonised: bool,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Return the floors of the rows in train, val and test; at most 20,000 of them, whole patients.

    `pixels` is uint8 (n, side, side) in the order of `table`; `harmonised` says whether networks are fed
    uniformly encoded pixels. Signals that cannot be estimated are None with a note, never an error.
    """
    chosen = _chosen(table, seed)
    rows = table.iloc[chosen]
    study = _Study(
        labels=rows["label"].to_numpy(dtype=np.int64),
        patients=pd.factorize(splits.patient_groups(rows))[0],
        tested=(rows["split"] == "test").to_numpy(dtype=bool),
        seed=seed,
    )
    on_step("container of the files")
    stored, words = _container(rows)
    before = _floor(study, "container", words, stored, _trees(seed))
    on_step(f"container after uniform encoding (JPEG quality {UNIFORM_QUALITY})")
    encoded, words = _encoded(pixels, chosen)
    after = _floor(study, "container after uniform encoding", words, encoded, _trees(seed))
    on_step("border ring and thumbnail")
    cells = _thumbnails(pixels, chosen)
    ring, words = (
        cells[:, _ring()],
        f"gray of the {_ring().sum()} outermost cells of a {THUMBNAIL_SIDE}x{THUMBNAIL_SIDE} thumbnail",
    )
    border = _floor(study, "border ring", words, ring, _line())
    words = f"gray of all cells of a {THUMBNAIL_SIDE}x{THUMBNAIL_SIDE} thumbnail"
    thumbnail = _floor(study, f"{THUMBNAIL_SIDE}x{THUMBNAIL_SIDE} thumbnail", words, cells, _line())
    return Audit(
        manifest_sha256=manifest_sha256,
        harmonised=harmonised,
        seed=seed,
        images=len(rows),
        floors=(before, border, thumbnail),
        container_after=after,
        warning=_warning(before, after, harmonised),
    )


def _chosen(table: pd.DataFrame, seed: int) -> Vector:
    """Return the positions of the rows to use, int (n,), rising: train and val to one limit, test to its own."""
    used = table["split"].isin(["train", "val", "test"]).to_numpy(dtype=bool)
    tested = (table["split"] == "test").to_numpy(dtype=bool)
    parts = [np.flatnonzero(used & (tested == part)) for part in (False, True)]
    limits = [_MOST_ROWS[part] for part in (False, True)]
    return np.sort(
        np.concatenate(
            [sample_patients(table, *each, seed) for each in zip(parts, limits, strict=True)]
        )
    )


def sample_patients(table: pd.DataFrame, positions: Vector, most: int, seed: int) -> Vector:
    """Return those of the `positions` (int) that belong to randomly drawn whole patients, at most `most`.

    All of them where they are few enough; equal seeds give equal rows.
    """
    if len(positions) <= most:
        return positions
    patients = pd.factorize(splits.patient_groups(table.iloc[positions]))[0]
    sizes = np.bincount(patients)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(sizes <= most))
    kept = order[np.cumsum(sizes[order]) <= most]
    return positions[np.isin(patients, kept)]


def _container(rows: pd.DataFrame) -> tuple[Vector, str]:
    """Return what the files say without a look at a pixel, float32 (n, k), and the same in words."""
    area = rows["width"] * rows["height"]
    numbers = {
        "bytes per pixel": rows["bytes"] / area,
        "width": rows["width"],
        "height": rows["height"],
    }
    numbers["aspect"] = rows["width"] / rows["height"]
    columns = [values.to_numpy(dtype=np.float32) for values in numbers.values()]
    for name in _CATEGORIES:
        columns += _indicators(rows[name].astype(str))
    told = numbers | {name: rows[name] for name in _CATEGORIES}
    varied = [name for name, values in told.items() if values.nunique() > 1]
    same = [name for name in told if name not in varied]
    words = ", ".join(varied) or "nothing"
    return np.stack(columns, axis=1), words + (
        f" (the same in all files: {', '.join(same)})" if same else ""
    )


def _indicators(values: "pd.Series[str]") -> list[Vector]:
    """Return a 0/1 column for each common value; the rare ones are 0 in all of them."""
    common = values.value_counts().head(_MOST_VALUES)
    kept = sorted(str(value) for value in common[common >= _RARE].index)
    return [(values == value).to_numpy(dtype=np.float32) for value in kept]


def _encoded(pixels: Stored, chosen: Vector) -> tuple[Vector, str]:
    """Return bytes per pixel of each image encoded like all others, float32 (n, 1), and the same in words."""

    def one(at: int) -> float:
        return len(encode_uniformly(np.asarray(pixels[at]))) / int(pixels[at].size)

    with ThreadPoolExecutor(usable_cores()) as pool:
        sizes = list(pool.map(one, chosen))
    side = pixels.shape[1]
    return (
        np.array(sizes, np.float32)[:, None],
        f"bytes per pixel of {side}x{side} gray as JPEG quality {UNIFORM_QUALITY}; all else about the file is the same",
    )


def _thumbnails(pixels: Stored, chosen: Vector) -> Vector:
    """Return 32x32 area means, float32 (n, 1024)."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    small = [
        np.asarray(Image.fromarray(np.asarray(pixels[at])).resize(size, Image.Resampling.BOX))
        for at in chosen
    ]
    return np.array(small, np.float32).reshape(len(chosen), THUMBNAIL_SIDE * THUMBNAIL_SIDE)


def _ring() -> Vector:
    return border_mask(THUMBNAIL_SIDE, THUMBNAIL_SIDE).ravel()


def _trees(seed: int) -> Any:
    """Return gradient-boosted trees: a stored size or profile may separate without any order to it."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=100, max_depth=3, min_samples_leaf=5, early_stopping=False, random_state=seed
    )


def _line() -> Any:
    """Return a scaled logistic regression, its L2 strong enough to converge on a thousand correlated cells."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2_000))


def _floor(study: _Study, signal: str, words: str, features: Vector, model: Any) -> Baseline:
    """Return the floor of one signal: features float32 (n, k) and an unfitted scikit-learn classifier."""
    from threadpoolctl import threadpool_limits

    pool, test = np.flatnonzero(~study.tested), np.flatnonzero(study.tested)
    obstacle = _too_few(study, pool) or _constant(features[pool])
    if obstacle:
        return Baseline(
            signal=signal,
            features=words,
            train=_none(study, pool, obstacle),
            test=_none(
                study, test, _too_few(study, test) or "no model from train + val: " + obstacle
            ),
        )
    # Small problems: with one thread they are ten times as fast as with threads that wait for each other.
    with threadpool_limits(1):
        ranks = _out_of_fold(study, pool, features, model)
        obstacle = _too_few(study, test)
        if not obstacle:
            scores = model.fit(features[pool], study.labels[pool]).predict_proba(features[test])[
                :, 1
            ]
    return Baseline(
        signal=signal,
        features=words,
        train=_separation(study, pool, ranks),
        test=_none(study, test, obstacle)
        if obstacle
        else _separation(study, test, scores, at_half=True),
    )


def _patient_labels(study: _Study, rows: Vector) -> tuple[Vector, Vector]:
    """Return the patients among `rows` and the label of each: PNEUMONIA where any image is, as in `splits`."""
    found = pd.Series(study.labels[rows]).groupby(study.patients[rows]).max()
    return found.index.to_numpy(), found.to_numpy()


def _too_few(study: _Study, rows: Vector) -> str:
    """Return why these rows are not enough to estimate a separation, or ""."""
    if not len(rows):
        return "no image"
    of = np.bincount(_patient_labels(study, rows)[1], minlength=2)
    if of.min() >= FEWEST_PATIENTS:
        return ""
    return f"expected {FEWEST_PATIENTS} patients of each class or more, found {of[0]} NORMAL and {of[1]} PNEUMONIA"


def _constant(features: Vector) -> str:
    return "the signal is the same in every image" if (features == features[:1]).all() else ""


def _none(study: _Study, rows: Vector, why: str) -> Separation:
    return Separation(**_counts(study, rows), note=f"not estimable (n = {len(rows)}): {why}")


def _counts(study: _Study, rows: Vector) -> dict[str, Any]:
    patients = len(np.unique(study.patients[rows]))
    return {"n": len(rows), "positives": int(study.labels[rows].sum()), "patients": patients}


def _out_of_fold(study: _Study, rows: Vector, features: Vector, model: Any) -> Vector:
    """Return a score 0..1 of each row by a model that saw no image of its patient, float (n,).

    Folds hold whole patients, stratified by label. Scores are ranks within their fold: what differs between
    the five models' offsets says nothing about the images.
    """
    from scipy.stats import rankdata
    from sklearn.model_selection import StratifiedKFold

    patients, labels = _patient_labels(study, rows)
    ranks = np.empty(len(rows))
    for _, held in StratifiedKFold(_FOLDS, shuffle=True, random_state=study.seed).split(
        patients, labels
    ):
        out = np.isin(study.patients[rows], patients[held])
        model.fit(features[rows[~out]], study.labels[rows[~out]])
        ranks[out] = rankdata(model.predict_proba(features[rows[out]])[:, 1]) / out.sum()
    return ranks


def _separation(study: _Study, rows: Vector, scores: Vector, at_half: bool = False) -> Separation:
    """Return the figures of the scores (0..1) of these rows; sensitivity and specificity at 0.5 where `at_half`."""
    from sklearn.metrics import roc_auc_score

    labels = study.labels[rows]
    drawn = bootstrap_intervals(labels, scores, study.patients[rows], 0.5, DRAWS, study.seed)
    found: dict[str, Any] = {
        "auroc": float(roc_auc_score(labels, scores)),
        "interval": drawn["auroc"],
    }
    if at_half:
        found |= {
            "sensitivity": float((scores[labels == 1] >= 0.5).mean()),
            "sensitivity_interval": drawn["sensitivity"],
            "specificity": float((scores[labels == 0] < 0.5).mean()),
            "specificity_interval": drawn["specificity"],
        }
    note = (
        "" if drawn["auroc"] else "no interval: the AUROC is the same in every draw of the patients"
    )
    return Separation(**_counts(study, rows), **found, note=note)


def _warning(before: Baseline, after: Baseline, harmonised: bool) -> str:
    """Return what to tell a person where the container alone separates the classes, or ""."""
    found = [each for each in (before.train, before.test) if each.auroc is not None]
    worst = max(found, key=lambda each: each.auroc or 0, default=None)
    if worst is None or worst.auroc is None or worst.auroc <= CONTAINER_LIMIT:
        return ""
    left = after.test if worst is before.test else after.train
    rest = (
        left.note
        if left.auroc is None
        else f"AUROC {left.auroc:.3f} remains, by how well the content compresses"
    )
    said = (
        f"The files' container alone separates the classes: AUROC {worst.auroc:.3f} (n = {worst.n:,}), expected at "
        f"most {CONTAINER_LIMIT}. It reads {before.features}. After uniform encoding of the pixels: {rest}. "
    )
    if harmonised:
        return (
            said
            + "Networks are fed uniformly encoded pixels: compare their figures with the floors"
        )
    return (
        said
        + "Networks are fed pixels as the files stored them: harmonise them, or a figure may be the container's"
    )
