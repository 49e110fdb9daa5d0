"""Requests to a DICOMweb service: searches by dicomweb-client (QIDO-RS), films as they are stored (WADO-RS).

dicomweb-client parses what it retrieves, so that the bytes of the archive would be lost, and with
them the digest of the file: films are therefore retrieved with `requests` alone. Certificates and
credentials are those that `requests` finds: REQUESTS_CA_BUNDLE and ~/.netrc.
"""

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import requests
from dicomweb_client.web import DICOMwebClient
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from cxr.storage.dicomweb.addresses import InstanceName, Place
from cxr.storage.dicomweb.faults import CutShortError, failure, is_worth_repeating
from cxr.storage.s3 import retries

CONNECTIONS = 8  # films that are retrieved at the same time
LARGEST_ANSWER = 300_000_000  # bytes: more than the largest file that is decoded
BACKOFF = 0.5  # seconds before a request that the server put off is repeated, doubled each time
_TIMEOUT = (10.0, 60.0)  # seconds for the connection, and between two parts of an answer
_PAGE = 500  # instances or studies that are asked for at a time
_CHUNK = 1024 * 1024  # bytes
# Without the star, servers transcode to uncompressed: what is read would not be what is stored.
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_Result = TypeVar("_Result")
Found = dict[str, Any]  # what the service says of a study or instance, in the DICOM JSON model

# It logs the UIDs of what is retrieved.
logging.getLogger("dicomweb_client").setLevel(logging.WARNING)


class Connection:
    """Requests to one service.

    Attributes:
        service: The root of the service.
    """

    def __init__(self, service: str):
        self.service = service
        self._session = requests.Session()
        # A request that the server puts off is repeated here, one whose connection breaks in
        # `_repeat`: urllib3 would log its address.
        policy = Retry(
            total=4,
            connect=0,
            read=0,
            backoff_factor=BACKOFF,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,
            retry_after_max=60,
        )
        adapter = HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=policy)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._client = DICOMwebClient(
            service, session=self._session, permissive_uid=True, timeout=_TIMEOUT
        )
        self._client.set_http_retry_params(retry=False)

    def search_studies(self, verb: str) -> Iterator[Found]:
        """Yield every study of the archive, page by page.

        Args:
            verb: What is tried, for an error.

        Raises:
            StorageError: The service does not answer, or not as such a service does.
        """

        def search(offset: int) -> list[Found]:
            return self._client.search_for_studies(limit=_PAGE, offset=offset)

        return self._pages(verb, search)

    def search_instances(self, verb: str, place: Place) -> Iterator[Found]:
        """Yield the instances of a study, of a series, or the one that `place` names.

        Raises:
            StorageError: As for `search_studies`.
        """
        filters = {} if place.instance is None else {"SOPInstanceUID": place.instance}

        def search(offset: int) -> list[Found]:
            return self._client.search_for_instances(
                place.study, place.series, limit=_PAGE, offset=offset, search_filters=filters
            )

        return self._pages(verb, search)

    def _pages(self, verb: str, search: Callable[[int], list[Found]]) -> Iterator[Found]:
        """Yield what a search finds, until there is no more."""
        offset = 0
        while True:

            def attempt(offset: int = offset) -> list[Found]:
                return search(offset)

            page = self._repeat(verb, attempt)
            yield from page
            offset += len(page)
            if len(page) == 0:
                return

    def retrieve(self, verb: str, name: InstanceName, count: int | None = None) -> bytes:
        """Return an instance as the archive stores it, or its first bytes.

        Args:
            verb: What is tried, for an error.
            name: The instance.
            count: How many bytes; None returns all.

        Raises:
            FileNotFoundError: There is no such instance.
            PermissionError: It may not be read.
            OSError: It has more than LARGEST_ANSWER bytes.
            StorageError: The service does not answer.
        """
        url = f"{self.service}/studies/{name.study}/series/{name.series}/instances/{name.instance}"

        def attempt() -> bytes:
            answer = self._session.get(
                url, headers={"Accept": _AS_STORED}, stream=True, timeout=_TIMEOUT
            )
            with closing(answer):
                answer.raise_for_status()
                return _first_part(answer, count)

        return self._repeat(verb, attempt)

    def _repeat(self, verb: str, attempt: Callable[[], _Result]) -> _Result:
        """Return the result of `attempt`, repeated while the connection breaks."""
        for delay in (*retries.DELAYS, None):
            try:
                return attempt()
            # What is no answer of a DICOMweb service makes dicomweb-client raise the others.
            except (requests.RequestException, ValueError, AttributeError, TypeError) as error:
                found: Exception = error
            if delay is None or not is_worth_repeating(found):
                break
            retries.pause(delay)
        # Here, because what is raised above would carry the other error along, and with it a UID.
        raise failure(verb, self.service, found)


def _first_part(answer: requests.Response, count: int | None) -> bytes:
    """Return the first part of a multipart answer, or its first `count` bytes.

    Some servers send the file alone, although the standard wants it to be a part.

    Raises:
        CutShortError: The answer ends before the part does.
        ValueError: It has no parts.
        OSError: It is too large.
    """
    boundary = _boundary_of(answer.headers.get("Content-Type", ""))
    delimiter = b"" if boundary is None else b"\r\n--" + boundary
    body = bytearray()
    start = 0 if boundary is None else -1
    for chunk in answer.iter_content(_CHUNK):
        body += chunk
        if start < 0:
            header_end = body.find(b"\r\n\r\n")
            start = header_end + 4 if header_end >= 0 else -1
        if count is not None and start >= 0 and _holds(body[start:], count, delimiter):
            return bytes(body[start : start + count])
        if len(body) > LARGEST_ANSWER:
            raise OSError(errno.EFBIG, f"more than {LARGEST_ANSWER:,} bytes: too large to be read")
    if boundary is None:
        return bytes(body[:count])
    end = body.rfind(delimiter)
    if start < 0 or end < start:
        raise CutShortError
    return bytes(body[start:end][:count])


def _holds(part: bytearray, count: int, delimiter: bytes) -> bool:
    """Return whether the first `count` bytes of a part have come, and all of them are of it."""
    length = count + len(delimiter)
    return len(part) >= length and (not delimiter or delimiter not in part[:length])


def _boundary_of(content_type: str) -> bytes | None:
    """Return the boundary that a content type names; None for a file that is sent alone.

    >>> _boundary_of('multipart/related; type="application/dicom"; boundary=abc')
    b'abc'

    Raises:
        ValueError: It is neither.
    """
    kind, *parameters = (part.strip() for part in content_type.split(";"))
    if kind.lower() == "application/dicom":
        return None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if kind.lower() == "multipart/related" and name.lower() == "boundary":
            return value.strip('"').encode()
    raise ValueError("expected multipart/related or application/dicom")
