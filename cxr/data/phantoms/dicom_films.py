"""Made-up films as DICOM files: several devices, bit depths, transfer syntaxes and windows.

The pixels are those of the phantom films, stored as a detector would store them, so that the window
of the file gives the very same 8-bit film back. What stands in the tags is made up, too.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from cxr.data.images.decoding.rejection import Pixels
from cxr.data.phantoms.films import draw_film, encode, write_file
from cxr.data.phantoms.plan import PlannedImage, plan_images

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_PLAN_STREAM = 0  # of the seed, as in `dataset`
_QUALITY_OF_12_BITS = 95  # of JPEG Extended


class Device(NamedTuple):
    """An X-ray device, and how it writes its files.

    Attributes:
        manufacturer: As in the tag.
        model: ManufacturerModelName.
        modality: CR or DX.
        photometric: MONOCHROME1 or MONOCHROME2.
        bits: BitsStored.
        syntax: The transfer syntax, as pydicom.uid names it.
        center: WindowCenter, in rescaled values.
        width: WindowWidth, 257 or more, so that each of 256 gray levels has a value of its own.
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        spacing: PixelSpacing, mm.
        year: Of acquisition.
        suffix: Of its files.
    """

    manufacturer: str
    model: str
    modality: str = "DX"
    photometric: str = "MONOCHROME2"
    bits: int = 12
    syntax: str = "ExplicitVRLittleEndian"
    center: float = 2048.0
    width: float = 4096.0
    slope: float = 1.0
    intercept: float = 0.0
    spacing: float = 0.143
    year: int = 2021
    suffix: str = ".dcm"


DEVICES = (
    Device("Northlight", "Clara 4"),
    Device(
        "Northlight", "Clara 5", photometric="MONOCHROME1", syntax="RLELossless", year=2022, suffix=""
    ),
    Device(
        "Osmund Medical", "RX-200", "CR", bits=10, syntax="JPEGLSLossless",
        center=500.0, width=800.0, spacing=0.2, year=2019,
    ),
    Device(
        "Osmund Medical", "RX-300", bits=14, syntax="JPEG2000Lossless",
        center=3000.0, width=6000.0, intercept=-1000.0, spacing=0.16, year=2023, suffix="",
    ),
    Device(
        "Veldt", "Portable 1", "CR", photometric="MONOCHROME1", syntax="DeflatedExplicitVRLittleEndian",
        center=1024.0, width=2000.0, slope=0.5, intercept=10.0, spacing=0.175, year=2020,
    ),
)  # fmt: skip


def store_film(film: Pixels, device: Device) -> Pixels:
    """Return what a device stores so that its window shows this film.

    It is the inverse of the window function LINEAR (DICOM PS3.3 C.11.2.1.2.1) and of the rescaling.

    Args:
        film: As it is seen, uint8 (height, width).
        device: The device.

    Returns:
        uint16 (height, width), values below 2^bits.
    """
    seen = film.astype(np.float64)
    if device.photometric == "MONOCHROME1":
        seen = 255 - seen
    values = (seen / 255 - 0.5) * (device.width - 1) + device.center - 0.5
    stored = np.rint((values - device.intercept) / device.slope)
    return np.clip(stored, 0, 2**device.bits - 1).astype(np.uint16)


def device_tags(device: Device) -> dict[str, Any]:
    """Return the tags that a device writes into each of its files."""
    storage_classes = {
        "CR": "1.2.840.10008.5.1.4.1.1.1",
        "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    }
    return {
        "SOPClassUID": storage_classes[device.modality],
        "Modality": device.modality,
        "Manufacturer": device.manufacturer,
        "ManufacturerModelName": device.model,
        "WindowCenter": device.center,
        "WindowWidth": device.width,
        "RescaleSlope": device.slope,
        "RescaleIntercept": device.intercept,
        "RescaleType": "US",
        "PixelSpacing": [device.spacing, device.spacing],
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "BodyPartExamined": "CHEST",
    }


def make_dicom(
    stored: Pixels,
    tags: Mapping[str, Any],
    photometric: str = "MONOCHROME2",
    bits: int = 12,
    syntax: str = "ExplicitVRLittleEndian",
) -> bytes:
    """Return a DICOM file.

    Args:
        stored: The stored values: uint8 or uint16 (height, width), with a leading axis for frames.
        tags: By keyword, as in the standard; those that are not given are made up or left out, and
            None removes one. They are written last, so that nonsense can be written, too.
        photometric: PhotometricInterpretation.
        bits: BitsStored, at most those of the array.
        syntax: The transfer syntax, as pydicom.uid names it: any uncompressed one, RLELossless,
            JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless
            or HTJ2KLossless.
    """
    from pydicom import uid
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = uid.generate_uid(
        entropy_srcs=[stored.tobytes().hex()[:999], str(tags)]
    )
    dataset.Modality = "DX"
    set_tags(dataset, tags)
    dataset.set_pixel_data(stored, photometric, bits, generate_instance_uid=False)
    transfer_syntax = getattr(uid, syntax)
    if syntax == "RLELossless":
        dataset.compress(transfer_syntax, generate_instance_uid=False)
    elif transfer_syntax.is_encapsulated:
        _set_compressed(dataset, _encode_pixels(stored, bits, syntax))
    elif not transfer_syntax.is_little_endian:
        dataset.PixelData = stored.byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    set_tags(dataset, tags)
    return dataset_bytes(dataset)


def _encode_pixels(stored: Pixels, bits: int, syntax: str) -> bytes:
    """Return the pixels of one frame, compressed."""
    import imagecodecs

    if syntax == "JPEGBaseline8Bit":
        return encode(Image.fromarray(stored))
    if syntax.startswith("JPEGLS"):
        return bytes(imagecodecs.jpegls_encode(stored))
    if syntax.startswith("HTJ2K"):
        return bytes(imagecodecs.htj2k_encode(stored, reversible=True))
    if syntax.startswith("JPEG2000"):
        encoded = imagecodecs.jpeg2k_encode(
            stored,
            level=0,
            codecformat="j2k",
            bitspersample=bits,
            reversible=True,
        )
        return bytes(encoded)
    is_lossless = syntax.startswith("JPEGLossless")
    level = None if is_lossless else _QUALITY_OF_12_BITS
    return bytes(
        imagecodecs.jpeg8_encode(
            stored,
            level,
            lossless=is_lossless,
            bitspersample=bits,
        )
    )


def _set_compressed(dataset: "Dataset", frame: bytes) -> None:
    """Set compressed pixels."""
    from pydicom.encaps import encapsulate

    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def set_tags(dataset: "Dataset", tags: Mapping[str, Any]) -> None:
    """Set tags by keyword; None removes one."""
    for keyword, value in tags.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)


def dataset_bytes(dataset: "Dataset") -> bytes:
    """Return a dataset with a transfer syntax as a file."""
    import pydicom

    if "SOPClassUID" in dataset:
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    if "SOPInstanceUID" in dataset:
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def film_bytes(
    film: Pixels,
    device: Device = DEVICES[0],
    tags: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the DICOM file that a device makes of a film.

    Args:
        film: As it is seen, uint8 (height, width).
        device: The device.
        tags: Further tags by keyword, which come before the device's own.
    """
    stored = store_film(film, device)
    if device.bits <= 8:
        stored = stored.astype(np.uint8)
    return make_dicom(
        stored,
        device_tags(device) | dict(tags or {}),
        device.photometric,
        device.bits,
        device.syntax,
    )


def patient_tags(planned: PlannedImage, seed: int, device: Device) -> dict[str, Any]:
    """Return the tags of the patient, study and instance of a planned image.

    All of them are drawn from the seed and the patient's number.
    """
    rng = np.random.default_rng([seed, planned.patient])
    age = int(rng.integers(18, 95))
    root = f"2.25.{seed + 1}{planned.patient:05d}"
    return {
        "PatientID": f"MRN-{seed}-{planned.patient:05d}",
        "PatientName": f"Phantom^Patient{planned.patient}",
        "PatientBirthDate": f"{device.year - age}0701",
        "PatientAge": f"{age:03d}Y",
        "PatientSex": str(rng.choice(["M", "F"])),
        "StudyDate": f"{device.year}0815",
        "AcquisitionDate": f"{device.year}0815",
        "AccessionNumber": f"ACC{planned.patient:07d}",
        "InstitutionName": f"{device.manufacturer} Hospital",
        "StationName": f"{device.model[:8]}-01",
        "ViewPosition": str(rng.choice(["PA", "AP"])),
        "StudyInstanceUID": f"{root}.1",
        "SeriesInstanceUID": f"{root}.2",
        "SOPInstanceUID": f"{root}.3.{planned.number}",
        "InstanceNumber": planned.number,
        "BurnedInAnnotation": "NO",
    }


def make_dicom_dataset(
    folder: Path,
    images: int = 60,
    seed: int = 0,
    size: int = 128,
    devices: Sequence[Device] = DEVICES,
    one_class: bool = False,
    png_folder: Path | None = None,
) -> list[str]:
    """Write a phantom data set of DICOM files.

    Its layout is {train,val,test}/{NORMAL,PNEUMONIA}/IM00001.dcm, some files without a suffix. A
    patient has 1 to 3 images, all of one device. Equal arguments give equal films.

    Args:
        folder: Where it is written.
        images: How many images there are.
        seed: What everything is drawn from.
        size: Of the sides of the images, in pixels; each varies around it.
        devices: Which devices there are.
        one_class: The last device takes PNEUMONIA films alone, and about half of them: a shortcut.
        png_folder: Where the films that the windows show are written as 8-bit PNG of the same names.

    Returns:
        The keys of the files, in the order of the numbers of the images.
    """
    rng = np.random.default_rng([seed, _PLAN_STREAM])
    keys = []
    for planned in plan_images(rng, images):
        device = _device_of(planned, devices, one_class)
        film, _ = draw_film(planned, seed, size)
        place = planned.key.rpartition("/")[0]
        name = f"{place}/IM{planned.number:05d}"
        tags = patient_tags(planned, seed, device)
        key = f"{name}{device.suffix}"
        write_file(folder / key, film_bytes(np.asarray(film), device, tags))
        if png_folder is not None:
            write_file(png_folder / f"{name}.png", encode(film, "PNG"))
        keys.append(key)
    return keys


def _device_of(planned: PlannedImage, devices: Sequence[Device], one_class: bool) -> Device:
    """Return the device of a patient: each has its turn."""
    if one_class and planned.label == 1 and planned.patient % 2 == 1:
        return devices[-1]
    shared = devices[:-1] if one_class else devices
    return shared[planned.patient % len(shared)]
