"""Connections to S3. Only this module makes clients of boto3 and obstore.

boto3 does everything; obstore only reads in bulk, which it does 2.2 to 2.4 times as fast on a real
server (`bench/storage.py`). obstore alone is not enough: keys with "//", ".", ".." or line breaks
fail its listing, folder markers are listed as files, AWS profiles are ignored, and answers come
without the server's date, from which the age of a lease is known. Credentials come from boto3's
own chain and are not kept anywhere else.
"""

import functools
import hashlib
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from cxr.core import environment
from cxr.core.errors import UsageError

_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_VARIABLES = ("AWS_", "CXR_S3_")  # the beginnings of their names
_connecting = threading.Lock()


class Connection:
    """Clients and threads for one set of AWS settings, shared by all storages of a process.

    Attributes:
        client: boto3's client.
        endpoint: The server's address.
        path_style: Whether buckets stand in the path of an address, not in its host name.
        limit: How many objects are read at the same time.
        pool: The threads that read them.
    """

    def __init__(self) -> None:
        """Make boto3's client from the AWS variables and profiles.

        Raises:
            BotoCoreError: boto3 cannot use these settings.
            ValueError: The endpoint is no address.
        """
        import boto3

        region = os.environ.get("AWS_REGION") or None
        self.limit = environment.s3_connections()
        self._session = boto3.Session(region_name=region)
        self.client = self._make_client(None)
        style = environment.s3_path_style()
        if style is None and "amazonaws.com" not in self.client.meta.endpoint_url:
            style = True
        if style is not None:
            self.client = self._make_client("path" if style else "virtual")
        self.path_style = bool(style)
        self.endpoint = str(self.client.meta.endpoint_url)
        self.pool = ThreadPoolExecutor(self.limit, "cxr-s3")
        self._stores: dict[str, Any] = {}
        self._lock = threading.Lock()

    def _make_client(self, addressing_style: str | None) -> Any:
        """Return a client of boto3; None leaves the style of addresses to boto3."""
        from botocore.config import Config

        config = Config(
            retries={"max_attempts": 6, "mode": "standard"},
            max_pool_connections=self.limit + 4,
            signature_version="s3v4",
            connect_timeout=10,
            read_timeout=60,
            # Servers other than AWS know no checksums in trailers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": addressing_style} if addressing_style else None,
        )
        region = self._session.region_name or "us-east-1"
        return self._session.client("s3", region_name=region, config=config)

    def bulk_store(self, bucket: str) -> Any:
        """Return obstore's client for a bucket.

        Returns:
            None if there are no credentials: the request is then boto3's, whose error says so.
        """
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._make_store(bucket)
            return self._stores[bucket]

    def _make_store(self, bucket: str) -> Any:
        """Return a new client of obstore for a bucket, with the settings of boto3's."""
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import S3Store

        try:
            credentials = Boto3CredentialProvider(self._session)
        except ValueError:
            return None
        # A certificate for *.example.com does not cover a.b.example.com.
        virtual_hosted = not self.path_style and "." not in bucket
        endpoint = self.endpoint
        if virtual_hosted:
            endpoint = endpoint.replace("://", f"://{bucket}.", 1)
        client_options: Any = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": "10s",
            "timeout": "60s",
        }
        ca_bundle = os.environ.get("AWS_CA_BUNDLE")
        if ca_bundle:
            client_options["root_certificate"] = Path(ca_bundle).read_bytes()
        retries: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=30)}
        return S3Store(
            bucket,
            endpoint=endpoint,
            region=self.client.meta.region_name,
            virtual_hosted_style_request=virtual_hosted,
            client_options=client_options,
            credential_provider=credentials,
            retry_config=retries,
        )


def connect() -> Connection:
    """Return the connection for the present settings: the last one if they did not change since."""
    with _connecting:
        return _connection(_settings())


@functools.lru_cache(maxsize=1)
def _connection(_key: tuple[object, ...]) -> Connection:
    """Return a new connection; the settings are only the key of the cache."""
    return Connection()


def _settings() -> tuple[object, ...]:
    """Return what a connection depends on: the environment and the times of the profiles' files.

    So credentials that were renewed in ~/.aws/credentials are used by the next task of a running
    worker. The variables are hashed: no secret is kept in another place than boto3's own.
    """
    names = sorted(name for name in os.environ if name.startswith(_VARIABLES))
    variables = [f"{name}={os.environ[name]}" for name in names]
    text = "\0".join(variables)
    return (
        hashlib.sha256(text.encode()).hexdigest(),
        _time_of_change("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        _time_of_change("AWS_CONFIG_FILE", "~/.aws/config"),
    )


def _time_of_change(variable: str, default: str) -> int:
    """Return when the file named by a variable was changed, in ns, or 0 if it does not exist."""
    path = Path(os.environ.get(variable, default)).expanduser()
    return path.stat().st_mtime_ns if path.is_file() else 0


def split_address(uri: str) -> tuple[str, str]:
    """Return bucket and prefix of an address; the prefix is empty or ends with a slash.

    Raises:
        UsageError: It is not s3://bucket/prefix.
    """
    _, _, address = uri.partition("://")
    bucket, _, prefix = address.partition("/")
    if "@" in bucket or ":" in bucket:
        # The address is not repeated: it may hold a secret.
        raise UsageError(
            "s3://…: expected s3://bucket/prefix; "
            "credentials never belong in a URI: see docs/operations.md"
        )
    if not bucket:
        raise UsageError(f"{uri}: expected s3://bucket/prefix, found no bucket")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{uri}: expected the name of a bucket, letters, digits, dots and dashes, "
            f"found {bucket}"
        )
    # A slash in front or two in the middle are part of the keys, as they are to S3 itself.
    prefix = prefix.rstrip("/")
    return bucket, f"{prefix}/" if prefix else ""
