"""What differs between Keras' backends: precision, batches, what stays on a device; their internals."""

from types import SimpleNamespace

import numpy as np
import pytest

from cxr.core.errors import DeviceError
from cxr.core.settings import TrainingSettings
from cxr.models.compute import backend, feeding, hardware, worker
from cxr.models.training.learning import fine_tuning
from cxr.results.exporting import PickleJob
from tests.support.keras_process import run_with_keras


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (["9.0", "8.6"], "mixed_bfloat16"), (["9.0", "7.5"], "mixed_float16"), (["6.1"], "float32"), ([], "float32"),
        (["[N/A]"], "float32"),
    ],
)  # fmt: skip
def test_half_precision_is_what_the_oldest_gpu_has(nvidia_smi, monkeypatch, capabilities, expected):
    """Compute capability 8: bfloat16; 7: float16; older, or where the driver does not say: float32. The network does not matter."""
    monkeypatch.setattr(backend, "on_gpu", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-5")
    nvidia_smi(
        '[ "$3" = --id=1,GPU-5 ] || exit 9;' + "".join(f"echo '{each}';" for each in capabilities)
    )
    backend.precision_policy.cache_clear()
    assert backend.precision_policy("MobileNetV2") == expected
    backend.precision_policy.cache_clear()


def test_a_gpu_that_the_backend_does_not_see_is_not_counted_on():
    """TensorFlow for processors beside a GPU: batches and streams are a processor's, and a warning says what to install."""
    code = """
import logging
logging.basicConfig()
from cxr.models.compute import backend, feeding
assert not backend.on_gpu() and backend.inference_batch_size() == 3 and backend.parallel_batches() == 2
assert backend.precision_policy("MobileNetV2") == "float32" and not feeding.fits_in_memory((1,), None, 1)
"""
    said = run_with_keras(code, CUDA_VISIBLE_DEVICES="0", CXR_THREADS="2")
    assert "tensorflow does not see the GPU; install tensorflow[and-cuda]" in said


def test_rows_stay_on_a_gpu_only_where_all_trainings_find_room(nvidia_smi, monkeypatch):
    """A quarter of the fullest GPU's free memory is for the rows of all trainings that share it; the first answer holds."""
    monkeypatch.setattr(backend, "on_gpu", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    feeding.fits_in_memory.cache_clear()
    nvidia_smi("echo 40000 MiB; echo 8000 MiB")
    rows, half = (1000, 1 << 19), np.dtype("float16")  # 1000 MiB
    assert hardware.smallest_value("memory.free") == 8000
    assert feeding.fits_in_memory(rows, half, 1) and not feeding.fits_in_memory(rows, half, 2)
    nvidia_smi("echo 10 MiB")
    assert feeding.fits_in_memory(rows, half, 1) and not feeding.fits_in_memory(
        (1001, 1 << 19), half, 1
    )
    nvidia_smi("echo 'Field \"memory.free\" is not a valid field'; exit 2")
    assert not feeding.fits_in_memory((1002, 1 << 19), half, 1), (
        "a driver that does not tell ends no training"
    )
    feeding.fits_in_memory.cache_clear()


def test_learning_from_rows_on_the_device_is_learning_from_the_rows():
    """The same batches by number and by value leave the same weights and the same state of the optimizer, which both models share."""
    code = """
import keras, numpy as np
from cxr.models.compute import feeding
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
rows, labels = rng.normal(size=(10, 4, 4, 3)).astype(np.float16), (np.arange(10) % 2)[:, None].astype(np.float32)
one = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1, "sigmoid")])
other = keras.models.clone_model(one)
other.set_weights(one.get_weights())
for model in (one, other):
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
learner, place = feeding.keep_on_device(other, rows.shape, "float16")
place.assign(rows)
for _ in range(3):
    for some in np.array_split(rng.permutation(10), 3):
        losses = one.train_on_batch(rows[some].astype(np.float32), labels[some]), learner.train_on_batch(some.astype(np.int32), labels[some])
assert np.isclose(*losses, rtol=1e-6) and learner.optimizer is other.optimizer
for mine, its in zip(one.get_weights() + one.optimizer.variables, other.get_weights() + other.optimizer.variables):
    assert np.allclose(mine, its, atol=1e-7)
assert len(other.get_weights()) == len(one.get_weights()), "what is saved holds no rows"
"""
    run_with_keras(code)


def test_compiled_steps_have_batches_of_one_size_and_the_same_mean(monkeypatch):
    """The last batch is filled up with weight 0, and the weighted mean over it is that over its own images."""
    job = SimpleNamespace(
        settings=TrainingSettings(batch_size=4), train=np.arange(10), labels=lambda rows: np.asarray(rows) % 2,
        class_weights=np.array([1.5, 0.75]),
    )  # fmt: skip
    plain = list(fine_tuning.epoch_batches(np.copy, job, 1))
    monkeypatch.setattr(backend, "uses_xla", lambda: True)
    filled = list(fine_tuning.epoch_batches(np.copy, job, 1))
    assert [len(some) for some, *_ in plain] == [4, 4, 2] and [
        len(some) for some, *_ in filled
    ] == [4, 4, 4]
    for (own, truth, weights), (some, labels, filling) in zip(plain, filled, strict=True):
        losses = np.arange(10) ** 2.0
        assert (
            (some[: len(own)] == own).all()
            and (labels == some[:, np.newaxis] % 2).all()
            and labels.dtype == truth.dtype
        )
        assert np.isclose(
            (losses[own] * weights).sum() / len(own), (losses[some] * filling).sum() / len(some)
        )


def test_half_precision_only_where_the_processor_has_it_and_the_architecture_gains(tmp_path):
    """VGG16 with avx512_bf16 or amx_bf16: bfloat16; without, or MobileNetV2, or no cpuinfo: float32."""
    (tmp_path / "new").write_text("processor : 0\nflags : fpu avx512f avx512_bf16\n")
    (tmp_path / "old").write_text("processor : 0\nflags : fpu avx2\n")
    code = f"""
from pathlib import Path
from cxr.models.compute.backend import precision_policy
folder = Path({str(tmp_path)!r})
assert precision_policy("VGG16", folder / "new") == precision_policy("DenseNet121", folder / "new") == "mixed_bfloat16"
for name, file in (("VGG16", "old"), ("MobileNetV2", "new"), ("VGG16", "missing")):
    assert precision_policy(name, folder / file) == "float32", (name, file)
"""
    run_with_keras(code)


def test_the_dataset_of_an_epoch_keeps_the_order_and_does_not_tune_itself():
    """Each epoch: the batches of a new generator, the last one shorter, with their dtypes."""
    code = """
import keras, numpy as np
from cxr.models.compute.feeding import as_dataset
begun = []
def batches():
    begun.append(1)
    for rows in (2, 2, 1):
        yield np.full((rows, 3), len(begun), np.float32), np.arange(rows)[:, None], np.ones(rows, np.float32)
data = as_dataset(batches)
assert data.options().autotune.enabled is False
for _ in range(2):
    before, found = len(begun), [[np.asarray(each) for each in batch] for batch in data]
    assert [len(rows) for rows, *_ in found] == [2, 2, 1] and len(begun) == before + 1
    assert all((rows == len(begun)).all() for rows, *_ in found) and [each.dtype for each in found[2]] == ["f4", "i8", "f4"]
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
assert len(model.fit(data, epochs=2, verbose=0).history["loss"]) == 2
"""
    run_with_keras(code)


def test_an_unknown_backend_is_refused_before_anything_starts(tmp_path, monkeypatch):
    """KERAS_BACKEND=torch: an error that names the two; empty or not set: TensorFlow; jax compiles into the cache folder."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(DeviceError, match=r"KERAS_BACKEND=torch: expected one of tensorflow, jax"):
        worker.run_job(PickleJob(export=tmp_path), tmp_path / "log", 1)
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert backend.child_environment(2)["KERAS_BACKEND"] == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("CXR_CACHE", str(tmp_path))
    assert backend.child_environment(2)["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "xla")
