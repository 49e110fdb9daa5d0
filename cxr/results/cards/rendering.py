"""The templates of the report and of the model card for people, and the rendering of the card."""

from pathlib import Path

import jinja2

from cxr.core.files import as_json, atomic_write
from cxr.core.formatting import (
    format_duration,
    format_metric,
    format_p_value,
    format_percent,
    printable,
)
from cxr.results.cards.model_card import Card
from cxr.results.evaluation.formats.agreement import RULE
from cxr.results.metric_table import format_interval, metric_rows

# What Hugging Face calls our metrics.
_HUB_METRICS = {
    "sensitivity": "recall",
    "specificity": "specificity",
    "auroc": "roc_auc",
    "auprc": "average_precision",
    "accuracy": "accuracy",
    "precision": "precision",
    "npv": "npv",
}


def card_pages(card: Card) -> dict[str, str]:
    """Return what is written beside a card, by file name: each is made of the card alone."""
    return {
        "MODEL_CARD.md": card_text(card),
        "reporting_checklist.md": _render("reporting_checklist.md.j2", card).lstrip(),
        "chai_card.xml": _render("chai_card.xml.j2", card).lstrip(),
    }


def write_card_pages(card: Card, folder: Path) -> None:
    """Publish the pages of a card in its export folder; see `card_pages`."""
    for name, text in card_pages(card).items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def card_text(card: Card) -> str:
    """Return MODEL_CARD.md of a card: front matter for registries, then the card for people."""
    return _render("front_matter.yaml.j2", card) + "\n" + _render("MODEL_CARD.md.j2", card)


def without_front_matter(text: str) -> str:
    r"""Return a page without what registries read at its top.

    >>> without_front_matter("---\nlicense: other\n---\n\n# A card\n")
    '# A card\n'
    """
    if not text.startswith("---\n"):
        return text
    return text.split("\n---\n", 1)[1].lstrip()


def _render(template: str, card: Card) -> str:
    """Return what one template makes of a card."""
    return (
        load_templates()
        .get_template(template)
        .render(
            card=card,
            rows=metric_rows(card.evaluation.test, card.evaluation.intervals),
            fine_tune_epochs=card.settings.tuning_epochs(),
            format_rule=RULE,
            hub_metrics=_HUB_METRICS,
            data_name=card.data.data.rstrip("/").rpartition("/")[2],
        )
    )


def load_templates() -> jinja2.Environment:
    """Return the templates; in HTML what is filled in is escaped.

    A template that names something undefined is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cxr.results"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=_is_markup,
    )
    environment.filters.update(
        cell=_table_cell,
        duration=format_duration,
        interval=format_interval,
        json=as_json,
        metric=format_metric,
        p_value=format_p_value,
        percent=format_percent,
        printable=printable,
    )
    return environment


def _table_cell(text: str) -> str:
    """Return a text for a cell of a Markdown table, which a bar would end: a device's name may have one."""
    return printable(text).replace("|", r"\|")


def _is_markup(template_name: str | None) -> bool:
    """Return whether a template is of an HTML page or an XML file."""
    return template_name is not None and (".html" in template_name or ".xml" in template_name)
