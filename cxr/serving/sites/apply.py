"""Find the site that a prediction is for."""

import logging
from pathlib import Path

from cxr.core.errors import ModelError
from cxr.results.cards.model_card import Card
from cxr.serving.sites.records import NAME, Site
from cxr.storage.workspace import workspace

logger = logging.getLogger("cxr.sites")


def load_site(address: str, card: Card) -> Site | None:
    """Return the site at an address, None where no address was given.

    Args:
        address: The folder that `cxr site` wrote, a path or s3://…; empty for none.
        card: The card of the model that is used.

    Raises:
        ModelError: There is no site, or it is another model's.
        DataError: Its record cannot be read: it is damaged, or of a newer version.
    """
    if not address:
        return None
    site = read_site(workspace.fetch_folder(address.rstrip("/").removesuffix(f"/{NAME}")), address)
    if site.model_sha256 != card.model_sha256:
        raise ModelError(
            f"{address} was measured with another model ({site.architecture}, run {site.run}, "
            f"SHA-256 {site.model_sha256[:12]}; this one is {card.architecture}, run {card.run}, "
            f"{card.model_sha256[:12]}): give its own model, or measure this one with `cxr site`"
        )
    logger.info("%s", describe_use(site))
    return site


def describe_use(site: Site) -> str:
    """Return what a prediction takes from a site, in a sentence without a full stop."""
    found = site.measurement
    threshold = f"threshold {site.threshold:.6f}"
    if found.promise.threshold is None:
        threshold += " (the model's own: too few labelled images for one of the site)"
    calibration = "the model's own calibration"
    if found.calibration.method != "none":
        calibration = f"its own calibration ({found.calibration.method})"
    if found.prevalence.shift:
        calibration += f", corrected for a prevalence of {found.prevalence.wanted:g}"
    return (
        f"site {site.name}, measured {site.measured:%Y-%m-%d} on {sum(site.images.values())} "
        f"images: {threshold}, {calibration}"
    )


def localise_card(card: Card, site: Site | None) -> Card:
    """Return a model's card with the threshold of a site; the card itself without one.

    Its calibration stays: `Site.apply` takes the scores that it gives.
    """
    if site is None:
        return card
    return card.model_copy(update={"threshold": site.threshold})


def read_site(folder: Path, address: str) -> Site:
    """Return the record of a site's folder.

    Args:
        folder: The folder on this machine.
        address: What a person called it.

    Raises:
        ModelError: There is none.
        DataError: It cannot be read.
    """
    path = folder / NAME
    if not path.is_file():
        raise ModelError(
            f"{address}: expected a folder that `cxr site` wrote, with {NAME} in it, found none"
        )
    return Site.parse(path.read_bytes(), f"{address}/{NAME}")
