"""Where tasks run: what the setting takes, what the default costs, what is said where a Dask cluster cannot be used."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from pydantic import TypeAdapter, ValidationError

import cxr
from cxr.core.errors import CxrError
from cxr.core.parallel import usable_cores
from cxr.core.settings import Runner, training_settings
from cxr.models.runs import Run
from flows.pipeline import pipeline
from flows.preprocess import preprocess
from flows.retrain import retrain
from flows.server.process import free_port
from flows.train import train
from tasks import runners
from tasks.train import extract_all
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "runner", ["threads", "processes", "tcp://10.0.0.7:8786", "tls://dask.example:8786/"]
)
def test_what_the_setting_takes(runner):
    """Threads, processes, or a scheduler's address with its port."""
    assert TypeAdapter(Runner).validate_python(runner) == runner


@pytest.mark.parametrize(
    "runner", ["dusk", "Threads", "10.0.0.7:8786", "tcp://host", "http://host:8786", ""]
)
def test_anything_else_is_refused_with_what_was_expected(runner):
    """By the model, and by the schema that the UI and the API check before a run exists."""
    with pytest.raises(
        ValidationError, match="expected threads, processes or the address of a Dask scheduler"
    ):
        TypeAdapter(Runner).validate_python(runner)
    for flow in (pipeline, preprocess, train, retrain):
        shown = flow.parameters.properties["runner"]
        assert shown["default"] == "threads" and not re.search(shown["pattern"], runner)


def test_the_command_line_refuses_it_too():
    """A wrong runner is wrong usage, by flag or by variable: exit status 2."""
    command = [sys.executable, "-m", "flows.command", "run", "x", "--out", "y", "--runner", "dusk"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2 and "tcp://host:8786" in done.stdout + done.stderr


def test_no_features_are_submitted_where_all_layers_learn(tmp_path):
    """They would take hours and gigabytes, and nothing would read them."""
    run = Run.model_construct(settings=training_settings("thorough"))
    assert extract_all(run, tmp_path, tmp_path, pool=None) == {}


def test_the_default_imports_nothing_of_dask(tmp_path):
    """Neither the flows nor a pool of threads or processes bring it in."""
    code = """
import sys
import flows.pipeline
from pathlib import Path
from tasks import runners
for name in ("threads", "processes"):
    with runners.opened(name, 1, Path(".")):
        pass
runners.place(1)
print([name for name in ("dask", "distributed", "prefect_dask") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_processes_are_for_tasks_that_compute_themselves(tmp_path):
    """Trainings wait for child processes of their own: threads do for them."""
    with runners.opened("processes", 2, tmp_path) as pool:
        assert isinstance(pool, ProcessPoolTaskRunner)
    with runners.opened("processes", 2, tmp_path, trainings=True) as pool:
        assert isinstance(pool, ThreadPoolTaskRunner)
    assert runners.place(3) == (usable_cores(), 3)


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    """What to install, and where."""
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with (
        pytest.raises(
            CxrError, match=r"expected the extra dask.*pip install 'cxr-pipeline\[dask\]'"
        ),
        runners.opened("tcp://127.0.0.1:8786", 1, tmp_path),
    ):
        pass


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    """With its address, after a while."""
    monkeypatch.setattr(runners, "CONNECT_SECONDS", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    with (
        pytest.raises(CxrError, match=f"--runner {address}: no Dask scheduler answers"),
        runners.opened(address, 1, tmp_path),
    ):
        pass


def test_a_tls_scheduler_without_a_certificate(tmp_path):
    """Dask's own settings name none: the error says which ones are expected."""
    with (
        pytest.raises(CxrError, match=r"--runner tls://127.0.0.1:8786: expected a certificate"),
        runners.opened("tls://127.0.0.1:8786", 1, tmp_path),
    ):
        pass


class Workers:
    """A cluster's client whose one worker gives a made-up answer."""

    def __init__(self, answer):
        self.answer = answer

    def run(self, function, probe, on_error):
        """Return the answer; the probe is there while it is asked for."""
        assert Path(probe).is_file() and on_error == "return"
        return {"tcp://far:1": self.answer}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (cxr.__version__, False),
            "all Dask workers see under the same path, but tcp://far:1 does not see .*CXR_CACHE",
        ),
        (("0.0.1", True), f"expected cxr {cxr.__version__} on tcp://far:1, found 0.0.1"),
        (
            ModuleNotFoundError("No module named 'cxr'"),
            "tcp://far:1 cannot run cxr: .*No module named 'cxr'",
        ),
    ],
)
def test_a_worker_that_cannot_do_the_work_is_named(answer, words, tmp_path):
    """Before any task: where it does not share the work folder, has another version, or none. The probe is gone then."""
    with pytest.raises(CxrError, match=words):
        runners._require_able_workers(Workers(answer), "tcp://host:8786", tmp_path)
    runners._require_able_workers(Workers((cxr.__version__, True)), "tcp://host:8786", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.timeout(60)
def test_processes_of_the_pool_end_with_a_killed_run():
    """A kill -9 of the run leaves none of them behind."""
    code = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from tasks.runners import _end_with_parent
if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60).result()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().strip().isdigit()
        process.kill()
        assert process.stdout.read() == "", "it ends when no process holds it any more"
