"""Draw the examples of docs/report.md: made-up scores and tables, drawn as the product draws real ones.

`python docs/report/draw.py` writes the PNG files beside itself. Nothing in them is of a patient or of a model.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from cxr.core import plotting
from cxr.core.files import file_sha256
from cxr.core.settings import LABEL_NAMES
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.data.phantoms.films import draw_film
from cxr.data.phantoms.plan import PlannedImage
from cxr.exploration.audit import Audit
from cxr.exploration.baselines import Baseline, Separation
from cxr.exploration.figures import audit_plot, distributions, shift_plot
from cxr.exploration.shift import Difference, Shift
from cxr.models.stress import Robustness, WorldMetrics
from cxr.results.evaluation import Evaluation, test_metrics
from cxr.results.evaluation.abstention import measurement
from cxr.results.evaluation.abstention.risk_plot import draw_risk_coverage
from cxr.results.evaluation.stress_plot import draw_stress
from cxr.results.gradcam.plot import draw_gradcam
from cxr.results.plots import (
    calibration,
    confusion_matrix,
    histories,
    score_histograms,
    style,
)
from cxr.results.plots.curves import precision_recall, roc
from cxr.results.plots.curves.decision_curve import draw_decision_curve
from cxr.results.plots.histories import History
from cxr.results.plots.scored_set import ScoredSet
from cxr.stats.calibration.decision_curve import measure_decision_curve
from cxr.stats.intervals import Interval

FOLDER = Path(__file__).resolve().parent
LARGEST = 40_000  # bytes of a picture
NETWORK = "MobileNetV2"
NO_DIGEST = "0" * 64


def interval(value: float, width: float, images: int = 300) -> Interval:
    """Return an interval of this half-width around a value, within 0 and 1."""
    return Interval(
        low=max(0.0, value - width),
        high=min(1.0, value + width),
        method="patient bootstrap",
        images=images,
        patients=images,
    )


def make_scores(separation: float, sharpness: float = 1.0, seed: int = 1) -> pd.DataFrame:
    """Return 600 images with a label and a score, as in scores_test.csv.

    Args:
        separation: Of the two classes, in standard deviations of their logits.
        sharpness: 1: the scores are probabilities; above: they are too sure of themselves.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [240, 360])
    evidence = rng.normal((labels - 0.5) * separation, 1)
    logits = separation * evidence + np.log(360 / 240)
    return pd.DataFrame(
        {
            "image": [f"test/{LABEL_NAMES[label]}/{n}.jpeg" for n, label in enumerate(labels)],
            "patient_id": [f"P{n}" for n in range(len(labels))],
            "etiology": "",
            "width": 224,
            "height": 224,
            "label": labels,
            "raw_score": 1 / (1 + np.exp(-sharpness * logits)),
            "score": 1 / (1 + np.exp(-logits)),
        }
    )


def scored(table: pd.DataFrame, threshold: float, name: str = NETWORK) -> ScoredSet:
    """Return a table of scores as the pictures take it."""
    return ScoredSet(name, table["label"].to_numpy(), table["score"].to_numpy(), threshold)


def draw_test(table: pd.DataFrame, threshold: float) -> dict[str, Figure]:
    """Return the pictures of the test set that need its scores alone."""
    evaluation = Evaluation(
        architecture=NETWORK,
        model_sha256=NO_DIGEST,
        threshold=threshold,
        **test_metrics(table, threshold),
        reload_max_difference=0.0,
        reload_images=100,
        optimizer_equal=True,
        scores_sha256=NO_DIGEST,
    )
    of_test = scored(table, threshold)
    title = f"ROC on test, n = {len(table)} images"
    return {
        "confusion_matrix": confusion_matrix.draw_confusion_matrix(evaluation),
        "scores_test": score_histograms.draw_score_histograms(of_test),
        "roc_test": roc.draw_roc([of_test], title),
        "precision_recall_test": precision_recall.draw_precision_recall(of_test),
    }


def draw_comparison(separations: dict[str, float]) -> Figure:
    """Return the ROC curves of several networks on validation."""
    sets = [
        scored(make_scores(separation, seed=number), 0.5, name)
        for number, (name, separation) in enumerate(separations.items())
    ]
    return roc.draw_roc(sets, f"ROC on validation, n = {len(sets[0].labels)} images")


def draw_histories(val_auroc: list[float], loss: list[float], kept: int) -> Figure:
    """Return the history of one training: three fits of the head, then epochs of fine-tuning."""
    heads = pd.DataFrame(
        {
            "epoch": 0.0,
            "phase": "frozen",
            "loss": [0.36, 0.31, 0.33],
            "val_auroc": [0.951, 0.958, 0.955],
        }
    )
    epochs = pd.DataFrame(
        {
            "epoch": np.arange(1.0, len(loss) + 1),
            "phase": "fine_tune",
            "loss": loss,
            "val_auroc": val_auroc,
        }
    )
    return histories.draw_histories({NETWORK: History(pd.concat([heads, epochs]), kept)})


def draw_reliability(sharpness: float) -> Figure:
    """Return the reliability diagram of raw and calibrated scores."""
    table = make_scores(2.2, sharpness)
    figure = style.new_figure(6.4, 6.7, "Calibration on test")
    axes = figure.subplots()
    style.clean_frame(axes)
    calibration.draw_curve(axes, table, "raw_score", style.GRAY, "raw")
    calibration.draw_curve(axes, table, "score", calibration.CALIBRATED_COLOUR, "calibrated")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes.set(xlabel="Mean score of the bin", ylabel="Observed share of PNEUMONIA")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=9, frameon=False)
    return figure


def draw_usefulness(table: pd.DataFrame, column: str) -> Figure:
    """Return the decision curve of the scores in a column."""
    curve = measure_decision_curve(
        table["label"].to_numpy(), table[column].to_numpy(), table["patient_id"].to_numpy()
    )
    return draw_decision_curve(curve, 0.5)


def draw_worlds(losses: dict[str, tuple[float, float]]) -> Figure:
    """Return the metrics in the stress worlds.

    Args:
        losses: What a kind of worlds takes from sensitivity and from specificity.
    """

    def measured(name: str, kind: str, lost: tuple[float, float]) -> WorldMetrics:
        sensitivity = 0.97 - lost[0]
        specificity = 0.96 - lost[1]
        return WorldMetrics(
            world=name,
            kind=kind,
            auroc=0.99 - (lost[0] + lost[1]) / 8,
            auroc_interval=None,
            sensitivity=sensitivity,
            sensitivity_interval=interval(sensitivity, 0.025),
            specificity=specificity,
            specificity_interval=interval(specificity, 0.03),
        )

    worlds = tuple(
        measured(world.name, world.kind, losses.get(world.name, losses.get(world.kind, (0, 0))))
        for world in WORLDS.values()
    )
    clean = measured("clean", "", (0, 0))
    return draw_stress(Robustness(images=400, patients=300, clean=clean, worlds=worlds))


def draw_abstention(errors_are_unlike: bool) -> Figure:
    """Return the risk-coverage curves, where images that are wrong are unlike training or are not."""
    table = make_scores(2.8)
    threshold = 0.5
    rng = np.random.default_rng(5)
    p_values = rng.uniform(0.004, 1, len(table))
    is_wrong = (table["score"] >= threshold) != (table["label"] == 1)
    if errors_are_unlike:
        p_values[is_wrong] **= 5
    is_out = p_values < 0.01
    judgements = pd.DataFrame(
        {
            "image": table["image"],
            "scope_p": p_values.round(6).clip(0.001),
            "status": np.where(is_out, "abstained", "scored"),
            "reason": np.where(is_out, "features far from training", ""),
        }
    )
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        table.to_csv(run / "scores_test.csv", index=False)
        judgements.to_csv(run / measurement.JUDGEMENTS_NAME, index=False)
        validation = make_scores(2.8, seed=2)
        found = measurement.abstention_metrics(table, judgements, validation, threshold)
        record = measurement.Abstention(
            architecture=NETWORK,
            model_sha256=NO_DIGEST,
            threshold=threshold,
            **found,
            scores_sha256=file_sha256(run / "scores_test.csv"),
            judgements_sha256=file_sha256(run / measurement.JUDGEMENTS_NAME),
        )
        return draw_risk_coverage(run, record)


def draw_baselines(aurocs: dict[str, float], path: Path) -> None:
    """Draw the non-clinical baselines."""

    def baseline(signal: str, auroc: float) -> Baseline:
        train = Separation(
            n=1200, positives=700, patients=900, auroc=auroc, interval=interval(auroc, 0.02)
        )
        test = Separation(
            n=600,
            positives=360,
            patients=420,
            auroc=auroc - 0.01,
            interval=interval(auroc - 0.01, 0.04),
        )
        return Baseline(signal=signal, features="", train=train, test=test)

    after, *floors = [baseline(signal, auroc) for signal, auroc in aurocs.items()]
    audit = Audit(
        manifest_sha256=NO_DIGEST,
        harmonised=True,
        seed=0,
        images=1800,
        floors=tuple(floors),
        container_after=after,
        warning="",
    )
    audit_plot.draw_audit(audit, path)


def draw_shifts(effects: dict[str, float], path: Path) -> None:
    """Draw the differences between test and train in each class."""
    differences = tuple(
        Difference(
            label_name=label,
            compared="test",
            signal=signal,
            n_train=500,
            n_compared=200,
            median_train=120.0,
            median_compared=120.0 * (1.5 - abs(1 - effect)),
            effect=effect,
            interval=interval(effect, 0.04),
            p=0.0001 if abs(effect - 0.5) > 0.1 else 0.5,
            p_holm=0.001 if abs(effect - 0.5) > 0.1 else 1.0,
            significant=abs(effect - 0.5) > 0.1,
        )
        for label in LABEL_NAMES
        for signal, effect in effects.items()
    )
    shift = Shift(
        manifest_sha256=NO_DIGEST, seed=0, tests=len(differences), differences=differences
    )
    shift_plot.draw_shift(shift, path)


def draw_data(brighter: float, wider: float, healthy: float, folder: Path) -> None:
    """Draw the pictures of the data.

    Args:
        brighter: By how many gray levels NORMAL is brighter.
        wider: By which factor films of NORMAL are wider.
        healthy: The share of NORMAL in test; in train it is 0.4.
        folder: Where they are written.
    """
    rng = np.random.default_rng(3)
    rows = 900
    split = rng.choice(["train", "val", "test"], rows, p=[0.75, 0.1, 0.15])
    label = (rng.uniform(size=rows) > np.where(split == "test", healthy, 0.4)).astype(int)
    width = rng.integers(900, 1500, rows) * np.where(label == 0, wider, 1)
    table = pd.DataFrame(
        {
            "image": [f"train/{n}.jpeg" for n in range(rows)],
            "split": split,
            "label_name": [LABEL_NAMES[each] for each in label],
            "patient_id": [f"P{n}" for n in range(rows)],
            "etiology": np.where(label == 1, rng.choice(["bacteria", "virus"], rows), ""),
            "width": width.astype(int),
            "height": (rng.integers(800, 1300, rows)),
            "mode": "L",
            "format": "JPEG",
            "mean": rng.normal(115 + brighter * (label == 0), 12),
            "std": rng.normal(58, 5, rows),
        }
    )
    distributions.draw_all(table, folder, lambda _: np.zeros((64, 64), np.uint8))


def draw_saliency(in_the_lungs: bool, path: Path) -> None:
    """Draw Grad-CAM maps over phantoms, in the lungs or at a mark in the corner."""
    table = make_scores(2.6).sample(16, random_state=4).reset_index(drop=True)
    films = []
    maps = np.zeros((len(table), 7, 7))
    rng = np.random.default_rng(0)
    for number, label in enumerate(table["label"]):
        planned = PlannedImage(key="", patient=number, label=int(label), number=number)
        film, _ = draw_film(planned, seed=2, size=112)
        films.append(np.asarray(film.resize((112, 112))))
        if in_the_lungs:
            maps[number, 2:5, 1 if rng.random() < 0.5 else 5] = [0.5, 1, 0.6]
        else:
            maps[number, 0:2, 0:2] = [[1, 0.9], [0.6, 0.2]]
    draw_gradcam(np.stack(films), maps, table, 0.5, path)


def shrink(path: Path, scale: float = 1.0, share: float = 1.0) -> None:
    """Give a picture few colours and fewer pixels, and keep only this share of its height."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    top = picture.crop((0, 0, picture.width, round(picture.height * share)))
    size = (round(top.width * scale), round(top.height * scale))
    smaller = top.resize(size, Image.Resampling.LANCZOS)
    smaller.quantize(32, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


def main() -> None:
    """Draw every example."""
    good = make_scores(3.4)
    bad = make_scores(1.4)
    figures = {
        "roc_val_good": draw_comparison({NETWORK: 3.6, "VGG16": 3.3, "DenseNet121": 3.8}),
        "roc_val_bad": draw_comparison({NETWORK: 1.2, "VGG16": 3.3, "DenseNet121": 1.5}),
        "histories_good": draw_histories(
            [0.970, 0.978, 0.983, 0.986, 0.987, 0.987], [0.25, 0.19, 0.15, 0.13, 0.12, 0.11], 5
        ),
        "histories_bad": draw_histories(
            [0.962, 0.955, 0.941, 0.948, 0.930, 0.921], [0.22, 0.11, 0.05, 0.02, 0.01, 0.005], 1
        ),
        "reliability_good": draw_reliability(1.1),
        "reliability_bad": draw_reliability(3.0),
        "decision_curve_test_good": draw_usefulness(good, "score"),
        "decision_curve_test_bad": draw_usefulness(make_scores(1.0, sharpness=5.0), "raw_score"),
        "stress_good": draw_worlds({"stretch": (0.01, 0.01), "detail": (0.02, 0.01)}),
        "stress_bad": draw_worlds(
            {"noisy": (-0.02, 0.42), "gray": (0.16, 0.02), "stretch": (0.05, 0.08)}
        ),
        "risk_coverage_good": draw_abstention(errors_are_unlike=True),
        "risk_coverage_bad": draw_abstention(errors_are_unlike=False),
    }
    figures |= {f"{name}_good": figure for name, figure in draw_test(good, 0.5).items()}
    figures |= {f"{name}_bad": figure for name, figure in draw_test(bad, 0.15).items()}
    for name, figure in figures.items():
        plotting.save_png(figure, FOLDER / f"{name}.png", LARGEST)
    container = {"container after uniform encoding": 0.55, "container": 0.62}
    draw_baselines(
        container | {"border ring": 0.71, "thumbnail": 0.86}, FOLDER / "shortcuts_good.png"
    )
    container = {"container after uniform encoding": 0.58, "container": 0.99}
    draw_baselines(
        container | {"border ring": 0.97, "thumbnail": 0.98}, FOLDER / "shortcuts_bad.png"
    )
    draw_shifts({"mean": 0.47, "std": 0.53, "sharpness": 0.52}, FOLDER / "shift_good.png")
    draw_shifts({"mean": 0.86, "std": 0.58, "sharpness": 0.11}, FOLDER / "shift_bad.png")
    pictures = ("class_distribution", "intensity", "image_sizes")
    with tempfile.TemporaryDirectory() as name:
        for outcome, brighter, wider, healthy in [("good", 1, 1.0, 0.4), ("bad", 30, 1.5, 0.06)]:
            draw_data(brighter, wider, healthy, Path(name))
            for picture in pictures:
                shutil.copy(Path(name) / f"{picture}.png", FOLDER / f"{picture}_{outcome}.png")
    for outcome in ("good", "bad"):
        path = FOLDER / f"gradcam_{outcome}.png"
        draw_saliency(outcome == "good", path)
        shrink(path, 0.55, share=0.52)
        for picture in (*pictures, "shift", "shortcuts"):
            shrink(FOLDER / f"{picture}_{outcome}.png")


if __name__ == "__main__":
    main()
