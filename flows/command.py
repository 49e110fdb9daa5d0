"""The entry point of the command line `cxr`, which imports nothing that takes time.

The commands are in `flows.commands.app`, whose import takes half a second: Ctrl-C in that time gives
one line.
"""

import os
import signal
from types import FrameType


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: exit status 0 done, 1 the work failed, 2 wrong usage.

    Args:
        arguments: The words after `cxr`; those of the process if None.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:  # ignored, as in the background of a shell
        _import_and_run(arguments)
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        _import_and_run(arguments)
    finally:
        signal.signal(signal.SIGINT, handler)


def _import_and_run(arguments: list[str] | None) -> None:
    """Import the commands, which takes time, and run one."""
    from flows.commands.app import run

    run(arguments)


def _leave(_: int, __: FrameType | None) -> None:
    """End at once: nothing has begun yet, and an exception during an import may get lost in it."""
    os.write(2, b"cxr: interrupted before anything was begun\n")
    os._exit(1)


if __name__ == "__main__":
    main()
