"""Every error that the product raises on purpose.

Each message says what was expected, what was found and what to do.

CxrError
├── DataError          the images or tables given cannot be worked with
│   ├── QuestionError  folders would not be used: a flag has to say what is meant
│   ├── LeakageError   the same patient or picture is in two splits
│   └── UsageError     what was asked for can never be done, whatever files there are
├── StorageError       a place cannot be read or written (the only error that is worth a retry)
│   ├── ConflictError  somebody else writes there
│   │   └── ChangedError  a file is not at the version that was expected
│   └── DamagedError   bytes differ from those that were sent
├── WeightsError       pretrained weights could not be loaded
├── TrainingError      a training ended without a model
├── DeviceError        the driver of a graphics processor fails
├── ModelError         an exported model and its card do not fit together
├── RegistryError      a version is not there, or may not become champion
└── TrackingError      a tracking server (MLflow) could not be told
"""

from typing import Any


class CxrError(Exception):
    """Base of all expected failures: shown as one line, exit status 1."""

    def __init__(self, message: str):
        # Neither a terminal nor Prefect's JSON takes bytes that are not UTF-8, which file names
        # may have.
        super().__init__(message.encode("utf-8", "backslashreplace").decode())


class DataError(CxrError):
    """The images or tables given cannot be worked with."""


class QuestionError(DataError):
    """Folders would not be used, and a flag has to say what is meant.

    Attributes:
        account: What every folder is used for, by folder, to show beside the message.
    """

    def __init__(self, message: str, account: Any):
        super().__init__(message)
        self.account = account


class LeakageError(DataError):
    """The same patient, or nearly the same picture, is in two splits."""


class UsageError(DataError):
    """What was asked for can never be done, whatever files there are: exit status 2."""


class StorageError(CxrError):
    """A place cannot be read or written.

    Attributes:
        transient: Whether a retry can help.
    """

    def __init__(self, message: str, transient: bool = False):
        super().__init__(message)
        self.transient = transient


class ConflictError(StorageError):
    """Somebody else writes there: a blind retry would overwrite their work."""


class ChangedError(ConflictError):
    """A file is not at the version that was expected: somebody else changed it first."""


class DamagedError(StorageError):
    """Bytes differ from those that were sent: their SHA-256 is another."""


class WeightsError(CxrError):
    """Pretrained weights could not be loaded."""


class TrainingError(CxrError):
    """A training ended without a model."""


class DeviceError(CxrError):
    """The driver of a graphics processor fails.

    Attributes:
        hangs: Whether it does not even answer.
    """

    def __init__(self, message: str, hangs: bool = False):
        super().__init__(message)
        self.hangs = hangs


class ModelError(CxrError):
    """An exported model and its card do not fit together."""


class RegistryError(CxrError):
    """A version is not there, or may not become champion."""


class TrackingError(CxrError):
    """A tracking server (MLflow) could not be told; the work itself is done."""
