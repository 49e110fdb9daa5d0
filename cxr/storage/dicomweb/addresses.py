"""Addresses of DICOMweb services, and the keys of their instances."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from cxr.core.errors import UsageError

# What is tried, as in "cannot … http://pacs:8042/dicom-web".
READ = "read a film at"
LIST = "list the films at"
SCHEMES = ("dicomweb+http", "dicomweb+https")
_UID = r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}"  # wider than DICOM's: some archives hold such ones
_BELOW_SERVICE = re.compile(
    rf"(?P<service>.*?)"
    rf"(/studies(/(?P<study>{_UID})(/series/(?P<series>{_UID})(/instances/(?P<instance>{_UID}))?)?)?)?/?"
)
_KEY = re.compile(rf"(?P<study>{_UID})/(?P<series>{_UID})/(?P<instance>{_UID})\.dcm")
_FORM = "dicomweb+http://host:port/path, then nothing or /studies/UID, /series/UID, /instances/UID"


class Place(NamedTuple):
    """What an address names in an archive.

    Attributes:
        service: The root of the DICOMweb service, http:// or https://.
        study: The StudyInstanceUID, None for all studies.
        series: The SeriesInstanceUID, None for all series of the study.
        instance: The SOPInstanceUID, None for all instances of the series.
    """

    service: str
    study: str | None
    series: str | None
    instance: str | None


class InstanceName(NamedTuple):
    """The UIDs that an instance is retrieved by."""

    study: str
    series: str
    instance: str

    @property
    def key(self) -> str:
        """Return the key of the instance in the storage."""
        return f"{self.study}/{self.series}/{self.instance}.dcm"


def parse_address(uri: str) -> Place:
    """Return what an address names.

    Args:
        uri: dicomweb+http(s)://host:port/path, with /studies/UID, /series/UID and /instances/UID
            behind it if not all is meant.

    Raises:
        UsageError: It is not of this form.

    >>> parse_address("dicomweb+http://pacs:8042/dicom-web/studies/1.2.3")
    Place(service='http://pacs:8042/dicom-web', study='1.2.3', series=None, instance=None)
    """
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        # The address is not repeated: it may hold a secret.
        raise UsageError(
            "dicomweb+http://…: credentials never belong in an address: put them into ~/.netrc"
        )
    match = _BELOW_SERVICE.fullmatch(parts.path)
    names_studies = match is not None and "studies" in match["service"].split("/")
    if match is None or names_studies or not parts.hostname or not _has_good_port(uri):
        raise UsageError(f"{uri}: expected {_FORM}")
    if parts.query or parts.fragment:
        raise UsageError(f"{uri}: expected {_FORM}; searches in an address are not read")
    scheme = parts.scheme.lower().removeprefix("dicomweb+")
    service = f"{scheme}://{parts.netloc}{match['service'].rstrip('/')}"
    return Place(service, match["study"], match["series"], match["instance"])


def _has_good_port(uri: str) -> bool:
    """Return whether the port of an address is a number, or left out."""
    try:
        _ = urlsplit(uri).port
    except ValueError:
        return False
    return True


def parse_key(key: str) -> InstanceName | None:
    """Return the UIDs in a key, None for a key that no instance has."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    return InstanceName(match["study"], match["series"], match["instance"])


def is_uid(text: object) -> bool:
    """Return whether a text can be a UID."""
    return isinstance(text, str) and re.fullmatch(_UID, text) is not None
