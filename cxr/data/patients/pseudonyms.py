"""Pseudonyms: salted hashes that stand for what would identify a person.

The salt is a secret of the hospital. It comes from the environment (CXR_SALT, or CXR_SALT_FILE, the
path of a file that holds it) and is never written. The same salt gives the same pseudonyms, so that
a patient stays one patient from run to run; another salt would give another split.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Literal

from cxr.core import environment
from cxr.core.errors import DataError, UsageError
from cxr.core.files import atomic_write
from cxr.storage.addresses import local_folder

Kind = Literal[
    "file", "folder", "patient", "study", "series", "instance", "institution", "station", "salt"
]
_SHORTEST_SALT = 16  # characters: shorter ones can be guessed, and with them every pseudonym
# Hexadecimal digits: 64 bits, by which a million of a kind collide with a chance of 3 in 100 million.
_DIGITS = 16


def find_salt() -> str:
    """Return the salt, an empty text where none is set.

    Raises:
        UsageError: It is too short, or its file cannot be read.
    """
    salt = environment.salt().strip()
    path = environment.salt_file()
    if not salt and path:
        salt = _read_salt(path)
    if salt and len(salt) < _SHORTEST_SALT:
        raise UsageError(
            f"expected a salt of {_SHORTEST_SALT} characters or more, found {len(salt)}: "
            "`cxr salt FILE` makes one"
        )
    return salt


def _read_salt(path: str) -> str:
    """Return the salt in a file."""
    try:
        salt = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise UsageError(
            f"CXR_SALT_FILE={path}: expected a file that holds a salt, cannot read it: {error}. "
            f"`cxr salt {path}` makes one"
        ) from None
    if not salt:
        raise UsageError(f"CXR_SALT_FILE={path}: expected a salt, found an empty file")
    return salt


def require_salt(what: str) -> str:
    """Return the salt.

    Args:
        what: What needs it, as in "12 DICOM files".

    Raises:
        UsageError: There is none; the message says how to make one.
    """
    salt = find_salt()
    if salt:
        return salt
    raise UsageError(
        f"{what}: names and patients in DICOM files are written as salted hashes alone, and no salt "
        "is set. Make one once and keep it (another salt gives another split): "
        "cxr salt ~/cxr-salt.txt; then set CXR_SALT_FILE=~/cxr-salt.txt. Where they are not wanted, leave "
        "them out with --exclude '*.dcm'"
    )


def require_same_salt(mark: Path) -> None:
    """Check that a work folder was made with the salt that is set; mark one that is new.

    Args:
        mark: The file in the work folder that holds a pseudonym of nothing.

    Raises:
        DataError: It was made with another salt.
    """
    expected = pseudonym("salt", "", require_salt("the names of its files are hidden"))
    if not mark.is_file():
        with atomic_write(mark) as temporary:
            temporary.write_text(expected)
    elif mark.read_text().strip() != expected:
        raise DataError(
            "this work folder was made with another salt: every patient would be another and the "
            "splits, too. Set the salt that it was made with, or give another work folder"
        )


def make_salt(path: str) -> None:
    """Write a new random salt into a new file that its owner alone may read.

    Raises:
        UsageError: There is something at the path, or it lies in a work folder.
        DataError: The file cannot be written.
    """
    place = require_secret_place(path, "the salt")
    if place.exists() or place.is_symlink():
        raise UsageError(
            f"{path}: expected nothing there yet, found a file: with another salt every patient "
            "would be another and the splits, too. Keep it, or give another name"
        )
    _write_secret(place, f"{secrets.token_urlsafe(32)}\n".encode())


def require_secret_place(
    path: str,
    what: str,
    work: Path | None = None,
) -> Path:
    """Return the path of a file that must not lie in a work folder.

    Args:
        path: A path on this machine.
        what: What the file is, as in "the salt".
        work: The folder of a work folder that is open. Other ones are known by their records.

    Raises:
        UsageError: It lies in a work folder, or on another machine.
    """
    place = Path(os.path.realpath(local_folder(path)))
    for folder in place.parents:
        is_open = work is not None and folder == Path(os.path.realpath(work))
        if is_open or _is_work_folder(folder):
            raise UsageError(
                f"{path}: expected a place for {what} outside the work folder, found {folder}: "
                "whoever gets the results must not get it"
            )
    return place


def _is_work_folder(folder: Path) -> bool:
    """Return whether an earlier run has written into a folder."""
    records = ("ingest.json", "clean_metadata.csv")
    has_records = all((folder / name).exists() for name in records)
    return has_records or any(folder.glob("inspection/*/listed.csv"))


def replace_secret(path: Path, data: bytes) -> None:
    """Publish a file that its owner alone may read, in place of an earlier one.

    Raises:
        DataError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    _write_secret(temporary, data)
    temporary.replace(path)


def _write_secret(path: Path, data: bytes) -> None:
    """Write a new file that its owner alone may read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def pseudonym(kind: Kind, text: str, salt: str) -> str:
    """Return the pseudonym of a text: 16 hexadecimal digits of its HMAC-SHA-256 (RFC 2104).

    Args:
        kind: What the text is; equal texts of two kinds have different pseudonyms.
        text: What must not be known.
        salt: The secret.

    >>> pseudonym("patient", "4711", "sixteen or more!") == pseudonym("study", "4711", "sixteen or more!")
    False
    """
    message = f"{kind}\0{text}".encode("utf-8", "surrogateescape")
    digest = hmac.new(salt.encode(), message, hashlib.sha256)
    return digest.hexdigest()[:_DIGITS]
