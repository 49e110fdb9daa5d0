"""The program of the embedded server's process: it serves on a socket that it inherits.

It ends when it is told to, or when the command that started it is gone. It is run by its path and
with -P, so that nothing is imported from the folder that it is started in.
"""

import gc
import os
import socket
import sys
import threading

SHUTDOWN_SECONDS = 5  # for what is still being answered when it is told to end


def main(descriptor: int) -> int:
    """Serve Prefect's API and UI.

    Args:
        descriptor: The file descriptor of a bound socket.

    Returns:
        The exit status.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.disable()  # imports leave no garbage, and looking for it takes a fifth of their time
    import uvicorn

    with socket.socket(fileno=descriptor) as listening:
        config = uvicorn.Config(
            "prefect.server.api.server:create_app",
            factory=True,
            log_level="error",
            lifespan="on",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        config.load()
        gc.enable()
        server = uvicorn.Server(config)
        server.run(sockets=[listening])
    return 0 if server.started else 3


def _end_with_parent() -> None:
    """End when the pipe from the starter closes, kill -9 of it included."""
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
