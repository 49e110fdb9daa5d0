"""The files of a version in the registry: the export folder, and digests of what training saw."""

import hashlib
import tempfile
from pathlib import Path, PurePosixPath

import pandas as pd

from cxr.core.errors import DataError, ModelError, RegistryError
from cxr.core.files import file_sha256, read_table, write_table
from cxr.results.cards.model_card import Card, read_card
from cxr.serving.registry.records import Version
from cxr.stats.metrics import Vector
from cxr.storage.base import Storage

CHECKSUMS = "SHA256SUMS"
RECORD = "version.json"
SEEN = "seen.csv"


def read_whole_export(export: Path) -> tuple[Card, dict[str, str]]:
    """Read an export folder and verify its files.

    Returns:
        Its card, and the SHA-256 of each file by its name, SHA256SUMS itself included.

    Raises:
        ModelError: A file is missing or differs, or model.keras is not the card's.
    """
    checksums = export / CHECKSUMS
    if not checksums.is_file():
        raise ModelError(
            f"{export}: expected an export folder with {CHECKSUMS}, model.keras and model_card.json"
        )
    files = {}
    for line in checksums.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        files[name] = digest
        _require_file(export, name, digest)
    card = read_card(export)
    if not {"model.keras", "model_card.json"} <= set(files):
        raise ModelError(
            f"{export}: {CHECKSUMS} leaves out model.keras or model_card.json: export again"
        )
    files[CHECKSUMS] = file_sha256(checksums)
    return card, files


def _require_file(
    export: Path,
    name: str,
    digest: str,
) -> None:
    """Raise ModelError if a file of an export is missing, differs, or has a name of the registry's."""
    path = export / require_inside(name)
    if name in {RECORD, SEEN} or not path.is_file():
        raise ModelError(
            f"{export}: {name} is in {CHECKSUMS} but missing, or has a name that the registry uses"
        )
    if file_sha256(path) != digest:
        raise ModelError(
            f"{export}: {name} is not the file in {CHECKSUMS} (SHA-256 differs): export again"
        )


def require_inside(name: str) -> str:
    """Return a relative name that stays inside its folder; RegistryError for any other."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise RegistryError(f"expected a name inside the registry, found {name!r}")
    return name


def download(storage: Storage, version: Version, folder: Path) -> None:
    """Write a version's files to a folder, byte for byte as registered.

    Raises:
        ModelError: A file is gone or not as registered.
    """
    for file, digest in version.files.items():
        path = folder / require_inside(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            storage.download(f"versions/{version.name}/{file}", path)
        except FileNotFoundError:
            raise ModelError(
                f"{storage.uri}: {file} of version {version.name} is gone: "
                "register its export again"
            ) from None
        if file_sha256(path) != digest:
            raise ModelError(
                f"{storage.uri}: {file} of version {version.name} is not as registered "
                "(SHA-256 differs)"
            )


def upload_seen(
    storage: Storage,
    name: str,
    manifest: Path,
    card: Card,
) -> None:
    """Upload digests of the pictures and the patients in train and val, a row for each image.

    Args:
        storage: The registry's.
        name: The version.
        manifest: The clean_metadata.csv of its training.
        card: Its card.

    Raises:
        DataError: The card names another manifest.
    """
    if file_sha256(manifest) != card.data.manifest_sha256:
        raise DataError(
            f"{manifest} is not the manifest that the model's card names (SHA-256 differs)"
        )
    table = digest_seen(read_table(manifest), card.data.leakage.patient_key)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / SEEN
        write_table(table, path)
        storage.upload(path, f"versions/{name}/{SEEN}")


def digest_seen(rows: pd.DataFrame, patient_key: str) -> pd.DataFrame:
    """Return digests of the pictures and the patients in train and val, a row for each image.

    Args:
        rows: The manifest of a training.
        patient_key: How its patients are read.
    """
    rows = rows[rows["split"].isin(["train", "val"])]
    return pd.DataFrame(
        {
            "pixel_sha256": rows["pixel_sha256"],
            "patient": _patient_digests(rows, patient_key),
        }
    )


def download_seen(storage: Storage, name: str) -> pd.DataFrame:
    """Return the digests that were uploaded for a version."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / SEEN
        storage.download(f"versions/{name}/{SEEN}", path)
        return read_table(path)


def mark_seen(
    rows: pd.DataFrame,
    seen: pd.DataFrame,
    patient_key: str,
) -> Vector:
    """Return which rows of a manifest show a picture or a patient of a training, bool (n,).

    Args:
        rows: The rows.
        seen: The digests of that training, as `download_seen` returns them.
        patient_key: How the rows' patients are read. Patients are the same if their id and this
            rule are.
    """
    is_known_picture = rows["pixel_sha256"].isin(set(seen["pixel_sha256"]))
    known_patients = set(seen["patient"]) - {""}
    is_known_patient = _patient_digests(rows, patient_key).isin(known_patients)
    return (is_known_picture | is_known_patient).to_numpy(dtype=bool)


def _patient_digests(rows: pd.DataFrame, patient_key: str) -> "pd.Series[str]":
    """Return a digest for each row's patient, "" if it has none: the registry keeps no patient id."""

    def digest(patient: str) -> str:
        if not patient:
            return ""
        text = f"{patient_key}\0{patient}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    return rows["patient_id"].map(digest)
