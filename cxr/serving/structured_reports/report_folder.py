"""The folder in which reports are written."""

import io
from typing import TYPE_CHECKING

from cxr.core.errors import UsageError
from cxr.data.patients.pseudonyms import replace_secret, require_secret_place
from cxr.results.cards.model_card import Card
from cxr.serving.structured_reports.report import make_report
from cxr.storage.addresses import open_storage
from cxr.storage.dicomweb.storage import DicomWebStorage, read_only_error
from cxr.storage.local import LocalStorage
from cxr.storage.local_files import storage_error

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_WORK_RECORD = "ingest.json"  # what every work folder has


class ReportFolder:
    """The folder in which reports are written, and how many there are.

    Attributes:
        written: How many reports were written.
        missing: How many scored films have none: they are not DICOM, or lack a UID.
    """

    def __init__(self, address: str, card: Card):
        """Write nothing yet.

        Args:
            address: A path or s3://bucket/prefix.
            card: The card of the model that scores.
        """
        self._storage = open_storage(address)
        self._card = card
        self.written = 0
        self.missing = 0

    def add(self, header: "Dataset | None", score: float) -> None:
        """Write the report of a film.

        Args:
            header: As `read_header` returned it; None for a film that has no report.
            score: Of the film, calibrated, 0 to 1.

        Raises:
            StorageError: It cannot be written.
        """
        if header is None:
            self.missing += 1
            return
        report = make_report(header, score, self._card, self.written + 1)
        buffer = io.BytesIO()
        report.save_as(buffer, enforce_file_format=True)
        self._publish(f"{report.SOPInstanceUID}.dcm", buffer.getvalue())
        self.written += 1

    def _publish(self, name: str, data: bytes) -> None:
        """Write a file, on this machine so that its owner alone may read it.

        `LocalStorage` would leave its lock in the folder, whose files are sent to the archive.
        """
        if not isinstance(self._storage, LocalStorage):
            self._storage.write(name, data)
            return
        folder = self._storage.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error("make the folder", str(folder), error) from error
        replace_secret(folder / name, data)


def require_report_folder(address: str) -> None:
    """Check that reports may be written to a folder.

    Raises:
        UsageError: It lies in a work folder or in an archive, or highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--dicom-sr: writing reports needs {error.name}, which is not installed: "
            "pip install cxr-pipeline[dicom]"
        ) from None
    storage = open_storage(address)
    if isinstance(storage, LocalStorage):
        require_secret_place(str(storage.folder / "report.dcm"), "reports that name patients")
        return
    if isinstance(storage, DicomWebStorage):
        raise read_only_error(address)
    scheme, _, path = storage.uri.partition("://")
    parts = path.split("/")
    for count in range(len(parts), 0, -1):
        folder = f"{scheme}://{'/'.join(parts[:count])}"
        if open_storage(folder).find(_WORK_RECORD) is not None:
            raise UsageError(
                f"--dicom-sr {address}: expected a place outside the work folder, found {folder}: "
                "reports name patients, and whoever gets the results must not get them"
            )
