"""What users can set, with defaults, bounds and named presets.

The same models make the flags of the commands, the parameters of the flows and the form in the UI.
"""

from cxr.core.settings.architectures import ArchitectureName
from cxr.core.settings.base import (
    EXCLUDED,
    LABEL_NAMES,
    SPLITS,
    ExportFormat,
    Runner,
    Strict,
    require_known_runner,
    upgrade_training_settings,
    with_epochs_of_fine_tuning,
)
from cxr.core.settings.dicom_output import DicomOutputSettings
from cxr.core.settings.files import (
    FileSettings,
    Harmonise,
    ImageSize,
    PixelSettings,
    ReadingSettings,
    parse_class,
    parse_split,
)
from cxr.core.settings.scope import ScopeSettings
from cxr.core.settings.site import SiteSettings
from cxr.core.settings.splits import READINGS, SplitSettings
from cxr.core.settings.training import PRESETS, Augmentation, TrainingSettings, training_settings

__all__ = [
    "EXCLUDED",
    "LABEL_NAMES",
    "PRESETS",
    "READINGS",
    "SPLITS",
    "ArchitectureName",
    "Augmentation",
    "DicomOutputSettings",
    "ExportFormat",
    "FileSettings",
    "Harmonise",
    "ImageSize",
    "PixelSettings",
    "ReadingSettings",
    "Runner",
    "ScopeSettings",
    "SiteSettings",
    "SplitSettings",
    "Strict",
    "TrainingSettings",
    "parse_class",
    "parse_split",
    "require_known_runner",
    "training_settings",
    "upgrade_training_settings",
    "with_epochs_of_fine_tuning",
]
