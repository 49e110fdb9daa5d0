"""An archive on loopback that answers QIDO-RS and WADO-RS from memory, and fails as it is told to."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

BOUNDARY = "the-boundary"
_STUDIES = re.compile(r"/dicom-web/studies")
_INSTANCES = re.compile(r"/dicom-web/studies/([^/]+)(?:/series/([^/]+))?/instances")
_INSTANCE = re.compile(r"/dicom-web/studies/([^/]+)/series/([^/]+)/instances/([^/]+)")


class Archive(NamedTuple):
    """A running archive.

    Attributes:
        port: Where it listens, on loopback.
        films: The bytes of the instances, by their UIDs: of the study, the series, the instance.
        faults: What the next answers are instead: a status, or what is done to the body ("cut" short,
            "bare" without parts, "junk" of another kind).
        requests: The paths that were asked for.
    """

    port: int
    films: dict[tuple[str, str, str], bytes]
    faults: list[int | str]
    requests: list[str]

    @property
    def uri(self) -> str:
        """Return the address by which `cxr` finds it."""
        return f"dicomweb+http://127.0.0.1:{self.port}/dicom-web"


@contextmanager
def archive() -> Iterator[Archive]:
    """Run an empty archive during the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    found = Archive(server.server_address[1], {}, [], [])
    server.archive = found  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer one request."""
        archive: Archive = self.server.archive  # type: ignore[attr-defined]
        archive.requests.append(self.path)
        fault = archive.faults.pop(0) if archive.faults else None
        if isinstance(fault, int):
            self._send(fault, "text/plain", b"a word of the server's own")
            return
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if _STUDIES.fullmatch(parts.path):
            # As some archives do, a study of two series is listed twice.
            studies = sorted(study for study, _ in {uids[:2] for uids in archive.films})
            self._send_found([{"0020000D": _uid(study)} for study in studies], query)
        elif found := _INSTANCES.fullmatch(parts.path):
            self._send_found(_matching(archive, found[1], found[2], query), query)
        elif found := _INSTANCE.fullmatch(parts.path):
            self._send_film(archive.films.get((found[1], found[2], found[3])), fault)
        else:
            self._send(404, "text/plain", b"")

    def _send_found(self, found: list[dict[str, Any]], query: dict[str, str]) -> None:
        """Send one page of what was searched for; at most two at a time, so that there are pages."""
        offset = int(query.get("offset", 0))
        page = found[offset : offset + min(2, int(query.get("limit", 2)))]
        self._send(200, "application/dicom+json", json.dumps(page).encode())

    def _send_film(self, film: bytes | None, fault: str | None) -> None:
        if film is None:
            self._send(404, "text/plain", b"")
        elif fault == "bare":
            self._send(200, "application/dicom", film)
        elif fault == "junk":
            self._send(200, "text/html", b"<html>")
        else:
            head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            body = head + film + f"\r\n--{BOUNDARY}--".encode()
            kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
            self._send(200, kind, body, len(body) // 2 if fault == "cut" else None)

    def _send(self, status: int, kind: str, body: bytes, sent: int | None = None) -> None:
        """Send an answer; only the first `sent` bytes of its body where that is given."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])
        if sent is not None:
            self.close_connection = True


def _matching(
    archive: Archive, study: str, series: str | None, query: dict[str, str]
) -> list[dict[str, Any]]:
    """Return what QIDO-RS says of the instances of a study or series."""
    wanted = query.get("SOPInstanceUID")
    return [
        {"0020000D": _uid(in_study), "0020000E": _uid(in_series), "00080018": _uid(uid)}
        for in_study, in_series, uid in sorted(archive.films)
        if in_study == study and series in (None, in_series) and wanted in (None, uid)
    ]


def _uid(uid: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]}
