"""pipeline.json: what a network in another runtime needs beside itself to decide as the model does.

reader.py in the same folder reads it; docs/formats.md explains every field.
"""

from cxr.core import __version__
from cxr.core.records import Versioned
from cxr.core.settings import LABEL_NAMES, FileSettings, Strict, TrainingSettings
from cxr.data.images.model_input import UNIFORM_QUALITY
from cxr.models.scope import ScopeReference
from cxr.models.scope import reference as scope_files
from cxr.models.scope.neighbours import NEIGHBOUR
from cxr.models.scope.verdicts import FEWEST_PATIENTS
from cxr.models.training.records import Training
from cxr.results.evaluation.in_scope import RATE
from cxr.stats.calibration.maps import TINY, Method

NAME = "pipeline.json"


class PixelContract(Strict):
    """What a network sees of a film.

    Attributes:
        side: Of the square gray image, in pixels; the whole film is resized to it.
        resampling: How it is resized, with antialiasing; Pillow's name.
        reducing_gap: Pillow's argument: a large film is shrunk by a whole number first.
        jpeg_quality: The pixels are encoded as a JPEG of this quality by Pillow and decoded again;
            null: they are not.
        orientation: Where the film's upright orientation comes from.
        min_side: A film whose shorter side has fewer pixels is rejected.
        max_aspect: A film whose longer side is more than this many times the shorter one is rejected.
        min_contrast: A film whose gray values, 0 to 255, have a smaller standard deviation is rejected.
    """

    side: int
    resampling: str = "bilinear"
    reducing_gap: float = 2.0
    jpeg_quality: int | None
    orientation: str = "EXIF"
    min_side: int = FileSettings().min_side
    max_aspect: float = FileSettings().max_aspect
    min_contrast: float = FileSettings().min_contrast


class CalibrationContract(Strict):
    """How a raw score becomes the score that is compared with the threshold.

    Attributes:
        method: none; temperature or platt: sigmoid(logit(raw) / temperature + intercept); isotonic:
            linear between the points (x, y).
        temperature: Divisor of the logit.
        intercept: Added to the divided logit.
        x: Raw scores, rising.
        y: Their calibrated scores.
        clip: A raw score is kept this far from 0 and 1 before its logit.
    """

    method: Method
    temperature: float
    intercept: float
    x: tuple[float, ...]
    y: tuple[float, ...]
    clip: float = TINY


class ScopeContract(Strict):
    """When a film is out of the model's scope: it keeps its score and gets no prediction.

    Attributes:
        arrays: The file with the films of train and validation in features.
        arrays_sha256: Its SHA-256.
        rate: A film is out of scope whose p-value is at most this.
        neighbour: Which nearest film of train the distance is taken to.
        signal: The column of val_signals that has the distances of the validation films.
        fewest_patients: With fewer validation patients nothing is called out of scope.
    """

    arrays: str = scope_files.ARRAYS_NAME
    arrays_sha256: str
    rate: float = RATE
    neighbour: int = NEIGHBOUR
    signal: int
    fewest_patients: int = FEWEST_PATIENTS


class Pipeline(Versioned):
    """pipeline.json.

    Attributes:
        schema_version: The version of this layout.
        run: The run that the model comes from.
        version: The version of cxr that exported it.
        architecture: Of the network.
        model_sha256: Of model.keras, which all files of other formats were made from.
        input: The name of the network's input: gray pixels 0 to 255, float32 (n, side, side, 1).
        outputs: The names of its outputs: features, float32 (n, d), and logits, float32 (n, 1); the
            raw score is the sigmoid of the logit.
        pixels: What the network sees of a film.
        calibration: How a raw score becomes the score.
        threshold: From this score on a film is positive.
        labels: The names of label 0 and label 1.
        scope: When a film is out of scope; null where the model does not know its scope.
    """

    run: str
    version: str
    architecture: str
    model_sha256: str
    input: str = "pixels"
    outputs: tuple[str, str] = ("features", "logit")
    pixels: PixelContract
    calibration: CalibrationContract
    threshold: float
    labels: tuple[str, str] = LABEL_NAMES
    scope: ScopeContract | None


def build_pipeline(
    run: str,
    settings: TrainingSettings,
    training: Training,
    scope: ScopeReference | None,
) -> Pipeline:
    """Return what stands in pipeline.json of a model.

    Args:
        run: The run's id.
        settings: Of the run.
        training: The record of the model.
        scope: What its scope was learned from; None where it has none.
    """
    fields = set(CalibrationContract.model_fields)
    quality = UNIFORM_QUALITY if settings.harmonise else None
    contract = None
    if scope is not None:
        signal = scope.signals.index("features")
        contract = ScopeContract(arrays_sha256=scope.arrays_sha256, signal=signal)
    return Pipeline(
        run=run,
        version=__version__,
        architecture=training.architecture,
        model_sha256=training.model_sha256,
        pixels=PixelContract(side=training.image_size, jpeg_quality=quality),
        calibration=CalibrationContract(**training.calibration.model_dump(include=fields)),
        threshold=training.threshold,
        scope=contract,
    )
