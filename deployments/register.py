"""Register work pools, deployments, the webhook and automations with the server of PREFECT_API_URL.

    python -m deployments.register

What is there is brought up to date; a schedule that an operator resumed or paused stays so, and an
automation that is switched off, too.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker

from deployments import automate
from flows.server.prefect_api import WORK_POOLS

ROOT = Path(__file__).parent.parent


async def make_pools(client: PrefectClient) -> None:
    """Create missing pools as process pools; an existing one (of Kubernetes, say) is left as it is."""
    for name in WORK_POOLS:
        try:
            await client.read_work_pool(name)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            with contextlib.suppress(ObjectAlreadyExists):  # a worker that starts was faster
                await client.create_work_pool(
                    WorkPoolCreate(name=name, type="process", base_job_template=template)
                )


def deploy() -> None:
    """Deploy every block of prefect.yaml; raises CalledProcessError if Prefect fails, which says why."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    subprocess.run(command, check=True, cwd=ROOT, stdin=subprocess.DEVNULL)


async def restore_schedules(client: PrefectClient, before: list[DeploymentResponse]) -> None:
    """Set each schedule to what it was; pause one whose deployment has an empty parameter.

    A parameter is empty if the server lacks the variable that it is taken from.

    Args:
        client: The server's client.
        before: The deployments before they were deployed again.
    """
    was_active = {}
    for deployment in before:
        for schedule in deployment.schedules:
            was_active[deployment.id, schedule.slug] = schedule.active
    for deployment in await client.read_deployments():
        parameters = deployment.parameters or {}
        empty = [name for name, value in parameters.items() if value == ""]
        for schedule in deployment.schedules:
            active = was_active.get((deployment.id, schedule.slug), schedule.active)
            if empty:
                active = False
                print(  # noqa: T201
                    f"{deployment.name}: schedule {schedule.slug} paused, since parameters are not "
                    f"set: {', '.join(empty)} (docs/operations.md, Schedules)"
                )
            if active != schedule.active:
                await client.update_deployment_schedule(deployment.id, schedule.id, active=active)


async def register() -> None:
    """Register everything with the server."""
    async with get_client() as client:
        await make_pools(client)
        before = await client.read_deployments()
        await asyncio.to_thread(deploy)
        await restore_schedules(client, before)
        await automate.make_webhook()
        await automate.make_automations(client)


def main() -> None:
    """Register everything, or say that no server is configured."""
    if not get_current_settings().api.url:
        sys.exit(
            "expected the server's address in PREFECT_API_URL, found none: "
            "export PREFECT_API_URL=http://…/api"
        )
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    try:
        asyncio.run(register())
    except automate.AutomationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
