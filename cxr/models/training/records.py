"""The records that a training leaves: what came out, or why it failed."""

from cxr.core.records import Record
from cxr.core.settings import Strict
from cxr.core.timing import Stage
from cxr.models.stress import Robustness
from cxr.stats.calibration import Calibration
from cxr.stats.calibration.reliability import Quality
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics
from cxr.stats.thresholds import OperatingPoint


class Member(Strict):
    """One network of an ensemble, with its own metrics on validation.

    Attributes:
        training: The name of the training that it is from.
        epoch: The epoch of fine-tuning after which it was like this; None: as it was published.
        auroc: Its AUROC on the validation images, by its raw scores.
        auprc: Its AUPRC there.
        model_sha256: The SHA-256 of the training's model.keras.
    """

    training: str
    epoch: int | None
    auroc: float
    auprc: float
    model_sha256: str

    @property
    def name(self) -> str:
        """Return what the member is called: its training, and its epoch if it is one of several."""
        return self.training if self.epoch is None else f"{self.training} epoch {self.epoch}"


class Training(Record):
    """training.json: one trained model, with its metrics on validation at its operating point.

    An ensemble has such a record, too: it learned nothing itself, so that epochs, best_epoch and
    optimizer_sha256 are 0 and "", and its seconds are those of its members' trainings and of
    averaging them.

    Attributes:
        name: The name of the training and of its folder.
        architecture: Which network, or of which networks it is an ensemble.
        seed: The seed of this training.
        weights: What the training started from, for a person to read.
        weights_sha256: The SHA-256 of the file of pretrained weights, or "".
        image_size: Side of the square input, in pixels.
        epochs: How many epochs of fine-tuning were done.
        best_epoch: The one whose model is kept; 0 is the head alone.
        seconds: What all stages together took.
        stages: What each stage took; empty in model cards of version 0.1.
        images_per_second: Images learned from, per second of all stages.
        milliseconds: The time to score one image, on this machine beside the other trainings.
        calibration: The map from raw scores to probabilities, fitted on validation.
        calibration_quality: How well the scores agree with the labels before and after it.
        operating_point: The threshold and how it was chosen.
        val: Metrics on validation.
        val_intervals: Their intervals; None for those that cannot be estimated.
        robustness: Metrics on validation in the stress worlds; None in records of earlier versions.
        model_sha256: The SHA-256 of model.keras.
        optimizer_sha256: The SHA-256 of the state of the optimizer.
        versions: The versions of this product, Keras, its backend and Python.
        members: The networks of an ensemble; none for a single network.
    """

    name: str
    architecture: str
    seed: int
    weights: str
    weights_sha256: str
    image_size: int
    epochs: int
    best_epoch: int
    seconds: float
    stages: tuple[Stage, ...] = ()
    images_per_second: float
    milliseconds: float
    calibration: Calibration
    calibration_quality: Quality
    operating_point: OperatingPoint
    val: Metrics
    val_intervals: dict[str, Interval | None]
    robustness: Robustness | None = None
    model_sha256: str
    optimizer_sha256: str
    versions: dict[str, str]
    members: tuple[Member, ...] = ()

    @property
    def threshold(self) -> float:
        """Return the calibrated score from which on an image is called PNEUMONIA."""
        return self.operating_point.threshold

    @property
    def stress_auroc(self) -> float | None:
        """Return the mean validation AUROC in the stress worlds, None if that was not measured."""
        return self.robustness.mean_auroc if self.robustness else None

    @property
    def validation_score(self) -> float:
        """Return by what models are ranked: clean validation and the stress worlds count alike.

        It is the mean of the AUROC on the images as they are and of the mean AUROC in the worlds; the
        former alone in records of earlier versions.
        """
        clean = self.val_metric("auroc")
        return clean if self.stress_auroc is None else (clean + self.stress_auroc) / 2

    def val_metric(self, name: str) -> float:
        """Return a metric on validation, 0 where it is not estimable."""
        return float(self.val[name] or 0.0)


class Failure(Record):
    """A training that ended without a model."""

    name: str
    architecture: str
    error: str
