"""The process that talks to the tracking server: a job on its standard input, an answer on its output.

    python -m cxr.serving.tracking.child SECONDS

It ends itself after SECONDS, for the case that whoever started it was killed.
"""

import contextlib
import signal
import sys

from pydantic import TypeAdapter

from cxr.core.errors import CxrError
from cxr.serving.tracking.jobs import Answer, Job, RunJob


def do(job: Job) -> Answer:
    """Do a job; whatever goes wrong is the answer's problem."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    from cxr.serving.tracking.server import connection

    try:
        server = connection.connect()
        # Not before: importing them takes longer than asking a server that is down.
        from cxr.serving.registry import Registry
        from cxr.serving.tracking.server import runs, versions

        if isinstance(job, RunJob):
            return Answer(done=runs.log_run(server, job.work, job.run))
        return Answer(done=versions.sync(server, Registry(job.registry)))
    except (CxrError, MlflowException, RequestException, OSError) as error:
        return Answer(problem=str(error).partition("\n")[0] or type(error).__name__)


def main(seconds: str) -> None:
    """Read the job, do it, and print the answer as the last line.

    Args:
        seconds: After how many it ends itself.
    """
    signal.alarm(max(1, round(float(seconds))))
    job = TypeAdapter[Job](Job).validate_json(sys.stdin.read())
    with contextlib.redirect_stdout(sys.stderr):
        answer = do(job)
    print(answer.model_dump_json())  # noqa: T201 - it is what the process is for


if __name__ == "__main__":
    main(*sys.argv[1:])
