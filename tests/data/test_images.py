"""Decoding: what is good, what is a reject and why."""

import hashlib
import io
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from cxr.core.settings import FileSettings
from cxr.data.images import content, hashing, measurement, model_input
from cxr.data.images.decoding import decoder, formats, rejection
from tests.support.pictures import encoded, png16, soft, tiff

ROOT = Path(__file__).parent.parent.parent
REAL = ROOT / ".." / "shared" / "data"
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
GRAY = Image.fromarray(PICTURE)
TWELVE = PICTURE.astype(np.uint16) * 16 + 7  # as a detector of 12 bits gives them
OPAQUE = np.full_like(TWELVE, 65535)
GOOD = {
    "gray png": encoded(GRAY),
    "gray jpeg": encoded(GRAY, "JPEG"),
    "rgb jpeg": encoded(GRAY.convert("RGB"), "JPEG"),
    "palette": encoded(GRAY.convert("P")),
    "opaque alpha": encoded(GRAY.convert("RGBA")),
    "gray with alpha": encoded(GRAY.convert("LA")),
    "bilevel": encoded(GRAY.convert("1")),
    "progressive jpeg": encoded(GRAY, "JPEG", progressive=True),
    "bmp": encoded(GRAY, "BMP"),
    "rgb bmp": encoded(GRAY.convert("RGB"), "BMP"),
    "tiff": encoded(GRAY, "TIFF"),
    "lzw tiff": encoded(GRAY, "TIFF", compression="tiff_lzw"),
    "lossless webp": encoded(GRAY, "WEBP", lossless=True),
}
SEVERAL = {"save_all": True, "append_images": [GRAY.rotate(90)]}
BAD = {
    "empty": (b"", "empty_file"),
    "html": (b"<html>404</html>", "not_an_image"),
    "text": (b"person1_virus_1", "not_an_image"),
    "dicom": (bytes(128) + b"DICM" + bytes(99), "truncated"),
    "truncated jpeg": (encoded(GRAY.resize((400, 400)), "JPEG")[:-3000], "truncated"),
    "truncated png": (encoded(GRAY.resize((400, 400)))[:-5000], "truncated"),
    "truncated tiff": (encoded(GRAY, "TIFF")[:-500], "truncated"),
    "truncated bmp": (encoded(GRAY, "BMP")[:-500], "truncated"),
    "jpeg header only": (encoded(GRAY, "JPEG")[:200], "truncated"),
    "png header only": (encoded(GRAY)[:20], "truncated"),
    "cmyk": (encoded(GRAY.convert("CMYK"), "JPEG"), "unsupported_mode"),
    "jpeg of 12 bits": (
        encoded(GRAY, "JPEG").replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b\x0c"),
        "unsupported_mode",
    ),
    "16 bit": (png16(TWELVE), "unsupported_mode"),
    "16 bit gray and alpha": (png16(np.dstack([TWELVE, OPAQUE])), "unsupported_mode"),
    "16 bit rgb": (png16(np.dstack([TWELVE] * 3)), "unsupported_mode"),
    "16 bit rgba": (png16(np.dstack([TWELVE] * 3 + [OPAQUE])), "unsupported_mode"),
    "16 bit tiff": (tiff(TWELVE), "unsupported_mode"),
    "16 bit rgb tiff": (tiff(np.dstack([TWELVE] * 3)), "unsupported_mode"),
    "float": (encoded(GRAY.convert("F"), "TIFF"), "unsupported_mode"),
    "gif": (encoded(GRAY, "GIF"), "unsupported_mode"),
    "animated gif": (encoded(GRAY, "GIF", **SEVERAL), "unsupported_mode"),
    "animated png": (encoded(GRAY, "PNG", **SEVERAL), "unsupported_mode"),
    "animated webp": (encoded(GRAY, "WEBP", **SEVERAL), "unsupported_mode"),
    "tiff of two pages": (encoded(GRAY, "TIFF", **SEVERAL), "unsupported_mode"),
    "transparent": (encoded(Image.new("RGBA", (9, 9), (0, 0, 0, 7))), "unsupported_mode"),
    "one gray transparent": (encoded(GRAY, transparency=int(PICTURE[0, 0])), "unsupported_mode"),
    "bomb": (encoded(Image.new("1", (20_000, 20_000))), "too_large"),
    "big bomb": (
        encoded(Image.new("1", (1, 1))).replace(b"\0\0\0\1\0\0\0\1", b"\0\1\0\0\0\1\0\0", 1),
        "unreadable",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_images_decode_to_gray_without_change(name):
    """Every accepted kind ends as mode L; lossless ones keep each pixel."""
    decoded = decoder.decode(GOOD[name])
    assert decoded.image.mode == "L" and decoded.image.size == (30, 40) and decoded.bit_depth == 8
    assert formats.kind_of(GOOD[name][: formats.FIRST_BYTES]) == "image"
    if "jpeg" not in name and name not in {"palette", "bilevel"}:
        assert np.array_equal(np.asarray(decoded.image), PICTURE)


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_rejected_with_a_reason_of_the_closed_list(name):
    """No crash and no guess: a Rejected with the reason a person would give."""
    data, reason = BAD[name]
    with pytest.raises(rejection.Rejected) as caught:
        decoder.decode(data)
    assert caught.value.reason == reason or name == "big bomb"


def test_every_truncation_of_a_jpeg_is_noticed():
    """A JPEG cut anywhere before its end marker never passes, though Pillow's verify() lets it."""
    whole = encoded(GRAY.resize((90, 90)), "JPEG")
    for end in range(0, len(whole) - 40, 97):
        with pytest.raises(rejection.Rejected):
            decoder.decode(whole[:end])


def test_a_changed_byte_of_a_png_is_noticed():
    """A PNG whose stored bytes are not as written is a reject: each chunk has a checksum."""
    whole = encoded(GRAY, compress_level=0)
    for position in range(60, len(whole) - 20, 31):
        flipped = bytearray(whole)
        flipped[position] ^= 0x10
        with pytest.raises(rejection.Rejected, match="truncated"):
            decoder.decode(bytes(flipped))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(orientation, kind):
    """An image stored on its side is used upright, as Pillow's own ImageOps turns it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(soft(64), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L")
    image = model_input.to_gray(decoder.decode(data).image)
    assert np.array_equal(np.asarray(image), np.asarray(expected))


def test_the_first_picture_of_an_mpo_is_the_film():
    """A JPEG with a second picture behind it, as cameras write them, is read as its first picture."""
    first = soft(64).convert("RGB")
    data = encoded(first, "MPO", save_all=True, append_images=[soft(48, 1).convert("RGB")])
    decoded = decoder.decode(data)
    assert decoded.format == "MPO" and decoded.container["quantisation"]
    assert np.array_equal(
        np.asarray(decoded.image.convert("RGB")), np.asarray(Image.open(io.BytesIO(data)))
    )


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("name", ["png", "tiff", "big-endian tiff", "white is zero"])
def test_single_channels_of_16_bits_are_scaled_by_the_given_depth(bits, name):
    """Value v of N bits becomes v * 255 / (2^N - 1), rounded; a TIFF whose zero is white is inverted."""
    white = 2**bits - 1
    values = np.random.default_rng(bits).integers(0, white + 1, (40, 30), dtype=np.uint16)
    values[0, :2] = 0, white
    files = {
        "png": png16(values),
        "tiff": tiff(values),
        "big-endian tiff": tiff(values, big_endian=True),
        "white is zero": tiff(values, white_is_zero=True),
    }
    decoded = decoder.decode(files[name], bits)
    expected = np.rint(values / white * 255).astype(np.uint8)
    assert decoded.bit_depth == bits and decoded.image.mode == "L" and decoded.mode == "I;16"
    assert np.array_equal(
        np.asarray(decoded.image), 255 - expected if name == "white is zero" else expected
    )


def test_8_bit_tiffs_whose_zero_is_white_agree_with_16_bit_ones():
    """The same film as 8 and as 16 bits is the same picture, whatever its zero means."""
    eight = decoder.decode(tiff(PICTURE, white_is_zero=True)).image
    sixteen = decoder.decode(tiff(PICTURE.astype(np.uint16) * 257, white_is_zero=True), 16).image
    assert np.array_equal(np.asarray(eight), np.asarray(sixteen))


def test_values_beyond_the_given_depth_are_named():
    """A value above 2^N - 1 says that --bit-depth is wrong: a reject with both numbers."""
    with pytest.raises(rejection.Rejected, match=r"unsupported_mode.*4,087.*1,023.*10 bits"):
        decoder.decode(png16(TWELVE), 10)


@pytest.mark.parametrize(
    "name", [name for name in BAD if name.startswith("16 bit ") and name != "16 bit tiff"]
)
def test_colour_and_alpha_of_16_bits_are_rejects_at_any_depth(name):
    """Only one channel of 16 bits can be scaled; the message says how to export."""
    with pytest.raises(rejection.Rejected, match=r"unsupported_mode: 16 bits.*export 8 bits"):
        decoder.decode(BAD[name][0], 12)


def test_the_depth_changes_nothing_for_8_bit_files():
    """--bit-depth speaks of deeper files alone."""
    assert (
        measurement.measure_image(GOOD["gray jpeg"], FileSettings(bit_depth=12))[0]
        == measurement.measure_image(GOOD["gray jpeg"])[0]
    )


def test_measurements_agree_with_numpy_and_hashlib():
    """md5, mean and std are what hashlib and NumPy say; a re-encoding with the same pixels has the same pixel hash."""
    row, thumbnail, _ = measurement.measure_image(GOOD["gray png"])
    assert row["md5"] == hashlib.md5(GOOD["gray png"]).hexdigest()
    assert row["mean"] == pytest.approx(PICTURE.mean(), abs=1e-3)
    assert row["std"] == pytest.approx(PICTURE.std(), abs=1e-3)
    assert thumbnail.shape == (64, 64) and thumbnail.dtype == np.uint8
    again, _, _ = measurement.measure_image(GOOD["opaque alpha"])
    assert again["pixel_sha256"] == row["pixel_sha256"] and again["md5"] != row["md5"]
    assert (row["mode"], again["mode"], row["bit_depth"]) == ("L", "RGBA", 8)


@pytest.mark.parametrize("colour", [False, True])
def test_measured_negatives_are_those_of_the_inverted_picture(colour):
    """Inverted, a file measures as the file with 255 less each pixel does, but for what is of its bytes."""
    picture = Image.merge("RGB", [soft(), soft(seed=1), soft()]) if colour else soft()
    negative = encoded(ImageOps.invert(picture))
    row, thumbnail, _ = measurement.measure_image(negative, invert=True)
    expected, same, _ = measurement.measure_image(encoded(picture))
    for name in ("pixel_sha256", "mean", "std", "width", "height"):
        assert row[name] == expected[name]
    assert row["md5"] == hashlib.md5(negative).hexdigest() and row["bytes"] == len(negative)
    assert np.abs(thumbnail.astype(int) - same).max() <= 1
    later = model_input.decode_kept_image(negative, row["bit_depth"], inverted=True)
    assert np.array_equal(np.asarray(later), np.asarray(picture))


def test_later_stages_read_what_was_measured():
    """The pixels of a kept row are those of its pixel_sha256, for deep files and negatives, too."""
    data = png16(TWELVE)
    for invert in (False, True):
        row, _, _ = measurement.measure_image(data, FileSettings(bit_depth=12), invert)
        again = model_input.decode_kept_image(data, row["bit_depth"], invert)
        assert row["bit_depth"] == 12
        assert hashing.pixel_sha256(again) == row["pixel_sha256"]


def test_large_images_keep_exact_mean_and_std():
    """Counting gray values loses nothing that a rounded metric shows."""
    big = np.random.default_rng(1).integers(0, 256, (1733, 1731), dtype=np.uint8)
    counts = content.gray_counts(Image.fromarray(big))
    assert content.mean_and_std(counts) == (round(float(big.mean()), 3), round(float(big.std()), 3))


def drawn_mask(side: int = 128, low: int = 0, high: int = 255) -> Image.Image:
    mask = Image.new("L", (side, side), low)
    pen = ImageDraw.Draw(mask)
    for left in (0.1, 0.55):
        pen.ellipse((side * left, side * 0.15, side * (left + 0.35), side * 0.85), fill=high)
    return mask


ODD = {
    "one pixel": (encoded(GRAY.resize((1, 1))), "too_small"),
    "27 pixels high": (encoded(soft().resize((60, 27))), "too_small"),
    "a strip": (encoded(soft().resize((400, 60))), "extreme_shape"),
    "4000x2": (encoded(soft().resize((4000, 2))), "too_small"),
    "black": (encoded(Image.new("L", (99, 99))), "flat"),
    "nearly one gray": (encoded(Image.fromarray(PICTURE // 64 + 100)), "flat"),
    "mask": (encoded(drawn_mask()), "mask"),
    "mask of values 0 and 1": (encoded(drawn_mask(high=1)), "flat"),
    "gray mask": (encoded(drawn_mask(low=60, high=130), "JPEG"), "mask"),
    "coarse jpeg mask": (encoded(drawn_mask(256), "JPEG", quality=40), "mask"),
    "rgb jpeg mask": (encoded(drawn_mask(256).convert("RGB"), "JPEG", quality=75), "mask"),
    "resized mask": (encoded(drawn_mask(256).resize((299, 299), Image.Resampling.BICUBIC)), "mask"),
    "mask of 1 bit": (encoded(drawn_mask().convert("1")), "mask"),
    "film of 1 bit": (encoded(soft().convert("1")), "mask"),
}


@pytest.mark.parametrize("name", ODD)
def test_pictures_that_are_no_films_have_reasons_of_their_own(name):
    """Tiny, extreme, flat and two-valued pictures are rejected in inspection and prediction, though they decode."""
    data, reason = ODD[name]
    decoder.decode(data)
    with pytest.raises(rejection.Rejected) as caught:
        content.examine(data, FileSettings())
    assert caught.value.reason == reason
    with pytest.raises(rejection.Rejected):
        measurement.measure_image(data)


def test_limits_of_content_can_be_set():
    """Each limit moves with its setting."""
    small = encoded(soft().resize((80, 20)))
    content.examine(small, FileSettings(min_side=20))
    with pytest.raises(rejection.Rejected, match="extreme_shape"):
        content.examine(small, FileSettings(min_side=20, max_aspect=3.9))
    content.examine(ODD["nearly one gray"][0], FileSettings(min_contrast=0.5))


def test_decoders_neither_warn_nor_print_nor_touch_other_warnings(capfd):
    """What Pillow, libtiff and libjpeg complain of becomes a reject or nothing; filters of others stay in force."""
    lzw = bytearray(encoded(soft(), "TIFF", compression="tiff_lzw"))
    lzw[1000:1500] = bytes(500)
    complaints = [bytes(lzw), bytes(lzw[:-300]), encoded(soft(), "TIFF")[:-900]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in complaints:
            with pytest.raises(rejection.Rejected):
                decoder.decode(data)
        decoder.decode(encoded(soft().convert("P"), transparency=b"\xff" * 256))
        before = list(warnings.filters)
        decoder.decode(GOOD["palette"])
        assert warnings.filters == before, "set once, not for every file"
        with pytest.raises(UserWarning):
            warnings.warn("someone else's", UserWarning, stacklevel=1)
    assert capfd.readouterr() == ("", "")


def test_decoding_in_threads_gives_what_one_thread_gives():
    """Nothing is shared between decodings."""
    files = [
        encoded(soft(seed=seed), kind) for seed in range(8) for kind in ("JPEG", "PNG", "TIFF")
    ]

    def digest(data: bytes) -> str:
        return measurement.measure_image(data).row["pixel_sha256"]

    expected = [digest(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(digest, files * 4))
    assert digests == expected * 4
    assert threading.active_count() < 50


@pytest.mark.parametrize(
    "error", [IndexError, MemoryError, RecursionError, SyntaxError, OverflowError]
)
def test_whatever_a_decoder_raises_is_a_reject(monkeypatch, error):
    """The whole reading of a file is guarded: header, frames, EXIF, pixels and what is measured of them."""
    for place, name in (
        (Image.Image, "getexif"),
        (Image.Image, "tobytes"),
        (Image.Image, "histogram"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, lambda *_, **__: (_ for _ in ()).throw(error("broken")))
            with pytest.raises(rejection.Rejected):
                measurement.measure_image(GOOD["gray png"])


def test_perceptual_hash_survives_resizing_and_separates_pictures():
    """A resized copy is within 12 of 256 bits, another picture far away (facts of the published data)."""
    rng = np.random.default_rng(2)
    smooth = [
        Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).resize((300, 300))
        for _ in range(2)
    ]
    stack = np.stack(
        [
            model_input.resize(image, 64)
            for image in (smooth[0], smooth[0].resize((211, 211)), smooth[1])
        ]
    )
    bits = [
        np.unpackbits(np.frombuffer(bytes.fromhex(h), np.uint8))
        for h in hashing.perceptual_hashes(stack)
    ]
    assert len(bits[0]) == 256
    assert (bits[0] != bits[1]).sum() <= 12
    assert (bits[0] != bits[2]).sum() > 60


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real images (shared/data) are not here")
def test_every_real_film_is_kept_with_pillows_pixels():
    """No real film is a reject, and each has the very bytes that Pillow decodes."""
    paths = sorted(path for path in REAL.rglob("*") if path.suffix in formats.KNOWN_SUFFIXES)
    assert len(paths) > 5000
    for path in paths:
        data = path.read_bytes()
        image = content.examine(data, FileSettings()).image
        expected = Image.open(io.BytesIO(data))
        assert image.convert(expected.mode).tobytes() == expected.tobytes(), path.name
