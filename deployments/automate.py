"""Register the automations of `automations/` with a server: what it does by itself when something happens.

A file is an automation as Prefect takes it, but for ids, which each server gives anew: a deployment is
named by its flow and its name (retrain/retrain), a block by its type and its name (webhook/…).
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml
from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from cxr.core import environment

FILES = Path(__file__).parent / "automations"
WEBHOOK = "cxr-notifications"


class AutomationError(Exception):
    """What is wrong and what to do, in one line for the terminal."""


async def make_webhook() -> None:
    """Create or update the block with the webhook's address, if CXR_WEBHOOK_URL is set.

    The address is a secret for most services. It is kept in the server's database, encrypted, and
    shown nowhere.

    Raises:
        AutomationError: It is no address of a web server.
    """
    url = environment.webhook_url()
    if not url:
        return
    parts = urlparse(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise AutomationError(
            "CXR_WEBHOOK_URL: expected an address that begins with http:// or https://, "
            "found another text: correct it, or unset it"
        )
    block = Webhook(url=url, headers={"Content-Type": "application/json"})
    await block.asave(WEBHOOK, overwrite=True)


async def make_automations(client: PrefectClient) -> None:
    """Create or update each automation; one that needs a block that is not there is left out.

    Args:
        client: The server's client.
    """
    for path in sorted(FILES.glob("*.yaml")):
        fields = yaml.safe_load(path.read_text())
        if await fill_in_ids(fields, client):
            await make_automation(Automation.model_validate(fields))
        else:
            print(  # noqa: T201
                f"{fields['name']}: not registered, since there is no webhook: "
                "set CXR_WEBHOOK_URL (docs/operations.md, Alarms)"
            )


async def fill_in_ids(fields: dict[str, Any], client: PrefectClient) -> bool:
    """Replace the names of deployments and blocks in an automation's actions by ids, in place.

    Args:
        fields: The content of the automation's file.
        client: The server's client.

    Returns:
        Whether all of them are there.
    """
    for action in fields["actions"]:
        if "deployment_id" in action:
            deployment = await client.read_deployment_by_name(action["deployment_id"])
            action["deployment_id"] = str(deployment.id)
        if "block_document_id" in action:
            kind, _, name = action["block_document_id"].partition("/")
            try:
                block = await client.read_block_document_by_name(name, kind)
            except ObjectNotFound:
                return False
            action["block_document_id"] = str(block.id)
    return True


async def make_automation(automation: Automation) -> None:
    """Create an automation, or update the one of its name if it differs.

    One that an operator switched off stays off. An update makes the server forget which events it
    waits for, so one that is the same is left alone.
    """
    try:
        existing = await Automation.aread(name=automation.name)
    except ValueError:  # there is no automation of this name
        await automation.acreate()
        return
    automation.enabled = existing.enabled
    if comparable(existing) != comparable(automation):
        automation.id = existing.id
        await automation.aupdate()


def comparable(automation: Automation) -> dict[str, Any]:
    """Return what an automation does, without the server's ids and with its sets sorted."""
    fields: dict[str, Any] = automation.model_dump(
        mode="json", exclude={"id": True, "trigger": {"id"}}
    )
    trigger = fields["trigger"]
    for name in ("after", "expect", "for_each"):
        trigger[name] = sorted(trigger[name])
    return fields
