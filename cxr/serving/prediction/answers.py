"""What a network says of decoded images: scores, and whether they are in its scope."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr.core.errors import ModelError
from cxr.core.settings import ScopeSettings
from cxr.models import scoring
from cxr.models.networks import model_surgery
from cxr.models.scope import Scope, read_scope
from cxr.models.scope.opened_model import open_model
from cxr.models.scope.verdicts import describe_shortage
from cxr.results.cards.model_card import Card
from cxr.serving.prediction.decoding import Film
from cxr.serving.prediction.rows import INSTANCE, Row, abstain, scored_row
from cxr.serving.sites.records import Site
from cxr.stats.abstention.label_sets import LabelSets, fit_label_sets
from cxr.stats.metrics import Vector

logger = logging.getLogger("cxr.predict")


class Limits(NamedTuple):
    """What a network abstains from.

    Attributes:
        scope: What it was made for.
        rate: The share of images in scope that may be called out of it.
        label_sets: Of which labels one has to fit; None where no coverage was asked for.
    """

    scope: Scope
    rate: float
    label_sets: LabelSets | None = None

    @property
    def measurements(self) -> list[str]:
        """The names of what is measured of each image."""
        known = {"score", "label", "patient"}
        return [str(name) for name in self.scope.validation if name not in known]


def find_limits(
    export: Path,
    card: Card,
    settings: ScopeSettings,
    site: Site | None,
) -> Limits | None:
    """Return what an exported model abstains from, None where it was exported without a scope.

    Args:
        export: The export folder.
        card: Its card.
        settings: The rate and the coverage.
        site: Whose scores are given; None for the model's own.

    Raises:
        ModelError: The scope is damaged or another model's, or there is none and a coverage or
            a strict verdict is asked for.
        DataError: There are too few validation patients for the coverage.
    """
    scope = read_scope(export)
    if scope is None:
        if settings.coverage is not None:
            raise ModelError(
                f"--coverage {settings.coverage:g}: expected a model with its scope, which holds "
                "the validation scores, found one that an earlier version exported: export it "
                "again, or leave --coverage out"
            )
        if settings.strict:
            raise ModelError(
                "--strict: expected a model with its scope, which holds what images are compared "
                "with, found one that an earlier version exported: export it again, or leave "
                "--strict out"
            )
        return None
    if scope.reference.model_sha256 != card.model_sha256:
        raise ModelError(
            f"{export}: the scope is that of another model (SHA-256 "
            f"{scope.reference.model_sha256[:12]}, expected {card.model_sha256[:12]}): export again"
        )
    label_sets = None
    if settings.coverage is not None:
        validation = scope.validation
        own = validation["score"].to_numpy(np.float64)
        label_sets = fit_label_sets(
            validation["label"].to_numpy(),
            site.apply(own) if site else own,
            validation["patient"].to_numpy(),
            settings.coverage,
        )
    shortage = describe_shortage(scope.validation["patient"].nunique(), settings.scope_rate)
    if shortage:
        logger.warning("--scope-rate %g: %s", settings.scope_rate, shortage)
    return Limits(scope, settings.scope_rate, label_sets)


class Network(NamedTuple):
    """A network in use.

    Attributes:
        model: Pixels to scores (n, 1); to features and scores where there are limits.
        card: Its card, with the threshold of the site.
        site: Whose calibration is used; None for its own.
        limits: What it abstains from; None where nothing is known of its scope.
    """

    model: Any
    card: Card
    site: Site | None = None
    limits: Limits | None = None

    def answer(
        self,
        names: list[str],
        films: list[Film],
        size: int,
    ) -> list[Row]:
        """Return the row of each of a few images.

        Args:
            names: What they are called.
            films: Each decoded; at least one.
            size: The number of places in a batch: each has the same shape, so that the network is
                compiled once, and images are repeated in places that are left.
        """
        positions = np.resize(np.arange(len(films)), size)
        pixels = np.stack([film.pixels for film in films])
        ((*features, raw),) = scoring.model_outputs(self.model, pixels, positions, size)
        scores = self._calibrate(raw[: len(films)])
        rows = [
            scored_row(name, score, self.card)
            for name, score in zip(names, scores.tolist(), strict=True)
        ]
        if self.limits is not None:
            rows = self._judge(rows, features[0][: len(films)], pixels, scores)
        day = datetime.now(UTC).date().isoformat()
        for row, film in zip(rows, films, strict=True):
            row["device"] = film.device
            row["day"] = day
            if film.instance is not None:
                row[INSTANCE] = film.instance
        return rows

    def _calibrate(self, raw: Vector) -> Vector:
        """Return the scores that are shown, float64 (n,)."""
        own = self.card.calibration.apply(raw.astype(np.float64).reshape(-1))
        return self.site.apply(own) if self.site else own

    def _judge(
        self,
        rows: list[Row],
        features: Vector,
        pixels: Vector,
        scores: Vector,
    ) -> list[Row]:
        """Return the rows with what was measured, without the predictions of what is out of scope."""
        assert self.limits is not None
        scope, rate, label_sets = self.limits
        measured = scope.measure(features.astype(np.float32), pixels)
        reasons = [""] * len(rows)
        if label_sets is not None:
            reasons = label_sets.reasons(scores, self.card.threshold)
        judged = []
        verdicts = zip(rows, scope.judge(measured, rate), reasons, strict=True)
        for number, (row, judgement, reason) in enumerate(verdicts):
            whole = row | {"scope_p": judgement.p}
            whole.update(zip(measured.columns, measured.iloc[number], strict=True))
            why = judgement.reason or reason
            judged.append(abstain(whole, why) if why else whole)
        return judged


def open_network(
    export: Path,
    card: Card,
    settings: ScopeSettings,
    site: Site | None = None,
) -> Network:
    """Load an exported model with what it abstains from.

    Args:
        export: The export folder.
        card: Its card, with the threshold of the site.
        settings: When it abstains.
        site: Whose calibration is used; None for its own.

    Raises:
        ModelError: As `find_limits` raises it.
        DataError: As `find_limits` raises it.
    """
    import keras

    model = model_surgery.fuse_batch_norm(keras.models.load_model(export / "model.keras"))
    limits = find_limits(export, card, settings, site)
    if limits is not None:
        model = open_model(model).model
    return Network(model, card, site, limits)
