"""model_card.json: all that using an exported model needs, and where its figures come from.

In the file each value stands once. The architecture, the image size, the threshold, the
calibration and the digests stand at the top, where users look for them; the digest of the
manifest stands with the data. The records of the run in the card have fields of these names, too:
they are left out when the card is written, and filled in when it is read.
"""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from cxr.core.errors import DataError, ModelError
from cxr.core.files import file_sha256
from cxr.core.records import Versioned
from cxr.core.settings import TrainingSettings, upgrade_training_settings
from cxr.data.manifest.records import Ingest
from cxr.exploration.audit import Audit
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results.cards.usefulness import Usefulness
from cxr.results.evaluation import Evaluation, StressTest
from cxr.results.evaluation.abstention.measurement import Abstention
from cxr.results.evaluation.formats.records import Format
from cxr.results.evaluation.in_scope import ScopeSummary
from cxr.results.gradcam.summary import Attention
from cxr.stats.calibration import Calibration
from cxr.stats.thresholds import OperatingPoint

NAME = "model_card.json"
LICENCES = (
    "Whoever holds the images sets the terms. The published set (Kermany, Zhang, Goldbaum, "
    "Mendeley Data) is CC BY 4.0: name its authors. ImageNet weights come under their own "
    "publishers' terms."
)
INTENDED_USE = (
    "Research and engineering on pipelines like this one: ranking frontal chest X-rays by how much "
    "they look like the PNEUMONIA folder of the training data."
)
LIMITS = (
    "Not a medical device: never for diagnosis, triage or treatment.",
    "The published images show children of one to five years from one hospital, AP view; other "
    "ages, devices, views and places are outside what was tested.",
    "Labels are image-level readings; other findings are not looked for, and a low score does not "
    "mean healthy.",
    "PPV and NPV hold for the prevalence of the test set given here, which is far above that of a "
    "clinic.",
    "A score is a probability only where pneumonia is as common as in the validation images: "
    "compare it with the threshold.",
)

# By part of the card: its fields whose values stand at the top of the card, or with the data.
_STORED_ELSEWHERE = {
    "operating_point": ("threshold",),
    "training": ("architecture", "image_size", "operating_point", "calibration", "model_sha256"),
    "selection": ("architecture", "threshold"),
    "evaluation": ("architecture", "model_sha256", "threshold"),
    "robustness": ("architecture", "model_sha256", "threshold"),
    "attention": ("architecture", "model_sha256", "threshold"),
    "abstention": ("architecture", "model_sha256", "threshold"),
    "settings": ("image_size",),
    "audit": ("manifest_sha256",),
}


class Card(Versioned):
    """The content of model_card.json; see the top of this file for what stands where.

    Cards of earlier versions say nothing of `robustness`, `abstention`, `scope` and `usefulness`;
    `formats` are the files for other runtimes that were asked for, published or not.
    """

    architecture: str
    run: str
    version: str
    commit: str
    labels: tuple[str, str] = ("NORMAL", "PNEUMONIA")
    image_size: int
    pixels: str
    threshold: float
    operating_point: OperatingPoint
    calibration: Calibration
    model_sha256: str
    data: Ingest
    settings: TrainingSettings
    training: Training
    selection: Selection
    evaluation: Evaluation
    robustness: StressTest | None = None
    abstention: Abstention | None = None
    scope: ScopeSummary | None = None
    formats: tuple[Format, ...] = ()
    usefulness: Usefulness | None = None
    audit: Audit
    attention: Attention
    intended_use: str = INTENDED_USE
    limits: tuple[str, ...] = LIMITS
    licences: str = LICENCES

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Return a card of an earlier schema version in the layout of this one; see `upgrade`."""
        return upgrade(old)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, content: Any) -> Any:
        """Give each part of a card from a file the values that stand elsewhere in it."""
        if not isinstance(content, dict) or not isinstance(content.get("data"), dict):
            return content
        filled = dict(content)
        values = filled | {"manifest_sha256": content["data"].get("manifest_sha256")}
        for part, fields in _STORED_ELSEWHERE.items():
            if isinstance(filled.get(part), dict):
                filled[part] = filled[part] | {name: values.get(name) for name in fields}
                values[part] = filled[part]
        return filled

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the content for a file, each value once."""
        return _without_copies(serialize(self))

    @classmethod
    def read_from(cls, folder: Path) -> Self:
        """Return the card of an export folder, whose model is not looked at.

        Raises:
            ModelError: There is none, or none that can be read.
        """
        try:
            return cls.read(folder / NAME)
        except FileNotFoundError:
            raise ModelError(
                f"{folder}: expected an export folder with model.keras and {NAME}"
            ) from None
        except DataError as error:
            raise ModelError(str(error)) from error


def read_card(folder: Path) -> Card:
    """Return the card of an export folder, whose model is the one that the card describes.

    Raises:
        ModelError: There is no card or no model, the card cannot be read, or the model is another.
    """
    card = Card.read_from(folder)
    if not (folder / "model.keras").is_file():
        raise ModelError(f"{folder}: model.keras is missing beside its card")
    if file_sha256(folder / "model.keras") != card.model_sha256:
        raise ModelError(
            f"{folder}: model.keras is not the file its card describes (SHA-256 differs): "
            "export again"
        )
    return card


def upgrade(old: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a card of an earlier schema version in the layout of this one.

    Version 1 (cxr 0.1) has the same fields, but repeats the values at its top in the records of the
    run; the settings have other names for the epochs. In version 2 (cxr 0.2) the settings do not
    say that augmentation shows whole images.
    """
    settings = old.get("settings")
    if isinstance(settings, dict):
        old = old | {"settings": upgrade_training_settings(settings)}
    return _without_copies(old)


def written_by(path: Path) -> tuple[str, int]:
    """Return the version of cxr that wrote a card, and the schema version of the file."""
    content = json.loads(path.read_bytes())
    return str(content["version"]), int(content.get("schema_version", 1))


def _without_copies(content: dict[str, Any]) -> dict[str, Any]:
    """Return a card's content without the fields that stand elsewhere in it."""
    once = dict(content)
    for part, fields in _STORED_ELSEWHERE.items():
        if isinstance(once.get(part), dict):
            once[part] = {name: v for name, v in once[part].items() if name not in fields}
    return once
