"""The records of a monitoring store: references, and what each prediction adds. No image, no id."""

import hashlib
from datetime import date
from typing import Self

from pydantic import AwareDatetime, model_validator

from cxr.core.records import Versioned
from cxr.core.settings import Strict
from cxr.stats.drift.binning import Bins
from cxr.stats.drift.expected import Called


class Reference(Versioned):
    """reference.json of a stream: the model at work, and what its images are compared with.

    Attributes:
        architecture: Of the model.
        run: The run that trained it.
        model_sha256: The digest of its model.keras.
        version: The version of cxr that exported it.
        site: The site whose threshold and calibration are applied; empty for the card's own.
        threshold: The score from which on an image is called positive.
        made: When the reference was made, with the first batch.
        images: How many validation images the bins hold.
        patients: How many patients these show.
        bins: Of each measurement that is tested.
        untested: Why nothing is tested; empty if it is.
        miscalibrated: Why the scores may not be taken for probabilities; empty if nothing found
            speaks against it.
    """

    architecture: str
    run: str
    model_sha256: str
    version: str
    site: str
    threshold: float
    made: AwareDatetime
    images: int
    patients: int
    bins: tuple[Bins, ...]
    untested: str = ""
    miscalibrated: str = ""

    @property
    def stream(self) -> str:
        """The name of the folder of the batches that are compared with this reference.

        The same model with another site, threshold or export has another one.
        """
        content = self.model_dump_json(exclude={"made"})
        digest = hashlib.sha256(content.encode()).hexdigest()
        return f"{self.architecture}-{self.model_sha256[:8]}-{digest[:8]}"

    def describe(self) -> str:
        """Return the model, and the site if there is one, for a sentence."""
        model = f"{self.architecture}, run {self.run} (model {self.model_sha256[:8]})"
        return f"{model} at site {self.site}" if self.site else model


class Group(Strict):
    """The images of a batch that were scored on one day and come from one device.

    Attributes:
        day: The day, in UTC.
        device: Manufacturer and model of the device; empty where not known.
        images: How many they are.
        abstained: How many of them the model gave no class.
        positive: Those called positive.
        negative: Those called negative.
        counts: The images in each bin, by measurement.
    """

    day: date
    device: str
    images: int
    abstained: int
    positive: Called
    negative: Called
    counts: dict[str, tuple[int, ...]]

    @model_validator(mode="after")
    def _check_sums(self) -> Self:
        """Refuse counts that do not add up."""
        if self.abstained + self.positive.images + self.negative.images != self.images:
            raise ValueError("abstained, positive and negative images are not all images")
        for name, counts in self.counts.items():
            if min(counts, default=0) < 0 or sum(counts) != self.images:
                raise ValueError(f"the bins of {name} do not hold {self.images} images")
        return self


class Batch(Versioned):
    """batches/<name>.json of a stream: the aggregates of one prediction.

    Attributes:
        written: When, by the clock of the machine that predicted.
        groups: Its scored images by day and device.
        rejected: How many files were not scored, by reason.
    """

    written: AwareDatetime
    groups: tuple[Group, ...]
    rejected: dict[str, int]

    @property
    def images(self) -> int:
        """How many images were scored."""
        return sum(group.images for group in self.groups)

    @property
    def last_day(self) -> date:
        """The last day on which images were scored, or else that of the writing."""
        return max((group.day for group in self.groups), default=self.written.date())
