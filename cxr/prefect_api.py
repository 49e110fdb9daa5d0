"""One question to Prefect's API over HTTP, without Prefect. Left out: asking again, and what an error means."""

import base64
import json
import urllib.request
from typing import Any

ANSWER_SECONDS = 10


def ask(url: str, path: str, password: str = "", body: Any = None, method: str | None = None) -> Any:
    """Return the answer of the API at `url`, None for an empty one; `password` is user:password. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(password.encode()).decode()
    request = urllib.request.Request(url.rstrip("/") + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        return json.loads(answer.read() or "null")
