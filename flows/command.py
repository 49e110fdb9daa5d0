"""The command line `cxr`: its entry point, which imports nothing that takes time.

The commands are in `flows.commands.app`, whose import takes half a second. Ctrl-C then gives one line.
"""

import os
import signal
from types import FrameType


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: exit status 0 done, 1 the work failed, 2 wrong usage.

    Args:
        arguments: The words after `cxr`; those of the process where None.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, as in the background of a shell
        _run(arguments)
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        _run(arguments)
    finally:
        signal.signal(signal.SIGINT, before)


def _run(arguments: list[str] | None) -> None:
    from flows.commands.app import run

    run(arguments)


def _leave(_: int, __: FrameType | None) -> None:
    """End at once: nothing has been begun yet, and an exception amid an import may be lost in it."""
    os.write(2, b"cxr: interrupted before anything was begun\n")
    os._exit(1)


if __name__ == "__main__":
    main()
