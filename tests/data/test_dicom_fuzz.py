"""Mutated DICOM files: none ends a run or prints, each is kept or rejected, and none takes the memory."""

import os
import random
import resource
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from cxr.data.images.decoding.rejection import Rejected
from cxr.data.images.measurement import measure_image
from cxr.data.manifest.records import REJECT_REASONS
from cxr.data.phantoms.dicom_films import DEVICES, device_tags, make_dicom, store_film
from tests.conftest import ROOT
from tests.support.pictures import soft

_SALT = "sixteen letters or more"
_SYNTAXES = (
    "ImplicitVRLittleEndian", "ExplicitVRLittleEndian", "ExplicitVRBigEndian",
    "DeflatedExplicitVRLittleEndian", "RLELossless", "JPEGBaseline8Bit", "JPEGExtended12Bit",
    "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless", "HTJ2KLossless",
)  # fmt: skip
_SLICES = (b"\xff" * 8, bytes(8), b"\x7f\xff\xff\xff" * 2, b"\xff\xff\xff\x7f", b"\x80\0\0\0" * 2)
_TAGS = {
    "PatientID": "4711",
    "PatientName": "Doe^Jane",
    "PatientAge": "045Y",
    "SpecificCharacterSet": "ISO_IR 192",
    "ViewPosition": "PA",
    "StudyDate": "20240229",
    "InstitutionName": "Doe Hospital",
}
# The process with its libraries: a mutated file can ask for no more pixels than there are in it.
_MOST_MEMORY = 900  # MB


def _seeds() -> list[bytes]:
    """Return a whole file of each transfer syntax."""
    film = np.asarray(soft(96))
    deep = store_film(film, DEVICES[0])
    return [
        make_dicom(
            film if syntax == "JPEGBaseline8Bit" else deep,
            device_tags(DEVICES[0]) | _TAGS,
            bits=8 if syntax == "JPEGBaseline8Bit" else 12,
            syntax=syntax,
        )
        for syntax in _SYNTAXES
    ]


def _mutated(rng: random.Random, data: bytes) -> bytes:
    """Return a file that is changed somewhere: as often in its tags as in its pixels."""
    changed = bytearray(data)
    start = rng.choice((0, 132, max(132, len(data) // 12)))
    end = rng.choice((len(data), min(len(data), start + 900)))
    position = rng.randrange(start, end)
    way = rng.randrange(6)
    if way < 2:
        for _ in range(rng.choice((1, 2, 4, 16))):
            changed[rng.randrange(start, end)] = rng.randrange(256)
    elif way == 2:
        del changed[position:]
    elif way == 3:
        del changed[position : position + rng.randrange(1, 60)]
    elif way == 4:
        changed[position:position] = rng.randbytes(rng.randrange(1, 30))
    else:
        changed[position : position + 8] = rng.choice(_SLICES)
    return bytes(changed)


def measure_mutated(number: int, seed: int = 0) -> Counter[str]:
    """Measure so many mutated files; count them by the reason to reject them, "" for none."""
    rng = random.Random(seed)
    seeds = _seeds()
    reasons: Counter[str] = Counter()
    for index in range(number):
        try:
            row = measure_image(_mutated(rng, seeds[index % len(seeds)])).row
        except Rejected as rejected:
            reasons[rejected.reason] += 1
            shown = rejected.detail
        else:
            reasons[""] += 1
            shown = row["dicom_patient"]
        assert "Doe" not in shown and shown != "4711"
    return reasons


def test_some_mutated_films_are_kept_or_rejected(monkeypatch):
    """Of 110 some are films still, the others have a reason out of the closed list."""
    monkeypatch.setenv("CXR_SALT", _SALT)
    reasons = measure_mutated(110, seed=1)
    assert set(reasons) <= {"", *REJECT_REASONS}
    assert reasons[""] > 10 and reasons.total() - reasons[""] > 30


@pytest.mark.slow
def test_a_thousand_mutated_films_neither_end_a_run_nor_fill_the_memory():
    """None crashes a decoder, prints or warns; the process stays small."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.data.test_dicom_fuzz", "1100"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"CXR_SALT": _SALT},
    )
    assert (process.returncode, process.stderr) == (0, "")
    kept, rejected, memory = (int(number) for number in process.stdout.split())
    assert kept + rejected == 1100 and kept > 100 and rejected > 300
    assert memory < _MOST_MEMORY


if __name__ == "__main__":
    found = measure_mutated(int(sys.argv[1]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(found[""], found.total() - found[""], peak)
