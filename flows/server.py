"""The embedded Prefect server: used where no PREFECT_API_URL is set, gone when its starter is, even by kill -9.

Prefect's own temporary server outlives a killed starter and holds its database; this one watches a pipe.
"""

import contextlib
import importlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

READY_SECONDS = 120


@contextlib.contextmanager
def embedded(
    meanwhile: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Iterator[str | None]:
    """Give the address of a fresh server on loopback, or None where an API address is set already.

    Sets PREFECT_API_URL for this process and its children. `meanwhile` is entered while the server starts, which leaves a core
    idle. Raises RuntimeError where the server does not start.
    """
    if os.environ.get("PREFECT_API_URL") or _profile_has_api():
        yield None
        return
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {"PREFECT_UI_API_URL": f"{address}/api", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    process = subprocess.Popen([sys.executable, "-m", __name__, str(port)], stdin=subprocess.PIPE, env=environment)
    try:
        for module in ("flows.pipeline", "seaborn", "sklearn.ensemble"):  # they take as long as the server's start
            importlib.import_module(module)
        with meanwhile():
            _wait(process, f"{address}/api/health")
            os.environ["PREFECT_API_URL"] = f"{address}/api"
            _refresh_settings()
            yield address
    finally:
        _flush()
        os.environ.pop("PREFECT_API_URL", None)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        process.wait()
        if process.stdin:
            process.stdin.close()


def _profile_has_api() -> bool:
    from prefect.settings import get_current_settings

    return bool(get_current_settings().api.url)


def _refresh_settings() -> None:
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _flush() -> None:
    """Hand the last logs and events over while the server still listens."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(
                f"the embedded Prefect server ended with status {process.returncode}: see its lines above"
            )
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the embedded Prefect server did not answer at {url} within {READY_SECONDS} s")


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(3)


def main(port: int) -> None:
    """In the child: serve until told to end or until the parent is gone."""
    import uvicorn

    threading.Thread(target=_end_with_parent, daemon=True).start()
    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
        lifespan="on",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
