"""Which device a training gets, and in which precision frozen features are computed."""

import os
import subprocess
import sys

import pytest

from cxr import child, hardware
from cxr.errors import DeviceError
from tests.conftest import ROOT


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
    assert [hardware.share(gpus, trainings, at) for at in range(trainings)] == expected


def test_gpus_are_those_that_the_process_may_use(monkeypatch):
    """CUDA_VISIBLE_DEVICES decides where it is set; -1 and nothing mean none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    assert hardware.gpus() == ["2", "GPU-5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert hardware.gpus() == []


def test_a_child_sees_its_own_gpus_and_threads(tmp_path, monkeypatch):
    """Readied before its GPUs were known, or not: CUDA_VISIBLE_DEVICES is its share before any device is looked for."""
    (tmp_path / "what_it_sees.py").write_text(
        "import os\ndef main(job, emit):\n    emit({n: os.environ[n] for n in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS')})\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    seen = []
    child.run("what_it_sees", {}, tmp_path / "log", 3, seen.append, ["1", "3"])
    assert seen == [{"CUDA_VISIBLE_DEVICES": "1,3", "OMP_NUM_THREADS": "3"}]


def test_gpus_where_the_driver_is_asked(nvidia_smi, monkeypatch, caplog):
    """None without the tool, without a device and, with a warning, where the driver is broken; its indices else."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def gpus():
        hardware._installed.cache_clear()
        return hardware.gpus()

    assert gpus() == []
    nvidia_smi("echo 'No devices were found'; exit 6")
    assert gpus() == [] and not caplog.records
    nvidia_smi("echo 0; echo 1")
    assert gpus() == ["0", "1"]
    nvidia_smi("echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9")
    assert gpus() == [] and "could not communicate" in caplog.text and "on the cores" in caplog.text
    hardware._installed.cache_clear()


def test_a_driver_that_hangs_ends_the_work_with_what_to_do(nvidia_smi, monkeypatch):
    """TensorFlow would wait for it without an end; told to use no GPU, nobody asks it."""
    monkeypatch.setattr(hardware, "ANSWER_SECONDS", 0.2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    hardware._installed.cache_clear()
    nvidia_smi("exec /bin/sleep 60")
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES=-1"):
        hardware.gpus()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert hardware.gpus() == []


def test_half_precision_only_where_the_processor_has_it_and_the_architecture_gains(tmp_path):
    """VGG16 with avx512_bf16 or amx_bf16: bfloat16; without, or MobileNetV2, or no cpuinfo: float32."""
    (tmp_path / "new").write_text("processor : 0\nflags : fpu avx512f avx512_bf16\n")
    (tmp_path / "old").write_text("processor : 0\nflags : fpu avx2\n")
    code = f"""
from pathlib import Path
from cxr.backend import policy
folder = Path({str(tmp_path)!r})
assert policy("VGG16", folder / "new") == policy("DenseNet121", folder / "new") == "mixed_bfloat16"
for name, file in (("VGG16", "old"), ("MobileNetV2", "new"), ("VGG16", "missing")):
    assert policy(name, folder / file) == "float32", (name, file)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def test_an_epoch_is_fed_in_order_by_a_dataset_that_does_not_tune_itself():
    """Each time it is gone through: the batches of a fresh generator, the last one shorter, with their dtypes."""
    code = """
import keras, numpy as np
from cxr.backend import fed
begun = []
def batches():
    begun.append(1)
    for rows in (2, 2, 1):
        yield np.full((rows, 3), len(begun), np.float32), np.arange(rows)[:, None], np.ones(rows, np.float32)
data = fed(batches)
assert data.options().autotune.enabled is False
for _ in range(2):
    before, found = len(begun), [[np.asarray(each) for each in batch] for batch in data]
    assert [len(rows) for rows, *_ in found] == [2, 2, 1] and len(begun) == before + 1
    assert all((rows == len(begun)).all() for rows, *_ in found) and [each.dtype for each in found[2]] == ["f4", "i8", "f4"]
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
assert len(model.fit(data, epochs=2, verbose=0).history["loss"]) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
