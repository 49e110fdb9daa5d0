"""`cxr verify SITE`: compute every figure of a site again from its tables, and compare."""

from collections.abc import Callable, Iterator
from pathlib import Path

from cxr.core import __version__
from cxr.core.errors import CxrError
from cxr.results.verify.checks import Check
from cxr.results.verify.differences import TOLERANCE, record_differences
from cxr.serving.sites.apply import read_site
from cxr.serving.sites.card import card_text
from cxr.serving.sites.measurement import Model, measure
from cxr.serving.sites.records import CARD, NAME, Site
from cxr.serving.sites.sample import count_by_class, count_patients
from cxr.serving.sites.scoring import read_tables, table_digests


def is_site(folder: Path) -> bool:
    """Return whether a folder is one that `cxr site` wrote."""
    return (folder / NAME).is_file()


def verify_site(folder: Path, address: str) -> list[Check]:
    """Return every check of a site.

    Args:
        folder: The folder on this machine.
        address: What a person called it.

    Raises:
        DataError: Its record cannot be read.
    """
    site = read_site(folder, address)
    same_version = site.version == __version__

    def check(what: str, find_problems: Callable[[], Iterator[str]]) -> Check:
        try:
            problem = "; ".join(find_problems())
        except (CxrError, OSError, ValueError, KeyError) as error:
            problem = f"cannot be checked: {error}"
        return Check(what, problem)

    checks = [
        check("tables of scores by their digests", lambda: digest_problems(site, folder)),
        check(
            "scores are calibrated as the model's card says", lambda: score_problems(site, folder)
        ),
        check(
            "figures, threshold and calibration from the scores",
            lambda: _measurement_problems(site, folder, same_version),
        ),
    ]
    what = f"{CARD} says what the record says"
    if same_version:
        checks.append(check(what, lambda: card_problems(site, folder)))
    else:
        checks.append(Check(what, "", f"not compared, cxr {site.version} wrote it"))
    return checks


def digest_problems(site: Site, folder: Path) -> Iterator[str]:
    """Compare the tables with the digests in the record, and yield what differs."""
    found = table_digests(folder)
    for name in sorted(site.digests.keys() | found.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in site.digests:
            yield f"{name} was not there when the site was measured"
        elif found[name] != site.digests[name]:
            yield f"{name} changed since the site was measured"


def score_problems(site: Site, folder: Path) -> Iterator[str]:
    """Compare counts and calibrated scores with the raw ones, and yield what differs."""
    scores, _, _ = read_tables(folder)
    if count_by_class(scores) != site.images or count_patients(scores) != site.patients:
        yield f"the table has {count_by_class(scores)} images, the record {site.images}"
    expected = site.model_calibration.apply(scores["raw_score"].to_numpy(float))
    difference = abs(expected - scores["score"].to_numpy(float))
    if float(difference.max()) > TOLERANCE:
        yield "score is not the calibrated raw_score"


def _measurement_problems(
    site: Site,
    folder: Path,
    texts: bool,
) -> Iterator[str]:
    """Measure the site again from its tables."""
    model = Model(site.model_calibration, site.model_threshold, site.model_prevalence)
    again = measure(*read_tables(folder), model, site.promised, site.asked_prevalence)
    yield from record_differences(site.measurement, again, texts)


def card_problems(site: Site, folder: Path) -> Iterator[str]:
    """Render the card again, and yield what is wrong with the one that is there."""
    if (folder / CARD).read_text(encoding="utf-8") != card_text(site):
        yield f"{CARD} is not what the record gives (edited, or written by another version)"
