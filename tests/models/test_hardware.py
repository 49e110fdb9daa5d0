"""Which GPUs there are, and which of them a training gets."""

import importlib
import os

import pytest

from cxr.core.errors import DeviceError
from cxr.models.compute import hardware, worker


@pytest.mark.parametrize(
    ("gpus", "trainings", "expected"),
    [
        (["0"], 1, [["0"]]),
        (["0"], 3, [["0"], ["0"], ["0"]]),
        (["0", "1"], 3, [["0"], ["1"], ["0"]]),
        (["0", "1", "2", "3"], 2, [["0", "2"], ["1", "3"]]),
        ([], 2, [[], []]),
    ],
)
def test_trainings_side_by_side_split_or_share_the_gpus(gpus, trainings, expected):
    """More GPUs than trainings: each has several. Fewer: they take turns. None: none."""
    assert [hardware.assign_gpus(gpus, trainings, slot) for slot in range(trainings)] == expected


def test_gpus_are_those_that_the_process_may_use(monkeypatch):
    """CUDA_VISIBLE_DEVICES decides where it is set; -1 and nothing mean none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    assert hardware.visible_gpus() == ["2", "GPU-5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert hardware.visible_gpus() == []


def test_a_worker_sees_its_own_gpus_and_threads(tmp_path, monkeypatch):
    """CUDA_VISIBLE_DEVICES is its share of the GPUs before any device is looked for."""
    (tmp_path / "what_it_sees.py").write_text(
        "import os\n"
        "from cxr.models.compute.worker import Job, Progress\n"
        "class Look(Job):\n"
        "    def work(self, emit):\n"
        "        for name in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS'):\n"
        "            emit(Progress(done=0, note=os.environ[name]))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(tmp_path)
    job = importlib.import_module("what_it_sees").Look()
    seen = []
    worker.run_job(job, tmp_path / "log", 3, seen.append, ["1", "3"])
    assert [told.note for told in seen] == ["1,3", "3"]


def test_gpus_where_the_driver_is_asked(nvidia_smi, monkeypatch, caplog):
    """None without the tool, without a device and, with a warning, where the driver is broken; its indices else."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def gpus():
        hardware._installed_gpus.cache_clear()
        return hardware.visible_gpus()

    assert gpus() == []
    nvidia_smi("echo 'No devices were found'; exit 6")
    assert gpus() == [] and not caplog.records
    nvidia_smi("echo 0; echo 1")
    assert gpus() == ["0", "1"]
    nvidia_smi(
        "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9"
    )
    assert gpus() == [] and "could not communicate" in caplog.text and "on the cores" in caplog.text
    hardware._installed_gpus.cache_clear()


def test_a_driver_that_hangs_ends_the_work_with_what_to_do(nvidia_smi, monkeypatch):
    """TensorFlow would wait for it without an end; told to use no GPU, nobody asks it."""
    monkeypatch.setattr(hardware, "ANSWER_SECONDS", 0.2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    hardware._installed_gpus.cache_clear()
    nvidia_smi("exec /bin/sleep 60")
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES=-1"):
        hardware.visible_gpus()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert hardware.visible_gpus() == []
