"""Prefect's API: which one the settings name, whether it answers, and single requests to it.

Code that has imported Prefect uses Prefect's own client. `request` is for code that has not, or
that asks another server than the settings name: importing Prefect takes one to nine seconds and
reads the settings once and for all. It neither tries again nor explains an error.
"""

import base64
import contextlib
import importlib
import io
import json
import os
import re
import sys
import tomllib
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cxr.core.errors import CxrError
from flows.server.interrupts import GOES_ON

ANSWER_SECONDS = 10
WORK_POOLS = ("cxr-cpu", "cxr-gpu")  # those of prefect.yaml
_PYDANTIC_DETAILS = re.compile(r" \[type=.*")  # the end of pydantic's messages
_PROJECT_FILES = (".env", "prefect.toml")  # in the current folder; Prefect reads them, too


def request(
    url: str,
    path: str,
    password: str = "",
    body: Any = None,
    method: str | None = None,
    seconds: float = ANSWER_SECONDS,
) -> Any:
    """Send a request to the API and return its answer, None for an empty one.

    Args:
        url: The API's address.
        path: The path below it.
        password: user:password, if the API asks for one.
        body: What to send, as JSON.
        method: The HTTP method; GET without a body, POST with one, if not given.
        seconds: How long to wait for the answer.

    Raises:
        OSError: The API does not answer in time, or refuses.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(password.encode()).decode()
    http_request = urllib.request.Request(url.rstrip("/") + path, data, headers, method=method)
    with urllib.request.urlopen(http_request, timeout=seconds) as answer:
        return json.loads(answer.read() or "null")


def configured() -> str | None:
    """Return the API's address that the environment, a profile or a project's file names.

    None if none does. Prefect, whose import takes seconds, is asked only if there is such a file.

    Raises:
        CxrError: Prefect cannot read its settings.
    """
    url = os.environ.get("PREFECT_API_URL")
    if url:
        return url
    files = [_profiles_path(), *map(Path, _PROJECT_FILES)]
    has_settings = any(map(_mentions_prefect, files))
    if not has_settings and not _has_prefect_table(Path("pyproject.toml")):
        return None
    load()
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def load() -> None:
    """Import Prefect, which reads its settings then.

    Raises:
        CxrError: It cannot read them.
    """
    home = os.environ.get("PREFECT_HOME")
    if home:
        with contextlib.suppress(OSError):  # Prefect works without one
            Path(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    output = io.StringIO()  # if it fails, many lines, which are one here
    try:
        with contextlib.redirect_stderr(output), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to create the Prefect home")
            importlib.import_module("prefect.context")
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - broken TOML, a value of a wrong type: each has its own
        cause = _PYDANTIC_DETAILS.sub("", " ".join(str(error).split()))
        raise CxrError(
            f"Prefect cannot read its settings ({cause}): "
            f"correct {_profiles_path()} or the variables PREFECT_*"
        ) from None
    sys.stderr.write(output.getvalue())


@contextlib.contextmanager
def errors_explained() -> Iterator[None]:
    """Turn what Prefect's client raises, when its server goes away or refuses, into one line.

    Raises:
        CxrError: Instead of the client's own exceptions.
    """
    try:
        yield
    except Exception as error:
        import httpx

        message = str(error)
        is_unreachable = isinstance(error, RuntimeError) and message.startswith(
            "Failed to reach API"
        )
        if not is_unreachable and not isinstance(error, httpx.HTTPError):
            raise
        cause = message.partition("\n")[0] or type(error).__name__
        raise CxrError(
            f"Prefect's server failed this run ({cause}): {GOES_ON}, when it answers"
        ) from error


def require_answer() -> None:
    """Check that the API of the settings answers and lets us in.

    Raises:
        CxrError: It does not; the message says what to do.
    """
    problem = find_problem()
    if problem:
        raise CxrError(problem)


def find_problem() -> str:
    """Return why the API of the settings cannot be used and what to do, "" if it can be."""
    load()
    import httpx
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.settings import (
        PREFECT_CLIENT_MAX_RETRIES,
        get_current_settings,
        temporary_settings,
    )

    url = get_current_settings().api.url
    where = "PREFECT_API_URL" if os.environ.get("PREFECT_API_URL") else "Prefect's profile"
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": ANSWER_SECONDS}) as client,
        ):
            if client.server_type == ServerType.CLOUD:
                return str(client.api_healthcheck() or "")
            client.api_version()
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        if code in {401, 403}:
            return f"{url} ({where}) asks for a password: set PREFECT_API_AUTH_STRING=user:password"
        return (
            f"{url} ({where}) answered {code}: "
            "expected the address of a Prefect API, which ends in /api"
        )
    except json.JSONDecodeError:
        return f"{url} ({where}) is no Prefect API: expected an address that ends in /api"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ImportError, ValueError) as error:
        cause = str(error) or type(error).__name__
        return (
            f"{url} ({where}) does not answer ({cause}): "
            "start that server (make up), or unset it for one of cxr's own"
        )
    return ""


def pools() -> set[str]:
    """Return the names of the work pools of the API of the settings.

    Raises:
        CxrError: It did not tell them.
    """
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_SECONDS}) as client:
            return {pool.name for pool in client.read_work_pools()}
    except (httpx.HTTPError, ValueError) as error:
        raise CxrError(f"the work pools could not be asked for ({error})") from None


def _profiles_path() -> Path:
    """Return where Prefect looks for profiles."""
    path = os.environ.get("PREFECT_PROFILES_PATH")
    if path:
        return Path(path)
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser() / "profiles.toml"


def _has_prefect_table(path: Path) -> bool:
    """Return whether a pyproject.toml has settings for Prefect, or may have since it is broken.

    Naming Prefect among the dependencies, as this project's own does, is no setting.
    """
    try:
        project = tomllib.loads(path.read_text(errors="replace"))
    except OSError:
        return False
    except ValueError:
        return True
    return "prefect" in project.get("tool", {})


def _mentions_prefect(path: Path) -> bool:
    """Return whether a file of settings names Prefect."""
    try:
        return "prefect" in path.read_text(errors="replace").lower()
    except OSError:
        return False
