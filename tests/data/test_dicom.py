"""Films in DICOM files: what is read, what it looks like, and what is refused."""

import io
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import cxr
from cxr.core.errors import UsageError
from cxr.core.files import read_table
from cxr.core.settings import FileSettings
from cxr.data.images import model_input
from cxr.data.images.decoding import decoder, formats
from cxr.data.images.decoding.rejection import Rejected
from cxr.data.images.dicom import attributes, eligibility
from cxr.data.images.dicom.burned_in import has_text_on_border
from cxr.data.images.dicom.film import decode_film
from cxr.data.images.dicom.gray_levels import show_through_window
from cxr.data.images.dicom.tags import read_tags
from cxr.data.images.measurement import measure_image
from cxr.data.manifest.columns import ATTRIBUTE_COLUMNS, ROW_COLUMNS
from cxr.data.phantoms import dicom_films
from cxr.data.phantoms.dicom_films import DEVICES, film_bytes, make_dicom
from cxr.data.phantoms.films import draw_film, encode
from cxr.data.phantoms.plan import PlannedImage
from tests.conftest import ROOT
from tests.support.pictures import soft

FILM = np.asarray(soft(64))
RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # each value of 12 bits once
WINDOW = {"WindowCenter": 1500.0, "WindowWidth": 1800.0}
HOSPITAL = ROOT / ".." / "shared" / "data" / "hospital"
LOSSLESS = (
    "ImplicitVRLittleEndian",
    "ExplicitVRLittleEndian",
    "ExplicitVRBigEndian",
    "DeflatedExplicitVRLittleEndian",
    "RLELossless",
    "JPEGLosslessSV1",
    "JPEGLossless",
    "JPEGLSLossless",
    "JPEG2000Lossless",
    "HTJ2KLossless",
)


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    """A salt, without which no tag is described."""
    monkeypatch.setenv("CXR_SALT", "sixteen letters or more")


def lookup(first, bits, values, words=np.uint16, explanation=""):
    """Return a sequence with one look-up table."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values) % 65_536, first % 65_536, bits])
    item.add_new("LUTData", "OW", np.asarray(values).astype(words).tobytes())
    item.LUTExplanation = explanation
    return Sequence([item])


def reason(data, **how):
    """Return why a file is rejected."""
    with pytest.raises(Rejected) as raised:
        decoder.decode(data, **how)
    return raised.value.reason


# What it looks like.


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.model)
def test_the_window_of_each_device_gives_the_film_back(device):
    """12-bit films of both interpretations are the 8-bit PNGs of which they were made: duplicates."""
    dicom = measure_image(film_bytes(FILM, device))
    png = measure_image(encode(Image.fromarray(FILM), "PNG"))
    assert dicom.row["pixel_sha256"] == png.row["pixel_sha256"]
    assert (dicom.thumbnail == png.thumbnail).all()
    assert dicom.row["format"] == "DICOM" and dicom.row["window"] == "first window LINEAR"
    assert dicom.row["transfer_syntax"] == device.syntax


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("bits", [8, 12])
def test_every_lossless_transfer_syntax_gives_the_same_pixels(syntax, bits):
    """The pixels are those of the uncompressed file; the syntax has its name in a column."""
    stored = RAMP if bits == 12 else (RAMP >> 4).astype(np.uint8)
    plain = decode_film(make_dicom(stored, {}, bits=bits))
    film = decode_film(make_dicom(stored, {}, bits=bits, syntax=syntax))
    assert (film.pixels == plain.pixels).all()
    assert film.transfer_syntax == syntax


@pytest.mark.parametrize(("syntax", "bits"), [("JPEGBaseline8Bit", 8), ("JPEGExtended12Bit", 12)])
def test_lossy_transfer_syntaxes_are_near_the_film(syntax, bits):
    """JPEG of 8 and of 12 bits: on average less than three gray levels from what was written."""
    stored = FILM if bits == 8 else FILM.astype(np.uint16) * 16
    film = decode_film(make_dicom(stored, {}, bits=bits, syntax=syntax))
    assert np.abs(film.pixels.astype(int) - FILM).mean() < 3


def test_windows_follow_the_published_formulas():
    """LINEAR, LINEAR_EXACT and SIGMOID as DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3 write them."""
    values = np.array([-5.0, 0, 100, 2047, 2048, 4000, 4095, 5000])
    center, width = 2048, 4096
    expected = []
    for x in values:  # the standard's pseudo-code for LINEAR, y from 0 to 255
        if x <= center - 0.5 - (width - 1) / 2:
            expected.append(0.0)
        elif x > center - 0.5 + (width - 1) / 2:
            expected.append(255.0)
        else:
            expected.append(((x - (center - 0.5)) / (width - 1) + 0.5) * 255)
    assert show_through_window(values, center, width) == pytest.approx(expected)
    exact = np.clip((values - center) / width + 0.5, 0, 1) * 255
    assert show_through_window(values, center, width, "LINEAR_EXACT") == pytest.approx(exact)
    sigmoid = 255 / (1 + np.exp(-4 * (values - center) / width))
    assert show_through_window(values, center, width, "SIGMOID") == pytest.approx(sigmoid)
    assert show_through_window(values, 100, 1).tolist() == [0, 0, 255, 255, 255, 255, 255, 255]


SHOWN = {
    "linear": ({**WINDOW}, {}, ["+Wi", "1"]),
    "second is not taken": (
        {"WindowCenter": [1500, 10], "WindowWidth": [1800, 20]}, {}, ["+Wi", "1"],
    ),
    "exact": ({**WINDOW, "VOILUTFunction": "LINEAR_EXACT"}, {}, ["+Wi", "1"]),
    "sigmoid": ({**WINDOW, "VOILUTFunction": "SIGMOID"}, {}, ["+Wi", "1"]),
    "inverted": ({**WINDOW}, {"photometric": "MONOCHROME1"}, ["+Wi", "1"]),
    "inverted by shape": ({**WINDOW, "PresentationLUTShape": "INVERSE"}, {}, ["+Wi", "1"]),
    "inverted once": (
        {**WINDOW, "PresentationLUTShape": "INVERSE"}, {"photometric": "MONOCHROME1"}, ["+Wi", "1"],
    ),
    "shape against photometric": (
        {**WINDOW, "PresentationLUTShape": "IDENTITY"}, {"photometric": "MONOCHROME1"}, ["+Wi", "1"],
    ),
    "full range": ({}, {}, ["-W"]),
    "full range of 16 bits": ({}, {"bits": 16}, ["-W"]),
    "rescaled": (
        {"RescaleSlope": 0.5, "RescaleIntercept": -300.0, "WindowCenter": 400, "WindowWidth": 900},
        {}, ["+Wi", "1"],
    ),
    "rescaled downwards": ({"RescaleSlope": -1.0, "RescaleIntercept": 4095.0}, {}, ["-W"]),
    "table": ({"VOILUTSequence": lookup(500, 12, np.linspace(0, 1, 3000) ** 0.6 * 4095)}, {}, ["+Wl", "1"]),
    "table of bytes": (
        {"VOILUTSequence": lookup(0, 8, np.linspace(0, 1, 4096) ** 2 * 255, np.uint8)}, {}, ["+Wl", "1"],
    ),
    "table, inverted": (
        {"VOILUTSequence": lookup(500, 12, np.linspace(0, 1, 3000) ** 0.6 * 4095)},
        {"photometric": "MONOCHROME1"}, ["+Wl", "1"],
    ),
    "table of the modality": (
        {
            "ModalityLUTSequence": lookup(0, 16, np.linspace(0, 1, 4096) ** 2 * 65_535),
            "WindowCenter": 20_000.0, "WindowWidth": 30_000.0,
        },
        {}, ["+Wi", "1"],
    ),
    "implicit table": (
        {"VOILUTSequence": lookup(500, 12, np.linspace(0, 1, 3000) ** 0.6 * 4095)},
        {"syntax": "ImplicitVRLittleEndian"}, ["+Wl", "1"],
    ),
    "big endian": ({**WINDOW}, {"syntax": "ExplicitVRBigEndian"}, ["+Wi", "1"]),
    "deflated": ({**WINDOW}, {"syntax": "DeflatedExplicitVRLittleEndian"}, ["+Wi", "1"]),
    "lossless jpeg": ({**WINDOW}, {"syntax": "JPEGLosslessSV1"}, ["+Wi", "1"]),
    "jpeg of 12 bits": ({**WINDOW}, {"syntax": "JPEGExtended12Bit"}, ["+Wi", "1"]),
}  # fmt: skip


def shown_by_dcmtk(data, folder, options):
    """Return the pixels that dcmj2pnm makes of a file, uint8 (height, width)."""
    source = folder / "film.dcm"
    source.write_bytes(data)
    picture = folder / "film.pgm"
    command = ["dcmj2pnm", "--write-raw-pnm", *options, source, picture]
    subprocess.run(command, check=True, capture_output=True)
    return np.asarray(Image.open(picture)).astype(int)


@pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="dcmtk is not installed")
@pytest.mark.parametrize("name", SHOWN)
def test_films_look_as_dcmtk_shows_them(name, tmp_path):
    """With the same window no pixel is more than one gray level from dcmj2pnm's."""
    tags, how, options = SHOWN[name]
    data = make_dicom(RAMP * 16 if how.get("bits") == 16 else RAMP, tags, **how)
    expected = shown_by_dcmtk(data, tmp_path, options)
    assert np.abs(decode_film(data).pixels - expected).max() <= 1


@pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="dcmtk is not installed")
def test_signed_values_look_as_dcmtk_shows_them(tmp_path):
    """Two's complement, with a window and without."""
    stored = (RAMP.astype(np.int32) - 2048).astype(np.int16)
    for tags, option in (({"WindowCenter": 100, "WindowWidth": 1800}, "+Wi"), ({}, "-W")):
        data = make_dicom(stored, tags)
        options = [option, "1"] if option == "+Wi" else [option]
        expected = shown_by_dcmtk(data, tmp_path, options)
        assert np.abs(decode_film(data).pixels - expected).max() <= 1


def test_a_window_is_taken_by_its_name():
    """Of several windows the named one, whatever its case; the first where none has that name."""
    tags = {
        "WindowCenter": [1500, 2000],
        "WindowWidth": [1800, 3000],
        "WindowCenterWidthExplanation": ["SOFT", "Lung"],
    }
    data = make_dicom(RAMP, tags)
    named = decode_film(data, window="LUNG")
    assert named.rule == 'window "LUNG" LINEAR'
    second = make_dicom(RAMP, {"WindowCenter": 2000, "WindowWidth": 3000})
    assert (named.pixels == decode_film(second).pixels).all()
    assert decode_film(data, window="bone").rule == "first window LINEAR"
    row = measure_image(data, FileSettings(window="LUNG")).row
    again = model_input.decode_kept_image(data, row["bit_depth"], False, "LUNG")
    assert (np.asarray(again) == named.pixels).all()


def test_bits_beside_those_in_use_are_not_shown():
    """Old files keep an overlay in the upper bits."""
    plain = decode_film(make_dicom(RAMP, WINDOW)).pixels
    assert (decode_film(make_dicom(RAMP, WINDOW)).pixels == plain).all()
    dataset = pydicom.dcmread(io.BytesIO(make_dicom(RAMP, WINDOW)))
    dataset.PixelData = (RAMP | 0xF000).tobytes()
    assert (decode_film(dicom_films.dataset_bytes(dataset)).pixels == plain).all()


# What is refused.

NOT_FILMS = {
    "computed tomography": ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "not_a_film"),
    "mammogram": ({"Modality": "MG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2"}, "not_a_film"),
    "class of another kind": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "not_a_film"),
    "report": ({"Modality": "SR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}, "not_a_film"),
    "presentation state": ({"Modality": "PR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"}, "not_a_film"),
    "raw detector values": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "not_a_film"),
    "for processing": ({"PresentationIntentType": "FOR PROCESSING"}, "not_a_film"),
    "localiser": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "not_a_film"),
    "no modality": ({"Modality": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "not_a_film"),
    "no pixels": ({"PixelData": None}, "no_pixels"),
    "no bits": ({"BitsStored": 0}, "bad_tags"),
    "more bits than there is room": ({"BitsStored": 20}, "bad_tags"),
    "no BitsAllocated": ({"BitsAllocated": None}, "bad_tags"),
    "32 bits": ({"BitsAllocated": 32}, "unsupported_mode"),
    "high bit out of place": ({"HighBit": 3}, "bad_tags"),
    "no rows": ({"Rows": None}, "bad_tags"),
    "too few rows": ({"Rows": 32}, "bad_tags"),
    "too many columns": ({"Columns": 65}, "bad_tags"),
    "too many pixels": ({"Rows": 65_535, "Columns": 65_535}, "too_large"),
    "window of no width": ({"WindowCenter": 100, "WindowWidth": 0}, "bad_tags"),
    "window without a center": ({"WindowWidth": 100}, "bad_tags"),
    "unknown function": ({**WINDOW, "VOILUTFunction": "CUBIC"}, "bad_tags"),
    "slope of 0": ({"RescaleSlope": 0}, "bad_tags"),
    "short table": ({"VOILUTSequence": lookup(0, 12, [])}, "bad_tags"),
    "colour": ({"PhotometricInterpretation": "RGB"}, "unsupported_mode"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_FILMS)
def test_what_is_no_film_is_rejected_with_its_reason(name):
    """Of another modality or class, without pixels, with nonsense in its tags."""
    tags, expected = NOT_FILMS[name]
    assert reason(make_dicom(RAMP, tags)) == expected


def test_a_run_of_frames_is_rejected():
    """One film is one frame."""
    frames = np.stack([RAMP, RAMP])
    assert reason(make_dicom(frames, {"Modality": "DX"})) == "several_frames"


def test_a_negative_spacing_is_rejected():
    """As the tags are described: of a film that can be decoded."""
    with pytest.raises(Rejected, match="PixelSpacing"):
        measure_image(make_dicom(RAMP, {"PixelSpacing": [-0.1, -0.1]}))


def test_a_spacing_of_0_is_none():
    """Devices write 0 where they do not know it, so the next tag is asked, and the film is kept."""
    tags = {"PixelSpacing": [0.0, 0.0], "ImagerPixelSpacing": [0.2, 0.2]}
    assert measure_image(make_dicom(RAMP, tags)).row["pixel_spacing"] == "0.2000"
    only = {"PixelSpacing": [0.0, 0.0]}
    assert measure_image(make_dicom(RAMP, only)).row["pixel_spacing"] == ""


def test_a_preamble_that_is_a_tiff_header_does_not_make_a_film_a_tiff():
    """Some devices write such files, for viewers that know no DICOM: their tags are read all the same."""
    data = make_dicom(RAMP, {"Modality": "US"})
    assert data[128:132] == b"DICM"
    both = b"II*\0\x08\0\0\0" + data[8:]
    assert formats.kind_of(both[: formats.FIRST_BYTES]) == "dicom"
    assert reason(both) == "not_a_film"


def test_a_file_that_ends_early_is_truncated():
    """In its tags, in its pixels, in its compressed pixels, in its deflated dataset."""
    for syntax in ("ExplicitVRLittleEndian", "RLELossless", "JPEG2000Lossless", "JPEGLosslessSV1"):
        data = make_dicom(RAMP, WINDOW, syntax=syntax)
        assert reason(data[:-200]) == "truncated"
        assert reason(data[:500]) in {"truncated", "no_pixels"}  # between two elements
    deflated = make_dicom(RAMP, WINDOW, syntax="DeflatedExplicitVRLittleEndian")
    assert reason(deflated[:-40]) == "truncated"


@pytest.mark.parametrize("syntax", ["JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless"])
def test_compressed_pixels_of_another_size_are_refused_before_they_are_decoded(syntax):
    """The header of the data is compared with Rows and Columns: it cannot ask for memory."""
    data = make_dicom(RAMP, {"Rows": 60}, syntax=syntax)
    assert reason(data) == "bad_tags"


def test_an_unknown_transfer_syntax_is_unsupported():
    """Video, or a private one."""
    data = make_dicom(RAMP, {}, syntax="JPEG2000Lossless")
    assert reason(data.replace(b"\xff\x4f\xff\x51", b"\0\0\0\0")) == "unsupported_mode"


def element(group, number, representation, value):
    """Return an element of a long value representation, explicit little endian."""
    head = struct.pack("<HH2s2xI", group, number, representation, len(value))
    return head + value


def part_10(body, syntax=b"1.2.840.10008.1.2.1\0"):
    """Return a file of a dataset that is encoded already."""
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    return bytes(128) + b"DICM" + meta + body


@pytest.mark.parametrize("tag", [(0x0008, 0x1140), (0x0028, 0x3010)], ids=["unread", "read"])
@pytest.mark.parametrize("has_length", [True, False])
def test_a_sequence_of_a_million_items_is_rejected_soon(tag, has_length):
    """Whether it is one that is read or not; one that is stepped over by its length is no harm."""
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1_000_000
    if has_length:
        body = element(*tag, b"SQ", items)
    else:
        head = struct.pack("<HH2s2xI", *tag, b"SQ", 0xFFFFFFFF)
        body = head + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    is_harmless = has_length and tag == (0x0008, 0x1140)
    assert reason(part_10(body)) == ("not_a_film" if is_harmless else "bad_tags")


def test_sequences_in_sequences_have_a_limit():
    """A thousand deep: no stack overflows."""
    one = struct.pack("<HH2s2xI", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    assert reason(part_10((one + item) * 1000)) == "bad_tags"


def test_a_bomb_in_a_deflated_dataset_is_rejected(monkeypatch):
    """A few kilobytes that inflate to more than a file may have are too_large, and are not inflated."""
    monkeypatch.setattr(formats, "MAX_BYTES", 4 * 2**20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(2**20)
    packed = b"".join(packer.compress(zeros) for _ in range(formats.MAX_BYTES // 2**20 + 2))
    data = part_10(packed + packer.flush(), b"1.2.840.10008.1.2.1.99\0\0")
    assert len(data) < 10_000
    assert reason(data) == "too_large"


def test_a_run_of_bytes_cannot_expand_without_an_end():
    """RLE of another size than Rows and Columns say."""
    data = make_dicom(RAMP, {"Rows": 20, "Columns": 20}, syntax="RLELossless")
    assert reason(data) == "truncated"


# What the tags say.


def described(**tags):
    """Return the columns of a film with these tags."""
    return attributes.describe_tags(read_tags(make_dicom(RAMP, tags))[0])


def test_tags_become_columns():
    """As they stand, or as pseudonyms; nothing that names a person is among them."""
    row = measure_image(
        film_bytes(
            FILM,
            DEVICES[2],
            {
                "PatientID": "4711",
                "PatientName": "Doe^Jane",
                "PatientAge": "045Y",
                "PatientSex": "F",
                "ViewPosition": "PA",
                "AcquisitionDate": "20240229",
                "InstitutionName": "St. Elsewhere",
                "StationName": "ROOM1",
                "StudyInstanceUID": "1.2.3",
                "DetectorID": "A17",
            },
        )
    ).row
    assert {name: row[name] for name in ("age", "sex", "view", "year", "modality")} == {
        "age": "45",
        "sex": "F",
        "view": "PA",
        "year": "2024",
        "modality": "CR",
    }
    assert row["manufacturer"] == "Osmund Medical" and row["detector"] == "A17"
    assert (row["pixel_spacing"], row["bits_stored"]) == ("0.2000", "10")
    for name in ("dicom_patient", "station", "institution", "study", "instance"):
        assert len(row[name]) == 16 and int(row[name], 16) >= 0
    assert row["series"] == ""
    text = str(row)
    assert not any(secret in text for secret in ("4711", "Doe", "Elsewhere", "ROOM1", "0229"))


def test_without_a_salt_no_tag_is_described(monkeypatch):
    """It is an error, not a reject: another run with a salt would find another patient."""
    monkeypatch.delenv("CXR_SALT")
    with pytest.raises(UsageError, match="cxr salt"):
        measure_image(film_bytes(FILM))


def test_the_issuer_is_part_of_the_patient():
    """Two hospitals may give one number to two people."""
    one = described(PatientID="1", IssuerOfPatientID="A")
    other = described(PatientID="1", IssuerOfPatientID="B")
    assert one["dicom_patient"] != other["dicom_patient"]
    assert described(PatientID="1")["dicom_patient"] == described(PatientID=" 1 ")["dicom_patient"]
    assert described()["dicom_patient"] == ""


@pytest.mark.parametrize(
    ("tags", "age"),
    [
        ({"PatientAge": "045Y"}, "45"),
        ({"PatientAge": "58"}, "58"),
        ({"PatientAge": "018M"}, "1.5"),
        ({"PatientAge": "026W"}, "0.5"),
        ({"PatientAge": "000D"}, "0"),
        ({"PatientAge": "Y"}, ""),
        ({"PatientAge": "999Y"}, ""),
        ({"PatientBirthDate": "19800301", "StudyDate": "20200229"}, "39"),
        ({"PatientBirthDate": "19800301", "StudyDate": "20200301"}, "40"),
        ({"PatientBirthDate": "19800301"}, ""),
        ({"PatientBirthDate": "20300101", "StudyDate": "20200101"}, ""),
        ({"PatientBirthDate": "unknown", "StudyDate": "20200101"}, ""),
    ],
)
def test_ages_are_in_years(tags, age):
    """By PatientAge in years, months, weeks or days, else by two dates; nonsense is empty."""
    assert described(**tags)["age"] == age


CHARACTER_SETS = {
    "latin": ("ISO_IR 100", "Müller"),
    "cyrillic": ("ISO_IR 144", "Жуков"),
    "greek": ("ISO_IR 126", "Διονυσιος"),
    "arabic": ("ISO_IR 127", "قباني"),
    "hebrew": ("ISO_IR 138", "שרון"),
    "japanese": (["", "ISO 2022 IR 87"], "山田"),
    "korean": (["", "ISO 2022 IR 149"], "홍길동"),
    "chinese": ("GB18030", "王小东"),
    "unicode": ("ISO_IR 192", "Wang 王"),
}


@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_a_patient_is_the_same_in_every_character_set(name):
    """The key is the text, not its bytes: that of the same text in Unicode."""
    character_set, text = CHARACTER_SETS[name]
    one = described(SpecificCharacterSet=character_set, PatientID=text)
    other = described(SpecificCharacterSet="ISO_IR 192", PatientID=text)
    assert one["dicom_patient"] == other["dicom_patient"] != ""


@pytest.mark.parametrize("character_set", [b"ISO_IR 999", b"nonsense\\\\", b"\xff\xfe\xfd\xfc"])
def test_an_unknown_character_set_does_no_harm(character_set):
    """The film is read, and nothing is printed or warned of."""
    data = make_dicom(RAMP, {"SpecificCharacterSet": "ISO_IR 192", "PatientID": "Zoë"})
    damaged = data.replace(b"ISO_IR 192", character_set.ljust(10))
    assert measure_image(damaged).row["dicom_patient"] != ""


VIEWS = {
    "PA": "PA", "pa ": "PA", "AP": "AP", "A-P": "AP", "AP SUPINE": "AP",
    "LL": "LATERAL", "RL": "LATERAL", "LATERAL": "LATERAL", "XTABLE LATERAL": "LATERAL",
    "LAO": "OBLIQUE", "RPO": "OBLIQUE", "AP AXIAL": "LORDOTIC", "AP LLD": "DECUBITUS",
    "": "", "PORTABLE": "", "Doe^Jane": "",
}  # fmt: skip


@pytest.mark.parametrize("written", VIEWS)
def test_views_are_read_by_words(written):
    """Of a closed list; what is not in it is unknown, and not shown."""
    assert described(ViewPosition=written)["view"] == VIEWS[written]


def test_codes_of_views_are_those_of_the_standard():
    """Each code means what pydicom's copy of CID 4010 says."""
    from pydicom.sr.codedict import codes

    words = {
        "PA": ("postero-anterior",),
        "AP": ("antero-posterior",),
        "LATERAL": ("lateral", "left lateral", "right lateral", "Sagittal"),
    }
    meanings = {code.value: code.meaning for code in codes.cid4010.concepts.values()}
    for view, values in eligibility._VIEW_CODES.items():
        for value in values:
            if not value.isdigit():
                continue  # of SNOMED RT, which pydicom no longer lists
            is_oblique = "oblique" in meanings[value] or "erior" in meanings[value]
            assert meanings[value] in words.get(view, ()) or (view == "OBLIQUE" and is_oblique)


@pytest.mark.parametrize(
    ("orientation", "view"),
    [(["L", "F"], ""), (["P", "F"], "LATERAL"), (["LA", "F"], "OBLIQUE"), (["A", "FL"], "LATERAL")],
)
def test_orientation_tells_frontal_from_lateral(orientation, view):
    """By the direction of the rows, where no other tag names the view."""
    assert described(PatientOrientation=orientation)["view"] == view


def test_films_of_another_view_are_set_aside():
    """By default laterals and obliques; an unknown view is kept; --views decides."""
    lateral = make_dicom(RAMP, {"ViewPosition": "LL"})
    with pytest.raises(Rejected) as raised:
        measure_image(lateral)
    assert raised.value.reason == "other_view" and "--views" in raised.value.detail
    assert measure_image(lateral, FileSettings(views=("PA", "LATERAL"))).row["view"] == "LATERAL"
    assert measure_image(lateral, FileSettings(views=("LL",))).row["view"] == "LATERAL"
    assert measure_image(make_dicom(RAMP, {})).row["view"] == ""


def test_junk_in_tags_is_never_shown():
    """Texts where numbers belong: the reject names the tag, not what stands in it."""
    data = make_dicom(RAMP, {"WindowCenter": 1234567.5, "WindowWidth": 10})
    with pytest.raises(Rejected) as raised:
        decode_film(data.replace(b"1234567.5", b"Doe^Jane1"))
    assert raised.value.reason == "bad_tags" and "Doe" not in str(raised.value)


def test_files_without_a_preamble_are_read():
    """As some archives write them: the dataset alone."""
    with_preamble = make_dicom(RAMP, WINDOW, syntax="ImplicitVRLittleEndian")
    dataset = pydicom.dcmread(io.BytesIO(with_preamble))
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, Dataset(dataset), implicit_vr=True, little_endian=True)
    assert formats.kind_of(buffer.getvalue()[: formats.FIRST_BYTES]) == "dicom"
    assert (decode_film(buffer.getvalue()).pixels == decode_film(with_preamble).pixels).all()


@pytest.mark.parametrize("library", ["pydicom", "imagecodecs"])
def test_what_is_not_installed_is_named(library, monkeypatch):
    """It is an error of the run, not of the file: the message says what to install."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"{library}.*pip install cxr-pipeline\[dicom\]"):
        measure_image(b"\0" * 128 + b"DICM" + bytes(200))


def test_a_folder_of_dicom_and_the_same_films_as_png(tmp_path):
    """Each film is kept once; the manifest has the columns that some film has, and keeps its rules."""
    folder = tmp_path / "data"
    keys = dicom_films.make_dicom_dataset(folder, images=20, seed=4, size=64, png_folder=folder)
    assert len({(folder / key).read_bytes() for key in keys}) == 20
    ingest = cxr.preprocess(folder, tmp_path / "work")
    assert (ingest.kept, ingest.rejected) == (20, {"duplicate": 20})
    table = read_table(tmp_path / "work" / "clean_metadata.csv")
    added = [name for name in table if name not in ROW_COLUMNS]
    assert added == [name for name in ATTRIBUTE_COLUMNS if name in added] and {
        "age",
        "sex",
        "view",
        "year",
        "manufacturer",
        "window",
        "instance",
    } <= set(added)
    assert "detector" not in added and "burned_in" not in added
    assert (table["format"].isin(["DICOM", "PNG"])).all()


# Text on the border.


def written_on(film, text, size, box):
    """Return a film with a line of text at its top."""
    image = Image.fromarray(film)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size)
    if box:
        draw.rectangle([4, 2, 12 + draw.textlength(text, font), size + 8], fill=0)
    draw.text((8, 4), text, fill=255, font=font)
    return np.asarray(image)


def test_text_on_the_border_is_suspected():
    """A line of letters is found on most phantoms, and none on those with a side marker alone."""
    films = [
        np.asarray(draw_film(PlannedImage("", number, number % 2, number), 3, 300)[0])
        for number in range(6)
    ]
    assert sum(has_text_on_border(film) for film in films) == 0
    found = [
        has_text_on_border(written_on(film, "DOE^JANE 1961", 18, box))
        for film in films
        for box in (False, True)
    ]
    assert sum(found) >= 9


def test_burned_in_text_is_a_column():
    """By the tag, or where a line of text is seen."""
    assert (
        measure_image(film_bytes(FILM, tags={"BurnedInAnnotation": "YES"})).row["burned_in"]
        == "yes"
    )
    assert measure_image(film_bytes(FILM, tags={"BurnedInAnnotation": "NO"})).row["burned_in"] == ""


# Real files.


@pytest.mark.slow
@pytest.mark.skipif(not HOSPITAL.is_dir(), reason="the shared material is not here")
def test_the_real_files_read_right():
    """RSNA's film is shown as dcmtk shows it; the same with MONOCHROME1 is its negative."""
    film = decode_film((HOSPITAL / "rsna_adult.dcm").read_bytes())
    negative = decode_film((HOSPITAL / "rsna_adult_monochrome1.dcm").read_bytes())
    assert film.pixels.shape == (1024, 1024)
    assert (negative.pixels == 255 - film.pixels).all()
    assert film.rule == "full range"
    reference = pydicom.dcmread(HOSPITAL / "rsna_adult.dcm")
    frame = next(pydicom.encaps.generate_frames(reference.PixelData, number_of_frames=1))
    assert (film.pixels == np.asarray(Image.open(io.BytesIO(frame)))).all()
    row = film.describe()
    assert (row["view"], row["sex"], row["modality"]) == ("PA", reference.PatientSex, "CR")
    assert row["age"] == reference.PatientAge.lstrip("0").rstrip("Y")
