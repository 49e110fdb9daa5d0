"""The base of all records: frozen models that live in JSON files."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from cxr.core import __version__
from cxr.core.errors import DataError
from cxr.core.files import atomic_write
from cxr.core.formatting import printable as printable  # noqa: PLC0414 - others import it from here
from cxr.core.settings import LABEL_NAMES as LABEL_NAMES  # noqa: PLC0414 - others import it from here
from cxr.core.settings import Strict


class Record(Strict):
    """A frozen model that lives in a JSON file."""

    def write(self, path: Path) -> Self:
        """Publish the record whole at `path`; return it."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the record at `path`; raises FileNotFoundError, DataError where it is none."""
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, data: bytes, place: str) -> Self:
        """Return the record in a file's bytes; DataError, which names `place`, where it is none."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = "".join(f"{part}: " for part in first["loc"])
            raise DataError(
                f"{place} cannot be read: {field}{first['msg']}: it is damaged, or of another version: make it again"
            ) from error


SCHEMA = 2  # of the card, of export.json and of the registry's records; cxr 0.1 wrote none: 1


class Versioned(Record):
    """A record that other versions of cxr read: its file carries the version of its layout."""

    schema_version: int = SCHEMA

    @classmethod
    def parse(cls, data: bytes, place: str) -> Self:
        """Return the record in a file's bytes, whatever known version of its layout they have.

        Args:
            data: The file's bytes.
            place: What the file is called in an error.

        Raises:
            DataError: The layout is newer than this version of cxr knows, or the record is damaged
                or too old to be read.
        """
        try:
            content = json.loads(data)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            return super().parse(data, place)  # which says what is wrong with it
        found = content.get("schema_version", 1)
        if not isinstance(found, int) or found < 1:
            raise DataError(
                f"{place} cannot be read: expected a schema version from 1 to {SCHEMA}, "
                f"found {found!r}: it is damaged: make it again"
            )
        if found > SCHEMA:
            raise DataError(
                f"{place} has schema version {found}, and cxr {__version__} reads "
                f"those up to {SCHEMA}: use the version of cxr that wrote it, or a newer one"
            )
        if found < SCHEMA:
            content = cls.upgrade(content) | {"schema_version": SCHEMA}
        return super().parse(json.dumps(content).encode(), place)

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Return the content of a file of an earlier schema version in the layout of this one."""
        return old
