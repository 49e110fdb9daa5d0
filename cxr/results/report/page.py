"""The report of a finished run: one self-contained HTML page, printable, readable on a phone.

It measures nothing itself: everything on the page is read from the files of the stages before.
"""

from pathlib import Path

from cxr.core.files import atomic_write
from cxr.data.survey import account_table
from cxr.exploration.shift import Shift
from cxr.models.selection import MIN_SPECIFICITY
from cxr.results.cards.model_card import Card
from cxr.results.cards.rendering import load_templates
from cxr.results.evaluation.reliance import FEWEST_PATIENTS, LOSS_LIMIT, WARNING_LIMIT
from cxr.results.metric_table import metric_rows
from cxr.results.report import captions, embedding, sections
from cxr.stats.subgroups import TOO_FEW

MOST_REJECTS = 200
MOST_FOLDERS = 60


def write_report(run: Path) -> Path:
    """Publish report.html in a run's folder and return its path; see `report_page`."""
    path = run / "report.html"
    with atomic_write(path) as temporary:
        temporary.write_text(report_page(run), encoding="utf-8")
    return path


def report_page(run: Path) -> str:
    """Return the report of a finished run as HTML.

    Args:
        run: The run's folder, with data/, export/model_card.json, comparison.csv and
            scores_test.csv. Pictures that are missing are left out.

    Raises:
        FileNotFoundError: One of these files is missing.
    """
    card = Card.read(run / "export" / "model_card.json")
    rejects, rejects_total = sections.reject_rows(run / "data" / "rejects.csv", MOST_REJECTS)
    pictures = embedding.embed_sections(run, captions.RUN_CAPTIONS)
    pictures |= embedding.embed_sections(run / "data", captions.DATA_CAPTIONS)
    template = load_templates().get_template("report.html.j2")
    return template.render(
        card=card,
        metrics=metric_rows(card.evaluation.test, card.evaluation.intervals),
        interval_methods=sections.interval_methods(card),
        false_negatives_by_cause=sections.false_negatives_by_cause(
            run / "scores_test.csv",
            card.threshold,
        ),
        low_specificity=(card.training.val["specificity"] or 0) < MIN_SPECIFICITY,
        baseline_sentence=sections.baseline_sentence(card),
        too_few=TOO_FEW,
        baselines=card.audit.baselines(),
        world_descriptions=sections.world_descriptions(),
        val_worlds=sections.val_world_aurocs(card),
        reliance_limit=WARNING_LIMIT,
        fewest_patients=FEWEST_PATIENTS,
        loss_limit=LOSS_LIMIT,
        shift=Shift.read(run / "data" / "shift.json"),
        comparison=sections.comparison_rows(run / "comparison.csv"),
        class_weights=sections.class_weights(run / "data" / "class_weights.json"),
        thorough_seconds=sections.thorough_seconds(card),
        stages=sections.stage_rows(run, card.training.name),
        folders=account_table.table_cells(card.data.folders[:MOST_FOLDERS]),
        reject_reasons=captions.REJECT_REASONS,
        rejects=rejects,
        rejects_total=rejects_total,
        settings=sections.setting_rows(card),
        pictures=pictures,
    )
