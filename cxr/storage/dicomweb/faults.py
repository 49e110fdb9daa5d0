"""Errors of a DICOMweb service as this project's: what failed where, what to do, whether to retry.

No message holds a UID, which stands for a person, and no error is raised from another one: those of
the library hold the addresses of studies.
"""

import errno
from http import HTTPStatus

from requests import (
    ConnectionError as NoConnectionError,
)
from requests import (
    RequestException,
    Timeout,
)
from requests.exceptions import ChunkedEncodingError, SSLError

from cxr.core.errors import StorageError
from cxr.storage.dicomweb.addresses import READ

_ADVICE = {
    HTTPStatus.UNAUTHORIZED: "the server wants a user and a password: put them into ~/.netrc",
    HTTPStatus.FORBIDDEN: "this user may not {verb} here: ask for that permission on the server",
    HTTPStatus.NOT_FOUND: "the server knows no such place: check the path, as in /dicom-web",
    HTTPStatus.NOT_ACCEPTABLE: (
        "the server cannot send films in their own transfer syntax: export them into a folder"
    ),
    HTTPStatus.TOO_MANY_REQUESTS: "the server asks for fewer requests: try again later",
}
_TRANSIENT = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


class CutShortError(RequestException):
    """An answer ended before its last boundary."""


# The first type that fits: some are kinds of others.
_ADVICE_BY_TYPE: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (
        (SSLError,),
        "the server's certificate is not trusted: give its authority's file in REQUESTS_CA_BUNDLE",
    ),
    ((Timeout,), "it does not answer in time: check the server and the network"),
    (
        (CutShortError, ChunkedEncodingError),
        "the connection ended before the answer did, each time: try again",
    ),
    ((NoConnectionError,), "nothing answers there: check host, port and the network"),
    (
        (ValueError, AttributeError, TypeError),
        "its answer is none of a DICOMweb service: check the path, as in /dicom-web",
    ),
)


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error, 0 if the server gave none."""
    response = getattr(error, "response", None)
    return 0 if response is None else int(response.status_code)


def is_worth_repeating(error: Exception) -> bool:
    """Return whether the same request may succeed at once: the connection broke or was refused.

    What a server answers is repeated by urllib3, see `connection`.
    """
    if isinstance(error, SSLError):
        return False
    return isinstance(error, NoConnectionError | Timeout | ChunkedEncodingError | CutShortError)


def failure(verb: str, service: str, error: Exception) -> Exception:
    """Return this project's error for one of a request.

    Args:
        verb: What was tried, as in "cannot `verb` `service`".
        service: The root of the DICOMweb service.
        error: The error of the request.

    Returns:
        FileNotFoundError or PermissionError for one instance that cannot be read, StorageError for
        everything else.
    """
    status = status_of(error)
    explanation = _explain(error, status, verb)
    message = f"cannot {verb} {service}: {explanation}"
    if verb == READ and status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return FileNotFoundError(message)
    if verb == READ and status == HTTPStatus.FORBIDDEN:
        return PermissionError(errno.EACCES, explanation)
    return StorageError(message, transient=status in _TRANSIENT or is_worth_repeating(error))


def _explain(error: Exception, status: int, verb: str) -> str:
    """Return what is wrong and what to do about it."""
    if status in _ADVICE:
        advice = _ADVICE[HTTPStatus(status)].format(verb=verb.partition(" ")[0])
        return f"HTTP {status}: {advice}"
    if status:
        return f"HTTP {status}: the server failed: try again later, and look at its own log"
    for kind, advice in _ADVICE_BY_TYPE:
        if isinstance(error, kind):
            return advice
    return f"{type(error).__name__}: check the address"
