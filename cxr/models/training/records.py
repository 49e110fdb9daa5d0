"""The records of a training: what came out, or why it failed."""

from cxr.core.formatting import printable as printable  # noqa: PLC0414 - others import it from here
from cxr.core.records import Record
from cxr.core.settings import LABEL_NAMES as LABEL_NAMES  # noqa: PLC0414 - others import it from here
from cxr.core.timing import Stage
from cxr.stats.calibration import Calibration
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics
from cxr.stats.reliability import Quality
from cxr.stats.thresholds import OperatingPoint


class Training(Record):
    """One trained model, named as its folder is. Figures are of the validation set at its operating point.

    `milliseconds` is the measured time to score one image, on this machine beside the other trainings.
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
    stages: tuple[Stage, ...] = ()  # cards of earlier versions have none
    images_per_second: float
    milliseconds: float
    calibration: Calibration
    calibration_quality: Quality
    operating_point: OperatingPoint
    val: Metrics
    val_intervals: dict[str, Interval | None]
    model_sha256: str
    optimizer_sha256: str
    versions: dict[str, str]

    @property
    def threshold(self) -> float:
        """Return the calibrated score from which on an image is called PNEUMONIA."""
        return self.operating_point.threshold


class Failure(Record):
    """A training that ended without a model."""

    name: str
    architecture: str
    error: str
