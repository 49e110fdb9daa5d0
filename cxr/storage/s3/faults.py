"""S3 errors as this project's: what failed where, what to do, whether trying again can help."""

import os
from typing import Any

from cxr.core.errors import StorageError

CONFLICTS = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})
EMPTY = frozenset({"InvalidRange", "416"})  # a range of an object without bytes

_REFUSED_CREDENTIALS = (
    "the server refuses these credentials: check AWS_PROFILE or the variables, "
    "and that they are of this endpoint"
)
_ADVICE = {
    "NoSuchBucket": "there is no such bucket at {endpoint}: check its name and the endpoint",
    "AccessDenied": (
        "these credentials may not {verb} here: ask for that permission on the bucket, "
        "or use another profile"
    ),
    "InvalidAccessKeyId": _REFUSED_CREDENTIALS,
    "SignatureDoesNotMatch": _REFUSED_CREDENTIALS,
    "ExpiredToken": (
        "the credentials have expired: renew them where they come from "
        "(docs/operations.md, Storage), then give the same command again"
    ),
    "RequestTimeTooSkewed": (
        "this machine's clock is off by more than the server allows: set it (NTP), then try again"
    ),
    "NoCredentialsError": (
        "no credentials were found: set AWS_PROFILE, or another source that boto3 knows"
    ),
    "ProfileNotFound": "AWS_PROFILE names a profile that is not in the AWS configuration files",
    "ValueError": "check the endpoint in AWS_ENDPOINT_URL: it begins with http:// or https://",
    "SSLError": (
        "the server's certificate is not trusted: give its authority's file in AWS_CA_BUNDLE"
    ),
    "SlowDown": (
        "the server asks for fewer requests: give a smaller CXR_S3_CONNECTIONS, or try again later"
    ),
    "InternalError": "the server failed: try again later, and look at its own log",
    "EndpointConnectionError": (
        "nothing answers at {endpoint}: check the endpoint and the network"
    ),
}
# Codes of servers and names of botocore's errors that mean the same as a code above.
_SYNONYMS = {
    "AccessDenied": (
        "403",
        "AllAccessDisabled",
        "AccountProblem",
    ),
    "ExpiredToken": (
        "ExpiredTokenException",
        "TokenRefreshRequired",
        "InvalidToken",
        "UnauthorizedSSOTokenError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "RequestExpired",
        "CredentialRetrievalError",
    ),
    "NoCredentialsError": ("PartialCredentialsError",),
    "SlowDown": (
        "503",
        "429",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
    ),
    "InternalError": ("500", "502", "504"),
    "EndpointConnectionError": (
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "ConnectionClosedError",
        "ConnectionError",
        "HTTPClientError",
        "ProxyConnectionError",
        "RequestTimeout",
    ),
}
_TRANSIENT = {
    "SlowDown",
    "InternalError",
    "EndpointConnectionError",
    "ConditionalRequestConflict",
    "BadDigest",
}
_CUT_SHORT = {"IncompleteReadError", "ResponseStreamingError"}


def errors() -> tuple[type[Exception], ...]:
    """Return the types of boto3's errors. A function, because importing botocore takes time."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError


def code_of(error: Exception) -> str:
    """Return the server's error code, or the name of botocore's own error."""
    server_error = _response(error).get("Error", {})
    return str(server_error.get("Code", type(error).__name__))


def _response(error: Exception) -> dict[str, Any]:
    """Return the server's answer; botocore's connection errors have the attribute too, as None."""
    return getattr(error, "response", None) or {}


def is_cut_short(error: Exception) -> bool:
    """Return whether the connection ended before the whole body was read."""
    return code_of(error) in _CUT_SHORT


def failure(verb: str, uri: str, error: Exception) -> Exception:
    """Return this project's error for one of boto3's.

    Args:
        verb: What was tried, as in "cannot `verb` `uri`".
        uri: The prefix or object it was tried on.
        error: boto3's error.

    Returns:
        FileNotFoundError for a missing object, PermissionError for one that may not be read: they
        concern this object alone. StorageError for everything else.
    """
    code = code_of(error)
    if code in {"NoSuchKey", "404"}:
        return FileNotFoundError(uri)
    if is_cut_short(error):
        return StorageError(
            f"cannot {verb} {uri}: the connection ended before the file did, each time: try again",
            transient=True,
        )
    canonical_code = _canonical(code)
    message = f"cannot {verb} {uri}: {code}: {_explain(error, canonical_code, verb)}"
    if canonical_code == "AccessDenied" and verb == "read":
        return PermissionError(message)
    return StorageError(message, transient=_is_transient(error, canonical_code))


def _canonical(code: str) -> str:
    """Return the code in _ADVICE that means the same, or the code itself if there is none."""
    for canonical_code, synonyms in _SYNONYMS.items():
        if code in synonyms:
            return canonical_code
    return code


def _explain(error: Exception, canonical_code: str, verb: str) -> str:
    """Return what to do about an error, after its own message if its code is not a known one."""
    if canonical_code in _ADVICE:
        return _ADVICE[canonical_code].format(verb=verb, endpoint=_endpoint())
    response = _response(error)
    if response:
        server_error = response.get("Error", {})
        detail = server_error.get("Message") or ""
    else:
        detail = " ".join(str(error).split())  # in one line
    return f"{detail}: check bucket, endpoint and credentials"


def _is_transient(error: Exception, canonical_code: str) -> bool:
    """Return whether the same request may succeed later."""
    metadata = _response(error).get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    return canonical_code in _TRANSIENT or status >= 500


def _endpoint() -> str:
    """Return the server's address as it was set, for a message."""
    return (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or "the endpoint"
    )
