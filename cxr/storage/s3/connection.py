"""Connections to S3: the only module that knows boto3 and obstore.

boto3 lists, heads, writes and reads one by one: it takes every key there is, and its errors carry the server's codes.
obstore reads in bulk, at a third of the processor time an object (`bench/storage.py`). Credentials come from boto3's own
chain and stay in it.
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
_connecting = threading.Lock()


class Connection:
    """Clients and threads for one set of AWS settings; all storages of a process with these settings share it.

    Attributes:
        client: boto3's client.
        endpoint: The server's address.
        path_style: Whether buckets stand in the path of an address, not in its host name.
        limit: How many objects are read at the same time.
        pool: The threads that read them.
    """

    def __init__(self) -> None:
        """Make boto3's client; raises what boto3 raises for settings that it cannot use, and ValueError."""
        import boto3

        self.limit = environment.s3_connections()
        self._session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
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
        """Return obstore's view of a bucket, None where there are no credentials for it (boto3 then says so)."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._make_store(bucket)
            return self._stores[bucket]

    def _make_store(self, bucket: str) -> Any:
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import S3Store

        try:
            credentials = Boto3CredentialProvider(self._session)
        except ValueError:
            return None
        # The certificate of *.example.com is not one of a.b.example.com.
        virtual = not self.path_style and "." not in bucket
        endpoint = self.endpoint
        if virtual:
            endpoint = endpoint.replace("://", f"://{bucket}.", 1)
        options: Any = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": "10s",
            "timeout": "60s",
        }
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            options["root_certificate"] = Path(bundle).read_bytes()
        return S3Store(
            bucket,
            endpoint=endpoint,
            region=self.client.meta.region_name,
            virtual_hosted_style_request=virtual,
            client_options=options,
            credential_provider=credentials,
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
        )


def connect() -> Connection:
    """Return the connection for the settings of this moment: the last one, where they did not change since."""
    with _connecting:
        return _connection(_settings())


@functools.lru_cache(maxsize=1)
def _connection(_: tuple[object, ...]) -> Connection:
    return Connection()


def _settings() -> tuple[object, ...]:
    """Return what a connection depends on: the environment, and when the files of profiles were changed.

    So credentials that were renewed in ~/.aws/credentials are used by the next task of a running worker.
    """
    names = sorted(name for name in os.environ if name.startswith(("AWS_", "CXR_S3_")))
    files = [
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    ]
    paths = [Path(name).expanduser() for name in files]
    times = [path.stat().st_mtime_ns if path.is_file() else 0 for path in paths]
    # Hashed: no secret is kept in another place than boto3's own.
    text = "\0".join(f"{name}={os.environ[name]}" for name in names)
    return (hashlib.sha256(text.encode()).hexdigest(), *times)


def split_address(uri: str) -> tuple[str, str]:
    """Return bucket and prefix of an address; the prefix is "" or ends with a slash.

    Raises:
        UsageError: It is no address.
    """
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    if "@" in bucket or ":" in bucket:
        raise UsageError(
            "s3://…: expected s3://bucket/prefix; credentials never belong in a URI: see docs/operations.md"
        )
    if not bucket:
        raise UsageError(f"{uri}: expected s3://bucket/prefix, found no bucket")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{uri}: expected the name of a bucket, letters, digits, dots and dashes, found {bucket}"
        )
    # A slash in front or two in the middle are part of the keys, as they are to S3 itself.
    prefix = prefix.rstrip("/")
    return bucket, f"{prefix}/" if prefix else ""
