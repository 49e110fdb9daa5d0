"""A person's word before a promotion: the flow run pauses, the Prefect UI shows a form, silence means no."""

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
_MARGIN_SECONDS = 900  # the server's own end of the pause would fail the run: ours comes first
logger = logging.getLogger("cxr.serving.retrain")


class Approval(RunInput):
    """What the form asks for."""

    approve: bool = Field(False, description="Make the challenger the champion?")
    name: str = Field(
        min_length=1, description="Who decides: it goes into the registry's log, unchecked."
    )
    reason: str = Field(min_length=1, description="Why: it goes into the registry's log.")


def require_server() -> None:
    """Raise CxrError where nobody could answer: no Prefect server with an address, or no flow run to pause."""
    if not get_current_settings().api.url:
        raise CxrError(
            "approval needs a Prefect server that people can reach: set PREFECT_API_URL, or start this by `cxr retrain` or "
            "as a deployment; without a server use approval 'none'"
        )


def ask(words: str, minutes: float) -> Approval:
    """Pause this flow run until somebody answers in the UI, and return the answer; after `minutes` it is no."""
    answered = threading.Event()
    clock = threading.Thread(
        target=_answer_no, args=(UUID(flow_run.id), minutes, answered), daemon=True, name="approval"
    )
    logger.info("waiting up to %.4g minutes for approval: %s", minutes, flow_run.ui_url)
    clock.start()
    try:
        form = Approval.with_initial_data(description=words, approve=False)
        return pause_flow_run(
            wait_for_input=form,
            timeout=int(minutes * 60) + _MARGIN_SECONDS,
            poll_interval=POLL_SECONDS,
            key="approval",
        )
    finally:
        answered.set()
        clock.join()


def _answer_no(run: UUID, minutes: float, answered: threading.Event) -> None:
    """Resume the run with a no when the time is over; again and again while the server is away."""
    words = f"no answer within {minutes:.4g} minutes: the champion stays"
    delay = minutes * 60
    while not answered.wait(delay):
        delay = POLL_SECONDS
        with (
            contextlib.suppress(Exception),
            get_client(sync_client=True) as client,
        ):  # answered meanwhile, or away
            client.resume_flow_run(
                run, run_input={"approve": False, "name": "time limit", "reason": words}
            )
