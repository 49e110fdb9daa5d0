"""Chromium without a window, driven over its debugging protocol, for the tests of the UI."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

from flows.server.process import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One tab. Every wait has a limit, and fails with the text that the page shows instead."""

    def __init__(self, socket: Connection):
        self.socket = socket
        self.calls = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the browser's answer to a command of its debugging protocol."""
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv(timeout=60))).get("id") != self.calls:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def run(self, script: str) -> Any:
        """Return the value of an expression on the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get(
            "value"
        )

    def text(self) -> str:
        """Return the text of the page."""
        return str(self.run("document.body.innerText"))

    def open(self, url: str, *words: str, seconds: float = 60) -> str:
        """Open an address, wait until the page has all these words, and return its text."""
        self.call("Page.navigate", url=url)
        return self.wait(*words, seconds=seconds)

    def wait(self, *words: str, seconds: float = 60) -> str:
        """Wait until the page has all these words, and return its text."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError):
                shown = self.text()
                if all(word in shown for word in words):
                    return shown
            time.sleep(0.3)
        raise AssertionError(f"expected {words} on the page, found: {self.text()[:2000]}")

    def click(self, words: str) -> None:
        """Click the smallest element that shows exactly these words."""
        script = f"""(() => {{
            const matches = [...document.querySelectorAll('a,button,li,span,p,div')]
                .filter(e => e.innerText && e.innerText.trim() === {json.dumps(words)});
            if (!matches.length) return false;
            matches[matches.length - 1].click();
            return true;
        }})()"""
        assert self.run(script), f"nothing to click says {words!r}: {self.text()[:1000]}"

    def fill(self, label: str, words: str) -> None:
        """Replace the text of the field with this label, as typing would."""
        script = f"""(() => {{
            const match = [...document.querySelectorAll('.p-label')]
                .find(e => e.querySelector('label')?.innerText.trim() === {json.dumps(label)});
            const field = match?.querySelector('input,textarea');
            field?.focus();
            field?.select();
            return !!field;
        }})()"""
        assert self.run(script), f"no field is called {label!r}: {self.text()[:1000]}"
        self.call("Input.insertText", text=words)

    def picture(self, path: Path, settle: float = 1.5) -> Path:
        """Save a screenshot; wait `settle` s first if it is kept for people (`operated.keep`)."""
        if os.environ.get("CXR_TEST_OUTPUTS"):
            time.sleep(settle)
        path.write_bytes(
            base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        )
        return path


@contextlib.contextmanager
def browser(profile: Path, width: int = 1500, height: int = 1300) -> Iterator[Page]:
    """Start a browser with a new profile in a folder; give its page; stop it after the block."""
    port = free_port()
    process = subprocess.Popen(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--remote-debugging-port={port}",
            f"--window-size={width},{height}",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_tab(port), max_size=None) as socket:
            page = Page(socket)
            page.call("Page.enable")
            yield page
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tab(port: int) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer,
        ):
            for tab in json.load(answer):
                if tab["type"] == "page":
                    return str(tab["webSocketDebuggerUrl"])
        time.sleep(0.3)
    raise AssertionError("chromium's debugging port did not answer in 60 s")
