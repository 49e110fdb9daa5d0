"""An archive as a storage: what it holds is listed and read as it is, and its failures are told."""

import logging

import pytest

from cxr.core.errors import ConflictError, StorageError, UsageError
from cxr.storage.addresses import is_local, open_storage
from cxr.storage.dicomweb.addresses import parse_address
from cxr.storage.workspace import workspace
from tests.support import dicomweb_server

FILMS = {
    ("1.2.1", "1.2.1.1", "1.2.1.1.7"): b"first film" * 3000,
    ("1.2.1", "1.2.1.1", "1.2.1.1.8"): b"second\r\n--the film",
    ("1.2.1", "1.2.1.2", "1.2.1.2.9"): b"third",
    ("1.2.2", "1.2.2.1", "1.2.2.1.7"): bytes(range(256)),
    ("1.2.3", "1.2.3.1", "1.2.3.1.7"): b"",
}
KEYS = {"/".join(uids) + ".dcm": data for uids, data in FILMS.items()}


@pytest.fixture(scope="module")
def server():
    with dicomweb_server.archive() as archive:
        yield archive


@pytest.fixture
def archive(server, monkeypatch):
    """An archive of five films in three studies; requests are repeated without a pause."""
    monkeypatch.setattr("cxr.storage.s3.retries.DELAYS", (0.0, 0.0))
    monkeypatch.setattr("cxr.storage.dicomweb.connection.BACKOFF", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.films.clear()
    server.films.update(FILMS)
    server.faults.clear()
    server.requests.clear()
    return server


def test_all_films_are_listed_and_read_as_they_are_stored(archive):
    """Over all pages, each once; the bytes are those of the archive, whatever stands in them."""
    place = open_storage(archive.uri)
    entries = list(place.list())
    assert sorted(entry.key for entry in entries) == sorted(KEYS)
    assert not any(entry.problem for entry in entries)
    wanted = [(entry.key, entry.version) for entry in entries]
    assert dict(place.read_many(wanted)) == KEYS
    assert [key for key, _ in place.read_many(wanted)] == [key for key, _ in wanted]
    assert all(place.read(key) == data for key, data in KEYS.items())


@pytest.mark.parametrize(
    ("below", "count"),
    [
        ("", 5),
        ("/", 5),
        ("/studies", 5),
        ("/studies/1.2.1", 3),
        ("/studies/1.2.1/series/1.2.1.1", 2),
        ("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.8", 1),
        ("/studies/9.9", 0),
    ],
)
def test_an_address_names_the_archive_or_a_part_of_it(archive, below, count):
    """The same film has the same key whichever part is named; what is not in the part is not there."""
    place = open_storage(archive.uri + below)
    keys = {entry.key for entry in place.list()}
    assert len(keys) == count and keys <= KEYS.keys()
    for key in KEYS:
        assert (place.find(key) is not None) == (key in keys)
        if key not in keys:
            with pytest.raises(FileNotFoundError):
                place.read(key)


def test_listing_by_prefix_and_finding_one(archive):
    """As in other storages: keys that begin with the prefix; nothing is None and no error."""
    place = open_storage(archive.uri)
    assert {entry.key for entry in place.list("1.2.1/1.2.1.1/")} == set(list(KEYS)[:2])
    assert not list(place.list("none/here"))
    (first, *_) = place.list()
    assert place.find(first.key) == first and place.version(first.key) == first.version
    assert [place.find(key) for key in ("1.2.1", "a/b", "1.2.1/1.2.1.1/1.2.dcm")] == [None] * 3


def test_first_bytes(archive):
    """So many as are wanted, or as there are; in order, with each failure in its place."""
    place = open_storage(archive.uri)
    keys = list(KEYS)
    assert [place.peek(key, 4) for key in keys] == [data[:4] for data in KEYS.values()]
    found = list(place.peek_many([(keys[0], "1"), ("1/2/3.dcm", None), (keys[2], "0")], 3))
    assert [key for key, _ in found] == [keys[0], "1/2/3.dcm", keys[2]]
    assert found[0][1] == b"fir" and isinstance(found[1][1], FileNotFoundError)
    assert isinstance(found[2][1], ConflictError)


def test_a_download_is_whole(archive, tmp_path):
    """The file has the bytes of the archive; of a missing film nothing is written."""
    place = open_storage(archive.uri)
    key = next(iter(KEYS))
    assert place.download(key, tmp_path / "deep" / "film") == place.version(key)
    assert (tmp_path / "deep" / "film").read_bytes() == KEYS[key]
    with pytest.raises(FileNotFoundError):
        place.download("1.2.1/1.2.1.1/1.dcm", tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("faults", [[503], [429, 502], ["cut"], ["cut", "cut"], ["bare"]])
def test_what_fails_now_and_then_is_read_all_the_same(archive, faults):
    """A server that is busy, connections that break; a film that is sent alone is read as well."""
    key, data = next(iter(KEYS.items()))
    archive.faults[:] = faults
    assert open_storage(archive.uri).read(key) == data
    assert not archive.faults


@pytest.mark.parametrize(
    ("faults", "error", "words", "transient"),
    [
        ([401], StorageError, "netrc", False),
        ([403], PermissionError, "may not read", None),
        ([404], FileNotFoundError, "cannot read", None),
        ([406], StorageError, "transfer syntax", False),
        ([503] * 9, StorageError, "HTTP 503", True),
        (["cut"] * 9, StorageError, "connection ended", True),
        (["junk"], StorageError, "none of a DICOMweb service", False),
    ],
)
def test_failures_say_what_to_do_and_name_nobody(archive, caplog, faults, error, words, transient):
    """An error has its advice; neither it, nor where it comes from, nor a log names a UID."""
    caplog.set_level(logging.INFO)
    archive.faults[:] = faults
    key = next(iter(KEYS))
    with pytest.raises(error, match=words) as raised:
        open_storage(archive.uri).read(key)
    if transient is not None:
        assert raised.value.transient == transient
    assert raised.value.__cause__ is None and raised.value.__context__ is None
    for text in (str(raised.value), repr(raised.value.args), caplog.text):
        assert "1.2.1" not in text


def test_a_listing_that_fails_is_an_error(archive):
    """It does not look like an archive without films."""
    for faults, words in (([500] * 9, "HTTP 500"), ([404], "check the path")):
        archive.faults[:] = faults
        with pytest.raises(StorageError, match=rf"cannot list the films at http://.*{words}"):
            list(open_storage(archive.uri).list())
        archive.faults.clear()
    with pytest.raises(StorageError, match="check the path"):
        list(open_storage(archive.uri + "/elsewhere").list())


def test_nothing_answers(monkeypatch):
    """It is said which service does not, and trying again may help."""
    monkeypatch.setattr("cxr.storage.s3.retries.DELAYS", ())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:9/x: nothing answers") as raised:
        list(open_storage("dicomweb+http://127.0.0.1:9/x").list())
    assert raised.value.transient


def test_films_without_a_uid_are_listed_with_their_problem(archive):
    """An archive may list nonsense: it is a reject, not a request for another address."""
    archive.films[("1.2.3", "../../secret", "1.2")] = b"x"
    problems = [entry.problem for entry in open_storage(archive.uri).list() if entry.problem]
    assert [reason for reason, _ in problems] == ["unreadable"]


def test_an_answer_without_end_is_cut_off(archive, monkeypatch):
    """A film larger than any that is decoded is refused before memory is full of it."""
    monkeypatch.setattr("cxr.storage.dicomweb.connection.LARGEST_ANSWER", 10_000)
    with pytest.raises(OSError, match="too large"):
        open_storage(archive.uri).read(next(iter(KEYS)))


def test_nothing_is_written_to_an_archive(archive, tmp_path):
    """Not by the storage, and it is neither a work folder nor the place of a table."""
    place = open_storage(archive.uri)
    (tmp_path / "x").write_bytes(b"x")
    for write in (
        lambda: place.write("k", b"1"),
        lambda: place.upload(tmp_path / "x", "k"),
        lambda: place.delete("k"),
        lambda: workspace.open_workspace(archive.uri).__enter__(),
        lambda: workspace.open_output(f"{archive.uri}/p.csv").__enter__(),
    ):
        with pytest.raises(UsageError, match="nothing is written there"):
            write()
    assert not archive.requests


@pytest.mark.parametrize(
    "address",
    [
        "dicomweb+http://",
        "dicomweb+http://host:port/dicom-web",
        "dicomweb+http://host/dicom-web/studies/../x",
        "dicomweb+http://host/dicom-web/studies/1/instances/2",
        "dicomweb+http://host/dicom-web?StudyDate=2020",
        "dicomweb+ftp://host/",
    ],
)
def test_other_addresses_are_refused(address):
    """With the form that is expected."""
    with pytest.raises(UsageError, match=r"expected .*dicomweb\+http://"):
        open_storage(address)


def test_credentials_in_an_address_are_refused():
    """A secret is never repeated."""
    with pytest.raises(UsageError, match="netrc") as refused:
        open_storage("dicomweb+https://me:verysecret@host/dicom-web")
    assert "verysecret" not in str(refused.value)


def test_https_and_the_scheme_s_case():
    """As for other addresses, the case of the scheme does not matter, and a path is none of them."""
    assert parse_address("DICOMweb+HTTPS://pacs/x/studies").service == "https://pacs/x"
    assert not is_local("DICOMweb+HTTPS://pacs/x")
