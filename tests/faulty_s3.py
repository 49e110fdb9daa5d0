"""A proxy before an S3 server that fails as told: error answers, connections reset, bodies cut short, answers lost."""

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

from tests.s3_servers import Server


class Fault(NamedTuple):
    """What happens to one request. `how`: error, reset, cut (half of the body comes), lost (done, but no answer)."""

    how: str
    status: int = 0
    code: str = ""


class Faulty:
    """The proxy: `faults` are taken one by one by requests of the `methods`; `asked` are those requests."""

    def __init__(self, address: str):
        self.address = address
        self.faults: Iterator[Fault] = iter(())
        self.methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
        self.asked: list[str] = []

    def next(self, method: str, path: str) -> Fault | None:
        """Return the fault for a request."""
        if method not in self.methods:
            return None
        self.asked.append(f"{method} {path}")
        return next(self.faults, None)


@contextmanager
def before(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """Give a proxy before `server`, found by AWS_ENDPOINT_URL."""
    upstream = urlparse(server.endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = faulty.next(self.command, self.path)
            if fault and fault.how == "error":
                text = f"<Error><Code>{fault.code}</Code><Message>as told</Message></Error>".encode()
                self.send(fault.status, {"Content-Type": "application/xml"}, text)
                return
            if fault and fault.how == "reset":
                self.reset()
                return
            connection = http.client.HTTPConnection(upstream, timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers))
            found = connection.getresponse()
            data = found.read()
            connection.close()
            if fault and fault.how == "lost":
                self.reset()
                return
            self.send(found.status, dict(found.getheaders()), data, cut=bool(fault))

        def send(self, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
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
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    class Proxy(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # a connection that was reset on purpose
            pass

    with Proxy(("127.0.0.1", 0), Handler) as proxy:
        faulty = Faulty(f"http://127.0.0.1:{proxy.server_address[1]}")
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.address)
        yield faulty
        proxy.shutdown()
