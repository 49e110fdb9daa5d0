"""A person's approval of a promotion.

The flow run pauses, the Prefect UI shows a form, and no answer in time means no.
"""

import contextlib
import logging
import threading
from uuid import UUID

from prefect import get_client
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from pydantic import Field

from cxr.core.errors import CxrError

POLL_SECONDS = 5
# The server's own time limit of a pause would fail the run, so it is later than ours.
_MARGIN_SECONDS = 900
logger = logging.getLogger("cxr.retraining")


class Approval(RunInput):
    """The form's fields."""

    approve: bool = Field(False, description="Make the challenger the champion?")
    name: str = Field(
        min_length=1,
        description="Your name, for the registry's log. It is not checked.",
    )
    reason: str = Field(min_length=1, description="Your reason, for the registry's log.")


def require_server() -> None:
    """Raise CxrError where nobody could answer: there is no Prefect server with an address."""
    if not get_current_settings().api.url:
        raise CxrError(
            "approval needs a Prefect server that people can reach: set PREFECT_API_URL, or start "
            "this by `cxr retrain` or as a deployment; without a server use approval 'none'"
        )


def ask(page: str, minutes: float) -> Approval:
    """Pause this flow run until somebody answers in the UI, and return the answer.

    Args:
        page: What the form shows above its fields, Markdown.
        minutes: How long to wait; then the answer is no.
    """
    answered = threading.Event()
    clock = threading.Thread(
        target=_answer_no,
        args=(UUID(flow_run.id), minutes, answered),
        daemon=True,
        name="approval",
    )
    logger.info("waiting up to %.4g minutes for approval: %s", minutes, flow_run.ui_url)
    clock.start()
    try:
        form = Approval.with_initial_data(description=page, approve=False)
        return pause_flow_run(
            wait_for_input=form,
            timeout=int(minutes * 60) + _MARGIN_SECONDS,
            poll_interval=POLL_SECONDS,
            key="approval",
        )
    finally:
        answered.set()
        clock.join()


def _answer_no(
    run: UUID,
    minutes: float,
    answered: threading.Event,
) -> None:
    """Resume the run with a no when the time is over; try again while the server is away."""
    answer = {
        "approve": False,
        "name": "time limit",
        "reason": f"no answer within {minutes:.4g} minutes: the champion stays",
    }
    delay = minutes * 60
    while not answered.wait(delay):
        delay = POLL_SECONDS
        # Somebody has answered in the meantime, or the server is away.
        with contextlib.suppress(Exception), get_client(sync_client=True) as client:
            client.resume_flow_run(run, run_input=answer)
