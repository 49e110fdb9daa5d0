"""The report of one film, made with highdicom."""

import uuid
from typing import TYPE_CHECKING

from cxr.core import __version__
from cxr.results.cards.model_card import Card
from cxr.serving.structured_reports.film_header import COPIED, IDENTIFIERS

if TYPE_CHECKING:
    from highdicom import sr
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from pydicom.dataset import Dataset

_LONGEST_TEXT = 64  # characters, as LO has them
_SERIES_NUMBER = 9001  # large: those of the devices are small
_MAKER = "cxr-pipeline"
_PRIVATE_SCHEME = "99CXRPIPELINE"  # DICOM PS3.16, 8: private designators begin with 99
_NOT_FOR_USE = "Research output, not for clinical use"
_COMMENT = (
    f"{_NOT_FOR_USE}: written by a model that is not a medical device, and verified by nobody. "
    "The score ranks films; compare it with the threshold. A score below it does not mean healthy."
)


def make_report(
    header: "Dataset",
    score: float,
    card: Card,
    number: int,
) -> "Dataset":
    """Return the structured report of a film.

    Args:
        header: Of the film, see `read_header`.
        score: Of the film, calibrated, 0 to 1.
        card: Of the model.
        number: InstanceNumber of the report.
    """
    from highdicom.enum import ContentQualificationValues
    from highdicom.sr import EnhancedSR

    result = f"{header.SOPInstanceUID} {card.model_sha256} {score!r} {card.threshold!r}"
    report: Dataset = EnhancedSR(
        evidence=[_anonymous(header)],
        content=_content(header, score, card)[0],
        series_instance_uid=_uid(f"{header.StudyInstanceUID} {card.model_sha256}"),
        series_number=_SERIES_NUMBER,
        series_description=_NOT_FOR_USE,
        sop_instance_uid=_uid(result),
        instance_number=number,
        manufacturer=_MAKER,
        manufacturer_model_name=card.architecture[:_LONGEST_TEXT],
        software_versions=__version__,
        device_serial_number=card.model_sha256,
        is_complete=False,
        is_final=False,
        is_verified=False,
        content_qualification=ContentQualificationValues.RESEARCH,
        coding_schemes=[_private_scheme()],
        specific_character_set=header.SpecificCharacterSet,
    )
    for keyword in COPIED:
        setattr(report, keyword, header.get(keyword))
    return report


def _anonymous(header: "Dataset") -> "Dataset":
    """Return a film's header without its patient.

    highdicom checks what it is given, and logs and refuses what an archive holds all the same.
    """
    from pydicom.dataset import Dataset

    anonymous = Dataset()
    for keyword in IDENTIFIERS:
        setattr(anonymous, keyword, header.get(keyword))
    for keyword in COPIED:
        setattr(anonymous, keyword, "")
    return anonymous


def _uid(text: str) -> str:
    """Return the UID that stands for a text: a UUID (RFC 9562, version 5) below 2.25 (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, text).int}"


def _private_scheme() -> "CodingSchemeIdentificationItem":
    """Return what an archive is told of the private codes."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(
        _PRIVATE_SCHEME, name="Codes of cxr-pipeline", responsible_organization=_MAKER
    )


def _content(header: "Dataset", score: float, card: Card) -> "sr.MeasurementReport":
    """Return the content of the report, TID 1500."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=_uid(card.model_sha256),
            name=_MAKER,
            manufacturer_name=_MAKER,
            model_name=card.architecture[:_LONGEST_TEXT],
        ),
    )
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ChestImaging,
        imaging_measurements=[_measurement_group(header, score, card)],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _measurement_group(
    header: "Dataset", score: float, card: Card
) -> "sr.MeasurementsAndQualitativeEvaluations":
    """Return what was measured on the film, TID 1501."""
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    is_positive = score >= card.threshold
    decision = Code("decision", _PRIVATE_SCHEME, "Decision: the score is at or above the threshold")
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=_uid(f"{header.SOPInstanceUID} {card.model_sha256}"),
            identifier="pneumonia score of the film",
        ),
        finding_type=Code("233604007", "SCT", "Pneumonia"),
        algorithm_id=sr.AlgorithmIdentification(
            name=f"{_MAKER} {card.architecture}",
            version=f"{card.version}, run {card.run}",
            parameters=[f"model.keras SHA-256 {card.model_sha256}"],
            manufacturer=_MAKER,
        ),
        measurements=[
            _measurement("score", "Pneumonia score of the model", score),
            _measurement("threshold", "Threshold of the model", card.threshold),
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                decision, codes.SCT.Present if is_positive else codes.SCT.Absent
            )
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)
        ],
    )
    comment = sr.TextContentItem(
        codes.DCM.Comment, _COMMENT, relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
    group[0].ContentSequence.append(comment)
    return group


def _measurement(code: str, meaning: str, value: float) -> "sr.Measurement":
    """Return a number without a unit, TID 300."""
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    return sr.Measurement(
        name=Code(code, _PRIVATE_SCHEME, meaning), value=value, unit=codes.UCUM.NoUnits
    )
