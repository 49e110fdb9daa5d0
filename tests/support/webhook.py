"""A web server on loopback that keeps what is posted to it, as a chat's incoming webhook would."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """The address of the server, and what was posted to it.

    Attributes:
        url: The address.
        posted: The JSON content of each request, in their order.
    """

    def __init__(self, url: str):
        self.url = url
        self.posted: list[dict[str, Any]] = []

    def about(self, event: str) -> list[dict[str, Any]]:
        """Return what was posted about events of a name."""
        return [content for content in self.posted if content["event"] == event]


@contextlib.contextmanager
def serving() -> Iterator[Webhook]:
    """Run the server during the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            hook.posted.append(json.loads(content))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = Webhook(f"http://127.0.0.1:{server.server_port}/a-secret-path")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
