"""The command `cxr site`: what a model is worth at another place, by labelled images of it."""

from typing import Annotated

from cyclopts import Parameter

from cxr.core.settings import SiteSettings
from flows.commands import session
from flows.commands.flags import NO_READING, KeyMap, Reading

_NO_SITE = SiteSettings()


def site(
    model: Annotated[
        str, Parameter(help="An export folder, the model.keras in it, or a registry.")
    ],
    data: Annotated[
        str,
        Parameter(
            help=(
                "Labelled images of the site: a folder (or s3://bucket/prefix) with NORMAL and "
                "PNEUMONIA, or with a table of labels (--labels)."
            )
        ),
    ],
    /,
    *,
    out: Annotated[
        str, Parameter(help="The site's folder (or s3://bucket/prefix), for `predict --site`.")
    ],
    reading: Reading = NO_READING,
    settings: Annotated[SiteSettings, Parameter(name="*", group="Site")] = _NO_SITE,
    key_map: KeyMap = None,
) -> None:
    """Measure a model on a labelled sample of a site: does its threshold hold there, what would?

    Writes site.json, SITE_CARD.md and the scores; the model stays as it is.

    Example: `cxr site work/registry labelled_films --out sites/north --labels csv:labels.csv`
    """
    from cxr.stages import site_steps
    from flows.commands import preconditions
    from tasks import progress

    session.log_to_terminal()
    preconditions.require_data(data, reading)
    preconditions.require_key_map(key_map, out)
    with progress.following("images") as on_progress:
        measured = site_steps.measure_site(
            model, data, out, reading, settings, key_map, on_progress
        )
    print(measured.sentence())  # noqa: T201
    print(session.file_in(out, "SITE_CARD.md"))  # noqa: T201
