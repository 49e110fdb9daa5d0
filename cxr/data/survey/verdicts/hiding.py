"""Hide the names of a data set with DICOM: right after its files were judged, before anything is told."""

from pathlib import PurePosixPath

from cxr.core.formatting import format_count
from cxr.core.settings import FileSettings
from cxr.data.folders.patterns import excluded_by
from cxr.data.patients.hidden_names import HiddenNames, PlainNames
from cxr.data.patients.hidden_storage import DataStorage
from cxr.data.patients.pseudonyms import find_salt, require_salt
from cxr.data.survey.file_kinds import JudgedFile

_SUFFIXES = (".dcm", ".dicom")  # of files that were left out without a look into them
_FOLDER_KINDS = {"folder", "linked_folder"}


def hide_names(
    storage: DataStorage,
    judged: list[JudgedFile],
    settings: FileSettings,
) -> PlainNames:
    """Give all files their public names where one of them is DICOM, in place.

    Args:
        storage: Where the files are.
        judged: All files; afterwards in the order of their public names.
        settings: How names are read, and what is left out.

    Returns:
        The names: public ones by real ones, and the other way round.

    Raises:
        UsageError: There is DICOM that is not left out, and no salt is set.
    """
    dicom_count = sum(file.kind == "dicom" for file in judged)
    # Who has a salt wants names hidden, those of DICOM files that are left out as well.
    if not dicom_count and not (find_salt() and any(map(_is_excluded_dicom, judged))):
        return PlainNames()
    count = format_count(dicom_count, "DICOM files")
    names = HiddenNames(settings, require_salt(f"{storage.uri}: {count}"))
    storage.learn(file.entry.key for file in judged)
    storage.forget_contents()
    for place, file in enumerate(judged):
        judged[place] = _hide(file, names, settings)
    judged.sort(key=lambda file: file.entry.key)
    return names


def _is_excluded_dicom(file: JudgedFile) -> bool:
    """Return whether a file is called like DICOM, and was left out without a look into it."""
    is_excluded = file.problem is not None and file.problem[0] == "excluded"
    return is_excluded and file.entry.key.lower().endswith(_SUFFIXES)


def _hide(
    file: JudgedFile,
    names: HiddenNames,
    settings: FileSettings,
) -> JudgedFile:
    """Return a file under its public name, which `--exclude` may mean as well."""
    key = names.key(file.entry.key, file.kind in _FOLDER_KINDS)
    problem = file.problem
    pattern = excluded_by(key, settings.exclude)
    if pattern is not None:
        problem = ("excluded", f"fits --exclude {pattern}")
    elif problem is not None:
        reason, detail = problem
        # What stands behind the last dot of a name may be anything.
        suffix = PurePosixPath(file.entry.key).suffix
        problem = (reason, detail.replace(f"extension {suffix}:", "extension not known:"))
    return file._replace(entry=file.entry._replace(key=key), problem=problem)
