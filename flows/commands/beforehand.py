"""What a command can tell before a server starts: are there data, a work folder, a model."""

from cxr.core.errors import DataError
from cxr.core.settings import ReadingSettings, TrainingSettings
from cxr.data.survey import file_kinds
from cxr.storage.addresses import open_storage
from cxr.storage.local import LocalStorage, describe_no_folder


def require_data(data: str, reading: ReadingSettings) -> None:
    """Raise DataError where there is no file at `data`, StorageError where it cannot be listed."""
    storage = open_storage(data, reading.follow_links)
    if next(storage.list(), None) is None:
        raise DataError(f"{data}: {file_kinds.explain_no_images([])}")


def require_work(out: str) -> None:
    """Raise DataError where no stage has made the work folder yet; it is not made here either."""
    storage = open_storage(out)
    if isinstance(storage, LocalStorage) and not storage.folder.is_dir():
        words = describe_no_folder(storage.folder, "a work folder")
        raise DataError(f"{words}, or run `cxr preprocess DATA --out {out}` first")


def require_init(training: TrainingSettings) -> None:
    """Raise ModelError where --init names no exported model, or one that does not fit."""
    if training.init:
        from cxr.results import exporting

        exporting.find_init(training)
