"""An S3 prefix: its address, its objects, and what the server says about one of them."""

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

from cxr.storage.base import Entry
from cxr.storage.s3.connection import connect, split_address
from cxr.storage.s3.faults import code_of, errors, failure

Answer = dict[str, Any]  # what boto3 makes of a server's answer


class S3Prefix:
    """A prefix in an S3-compatible bucket, to be listed.

    Endpoint, region, certificates and profile come from the usual AWS variables.

    Attributes:
        bucket: The bucket's name.
        prefix: What all keys in the bucket begin with; empty or with a slash at its end.
        uri: The address.
        place: The server's address and the prefix's.
        client: boto3's client.
    """

    def __init__(self, uri: str):
        """Make the connection; nothing is asked of the server yet.

        Args:
            uri: s3://bucket/prefix.

        Raises:
            UsageError: The address is not of this form.
            StorageError: The AWS settings cannot be used.
        """
        self.bucket, self.prefix = split_address(uri)
        self.uri = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        bad_endpoint: tuple[type[Exception], ...] = (ValueError,)
        try:
            self._connection = connect()
        except errors() + bad_endpoint as error:
            raise failure("open", self.uri, error) from error
        self.client = self._connection.client
        self.place = f"{self._connection.endpoint} {self.uri}"

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every object whose key starts with `prefix`, page by page.

        Folder markers (keys that end with a slash, as consoles make them) are left out.
        """
        key_prefix = self.prefix + prefix
        paginator = self.client.get_paginator("list_objects_v2")
        pages = paginator.paginate(Bucket=self.bucket, Prefix=key_prefix)
        try:
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self.prefix)
                    if key and not key.endswith("/"):
                        yield Entry(key, item["Size"], etag_of(item))
        except errors() as error:
            uri = self._uri(prefix).rstrip("/")
            raise failure("list", uri, error) from error

    def find(self, key: str) -> Entry | None:
        """Return one object as `list` would yield it, or None if there is none.

        Keys are listed in order, so it comes before all others that begin with its key.
        """
        first = next(self.list(key), None)
        if first is None or first.key != key:
            return None
        return first

    def version(self, key: str) -> str | None:
        """Return the object's ETag, or None if there is no such object."""
        head = self._head(key)
        if head is None:
            return None
        return etag_of(head)

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 that an object was written with, or None if it has none."""
        head = self._head(key)
        if head is None:
            return None
        sha256: str | None = head["Metadata"].get("sha256")
        return sha256

    def age(self, key: str) -> float | None:
        """Return how long ago the object was written, in seconds by the server's clock.

        Returns:
            None if there is no such object.
        """
        head = self._head(key)
        if head is None:
            return None
        headers = head["ResponseMetadata"]["HTTPHeaders"]
        now = parsedate_to_datetime(headers["date"])
        elapsed = now - head["LastModified"]
        return float(elapsed.total_seconds())

    def _head(self, key: str) -> Answer | None:
        """Return the server's answer about an object, or None if there is no such object."""
        target = self._target(key)
        try:
            head: Answer = self.client.head_object(**target)
        except errors():
            # The answer to a HEAD request has no body, so its error has no code: a GET has one.
            return self._head_by_get(key)
        return head

    def _head_by_get(self, key: str) -> Answer | None:
        """Do what `_head` does with a GET request whose body is not read."""
        target = self._target(key)
        try:
            answer: Answer = self.client.get_object(**target)
        except errors() as error:
            if code_of(error) == "NoSuchKey":
                return None
            raise failure("look at", self._uri(key), error) from error
        answer["Body"].close()
        return answer

    def _target(self, key: str) -> dict[str, str]:
        """Return the parameters of a request that name an object."""
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def _uri(self, key: str) -> str:
        """Return what an object is called in an error."""
        return f"{self.uri}/{key}"


def etag_of(answer: Answer) -> str:
    """Return the ETag in a server's answer, without its quotes."""
    etag = str(answer["ETag"])
    return etag.strip('"')
