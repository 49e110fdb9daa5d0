"""Orthanc, a real archive, for one test: on loopback, in a folder of the test."""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import requests
from pydicom import dcmread

from flows.server.process import free_port

ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
STORESCU = shutil.which("storescu")
_PLUGIN = "libOrthancDicomWeb.so"
_PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins")
_WAIT = 60.0  # seconds for the server to answer
# What storescu proposes for films of each transfer syntax, so that they are stored as they are.
_PROPOSALS = {
    "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.1.99": "-xd",
}


def missing() -> str:
    """Return what is not installed here of what `running` needs; empty where nothing is missing."""
    if ORTHANC is None or _find_plugin() is None:
        return "Orthanc with its DICOMweb plugin is not installed"
    return "" if STORESCU else "dcmtk is not installed"


def _find_plugin() -> Path | None:
    paths = (Path(folder) / _PLUGIN for folder in _PLUGIN_FOLDERS)
    return next((path for path in paths if path.exists()), None)


class Orthanc(NamedTuple):
    """A running archive.

    Attributes:
        http_port: Where it speaks DICOMweb.
        dicom_port: Where films are sent to.
    """

    http_port: int
    dicom_port: int

    @property
    def uri(self) -> str:
        """Return the address by which `cxr` finds it."""
        return f"dicomweb+{self.service}"

    @property
    def service(self) -> str:
        """Return the root of its DICOMweb service."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def store(self, paths: Iterable[Path]) -> None:
        """Send files with storescu, each in its own transfer syntax."""
        by_proposal: dict[str, list[Path]] = {}
        for path in paths:
            syntax = dcmread(path, specific_tags=[]).file_meta.TransferSyntaxUID
            by_proposal.setdefault(_PROPOSALS.get(syntax, "-xe"), []).append(path)
        for proposal, files in by_proposal.items():
            command = [str(STORESCU), "-R", proposal, "127.0.0.1", str(self.dicom_port)]
            command += map(str, files)
            sent = subprocess.run(command, capture_output=True, text=True, check=False)
            assert sent.returncode == 0, sent.stderr

    def find(self, **query: str) -> list[dict[str, Any]]:
        """Return what a search for instances (QIDO-RS) finds."""
        answer = requests.get(f"{self.service}/instances", params=query, timeout=20)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """Run an empty archive during the block."""
    archive = Orthanc(free_port(), free_port())
    configuration = folder / "orthanc.json"
    database = str(folder / "database")
    configuration.write_text(
        json.dumps(
            {
                "StorageDirectory": database,
                "IndexDirectory": database,
                "Plugins": [str(_find_plugin())],
                "HttpPort": archive.http_port,
                "DicomPort": archive.dicom_port,
                "DicomCheckCalledAet": False,
                "DicomAlwaysAllowStore": True,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            }
        )
    )
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([str(ORTHANC), str(configuration)], stdout=log, stderr=log)
    try:
        _wait_until_ready(archive, process)
        yield archive
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(archive: Orthanc, process: subprocess.Popen[bytes]) -> None:
    """Wait until the archive answers a search."""
    deadline = time.monotonic() + _WAIT
    while True:
        assert process.poll() is None, "Orthanc ended: see orthanc.log"
        try:
            archive.find()
        except requests.RequestException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
