"""What goes wrong with S3: passing faults are survived, lasting ones are named; nothing is lost or half-visible."""

import datetime
import hashlib
import itertools
import os
import socket
from collections.abc import Callable

import pytest

from cxr.core.errors import ConflictError, StorageError
from cxr.core.files import read_table
from cxr.data.manifest import scanning, shard_inspection
from cxr.storage.addresses import open_storage
from cxr.storage.base import Storage
from cxr.storage.s3.connection import connect
from tests.conftest import preprocess
from tests.support import faulty_s3
from tests.support.faulty_s3 import Fault

SLOW, BROKEN, RESET, CUT, LOST = (
    Fault("error", 503, "SlowDown"), Fault("error", 500, "InternalError"), Fault("reset"), Fault("cut"), Fault("lost"),
)  # fmt: skip
TEXT = b"0123456789" * 1000
ETAG = hashlib.md5(TEXT).hexdigest()


@pytest.fixture
def faulty(moto, moto_bucket, monkeypatch):
    """A proxy before the mock server; nobody waits for real."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with faulty_s3.before(moto, monkeypatch) as proxy:
        yield proxy


@pytest.fixture
def place(faulty, moto_bucket, monkeypatch) -> Storage:
    """A place with one object, without a local cache."""
    monkeypatch.setenv("CXR_CACHE_GB", "0")
    moto_bucket.client().put_object(Bucket=moto_bucket.name, Key="set/here", Body=TEXT)
    return open_storage(f"s3://{moto_bucket.name}/set")


def verbs(place: Storage, tmp_path) -> dict[str, Callable[[], bool]]:
    """Return what each verb gives, by doing it on the one object there is."""
    source = tmp_path / "source"
    source.write_bytes(TEXT)
    return {
        "list": lambda: (
            [(entry.key, entry.size) for entry in place.list()] == [("here", len(TEXT))]
        ),
        "read": lambda: place.read("here") == TEXT,
        "read one of many": lambda: the_one(place) == TEXT,
        "version": lambda: place.version("here") == ETAG,
        "write": lambda: place.write("here", TEXT) == ETAG,
        "write the first": lambda: place.write("new", TEXT, expected=None) == ETAG,
        "write the next": lambda: place.write("here", TEXT, expected=ETAG) == ETAG,
        "upload": lambda: place.upload(source, "here") == ETAG,
        "download": lambda: (
            place.download("here", tmp_path / "x") == ETAG and (tmp_path / "x").read_bytes() == TEXT
        ),
        "delete": lambda: place.delete("here") is None,
    }


def the_one(place: Storage) -> bytes:
    ((_, answer),) = place.read_many([("here", ETAG)])
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.mark.parametrize(
    "fault", [SLOW, BROKEN, RESET], ids=["slow down", "internal error", "reset"]
)
def test_passing_faults_are_survived(place, faulty, tmp_path, fault):
    """Throttled, failed or reset twice, each verb's answer is that of an undisturbed server."""
    for verb, right in verbs(place, tmp_path).items():
        faulty.faults, faulty.asked = iter([fault, fault]), []
        assert right(), verb
        assert len(faulty.asked) >= 3, verb


@pytest.mark.parametrize("verb", ["read", "read one of many", "download"])
def test_a_body_cut_short_is_read_again(place, faulty, tmp_path, verb):
    """Half a file is never taken for the whole; where it stays half, an error says so and no file is left."""
    faulty.faults = iter([CUT] * 4)
    assert verbs(place, tmp_path)[verb]()
    (tmp_path / "x").unlink(missing_ok=True)
    faulty.faults = itertools.repeat(CUT)
    with pytest.raises(
        StorageError,
        match=r"cannot (read|download) s3://.*/set/here: the connection ended before the file did",
    ) as e:
        verbs(place, tmp_path)[verb]()
    assert e.value.transient and not (tmp_path / "x").exists()


@pytest.mark.parametrize("verb", ["write the first", "write the next"])
def test_a_conditional_write_whose_answer_was_lost_is_known_as_its_own(
    place, faulty, tmp_path, verb
):
    """The repeated request is refused because the first one arrived: that is success, not a conflict."""
    faulty.faults, faulty.methods = iter([LOST]), ("PUT",)
    assert verbs(place, tmp_path)[verb]()
    assert len(faulty.asked) == 2


def test_a_conditional_write_that_met_another_is_tried_again(place, faulty):
    """AWS answers 409 where two are under way: once the other is through, it is a conflict or not."""
    busy = Fault("error", 409, "ConditionalRequestConflict")
    faulty.faults, faulty.methods = iter([busy, busy]), ("PUT",)
    place.write("new", b"1", expected=None)
    faulty.faults = iter([busy])
    with pytest.raises(ConflictError):
        place.write("new", b"2", expected=None)
    assert place.read("new") == b"1"


@pytest.mark.parametrize(
    ("fault", "words", "transient"),
    [
        (SLOW, "SlowDown: the server asks for fewer requests: give a smaller CXR_S3_CONNECTIONS", True),
        (BROKEN, "InternalError: the server failed: try again later", True),
        (Fault("error", 403, "RequestTimeTooSkewed"), "RequestTimeTooSkewed: this machine's clock is off", False),
        (Fault("error", 400, "ExpiredToken"), "ExpiredToken: the credentials have expired: renew them", False),
        (Fault("error", 403, "InvalidAccessKeyId"), "InvalidAccessKeyId: the server refuses these credentials", False),
        (Fault("error", 403, "SignatureDoesNotMatch"), "the server refuses these credentials", False),
        (Fault("error", 403, "AccessDenied"), "AccessDenied: these credentials may not", False),
        (Fault("error", 404, "NoSuchBucket"), "NoSuchBucket: there is no such bucket at http://127.0.0.1:", False),
        (Fault("error", 418, "Teapot"), "Teapot: as told: check bucket, endpoint and credentials", False),
    ],
    ids=lambda value: value.code if isinstance(value, Fault) else None,
)  # fmt: skip
def test_lasting_faults_are_named(place, faulty, tmp_path, caplog, fault, words, transient):
    """Operation, address and what to do; no secret; tried again only where that can help; nothing written."""
    for verb, right in verbs(place, tmp_path).items():
        faulty.faults, faulty.asked = itertools.repeat(fault), []
        reads = verb.startswith("read")
        with pytest.raises((StorageError, PermissionError)) as caught:
            right()
        said, done = (
            str(caught.value),
            {"upload": "write", "version": "look at"}.get(verb, verb.split()[0]),
        )
        assert f"cannot {done} {place.uri}" in said and words in said, verb
        assert "testing-secret" not in said + caplog.text
        if fault.code == "AccessDenied" and reads:
            assert isinstance(caught.value, PermissionError), (
                "one file that may not be read is a reject"
            )
        else:
            assert caught.value.transient == transient, verb
        assert transient or len(faulty.asked) <= 3, verb
    faulty.faults = iter(())
    assert [entry.key for entry in place.list()] == ["here"] and place.read("here") == TEXT


def test_nobody_there(moto_bucket, monkeypatch):
    """The endpoint is named."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(
            StorageError, match=r"cannot list s3://x/y: .*nothing answers at http://127.0.0.1"
        ) as caught:
            list(open_storage("s3://x/y").list())
    assert caught.value.transient


def test_no_credentials_and_an_unknown_profile(moto_bucket, monkeypatch):
    """What to set is named; nothing is asked of the network."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(
        StorageError, match=r"cannot list .*: no credentials were found: set AWS_PROFILE"
    ):
        list(open_storage(f"s3://{moto_bucket.name}").list())
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(
        StorageError, match=r"cannot open .*AWS_PROFILE names a profile that is not"
    ):
        open_storage(f"s3://{moto_bucket.name}")


def test_renewed_credentials_in_the_profile_s_file_are_used(bucket, monkeypatch, tmp_path):
    """A process that runs on takes up what was written there meanwhile, at the next storage it opens."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    used = []
    for at, key in enumerate(("OLDKEYOLDKEYOLDKEY", bucket.server.key)):
        path.write_text(
            f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {bucket.server.secret}\n"
        )
        os.utime(path, (at, at))
        credentials = open_storage(f"s3://{bucket.name}").client._request_signer._credentials
        used.append(credentials.access_key)
    assert used == ["OLDKEYOLDKEYOLDKEY", bucket.server.key]
    open_storage(f"s3://{bucket.name}").write("x", b"1")


def test_objects_that_change_or_go_between_listing_and_reading(bucket, phantoms, tmp_path):
    """Each is in the rejects as `vanished` with what happened; the next run reads it anew, and the counts add up."""
    client = bucket.client()
    for path in sorted(p for p in phantoms.rglob("*") if p.is_file()):
        client.put_object(
            Bucket=bucket.name, Key=path.relative_to(phantoms).as_posix(), Body=path.read_bytes()
        )
    uri, work = f"s3://{bucket.name}", tmp_path / "work"
    storage = open_storage(uri)
    scan = scanning.scan(storage, work)
    folder = scanning.folder_of(scan, work)
    changed, gone = read_table(folder / "listed.csv")["image"][:2]
    kept = [
        client.get_object(Bucket=bucket.name, Key=key)["Body"].read() for key in (changed, gone)
    ]
    client.put_object(Bucket=bucket.name, Key=changed, Body=kept[0] + b" ")
    client.delete_object(Bucket=bucket.name, Key=gone)
    for shard in scan.shards:
        shard_inspection.inspect_shard(storage, folder, shard)
    rejects = shard_inspection.read_rejects(folder).set_index("image")
    assert rejects.loc[changed, "reason"] == rejects.loc[gone, "reason"] == "vanished"
    assert (
        "changed between" in rejects.loc[changed, "detail"]
        and "gone between" in rejects.loc[gone, "detail"]
    )
    client.put_object(Bucket=bucket.name, Key=gone, Body=kept[1])
    ingest = preprocess(uri, work)
    assert ingest.newly_read == 2 and "vanished" not in ingest.rejected


@pytest.mark.slow
def test_a_real_server_s_refusals_are_named(ceph_bucket, monkeypatch):
    """A missing bucket, a wrong key, a wrong secret, a wrong clock: the words for each come from the real answer."""
    uri = f"s3://{ceph_bucket.name}"

    def refused(address: str = uri) -> str:
        with pytest.raises(StorageError) as caught:
            list(open_storage(address).list())
        with pytest.raises(StorageError) as again:
            open_storage(address).version("x")
        assert str(again.value).partition(": ")[2].partition(": ")[2]
        assert not caught.value.transient and not again.value.transient
        return str(caught.value)

    assert "there is no such bucket" in refused("s3://nobody-made-this-one")
    with monkeypatch.context() as context:
        context.setenv("AWS_ACCESS_KEY_ID", "NOSUCHKEYNOSUCHKEY")
        assert "InvalidAccessKeyId: the server refuses these credentials" in refused()
    with monkeypatch.context() as context:
        context.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        assert "SignatureDoesNotMatch: the server refuses these credentials" in refused()
    late = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    with monkeypatch.context() as context:
        context.setattr("botocore.auth.get_current_datetime", lambda *_: late.replace(tzinfo=None))
        assert "RequestTimeTooSkewed: this machine's clock is off" in refused()
    policy = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:ListBucket", '
        f'"Resource": "arn:aws:s3:::{ceph_bucket.name}"}}]}}'
    )
    open_storage(uri).write("there", b"1")
    ceph_bucket.client().put_bucket_policy(Bucket=ceph_bucket.name, Policy=policy)
    with pytest.raises(StorageError, match="AccessDenied: these credentials may not list here"):
        list(open_storage(uri).list())
    assert open_storage(uri).read("there") == b"1"


def test_the_settings_reach_both_clients(monkeypatch, moto_bucket, tmp_path):
    """Endpoint, region and path style are those of the usual variables, for boto3 and for the bulk reader."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://storage.example:9000")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    found = connect()
    assert (found.endpoint, found.client.meta.region_name, found.path_style) == (
        "https://storage.example:9000",
        "eu-west-3",
        True,
    )
    config = found.bulk_store("bucket").config
    assert config["endpoint"] == "https://storage.example:9000"
    assert config["region"] == "eu-west-3"
    assert connect() is found, "one connection for all storages with the same settings"
    monkeypatch.setenv("CXR_S3_PATH_STYLE", "0")
    found = connect()
    assert not found.path_style
    config = found.bulk_store("bucket").config
    assert config["endpoint"] == "https://bucket.storage.example:9000"
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "CXR_S3_PATH_STYLE"):
        monkeypatch.delenv(name, raising=False)
    found = connect()
    assert found.endpoint == "https://s3.eu-west-3.amazonaws.com"
    assert not found.path_style
