"""The command `cxr labels`: which labels the images speak against, as a table and films for a reader."""

from typing import Annotated

from cyclopts import Parameter, validators

from flows.commands import session
from flows.commands.flags import Out


def labels(
    *,
    out: Out,
    films: Annotated[
        int | None,
        Parameter(
            help="How many films the page shows; a tenth of the images, at most 500, if not given.",
            validator=validators.Number(gte=0),
        ),
    ] = None,
) -> None:
    """Rank the labels of train and validation by how little their images bear them out.

    Needs a run. Writes OUT/labels: label_review.csv, which a reader fills in and `cxr preprocess
    --label-corrections` takes, and label_review.html with the films. Test labels are shown apart.

    Example: `cxr labels --out work`
    """
    from cxr.results.label_review import page, tables
    from cxr.stages import label_steps
    from flows.commands import preconditions
    from tasks import progress

    session.log_to_terminal()
    preconditions.require_work(out)
    with progress.following("images") as on_progress:
        review = label_steps.review_labels(out, films, on_progress)
    print(f"{review.sentence()}.")  # noqa: T201
    for name in (page.PAGE, tables.REVIEW):
        print(session.file_in(out, f"{label_steps.FOLDER}/{name}"))  # noqa: T201
