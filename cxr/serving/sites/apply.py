"""Find the site that a prediction is for."""

from pathlib import Path

from cxr.core.errors import ModelError
from cxr.results.model_card import Card
from cxr.serving.sites.records import NAME, Site
from cxr.storage.workspace import workspace


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
    return site


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
