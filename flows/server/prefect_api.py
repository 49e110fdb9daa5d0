"""Prefect's API: which one the settings name, whether it answers, and single questions to it.

Everything that has imported Prefect anyway uses Prefect's own client. `ask` is for what has not,
or asks another server than the settings name: importing Prefect takes one to nine seconds, and
reads the settings once and for all. It neither asks again nor explains an error.
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
_FOR_PROGRAMMERS = re.compile(r" \[type=.*")  # the end of pydantic's messages
# In the current folder: Prefect reads its settings there, too.
_OF_A_PROJECT = (".env", "prefect.toml")


def ask(
    url: str, path: str, password: str = "", body: Any = None, method: str | None = None
) -> Any:
    """Return the answer of the API at `url`, None for an empty one; `password` is user:password. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(password.encode()).decode()
    request = urllib.request.Request(url.rstrip("/") + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        return json.loads(answer.read() or "null")


def configured() -> str | None:
    """Return the API's address that the environment, a profile or a project's file names, None where none does.

    Prefect, whose import takes seconds, is asked only where there is such a file.

    Raises:
        CxrError: Prefect cannot read its settings.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    files = [_profiles(), *map(Path, _OF_A_PROJECT)]
    if not any(map(_mentions_prefect, files)) and not _has_prefect_table(Path("pyproject.toml")):
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
        with contextlib.suppress(OSError):  # without one, Prefect works all the same
            Path(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    said = io.StringIO()  # where it fails, in many lines what is here in one
    try:
        with contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to create the Prefect home")
            importlib.import_module("prefect.context")
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - a file that is no TOML, a value of another type: each has its own
        words = _FOR_PROGRAMMERS.sub("", " ".join(str(error).split()))
        raise CxrError(
            f"Prefect cannot read its settings ({words}): correct {_profiles()} or the variables PREFECT_*"
        ) from None
    sys.stderr.write(said.getvalue())


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what Prefect's client raises, when its server goes away or refuses, into one line.

    Raises:
        CxrError: In the place of the client's own exceptions.
    """
    try:
        yield
    except Exception as error:
        import httpx

        unreachable = isinstance(error, RuntimeError) and str(error).startswith(
            "Failed to reach API"
        )
        if not unreachable and not isinstance(error, httpx.HTTPError):
            raise
        words = str(error).partition("\n")[0] or type(error).__name__
        raise CxrError(
            f"Prefect's server failed this run ({words}): {GOES_ON}, when it answers"
        ) from error


def require_answer() -> None:
    """Make sure that the API of the settings answers and lets us in.

    Raises:
        CxrError: It does not; with what to do.
    """
    if words := problem():
        raise CxrError(words)


def problem() -> str:
    """Return why the API of the settings cannot be used and what to do, "" where it can be."""
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
        return f"{url} ({where}) answered {code}: expected the address of a Prefect API, which ends in /api"
    except json.JSONDecodeError:
        return f"{url} ({where}) is no Prefect API: expected an address that ends in /api"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ImportError, ValueError) as error:
        cause = str(error) or type(error).__name__
        return f"{url} ({where}) does not answer ({cause}): start that server (make up), or unset it for one of cxr's own"
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


def _profiles() -> Path:
    """Return where Prefect looks for profiles."""
    if named := os.environ.get("PREFECT_PROFILES_PATH"):
        return Path(named)
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser() / "profiles.toml"


def _has_prefect_table(path: Path) -> bool:
    """Return whether a pyproject.toml has settings for Prefect, or may have: it cannot be parsed.

    Naming Prefect among the dependencies, as this project's own does, is no setting.
    """
    try:
        found = tomllib.loads(path.read_text(errors="replace"))
    except OSError:
        return False
    except ValueError:
        return True
    return "prefect" in found.get("tool", {})


def _mentions_prefect(path: Path) -> bool:
    try:
        return "prefect" in path.read_text(errors="replace").lower()
    except OSError:
        return False
