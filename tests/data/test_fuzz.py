"""Mutated files: none ends a run, each is kept or rejected with a reason, and none takes the memory."""

import random
import resource
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.settings import FileSettings
from cxr.data.images import measurement
from cxr.data.images.decoding import rejection
from cxr.data.manifest import columns, shard_inspection
from cxr.data.manifest.records import REJECT_REASONS
from tests.support.pictures import encoded, png16, soft, tiff

_FILM = soft(96)
_COLOUR = Image.merge("RGB", [_FILM, soft(96, 1), soft(96, 2)])
_DEEP = np.asarray(_FILM).astype(np.uint16) * 16
_EXIF = Image.Exif()
_EXIF[0x0112] = 6
SEEDS = {
    "jpeg": encoded(_FILM, "JPEG"),
    "colour jpeg": encoded(_COLOUR, "JPEG", exif=_EXIF, icc_profile=b"profile" * 30),
    "progressive": encoded(_FILM, "JPEG", progressive=True),
    "mpo": encoded(_COLOUR, "MPO", save_all=True, append_images=[_COLOUR]),
    "png": encoded(_FILM),
    "palette": encoded(_FILM.convert("P")),
    "alpha": encoded(_FILM.convert("RGBA")),
    "16-bit png": png16(_DEEP),
    "bmp": encoded(_FILM, "BMP"),
    "colour bmp": encoded(_COLOUR, "BMP"),
    "tiff": encoded(_FILM, "TIFF", exif=_EXIF),
    "colour tiff": encoded(_COLOUR, "TIFF"),
    "lzw tiff": encoded(_FILM, "TIFF", compression="tiff_lzw"),
    "deflated tiff": encoded(_FILM, "TIFF", compression="tiff_deflate"),
    "packed tiff": encoded(_FILM, "TIFF", compression="packbits"),
    "jpeg in tiff": encoded(_FILM, "TIFF", compression="jpeg"),
    "fax in tiff": encoded(_FILM.convert("1"), "TIFF", compression="group4"),
    "16-bit tiff": tiff(_DEEP, big_endian=True),
    "webp": encoded(_COLOUR, "WEBP", exif=_EXIF),
    "lossless webp": encoded(_FILM, "WEBP", lossless=True),
    "gif": encoded(_FILM, "GIF"),
}
_SLICES = (b"\xff" * 8, bytes(8), b"\x7f\xff\xff\xff" * 2, b"\x80\0\0\0" * 2)
# A picture of MAX_PIXELS in colour, its decoder's own copy and its bytes; a mutated header can ask for no more.
_MOST_MEMORY = 2_000  # MB


def mutated(rng: random.Random) -> tuple[str, bytes]:
    """Return the name of a kind and one of its files, changed somewhere: more often than not in its header."""
    name = rng.choice(list(SEEDS))
    data = bytearray(SEEDS[name])
    reach = rng.choice((len(data), min(len(data), 400), min(len(data), 60)))
    position = rng.randrange(reach)
    way = rng.randrange(6)
    if way < 2:
        for _ in range(rng.choice((1, 2, 4, 16))):
            data[rng.randrange(reach)] = rng.randrange(256)
    elif way == 2:
        del data[rng.randrange(len(data)) :]
    elif way == 3:
        del data[position : position + rng.randrange(1, 60)]
    elif way == 4:
        data[position:position] = rng.randbytes(rng.randrange(1, 30))
    else:
        data[position : position + 8] = rng.choice(_SLICES)
    return name, bytes(data)


class _Folder:
    """A storage of files that exist only while they are read."""

    def __init__(self, number: int):
        self._files = random.Random(number)

    def read_many(self, wanted: Iterator[tuple[str, str | None]]) -> Iterator[tuple[str, bytes]]:
        for key, _ in wanted:
            yield key, mutated(self._files)[1]


def inspect(number: int, folder: Path, seed: int = 0) -> pd.DataFrame:
    """Return what the real inspection says of so many mutated files."""
    keys = [f"{index}.png" for index in range(number)]
    (folder / "shards").mkdir(parents=True)
    listed = pd.DataFrame(
        {"image": keys, "label": 0, "source_split": "train", "size": 1, "version": "1"}
    )
    for column in columns.LISTED_COLUMNS:
        if column not in listed:
            listed[column] = ""
    listed[columns.LISTED_COLUMNS].to_csv(folder / "shards" / "s.csv", index=False)
    shard = shard_inspection.inspect_shard(_Folder(seed), folder, "s", FileSettings(bit_depth=12))
    table = pd.read_csv(folder / "inspected" / "s.csv", keep_default_na=False, dtype=str)
    assert len(table) == number == shard.images + shard.rejected
    assert (
        (table["reason"] == "").sum()
        == shard.images
        == len(np.load(folder / "inspected" / "s.npy"))
    )
    return table


def test_some_mutated_files_go_through_the_inspection(tmp_path):
    """A hundred files: found = kept + rejected, each rejected with a reason out of the closed list."""
    table = inspect(100, tmp_path)
    assert set(table["reason"]) <= {"", *REJECT_REASONS}
    assert (table["detail"] != "").equals(table["reason"] != "")


def test_every_seed_is_a_good_file_or_a_known_reject():
    """The files that are mutated are whole: what the fuzzing finds is of the mutation."""
    for name, data in SEEDS.items():
        if name in {"gif", "fax in tiff"}:
            with pytest.raises(rejection.Rejected):
                measurement.measure_image(data)
        else:
            measurement.measure_image(data, FileSettings(bit_depth=12))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thousands_of_mutated_files_neither_end_a_run_nor_fill_the_memory(tmp_path):
    """Of 3,000 files over all formats none crashes the inspection or prints; the process stays small."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.data.test_fuzz", "3000", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert (process.returncode, process.stderr) == (0, "")
    kept, rejected, memory = (int(number) for number in process.stdout.split())
    assert kept + rejected == 3000 and kept > 100 and rejected > 1000
    assert memory < _MOST_MEMORY


@pytest.mark.slow
def test_many_mutated_files_at_a_time():
    """Prediction decodes in threads: every file is an answer there, too, and the same one as before."""
    files = [mutated(random.Random(seed)) for seed in range(600)]

    def verdict(data: bytes) -> str:
        try:
            return measurement.measure_image(data, FileSettings(bit_depth=12))[0]["pixel_sha256"]
        except rejection.Rejected as reject:
            return reject.reason

    expected = [verdict(data) for _, data in files]
    verdicts: dict[int, str] = {}

    def work(first: int) -> None:
        for index in range(first, len(files), 8):
            verdicts[index] = verdict(files[index][1])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [verdicts[index] for index in range(len(files))] == expected
    assert len(Counter(expected)) > 10


def main(number: str, folder: str) -> None:
    """Inspect so many mutated files and print kept, rejected and the peak of memory, in MB."""
    table = inspect(int(number), Path(folder), seed=1)
    kept = int((table["reason"] == "").sum())
    print(kept, len(table) - kept, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
