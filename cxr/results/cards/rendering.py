"""The templates of the report and of the model card for people, and the rendering of the card."""

import jinja2

from cxr.core.files import as_json
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


def card_text(card: Card) -> str:
    """Return MODEL_CARD.md of a card, in Markdown."""
    template = load_templates().get_template("MODEL_CARD.md.j2")
    return template.render(
        card=card,
        rows=metric_rows(card.evaluation.test, card.evaluation.intervals),
        fine_tune_epochs=card.settings.tuning_epochs(),
        format_rule=RULE,
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
        autoescape=_is_html,
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


def _is_html(template_name: str | None) -> bool:
    """Return whether a template is of an HTML page."""
    return template_name is not None and ".html" in template_name
