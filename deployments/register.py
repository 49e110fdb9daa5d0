"""Work pools, the heartbeat automation and the deployments, put on the server that PREFECT_API_URL names.

    python -m deployments.register

Idempotent: what is there is brought up to date; a schedule that an operator resumed or paused stays so.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import get_client
from prefect.automations import Automation
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker

from flows.server.prefect_api import WORK_POOLS

ROOT = Path(__file__).parent.parent


async def make_pools(client: PrefectClient) -> None:
    """Create the pools that are missing as process pools; one that exists (of Kubernetes, say) is left as it is."""
    for name in WORK_POOLS:
        try:
            await client.read_work_pool(name)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            with contextlib.suppress(ObjectAlreadyExists):  # a starting worker was faster
                await client.create_work_pool(
                    WorkPoolCreate(name=name, type="process", base_job_template=template)
                )


async def make_automation(path: Path = ROOT / "deployments" / "heartbeat.yaml") -> None:
    """Create the automation in a file, or change the one of its name where it differs.

    An update makes the server forget which runs it is waiting for, so one that is as wanted is left alone.
    """
    wanted = Automation.model_validate(yaml.safe_load(path.read_text()))
    try:
        there = await Automation.aread(name=wanted.name)
    except ValueError:  # Prefect's word for: no automation of this name
        await wanted.acreate()
        return
    if _meaning(there) != _meaning(wanted):
        wanted.id = there.id
        await wanted.aupdate()


def _meaning(automation: Automation) -> dict[str, Any]:
    """Return what an automation does, without the ids that the server gives, its sets in one order."""
    fields: dict[str, Any] = automation.model_dump(
        mode="json", exclude={"id": True, "trigger": {"id"}}
    )
    fields["trigger"] |= {
        name: sorted(fields["trigger"][name]) for name in ("after", "expect", "for_each")
    }
    return fields


def deploy() -> None:
    """Deploy every block of prefect.yaml; raises CalledProcessError after printing what Prefect said."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    subprocess.run(command, check=True, cwd=ROOT, stdin=subprocess.DEVNULL)


async def restore_schedules(client: PrefectClient, before: list[DeploymentResponse]) -> None:
    """Set each schedule as it was before; but pause one whose deployment lacks a variable (an empty parameter)."""
    active = {
        (each.id, schedule.slug): schedule.active for each in before for schedule in each.schedules
    }
    for deployment in await client.read_deployments():
        blank = [name for name, value in (deployment.parameters or {}).items() if value == ""]
        for schedule in deployment.schedules:
            wanted = active.get((deployment.id, schedule.slug), schedule.active) and not blank
            if blank:
                words = f"{deployment.name}: schedule {schedule.slug} paused, for its parameters are not set:"
                print(words, ", ".join(blank), "(docs/operations.md, Schedules)")  # noqa: T201
            if wanted != schedule.active:
                await client.update_deployment_schedule(deployment.id, schedule.id, active=wanted)


async def register() -> None:
    """Put everything on the server."""
    async with get_client() as client:
        await make_pools(client)
        await make_automation()
        before = await client.read_deployments()
        await asyncio.to_thread(deploy)
        await restore_schedules(client, before)


def main() -> None:
    """Register, or say that no server was named."""
    if not get_current_settings().api.url:
        sys.exit(
            "expected the server's address in PREFECT_API_URL, found none: export PREFECT_API_URL=http://…/api"
        )
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    asyncio.run(register())


if __name__ == "__main__":
    main()
