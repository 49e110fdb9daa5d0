"""The embedded server on other people's machines, and how a run ends before its time: real commands, real signals."""

import contextlib
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from cxr.storage import object_cache
from flows.server import interrupts, log_reader, prefect_api, process, surroundings
from tests.conftest import ROOT, SMALLEST
from tests.support.s3_servers import free_port

WITHIN = 5.0  # seconds for everything to end
NOWHERE = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(
    ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), NOWHERE
)
TINY = (
    *SMALLEST,
    "--epochs",
    "1",
)
LONG = (
    *SMALLEST,
    "--epochs",
    "400",
    "--patience",
    "400",
)


class Run:
    """A command in a process group of its own, whose processes are found by a mark in their environment."""

    def __init__(
        self,
        folder: Path,
        *arguments: str | Path,
        program: Sequence[str] = ("-m", "flows.command"),
        **variables: str,
    ):
        self.mark = secrets.token_hex(8)
        self.lines = []
        own = {"CXR_CACHE": str(folder / "cache"), "CXR_TEST_MARK": self.mark}
        self.process = subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=bare() | own | variables,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))

    def wait_for(self, words, seconds=240):
        """Return when a line with these words was printed."""
        end = time.monotonic() + seconds
        while not any(words in line for line in self.lines):
            assert self.process.poll() is None and time.monotonic() < end, self.lines
            time.sleep(0.05)

    def alive(self, words=""):
        """Return the ids of its processes, those alone whose command line has the words."""
        found = []
        for each in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError):
                if (
                    each.name.isdigit()
                    and f"CXR_TEST_MARK={self.mark}".encode() in (each / "environ").read_bytes()
                ):
                    running = (each / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                    if running and words in (each / "cmdline").read_text():
                        found.append(int(each.name))
        return found

    def signal(self, number):
        """Send a signal to the whole group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def gone(self, seconds=WITHIN):
        """Return the exit status; fails where a process of its is left after so many seconds, or a traceback was printed."""
        end = time.monotonic() + seconds
        while self.alive():
            assert time.monotonic() < end, (self.alive(), self.lines)
            time.sleep(0.02)
        status = self.process.wait(10)
        self._reader.join(10)
        assert not any("Traceback" in line for line in self.lines), self.lines
        return status


def bare():
    """Return this environment without what names a server, a proxy or a folder."""
    left_out = {"CXR_CACHE", "KERAS_HOME", "MPLCONFIGDIR", *PROXIES, "NO_PROXY", "no_proxy"}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in left_out and "PREFECT" not in name
    }


def command(folder, *arguments, **variables):
    """Return how a command ended that nobody disturbed."""
    run = Run(folder, *arguments, **variables)
    run.process.wait(240)
    run.status = run.gone(20)
    return run


def newer_database(path):
    """Make what a newer Prefect leaves: a revision that this one does not know."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table alembic_version (version_num varchar(32) not null)")
        connection.execute("insert into alembic_version values ('ffffffffffff')")
        connection.commit()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "example.org"}, "example.org,127.0.0.1,localhost"),
        ({"no_proxy": "a.example, localhost"}, "a.example,localhost,127.0.0.1"),
    ],
)
def test_loopback_never_goes_through_a_proxy(given, value):
    """NO_PROXY gets this machine's addresses in both spellings and keeps what is in it; twice is like once."""
    for _ in range(2):
        surroundings.loopback_without_proxy(given)
        assert given == {"NO_PROXY": value, "no_proxy": value}


def test_a_star_in_no_proxy_stays_alone():
    """Beside other names, some libraries would not read it as everything."""
    given = {"NO_PROXY": "*"}
    surroundings.loopback_without_proxy(given)
    assert given == {"NO_PROXY": "*"}


def test_the_servers_environment_has_nothing_of_other_servers(tmp_path):
    """Database, Redis, profile and home of the user's settings are left out; the password stays."""
    theirs = {
        "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://elsewhere/prefect",
        "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_PROFILE": "hospital",
        "PREFECT_HOME": "/home/user/.prefect",
        "PREFECT_SERVER_API_AUTH_STRING": "user:password",
        "PATH": "/bin",
    }
    found = process.environment(theirs, tmp_path, "http://127.0.0.1:1")
    assert found["PREFECT_HOME"] == str(tmp_path)
    assert found["PATH"] == "/bin" and found["PREFECT_SERVER_API_AUTH_STRING"] == "user:password"
    assert not {
        "PREFECT_API_DATABASE_CONNECTION_URL",
        "PREFECT_MESSAGING_BROKER",
        "PREFECT_PROFILE",
    } & set(found)


LOCKED = """ERROR:    Traceback (most recent call last):
  File "a.py", line 1, in connect
    raise
sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked
[SQL: PRAGMA journal_mode = WAL;]
(Background on this error at: https://sqlalche.me/e/20/e3q8)

ERROR:    Application startup failed. Exiting.
"""


@pytest.mark.parametrize(
    ("log", "status", "words"),
    [
        (LOCKED, 3, "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked"),
        ("Traceback (most recent call last):\n  x\nAssertionError: `min_items` is gone\n", 1, "AssertionError: `min_items` is gone"),
        ("Traceback (most recent call last):\n  x\nModuleNotFoundError: No module named 'uvicorn'\n", 1, "ModuleNotFoundError: No module named 'uvicorn'"),
        ("", 3, "exit status 3, it said nothing"),
        ("bad interpreter\n", 126, "exit status 126, bad interpreter"),
        ("a warning\n", -9, "killed by SIGKILL"),
        ("still at it\n", None, "still at it"),
    ],
)  # fmt: skip
def test_one_line_tells_why_a_server_ended(log, status, words):
    """The last exception of its log, else its last line and its status, or the signal that killed it."""
    assert log_reader.cause(log, status) == words


def test_the_cache_without_a_home(tmp_path, monkeypatch):
    """A folder of this user's own below the temporary directory; CXR_CACHE and a home that is there win."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("CXR_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nonexistent"))
    stand_in = tmp_path / f"cxr-{os.getuid()}"
    assert object_cache.home() == stand_in == object_cache.substitute()
    assert stand_in.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("HOME", str(tmp_path))
    assert object_cache.home() == tmp_path / ".cache" / "cxr" and object_cache.substitute() is None
    monkeypatch.setenv("HOME", str(tmp_path / "nonexistent"))
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "named"))
    assert object_cache.home() == tmp_path / "named" and object_cache.substitute() is None


def test_an_api_that_is_set_and_not_there(tmp_path, phantoms):
    """Variable or profile: exit 1 in one line that names the address, no embedded server instead, nothing written."""
    profiles = tmp_path / "home" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text(f'active = "there"\n[profiles.there]\nPREFECT_API_URL = "{NOWHERE}/api"\n')
    for where, variables in (
        ("PREFECT_API_URL", {"PREFECT_API_URL": f"{NOWHERE}/api"}),
        ("profile", {"PREFECT_HOME": str(profiles.parent)}),
    ):
        done = command(tmp_path, "preprocess", phantoms, "--out", tmp_path / "work", **variables)
        (line,) = done.lines
        assert done.status == 1
        assert f"{NOWHERE}/api" in line and "does not answer" in line and where in line
    assert not (tmp_path / "work" / "ingest.json").exists()
    assert not list(tmp_path.rglob("prefect.db"))


def test_a_cache_that_cannot_be_written_to(tmp_path, phantoms):
    """Exit 1 in one line with the folder and the variable that names another."""
    (tmp_path / "file").write_text("")
    done = command(
        tmp_path,
        "preprocess",
        phantoms,
        "--out",
        tmp_path / "work",
        CXR_CACHE=str(tmp_path / "file" / "c"),
    )
    (line,) = done.lines
    assert done.status == 1 and "file/c/prefect" in line and "CXR_CACHE" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["proxy", "no home", "PREFECT_HOME unwritable", "newer database", "damaged database"]
)
def test_a_run_works_all_the_same(tmp_path, phantoms, what):
    """With a proxy that is not there, without a home, with a Prefect home of others: the database is below the cache."""
    (tmp_path / "file").write_text("")
    theirs = tmp_path / "theirs"
    before = newer_database(theirs / "prefect.db")
    variables = {
        "proxy": PROXIES,
        "no home": {"HOME": "/nonexistent", "CXR_CACHE": "", "TMPDIR": str(tmp_path)},
        "PREFECT_HOME unwritable": {"PREFECT_HOME": str(tmp_path / "file" / "prefect")},
        "newer database": {"PREFECT_HOME": str(theirs)},
        "damaged database": {},
    }[what]
    if what == "damaged database":
        (tmp_path / "cache" / "prefect").mkdir(parents=True)
        (tmp_path / "cache" / "prefect" / "prefect.db").write_bytes(secrets.token_bytes(9000))
    done = command(tmp_path, "preprocess", phantoms, "--out", tmp_path / "work", **variables)
    assert done.status == 0, done.lines
    assert (tmp_path / "work" / "ingest.json").is_file()
    cache = tmp_path / f"cxr-{os.getuid()}" if what == "no home" else tmp_path / "cache"
    assert runs(cache) == [("preprocess phantoms", "COMPLETED")]
    assert (theirs / "prefect.db").read_bytes() == before
    told = {"no home": str(cache), "damaged database": "set aside"}.get(what)
    assert not told or any(told in line for line in done.lines), done.lines


def runs(cache):
    """Return name and state of every flow run of the embedded servers' database."""
    with contextlib.closing(sqlite3.connect(cache / "prefect" / "prefect.db")) as connection:
        return connection.execute("select name, state_type from flow_run order by name").fetchall()


@pytest.mark.slow
def test_a_database_of_ours_that_a_newer_prefect_has_used(tmp_path, phantoms):
    """It is set aside with a word, and a new one made."""
    newer_database(tmp_path / "cache" / "prefect" / "prefect.db")
    done = command(tmp_path, "preprocess", phantoms, "--out", tmp_path / "work")
    assert done.status == 0 and any("Can't locate revision" in line for line in done.lines), (
        done.lines
    )
    assert len(list((tmp_path / "cache" / "prefect").glob("aside-*"))) == 1


@pytest.mark.slow
def test_ctrl_c_while_the_server_starts(tmp_path, phantoms):
    """Everything has ended within seconds, one line was printed, and the same command works."""
    run = Run(tmp_path, "preprocess", phantoms, "--out", tmp_path / "work")
    while not run.alive("serving.py"):
        time.sleep(0.05)
    time.sleep(1)
    run.signal(signal.SIGINT)
    assert run.gone() == 1
    assert run.lines == ["cxr: interrupted; the same command goes on from here"]
    again = command(tmp_path, "preprocess", phantoms, "--out", tmp_path / "work")
    assert again.status == 0, again.lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "line"),
    [
        (signal.SIGINT, "cxr: interrupted; the same command goes on from here"),
        (signal.SIGTERM, "cxr: ended by SIGTERM; the same command goes on from here"),
    ],
)
def test_a_signal_while_children_train(tmp_path, phantoms, number, line):
    """Run, server and children have ended within seconds, with one line and without tracebacks; the runs are Crashed."""
    run = Run(tmp_path, "run", phantoms, "--out", tmp_path / "work", *LONG)
    logs = tmp_path / "work" / "runs"
    run.wait_for("decode pixels")
    while not list(logs.glob("*/*/training.log")):
        assert run.process.poll() is None, run.lines
        time.sleep(0.1)
    time.sleep(3)
    assert run.alive("cxr.models.compute.worker") and run.alive("serving.py")
    began = time.monotonic()
    run.signal(number)
    assert run.gone() == 1
    print(f"MEASURED everything had ended {time.monotonic() - began:.1f} s after {number.name}")
    assert run.lines[-1] == line and sum("cxr: " in each for each in run.lines) == 1
    assert dict(runs(tmp_path / "cache"))["preprocess phantoms"] == "COMPLETED"
    assert "RUNNING" not in dict(runs(tmp_path / "cache")).values()
    assert not any("Traceback" in log.read_text() for log in logs.glob("*/*/*.log"))


@pytest.mark.slow
def test_the_same_command_goes_on_after_ctrl_c(tmp_path, phantoms):
    """A run that was interrupted, and again while its training was under way, comes to its end."""
    arguments = ("run", phantoms, "--out", tmp_path / "work", *TINY)
    for words in ("find near-duplicates", "decode pixels"):
        run = Run(tmp_path, *arguments)
        run.wait_for(words)
        run.signal(signal.SIGINT)
        assert run.gone() == 1
    done = command(tmp_path, *arguments)
    assert done.status == 0, done.lines


HANGING = """
import sys, time
from flows import command
from flows.server.process import Server

def wait(_):
    print("hanging", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("tidying up", flush=True)

Server.wait = wait
command.main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_a_second_ctrl_c_ends_it_at_once(tmp_path, phantoms, signals):
    """Where tidying up takes long, the first waits GRACE_SECONDS for it; a second one does not."""
    run = Run(tmp_path, "preprocess", phantoms, "--out", tmp_path / "work", program=["-c", HANGING])
    run.wait_for("hanging")
    began = time.monotonic()
    run.signal(signal.SIGINT)
    run.wait_for("tidying up")
    if signals == 2:
        time.sleep(began + interrupts.TWICE_SECONDS + 0.1 - time.monotonic())
        run.signal(signal.SIGINT)
    assert run.gone() == 1
    seconds = time.monotonic() - began
    assert (seconds < interrupts.GRACE_SECONDS) == (signals == 2), seconds
    assert run.lines.count("cxr: interrupted; the same command goes on from here") == 1


EARLY = """
import sys
from flows import command

class Slow:
    def find_spec(self, name, *_):
        if name == "flows.commands.app":
            print("importing", flush=True)
            import time
            time.sleep(60)

sys.meta_path.insert(0, Slow())
command.main(sys.argv[1:])
"""


def test_ctrl_c_while_the_commands_are_imported(tmp_path):
    """One line and exit status 1, no traceback: nothing has been begun."""
    run = Run(tmp_path, "--help", program=["-c", EARLY])
    run.wait_for("importing")
    run.signal(signal.SIGINT)
    assert run.gone() == 1
    assert run.lines == ["importing", "cxr: interrupted before anything was begun"]


def test_the_entry_point_imports_nothing_that_takes_time():
    """Its handler of Ctrl-C is there before pydantic, pandas and the flags are imported."""
    code = "import sys, flows.command; print({'pydantic', 'cyclopts', 'pandas', 'cxr'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("text", "imported"),
    [
        ('[project]\ndependencies = ["prefect>=3"]\n', False),
        ('[tool.prefect.api]\nurl = "http://127.0.0.1:9/api"\n', True),
        ("[tool\n", True),
    ],
)
def test_a_project_that_merely_depends_on_prefect(tmp_path, monkeypatch, text, imported):
    """Prefect, whose import takes seconds, is asked for an address only where a file has settings for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_PROFILES_PATH", raising=False)
    (tmp_path / "pyproject.toml").write_text(text)
    asked = []
    monkeypatch.setattr(prefect_api, "load", lambda: asked.append(True))
    prefect_api.configured()
    assert bool(asked) == imported


@pytest.mark.slow
def test_ctrl_c_does_not_reach_the_processes_of_a_pool(tmp_path, phantoms):
    """--runner processes: they end with the run, without tracebacks of theirs."""
    run = Run(tmp_path, "preprocess", phantoms, "--out", tmp_path / "work", "--runner", "processes")
    while not run.alive("spawn_main"):
        assert run.process.poll() is None, run.lines
        time.sleep(0.05)
    run.signal(signal.SIGINT)
    assert run.gone() == 1
    assert run.lines[-1] == "cxr: interrupted; the same command goes on from here"


@pytest.mark.slow
def test_the_servers_end_is_the_runs_end(tmp_path, phantoms):
    """Killed in the middle of a run: exit 1 within seconds, one line with the cause, the log and how to go on."""
    run = Run(tmp_path, "run", phantoms, "--out", tmp_path / "work", *LONG)
    run.wait_for("decode pixels")
    (pid,) = run.alive("serving.py")
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert run.gone(10) == 1
    print(f"MEASURED everything had ended {time.monotonic() - began:.1f} s after the server")
    assert (
        "killed by SIGKILL" in run.lines[-1]
        and "the same command goes on from here" in run.lines[-1]
    )
    assert Path(re.search(r"see (\S+\.log)", run.lines[-1])[1]).is_file()


@pytest.mark.slow
def test_ctrl_c_with_a_server_of_its_own_machine(tmp_path, phantoms, api):
    """With PREFECT_API_URL: one line, seconds, and the server does not show the run as Running for ever."""
    name = f"w{secrets.token_hex(4)}"
    data = tmp_path / name
    data.symlink_to(phantoms)
    run = Run(tmp_path, "run", data, "--out", tmp_path / "work", *LONG, PREFECT_API_URL=api)
    run.wait_for("decode pixels")
    run.signal(signal.SIGINT)
    assert run.gone() == 1
    assert run.lines[-1] == "cxr: interrupted; the same command goes on from here"
    found = prefect_api.request(
        api, "/flow_runs/filter", body={"flow_runs": {"name": {"like_": name}}}
    )
    # Failed where the signal ends the child that trains before it ends the run that waits for it.
    ended = {each["state"]["type"] for each in found}
    assert ended in ({"COMPLETED", "CRASHED"}, {"COMPLETED", "FAILED"})


@pytest.mark.slow
def test_two_runs_at_once_share_the_database(tmp_path, phantoms):
    """Both come to their end, a fresh database included, and both are in it."""
    both = [
        Run(tmp_path, "preprocess", phantoms, "--out", tmp_path / name) for name in ("one", "two")
    ]
    for run in both:
        run.process.wait(240)
        assert run.gone(20) == 0, run.lines
    assert runs(tmp_path / "cache") == [("preprocess phantoms", "COMPLETED")] * 2


@pytest.mark.slow
def test_the_ui_shows_past_runs(tmp_path, phantoms):
    """`cxr ui` serves the database below the cache, a taken port is told, and Ctrl-C ends it with exit status 0."""
    assert command(tmp_path, "preprocess", phantoms, "--out", tmp_path / "work").status == 0
    port = str(free_port())
    ui = Run(tmp_path, "ui", "--port", port)
    ui.wait_for(f"http://127.0.0.1:{port}")
    found = prefect_api.request(f"http://127.0.0.1:{port}/api", "/flow_runs/filter", body={})
    assert [each["name"] for each in found] == ["preprocess phantoms"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10) as page:
        assert b"<html" in page.read()
    taken = command(tmp_path, "ui", "--port", port)
    assert taken.status == 1 and "taken by another process" in taken.lines[-1]
    ui.signal(signal.SIGINT)
    assert ui.gone() == 0


@pytest.mark.slow
def test_doctor_says_what_a_run_then_does(tmp_path, phantoms):
    """A server that starts: ok, and where its database is. One that breaks at its import: exit 1, the cause and the log."""
    arguments = ("doctor", "--out", tmp_path / "work", "--weights", "none")
    fine = command(tmp_path, *arguments, **PROXIES)
    assert fine.status == 0 and any(
        str(tmp_path / "cache" / "prefect") in line for line in fine.lines
    ), fine.lines
    broken = tmp_path / "broken" / "fastapi"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise AssertionError('min_items is gone')\n")
    for asked in (arguments, ("preprocess", phantoms, "--out", tmp_path / "work")):
        done = command(tmp_path, *asked, PYTHONPATH=str(broken.parent))
        words = "the embedded Prefect server did not start: AssertionError: min_items is gone; see "
        assert done.status == 1 and any(words in line for line in done.lines), done.lines
