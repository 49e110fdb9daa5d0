"""A process that has imported Keras and forks itself for each order, a line of JSON on its standard input.

It does nothing else with Keras: TensorFlow starts its threads with its first operation, and until
then survives a fork. The exit status of each fork goes back as a line on standard output.
"""

import json
import os
import sys
import traceback
from typing import Any

from cxr.models.compute import keras_internals


def serve() -> None:
    """Import Keras, say so with a first line, and follow orders until standard input closes."""
    keras_internals.import_keras()
    print(0, flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(_follow(json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _follow(order: dict[str, Any]) -> int:
    """Run the code of an order as `python -c` would; return the exit status.

    Args:
        order: `code`, its `arguments` and its `environment`, and the `log` that gets what it prints.
    """
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, source in enumerate((nothing, log, log)):
        os.dup2(source, descriptor)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["-c", *order["arguments"]]
    status = 0
    try:
        exec(compile(order["code"], "<code>", "exec"), {"__name__": "__main__"})
    except BaseException:  # noqa: BLE001 - told, whatever it is
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    serve()
