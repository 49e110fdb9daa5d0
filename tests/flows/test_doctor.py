"""`cxr doctor`: each check against something made to be found."""

import contextlib
import http.server
import json
import threading

import boto3
import pytest
from moto import mock_aws

from cxr.models.compute import hardware
from flows.commands import doctor


def by_what(checks):
    return {check.what: check for check in checks}


@pytest.mark.parametrize(
    ("version", "fits"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)]
)
def test_python(version, fits):
    """3.11 to 3.13, and no other."""
    assert doctor.check_python(version).ok is fits


def test_packages_out_of_bounds_are_named_with_both_versions():
    """What is wanted and what is there; extras and other systems' packages are not asked for."""
    checks = list(
        doctor.check_packages(
            [
                "pytest==0.1",
                "no-such-package>=1",
                "numpy>=1",
                "x>1; extra == 'dev'",
                "y; sys_platform == 'win99'",
            ]
        )
    )
    assert len(checks) == 2 and not any(check.ok for check in checks)
    assert (
        "expected pytest==0.1, found 9" in checks[0].advice
        and "no-such-package>=1, found none" in checks[1].advice
    )
    assert [check.ok for check in doctor.check_packages(["numpy>=1"])] == [True]


def test_this_environment_is_within_its_own_bounds():
    """The pins of pyproject.toml hold where the tests run."""
    assert [check.advice for check in doctor.check_packages() if not check.ok] == []


def test_disk(tmp_path):
    """A WORK that is not there yet is measured at its parent; too little room and a file in the way fail."""
    assert all(check.ok for check in doctor.check_disk(str(tmp_path / "a" / "b"), least=0))
    assert not by_what(doctor.check_disk(str(tmp_path), least=1e9))["free disk"].ok
    (tmp_path / "file").write_text("")
    assert not by_what(doctor.check_disk(str(tmp_path / "file" / "work"), least=0))["WORK"].ok
    assert list(doctor.check_disk("s3://bucket/work")) == []


def test_gpu_by_the_driver_s_tool(nvidia_smi, monkeypatch):
    """What nvidia-smi says, its failure, its silence, and no tool at all, which is no failure."""
    assert doctor.check_gpu().ok and "none" in doctor.check_gpu().advice
    nvidia_smi("echo 'NVIDIA H200, 143771 MiB'; echo 'NVIDIA H200, 143771 MiB'")
    assert (
        doctor.check_gpu().ok
        and doctor.check_gpu().advice == "NVIDIA H200, 143771 MiB; NVIDIA H200, 143771 MiB"
    )
    nvidia_smi("echo 'driver mismatch' >&2; exit 18")
    assert not doctor.check_gpu().ok and "driver mismatch" in doctor.check_gpu().advice
    monkeypatch.setattr(hardware, "ANSWER_SECONDS", 0.2)
    nvidia_smi("exec /bin/sleep 60")
    assert not doctor.check_gpu().ok and "did not answer" in doctor.check_gpu().advice


def test_weights(tmp_path):
    """A folder without the files fails for each architecture; none and imagenet do not."""
    assert not any(check.ok for check in doctor.check_weights(str(tmp_path)))
    assert all(check.ok for value in ("none", "imagenet") for check in doctor.check_weights(value))


def test_an_s3_place(monkeypatch):
    """A bucket that can be listed, and one that is not there, by name."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="there")
        assert doctor.check_listing("DATA", "s3://there/images").ok
        missing = doctor.check_listing("DATA", "s3://missing/images")
    assert not missing.ok and "s3://missing/images" in missing.advice and missing.essential


@pytest.fixture
def prefect_server():
    """A stand-in for Prefect's API: password u:p, and the pools given in its attribute."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            allowed = self.headers["Authorization"] == "Basic dTpw"
            asked_for_more = (
                "csrf" in self.path
            )  # Prefect's own server does without, unless told otherwise
            self.send_response(401 if not allowed else 404 if asked_for_more else 200)
            self.end_headers()
            pools = [{"name": name, "type": "process"} for name in server.pools]
            self.wfile.write(
                json.dumps(pools if self.path.endswith("filter") else "3.8.8").encode()
            )

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.pools = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def pointed(monkeypatch):
    """A function that sets the API's address and password, as a shell does before a command."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with contextlib.ExitStack() as stack:

        def point(url, password=None):
            monkeypatch.setenv("PREFECT_API_URL", url)
            stack.enter_context(
                temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password})
            )

        yield point


def test_an_api_that_is_set_must_answer_and_let_us_in(prefect_server, pointed):
    """No answer, a wrong password and an address that is no API fail and say what to do; a missing pool is a note."""
    url = f"http://127.0.0.1:{prefect_server.server_port}/api"
    pointed(url, "u:wrong")
    (refused,) = doctor.check_prefect()
    assert (
        not refused.ok
        and "PREFECT_API_AUTH_STRING" in refused.advice
        and "wrong" not in refused.advice
    )
    pointed(url, "u:p")
    answers, pools = doctor.check_prefect()
    assert answers.ok and not pools.ok and not pools.essential
    assert "missing: cxr-cpu, cxr-gpu" in pools.advice
    prefect_server.pools = ["cxr-cpu", "cxr-gpu"]
    assert all(check.ok for check in doctor.check_prefect())
    pointed("http://127.0.0.1:1/api")
    (silent,) = doctor.check_prefect()
    assert not silent.ok and "make up" in silent.advice and "refused" in silent.advice


def test_the_command_exits_1_where_something_essential_fails(cxr, tmp_path):
    """Exit 0 and a line for each check on this machine; exit 1 with the reason where weights are missing."""
    done = cxr("doctor", "--out", tmp_path)
    assert done.returncode == 0 and "note   work pools: missing: cxr-cpu" in done.stdout, (
        done.stdout + done.stderr
    )
    done = cxr("doctor", "--out", tmp_path, "--weights", tmp_path)
    assert done.returncode == 1 and "FAILED weights VGG16" in done.stdout and "3 of" in done.stderr


def test_whether_there_is_a_salt_is_told_and_never_which(salt, monkeypatch):
    """A run of DICOM needs one; others do not, so none is only a note, but a bad one is an error."""
    check = doctor.check_salt()
    assert check.ok
    assert salt not in str(check)
    monkeypatch.setenv("CXR_SALT", "short")
    check = doctor.check_salt()
    assert check.essential
    assert not check.ok
    assert "'short'" not in check.advice
    monkeypatch.delenv("CXR_SALT")
    check = doctor.check_salt()
    assert not check.ok
    assert not check.essential
    assert "cxr salt FILE" in check.advice
