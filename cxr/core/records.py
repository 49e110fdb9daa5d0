"""Records: frozen models that are kept in JSON files."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from cxr.core import __version__
from cxr.core.errors import DataError
from cxr.core.files import atomic_write
from cxr.core.settings import Strict

# The layout of model cards, export.json and the registry's records. cxr 0.1 wrote none, which is 1;
# cxr 0.2 wrote 2.
SCHEMA = 3


class Record(Strict):
    """A frozen model that is kept in a JSON file."""

    def write(self, path: Path) -> Self:
        """Write the record to a file, which appears whole or not at all.

        Args:
            path: The file.

        Returns:
            The record.
        """
        with atomic_write(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the record in a file.

        Args:
            path: The file.

        Raises:
            FileNotFoundError: There is no such file.
            DataError: The file holds no record of this kind.
        """
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, data: bytes, place: str) -> Self:
        """Return the record in a file's bytes.

        Args:
            data: The file's bytes.
            place: What the file is called in an error.

        Raises:
            DataError: They hold no record of this kind.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = "".join(f"{part}: " for part in first["loc"])
            raise DataError(
                f"{place} cannot be read: {field}{first['msg']}: it is damaged, or of another "
                "version: make it again"
            ) from error


class Versioned(Record):
    """A record that other versions of cxr read: its file carries the version of its layout."""

    schema_version: int = SCHEMA

    @classmethod
    def parse(cls, data: bytes, place: str) -> Self:
        """Return the record in a file's bytes, in whichever known layout they are.

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
        schema = content.get("schema_version", 1)
        if not isinstance(schema, int) or schema < 1:
            raise DataError(
                f"{place} cannot be read: expected a schema version from 1 to {SCHEMA}, "
                f"found {schema!r}: it is damaged: make it again"
            )
        if schema > SCHEMA:
            raise DataError(
                f"{place} has schema version {schema}, and cxr {__version__} reads "
                f"those up to {SCHEMA}: use the version of cxr that wrote it, or a newer one"
            )
        if schema < SCHEMA:
            content = cls.upgrade(content) | {"schema_version": SCHEMA}
        return super().parse(json.dumps(content).encode(), place)

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Return the content of a file of an earlier schema version in the layout of this one."""
        return old
