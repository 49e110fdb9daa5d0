"""What a command checks before a server starts: there are data, a work folder, a model."""

from cxr.core.errors import DataError
from cxr.core.settings import ReadingSettings, TrainingSettings
from cxr.data.survey import file_kinds
from cxr.storage.addresses import open_storage
from cxr.storage.local import LocalStorage, describe_no_folder


def require_data(data: str, reading: ReadingSettings) -> None:
    """Check that there is a file at the address of the data.

    Raises:
        DataError: There is none.
        StorageError: The address cannot be listed.
    """
    storage = open_storage(data, reading.follow_links)
    if next(storage.list(), None) is None:
        raise DataError(f"{data}: {file_kinds.explain_no_images([])}")


def require_work(out: str) -> None:
    """Check that a stage has made the work folder; it is not made here.

    Raises:
        DataError: There is none.
    """
    storage = open_storage(out)
    if isinstance(storage, LocalStorage) and not storage.folder.is_dir():
        problem = describe_no_folder(storage.folder, "a work folder")
        raise DataError(f"{problem}, or run `cxr preprocess DATA --out {out}` first")


def require_key_map(key_map: str | None, out: str) -> None:
    """Check that a key map can be written where it shall be.

    Raises:
        UsageError: It lies in the work folder, or another file is there.
    """
    if key_map:
        from cxr.data.patients import hidden_names
        from cxr.storage.workspace import workspace

        hidden_names.require_key_map(key_map, workspace.local_copy_of(out))


def require_init(training: TrainingSettings) -> None:
    """Check the model that --init names.

    Raises:
        ModelError: It is no exported model, or does not fit.
    """
    if training.init:
        from cxr.results import exporting

        exporting.find_init(training)
