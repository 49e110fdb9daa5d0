"""What a command can tell before a server starts: are there data, a work folder, a model."""

from cxr import scanning
from cxr.errors import DataError
from cxr.settings import ReadingSettings, TrainingSettings
from cxr.storage import open_storage
from cxr.storage_local import LocalStorage, no_folder


def require_data(data: str, reading: ReadingSettings) -> None:
    """Raise DataError where there is no file at `data`, StorageError where it cannot be listed."""
    storage = open_storage(data, reading.follow_links)
    if next(storage.list(), None) is None:
        raise DataError(f"{data}: {scanning.explain_nothing([])}")


def require_work(out: str) -> None:
    """Raise DataError where no stage has made the work folder yet; it is not made here either."""
    storage = open_storage(out)
    if isinstance(storage, LocalStorage) and not storage.folder.is_dir():
        words = no_folder(storage.folder, "a work folder")
        raise DataError(f"{words}, or run `cxr preprocess DATA --out {out}` first")


def require_init(training: TrainingSettings) -> None:
    """Raise ModelError where --init names no exported model, or one that does not fit."""
    if training.init:
        from cxr import export

        export.find_init(training)
