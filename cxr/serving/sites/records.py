"""site.json: a model measured at a site, with the threshold and the calibration that it has there."""

from typing import Literal

import numpy as np
from pydantic import AwareDatetime

from cxr.core.records import Versioned
from cxr.core.settings import Strict
from cxr.models.stress import Robustness
from cxr.serving.sites.promise import Promise
from cxr.stats.calibration import Calibration, prevalence
from cxr.stats.calibration.line import CalibrationLine
from cxr.stats.calibration.prevalence import ClassComparison
from cxr.stats.calibration.reliability import Quality
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics, Vector
from cxr.stats.subgroups import Subgroup, SubgroupTest

NAME = "site.json"
SCORES = "scores_site.csv"
WORLD_SCORES = "scores_site_worlds.csv"
REFERENCE_SCORES = "scores_reference.csv"
NOT_MEASURED = "not_measured.csv"
CARD = "SITE_CARD.md"
STATUS = "status"  # column of SCORES, where the model has a scope: "scored" or "abstained"
CHANCE = 0.5  # the AUROC of scores that say nothing
MOST_ABSTAINED = 0.1  # a share of images out of scope from which on it is said first

Verdict = Literal["held", "not held", "not known"]


class OperatingFigures(Strict):
    """How well a threshold does on the sample.

    Attributes:
        threshold: The lowest score that counts as positive.
        figures: Counts and metrics.
        intervals: The 95 % interval of each metric, by patient; None where not estimable.
    """

    threshold: float
    figures: Metrics
    intervals: dict[str, Interval | None]


class Point(Strict):
    """One point of the site's calibration, with the 95 % interval of its bootstrap by patient."""

    score: float
    calibrated: float
    low: float
    high: float


class PrevalenceOffer(Strict):
    """The correction of scores for how common pneumonia is, and what speaks for and against it.

    Attributes:
        reference: The prevalence at which the model's scores are probabilities, of validation.
        wanted: The prevalence that a person gave; None where none was given.
        comparisons: Of the scores here and on validation, class by class; empty where the model
            brings no reference.
        stands: Whether the assumption was tested and is not refuted; None where it could not be
            tested.
        shift: What is added to the logit of each score; 0 where nothing is corrected.
        words: What this means, in sentences.
    """

    reference: float
    wanted: float | None
    comparisons: tuple[ClassComparison, ...]
    stands: bool | None
    shift: float
    words: str


class Measurement(Strict):
    """All that is computed from the scores of a site, so that it can be computed again.

    Attributes:
        shipped: The threshold of the model's card, on the model's own scores.
        verdict: Whether the promised sensitivity holds there, by the interval of the sensitivity.
        verdict_words: The verdict in a sentence.
        mix_shift: What the sample's share of PNEUMONIA, against that of validation, adds to the
            logit of a probability. Calibration is measured and fitted on scores moved by it: a
            sample need not have been drawn with the prevalence of validation.
        calibration_quality: Of the model's raw and calibrated scores.
        line: Slope and intercept of the model's calibrated scores.
        brier: The interval of the calibrated scores' Brier score.
        subgroups: Metrics of parts of the sample, at the shipped threshold.
        subgroup_tests: Whether these differ.
        robustness: In the stress worlds, at the shipped threshold.
        calibration: Applied to the model's calibrated scores, moved by mix_shift before and back
            after, so that they hold for the prevalence of validation as the model's do; "none"
            leaves them as they are.
        calibration_points: How sure the map is, at a few scores; empty for "none".
        prevalence: The prior correction that is offered, applied after `calibration`.
        promise: The threshold by the written rule, on the site's own scores.
        local: The threshold in use at the site, on the site's own scores.
        local_quality: Of the model's calibrated scores and of those by `calibration`.
        abstained: How many of the images are out of the model's scope, so that a prediction would
            abstain; None where the model has no scope. All other figures are of all images.
        answered: At the threshold in use, of the images that are in scope; None where none is out
            of it, or too few are left.
    """

    shipped: OperatingFigures
    verdict: Verdict
    verdict_words: str
    mix_shift: float
    calibration_quality: Quality
    line: CalibrationLine
    brier: Interval | None
    subgroups: tuple[Subgroup, ...]
    subgroup_tests: tuple[SubgroupTest, ...]
    robustness: Robustness
    calibration: Calibration
    calibration_points: tuple[Point, ...]
    prevalence: PrevalenceOffer
    promise: Promise
    local: OperatingFigures
    local_quality: Quality
    abstained: int | None = None
    answered: OperatingFigures | None = None


class Site(Versioned):
    """site.json.

    Attributes:
        name: What the site is called.
        measured: When.
        version: The version of cxr that measured it.
        architecture: Of the model.
        run: Of the model.
        model_sha256: Of its model.keras: a site is of this model alone.
        model_calibration: The calibration of the model's card.
        model_threshold: Its threshold.
        model_prevalence: Of the validation images that its calibration was fitted on.
        promised: The sensitivity that a threshold has to keep here.
        data: Where the sample is.
        images: Images by class.
        patients: Patients by class.
        unmeasured: Files that were not measured, by reason; not_measured.csv names each.
        seen: How many of these show a picture or a patient of the model's training; None where
            that is not known.
        asked_prevalence: The prevalence that a person gave.
        notes: What was given and not used, in sentences.
        digests: The SHA-256 of each table, by its name.
        measurement: All that follows from the tables.
    """

    name: str
    measured: AwareDatetime
    version: str
    architecture: str
    run: str
    model_sha256: str
    model_calibration: Calibration
    model_threshold: float
    model_prevalence: float
    promised: float
    data: str
    images: dict[str, int]
    patients: dict[str, int]
    unmeasured: dict[str, int]
    seen: int | None
    asked_prevalence: float | None
    notes: tuple[str, ...] = ()
    digests: dict[str, str]
    measurement: Measurement

    @property
    def threshold(self) -> float:
        """Return the threshold in use at the site."""
        return self.measurement.local.threshold

    def apply(self, scores: Vector) -> Vector:
        """Return the site's scores of images from the model's calibrated ones, float64 (n,).

        Args:
            scores: What the calibration of the model's card gives, 0 to 1, (n,).
        """
        found = self.measurement
        return localise(
            np.asarray(scores, np.float64),
            found.calibration,
            found.mix_shift,
            found.prevalence.shift,
        )

    def warnings(self) -> tuple[str, ...]:
        """Return in sentences, without full stops, why no threshold may help at this site."""
        found = self.measurement
        images = sum(self.images.values())
        warnings = []
        auroc = found.shipped.intervals["auroc"]
        if auroc and auroc.low <= CHANCE:
            warnings.append(
                f"The scores may be no better than chance here (AUROC {auroc.low:.3f} to "
                f"{auroc.high:.3f}): no threshold mends that"
            )
        if found.abstained and found.abstained > MOST_ABSTAINED * images:
            warnings.append(
                f"`cxr predict` abstains from {found.abstained} of these {images} images, which are "
                "out of the model's scope: it was not made for films like these"
            )
        return tuple(warnings)

    def sentence(self) -> str:
        """Return what was found, in a few sentences, without a full stop at the end."""
        found = self.measurement
        sentences = [
            f"{self.name}: {sum(self.images.values())} images; {found.verdict_words}",
            *self.warnings(),
            f"Threshold by the rule: {found.promise.sentence()}",
        ]
        return ". ".join(sentences)


def localise(
    scores: Vector,
    calibration: Calibration,
    mix_shift: float,
    shift: float,
) -> Vector:
    """Return the site's scores from the model's calibrated ones; the order stays.

    Args:
        scores: The model's calibrated scores, 0 to 1, (n,).
        calibration: The site's own.
        mix_shift: The prevalence at which it was fitted, against that of validation, in logits.
        shift: The prior correction, in logits.
    """
    if calibration.method == "none":
        return prevalence.adjust(scores, shift)
    fitted = calibration.apply(prevalence.adjust(scores, mix_shift))
    return prevalence.adjust(fitted, shift - mix_shift)
