"""What goes wrong with S3, in words: the operation, the URI, what to do, and whether trying again can help."""

import os
from typing import Any

from cxr.core.errors import StorageError

CONFLICTS = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})
EMPTY = frozenset({"InvalidRange", "416"})  # a range of an object without bytes
_RENEW = "renew them where they come from (docs/operations.md, Storage), then give the same command again"
_WRONG = "the server refuses these credentials: check AWS_PROFILE or the variables, and that they are of this endpoint"
_ADVICE = {
    "NoSuchBucket": "there is no such bucket at {endpoint}: check its name and the endpoint",
    "AccessDenied": "these credentials may not {verb} here: ask for that permission on the bucket, or use another profile",
    "InvalidAccessKeyId": _WRONG,
    "SignatureDoesNotMatch": _WRONG,
    "ExpiredToken": "the credentials have expired: " + _RENEW,
    "RequestTimeTooSkewed": "this machine's clock is off by more than the server allows: set it (NTP), then try again",
    "NoCredentialsError": "no credentials were found: set AWS_PROFILE, or another source that boto3 knows",
    "ProfileNotFound": "AWS_PROFILE names a profile that is not in the AWS configuration files",
    "ValueError": "check the endpoint in AWS_ENDPOINT_URL: it begins with http:// or https://",
    "SSLError": "the server's certificate is not trusted: give its authority's file in AWS_CA_BUNDLE",
    "SlowDown": "the server asks for fewer requests: give a smaller CXR_S3_CONNECTIONS, or try again later",
    "InternalError": "the server failed: try again later, and look at its own log",
    "EndpointConnectionError": "nothing answers at {endpoint}: check the endpoint and the network",
}
_SAME = {
    **dict.fromkeys(("403", "AllAccessDisabled", "AccountProblem"), "AccessDenied"),
    **dict.fromkeys(("ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "UnauthorizedSSOTokenError",
                     "SSOTokenLoadError", "TokenRetrievalError", "RequestExpired", "CredentialRetrievalError"),
                    "ExpiredToken"),
    **dict.fromkeys(("PartialCredentialsError",), "NoCredentialsError"),
    **dict.fromkeys(("503", "429", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded",
                     "TooManyRequests", "TooManyRequestsException"), "SlowDown"),
    **dict.fromkeys(("500", "502", "504"), "InternalError"),
    **dict.fromkeys(("ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "ConnectionError",
                     "HTTPClientError", "ProxyConnectionError", "RequestTimeout"), "EndpointConnectionError"),
}  # fmt: skip
_PASSING = {
    "SlowDown",
    "InternalError",
    "EndpointConnectionError",
    "ConditionalRequestConflict",
    "BadDigest",
}
_CUT_SHORT = {"IncompleteReadError", "ResponseStreamingError"}


def errors() -> tuple[type[Exception], ...]:
    """Return what boto3 raises."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError


def code_of(error: Exception) -> str:
    """Return the server's code, or the name of botocore's own error."""
    return str(_response(error).get("Error", {}).get("Code", type(error).__name__))


def _response(error: Exception) -> dict[str, Any]:
    """Return the server's answer; botocore's errors of the connection have the attribute too, as None."""
    return getattr(error, "response", None) or {}


def is_cut_short(error: Exception) -> bool:
    """Return whether the connection ended before the body did."""
    return code_of(error) in _CUT_SHORT


def failure(verb: str, uri: str, error: Exception) -> Exception:
    """Return this project's error for one of boto3's; FileNotFoundError and PermissionError where one file is meant."""
    code = code_of(error)
    if code in {"NoSuchKey", "404"}:
        return FileNotFoundError(uri)
    named = _SAME.get(code, code)
    if named == "AccessDenied" and verb == "read":
        return PermissionError(f"cannot read {uri}: {code}: " + _ADVICE[named].format(verb=verb))
    if code in _CUT_SHORT:
        return StorageError(
            f"cannot {verb} {uri}: the connection ended before the file did, each time: try again",
            True,
        )
    response = _response(error)
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    words = _ADVICE.get(named, "check bucket, endpoint and credentials").format(
        verb=verb, endpoint=_endpoint()
    )
    detail = response.get("Error", {}).get("Message") or (
        "" if response else " ".join(str(error).split())
    )
    shown = f"{code}: {words}" if named in _ADVICE else f"{code}: {detail}: {words}"
    return StorageError(f"cannot {verb} {uri}: {shown}", named in _PASSING or status >= 500)


def _endpoint() -> str:
    return (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or "the endpoint"
    )
