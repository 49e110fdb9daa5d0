"""The model card for people, and the templates of card and report."""

import jinja2

from cxr.core.files import as_json
from cxr.core.formatting import format_metric, printable
from cxr.results.model_card import Card


def card_text(card: Card) -> str:
    """Return the card for people, in Markdown."""
    return (
        load_templates()
        .get_template("MODEL_CARD.md.j2")
        .render(card=card, fine_tune_epochs=card.settings.tuning_epochs())
    )


def load_templates() -> jinja2.Environment:
    """Return the templates of the card and the report; HTML is escaped, an undefined name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cxr"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: bool(name) and ".html" in str(name),
    )
    environment.filters["figure"] = format_metric
    environment.filters["json"] = as_json
    environment.filters["printable"] = printable
    return environment
