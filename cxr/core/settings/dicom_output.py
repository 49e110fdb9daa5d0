"""What a prediction keeps and writes of DICOM films beside their scores."""

from pydantic import Field

from cxr.core.settings.base import Strict


class DicomOutputSettings(Strict):
    """How the scores of DICOM films find their way back to the films."""

    keep_uids: bool = Field(
        False,
        description="Write the SOP instance UIDs of DICOM films into the column instance as they "
        "are, instead of salted hashes. Whoever has the archive can tell by them who is who.",
    )
    dicom_sr: str = Field(
        "",
        description="A folder (or s3://bucket/prefix), outside every work folder, for a DICOM "
        "structured report on each scored film, to be sent to the archive. The reports name their "
        "patients, as the films do.",
    )
