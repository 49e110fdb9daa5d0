"""The embedded server's own process: serves on a socket that it is given until it is told to end or its starter is gone.

Run by its path and with -P, so that nothing is imported from the folder that it is started in.
"""

import os
import socket
import sys
import threading

SHUTDOWN_SECONDS = 5  # for what is still being answered when it is told to end


def main(descriptor: int) -> int:
    """Serve Prefect's API and UI on the socket behind a file descriptor; return the exit status."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn

    with socket.socket(fileno=descriptor) as listening:
        config = uvicorn.Config(
            "prefect.server.api.server:create_app",
            factory=True,
            log_level="error",
            lifespan="on",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        server = uvicorn.Server(config)
        server.run(sockets=[listening])
    return 0 if server.started else 3


def _end_with_parent() -> None:
    """End when the pipe from the starter closes, kill -9 of it included."""
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
