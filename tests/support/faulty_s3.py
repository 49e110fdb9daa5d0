"""A proxy in front of an S3 server that injects faults, each into one request."""

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlparse

import pytest

from tests.support.s3_servers import Server


class Fault(NamedTuple):
    """What happens to one request.

    Attributes:
        how: error (the server answers with an error), reset (the connection is reset before the
            request is forwarded), cut (half of the body is sent) or lost (the request is carried
            out, and the connection reset).
        status: HTTP status of an error.
        code: S3's code of an error.
    """

    how: str
    status: int = 0
    code: str = ""


class Faulty:
    """What a proxy does, and what it saw.

    Attributes:
        address: The proxy's address.
        faults: The faults; each request with one of the `methods` takes the next.
        methods: HTTP methods of the requests that faults are for.
        asked: Those requests: method and path.
    """

    def __init__(self, address: str):
        self.address = address
        self.faults: Iterator[Fault] = iter(())
        self.methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
        self.asked: list[str] = []

    def next(self, method: str, path: str) -> Fault | None:
        """Return the fault for a request, or None."""
        if method not in self.methods:
            return None
        self.asked.append(f"{method} {path}")
        return next(self.faults, None)


class _Proxy(ThreadingHTTPServer):
    """A server on loopback that forwards to `upstream`, with the faults of `faulty`."""

    daemon_threads = True

    def __init__(self, upstream: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.faulty = Faulty(f"http://127.0.0.1:{self.server_address[1]}")

    def handle_error(self, *_: object) -> None:
        """Ignore connections that were reset on purpose."""


class _Handler(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    server: _Proxy
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Forward the request and its answer, or inject the fault."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.faulty.next(self.command, self.path)
        how = fault.how if fault else ""
        if fault and how == "error":
            text = f"<Error><Code>{fault.code}</Code><Message>as told</Message></Error>".encode()
            self.send(fault.status, {"Content-Type": "application/xml"}, text)
            return
        if how == "reset":
            self.reset()
            return
        status, headers, data = self.forward(body)
        if how == "lost":
            self.reset()
            return
        self.send(status, headers, data, cut=how == "cut")

    do_GET = answer
    do_HEAD = answer
    do_PUT = answer
    do_POST = answer
    do_DELETE = answer

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return the server's own answer: status, headers, body."""
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers))
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, dict(response.getheaders()), data

    def send(self, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
        """Send an answer, or with `cut` half of its body."""
        self.send_response_only(status)
        own = {"content-length", "transfer-encoding", "connection"}
        for name, value in headers.items():
            if name.lower() not in own:
                self.send_header(name, value)
        length = headers.get("Content-Length", headers.get("content-length", "0"))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    def reset(self) -> None:
        """Reset the connection instead of closing it."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Print nothing: the base class prints each request."""


@contextmanager
def before(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """Start a proxy in front of `server`, and set AWS_ENDPOINT_URL to it."""
    with _Proxy(urlparse(server.endpoint).netloc) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.faulty.address)
        yield proxy.faulty
        proxy.shutdown()
