"""What people read of a site: SITE_CARD.md, its ROC curve and its calibration."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.core import plotting
from cxr.core.formatting import NOT_ESTIMABLE
from cxr.results.cards import rendering
from cxr.results.metric_table import metric_rows
from cxr.results.plots import calibration, style
from cxr.results.plots.curves import roc
from cxr.results.plots.scored_set import ScoredSet
from cxr.serving.sites.records import CARD, Site
from cxr.serving.sites.scoring import read_tables
from cxr.stats.calibration.line import Estimate
from cxr.stats.calibration.prevalence import adjust

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROC = "roc_site.png"
RELIABILITY = "reliability_site.png"
_SITE_COLOUR = "#D55E00"


def write_card(site: Site, folder: Path) -> None:
    """Write SITE_CARD.md and its two pictures.

    Args:
        site: The record.
        folder: The site's folder, with its tables.
    """
    scores, _, _ = read_tables(folder)
    plotting.save_png(draw_roc(site, scores), folder / ROC)
    plotting.save_png(draw_reliability(site, scores), folder / RELIABILITY)
    (folder / CARD).write_text(card_text(site), encoding="utf-8")


def card_text(site: Site) -> str:
    """Return SITE_CARD.md of a site, in Markdown."""
    found = site.measurement
    shipped = metric_rows(found.shipped.figures, found.shipped.intervals)
    local = metric_rows(found.local.figures, found.local.intervals)
    template = rendering.load_templates().get_template(f"{CARD}.j2")
    return template.render(
        site=site,
        rows=list(zip(shipped, local, strict=True)),
        estimate=describe_estimate,
    )


def describe_estimate(estimate: Estimate | None) -> str:
    """Return a number with its interval, or "not estimable".

    >>> describe_estimate(Estimate(value=1.0, low=0.8, high=1.2))
    '1.000 (0.800 to 1.200)'
    """
    if estimate is None:
        return NOT_ESTIMABLE
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def draw_roc(site: Site, scores: pd.DataFrame) -> "Figure":
    """Return the ROC curve at the site, with the model's threshold and the site's.

    Args:
        site: The record.
        scores: Its scores_site.csv.
    """
    labels = scores["label"].to_numpy()
    shipped = scores["score"].to_numpy(np.float64)
    own = ScoredSet(site.architecture, labels, shipped, site.model_threshold)
    local = ScoredSet(site.architecture, labels, site.apply(shipped), site.threshold)
    figure = roc.draw_roc([own], f"ROC at the site, n = {len(labels)} images")
    axes = figure.axes[0]
    axes.plot(
        local.false_positive_rate,
        local.sensitivity,
        label="The site's threshold",
        **style.point_style(_SITE_COLOUR),
    )
    for line in axes.lines:
        if line.get_label() == "Operating point":
            line.set_label("The model's threshold")
            line.set_markerfacecolor(style.architecture_style(site.architecture)[0])
    axes.legend(loc="lower right", fontsize=9, framealpha=1)
    return figure


def draw_reliability(site: Site, scores: pd.DataFrame) -> "Figure":
    """Return the reliability diagram of the model's scores, and of the site's where it has its own.

    Scores are moved to the sample's mix of classes, as they are measured.

    Args:
        site: The record.
        scores: Its scores_site.csv.
    """
    found = site.measurement
    figure = style.new_figure(*style.SINGLE_PLOT, f"Calibration at the site, n = {len(scores)}")
    axes = figure.subplots()
    style.clean_frame(axes)
    mixed = adjust(scores["score"].to_numpy(np.float64), found.mix_shift)
    table = scores.assign(model=mixed, site=found.calibration.apply(mixed))
    calibration.draw_curve(axes, table, "model", style.GRAY, "model's scores")
    if found.calibration.method != "none":
        calibration.draw_curve(axes, table, "site", calibration.CALIBRATED_COLOUR, "site's scores")
    axes.set(
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
        aspect="equal",
        xlabel="Mean score of the bin",
        ylabel="Observed share of PNEUMONIA",
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), fontsize=9, frameon=False)
    return figure
