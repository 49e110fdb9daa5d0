"""How often an image is fetched and decoded on its way from DATA to the training: once."""

import hashlib
import os
import shutil
from collections import Counter
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image, ImageOps

from cxr.core.errors import StorageError
from cxr.core.settings import PixelSettings, ReadingSettings, TrainingSettings
from cxr.data.images import model_input, pixel_cache
from cxr.data.images.decoding import decoder
from cxr.data.manifest import scanning, shard_inspection
from cxr.exploration import explore
from cxr.models import runs
from cxr.storage import arrays
from cxr.storage.addresses import open_storage
from tests.conftest import SMALLEST, Command, preprocess
from tests.support import faulty_s3


@pytest.fixture
def decoded(monkeypatch, phantoms):
    """How often each image was decoded, by its file's MD5; a file and its copies count as one."""
    counts = Counter()
    for path in phantoms.rglob("*"):
        if path.is_file():
            counts[hashlib.md5(path.read_bytes()).hexdigest()] -= 1
    for md5 in counts:
        counts[md5] += 1  # from 0 for a file without copies: each copy is inspected
    decode = decoder.decode

    def counted(data, *settings):
        counts[hashlib.md5(data).hexdigest()] += 1
        return decode(data, *settings)

    monkeypatch.setattr(decoder, "decode", counted)
    return counts


@pytest.fixture
def proxy(moto_bucket, phantoms, monkeypatch):
    """A counting proxy before a mock S3 server that holds the phantoms below set/."""
    moto_bucket.upload(phantoms, "set")
    with faulty_s3.before(moto_bucket.server, monkeypatch) as between:
        between.methods = ("GET",)
        yield between, f"s3://{moto_bucket.name}/set"


def fetched(between) -> Counter:
    """Return how often each object below set/ was asked for."""
    paths = [unquote(line.removeprefix("GET ").partition("?")[0]) for line in between.asked]
    return Counter(path.partition("/set/")[2] for path in paths if "/set/" in path)


def look_at_everything(uri, work, settings: TrainingSettings):
    """Preprocess, cache the pixels and explore, as `cxr run` does before it trains; return the manifest."""
    ingest = preprocess(uri, work, kept=settings.pixels())
    table = runs.read_manifest(work)
    folder = pixel_cache.fill_pixel_cache(
        table, open_storage(uri), settings.image_size, settings.harmonise, work
    )
    explore.explore(work, ingest, settings, folder)
    return table


def test_each_image_is_fetched_and_decoded_once(proxy, decoded, tmp_path):
    """From S3 to the pixels of the training and the pictures of the exploration."""
    between, uri = proxy
    table = look_at_everything(uri, tmp_path / "work", TrainingSettings())
    asked = fetched(between)
    assert {asked[image] for image in table["image"]} == {1}
    assert {decoded[md5] for md5 in table["md5"]} == {1}


def test_smaller_pixels_cost_no_more_fetching(proxy, decoded, tmp_path):
    """Pixels too small to look at: the few samples are decoded again, from the bytes that are at hand."""
    between, uri = proxy
    table = look_at_everything(uri, tmp_path / "work", TrainingSettings(image_size=64))
    asked = fetched(between)
    assert {asked[image] for image in table["image"]} == {1}
    again = sum(decoded[md5] - 1 for md5 in table["md5"])
    assert 0 < again <= 2 * 5 + explore.AUGMENTED_IMAGES


def test_another_size_costs_one_more_decoding(phantoms, decoded, tmp_path):
    """What is kept for one size stays; a second one is decoded once, and is then there, too."""
    work = tmp_path / "work"
    storage = open_storage(str(phantoms))
    preprocess(phantoms, work, kept=PixelSettings())
    table = runs.read_manifest(work)
    for side, times in ((224, 1), (96, 2), (96, 2), (224, 2)):
        pixel_cache.fill_pixel_cache(table, storage, side, True, work)
        assert {decoded[md5] for md5 in table["md5"]} == {times}, side


@pytest.mark.parametrize("harmonise", [True, False])
def test_inspection_keeps_the_pixels_that_decoding_again_gives(harmonise, phantoms, tmp_path):
    """Bit by bit, for every image of the manifest."""
    kept = PixelSettings(image_size=48, harmonise=harmonise)
    preprocess(phantoms, tmp_path / "once", kept=kept)
    preprocess(phantoms, tmp_path / "twice")
    table = runs.read_manifest(tmp_path / "once")
    storage = open_storage(str(phantoms))
    pixels = []
    for work in (tmp_path / "once", tmp_path / "twice"):
        folder = pixel_cache.fill_pixel_cache(table, storage, 48, harmonise, work)
        pixels.append(pixel_cache.load_pixels(folder, table)[np.arange(len(table))])
    assert np.array_equal(*pixels)


def test_an_inverted_negative_is_kept_as_a_film(phantoms, decoded, tmp_path):
    """Its pixels come from the decoding that measured it inverted: there is no third one."""
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    films = {}
    for path in sorted((data / "test" / "NORMAL").glob("*.jpeg"))[:3]:
        film = Image.open(path).convert("L")
        films[f"test/NORMAL/{path.stem}.png"] = film
        path.unlink()
        ImageOps.invert(film).save(path.with_suffix(".png"))
    kept = PixelSettings(image_size=64, harmonise=False)
    reading = ReadingSettings(negatives="invert")
    preprocess(data, tmp_path / "work", reading=reading, kept=kept)
    table = runs.read_manifest(tmp_path / "work")
    inverted = table[table["inverted"] == 1]
    assert set(inverted["image"]) == set(films)
    before = dict(decoded)
    folder = pixel_cache.fill_pixel_cache(
        table, open_storage(str(data)), 64, False, tmp_path / "work"
    )
    assert before == dict(decoded)
    for image, pixels in zip(
        inverted["image"], pixel_cache.load_pixels(folder, inverted)[:], strict=True
    ):
        assert np.array_equal(pixels, model_input.resize(films[image], 64)), image


def test_a_shard_is_done_only_when_its_pixels_are_on_disk(phantoms, tmp_path, monkeypatch):
    """Ended between the two, it is read again; then nothing of it has to be decoded for the training."""
    work = tmp_path / "work"
    storage = open_storage(str(phantoms))
    scan = scanning.scan(storage, work)
    folder = scanning.folder_of(scan, work)
    (shard,) = scan.shards

    def full(*_):
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(arrays.Cache, "add", full)
        with pytest.raises(StorageError, match="disk is full"):
            shard_inspection.inspect_shard(
                storage, folder, shard, writer=pixel_cache.Writer(work, scan.pixels)
            )
    assert scanning.scan(storage, work).shards == (shard,), "it counts as not inspected"
    shard_inspection.inspect_shard(
        storage, folder, shard, writer=pixel_cache.Writer(work, scan.pixels)
    )
    (good,) = shard_inspection.read_good(folder, ["pixel_sha256"])
    assert pixel_cache.cache_of(work, scan.pixels).missing(good["pixel_sha256"]) == []


def test_pixels_that_are_there_are_not_written_again(phantoms, tmp_path):
    """An inspection by other rules reads every file anew, but the cache does not grow."""
    work = tmp_path / "work"
    preprocess(phantoms, work, kept=PixelSettings(image_size=32))
    held = pixel_cache.cache_of(work, PixelSettings(image_size=32))
    before = sorted(held.folder.glob("*.npy"))
    assert before
    preprocess(
        phantoms, work, reading=ReadingSettings(min_side=8), kept=PixelSettings(image_size=32)
    )
    assert sorted(held.folder.glob("*.npy")) == before


@pytest.mark.slow
def test_a_whole_run_fetches_each_image_once(proxy, tmp_path, api):
    """`cxr run` on S3, from the listing to the report, with each kept image fetched by one request."""
    between, uri = proxy
    command = Command(os.environ | {"PREFECT_API_URL": api})
    process = command("run", uri, "--out", tmp_path / "work", *SMALLEST, "--epochs", "0")
    assert process.returncode == 0, process.stderr[-3000:]
    asked = fetched(between)
    table = runs.read_manifest(tmp_path / "work")
    assert {asked[image] for image in table["image"]} == {1}
