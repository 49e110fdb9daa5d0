"""The records of the registry: versions, the champion, the log."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime

from cxr.core.records import Record, Versioned
from cxr.stats.metrics import Metrics

What = Literal["register", "promote", "promote against the rule", "rollback", "keep"]


class Event(Versioned):
    """log/<time>-<what>-<version>.json: one thing that was done.

    Attributes:
        when: When.
        who: By whom.
        what: What was done.
        version: With which version.
        why: The reason.
        champion: The champion's version afterwards, None where there was none.
    """

    when: AwareDatetime
    who: str
    what: What
    version: str
    why: str
    champion: str | None


class Champion(Versioned):
    """champion.json: the version in use, and how it came to be.

    Attributes:
        version: Its name.
        model_sha256: The digest of its model.keras.
        what: The change that made it champion.
        when: When.
        who: By whom.
        why: The reason.
        previous: The champions before it, the newest first.
    """

    version: str
    model_sha256: str
    what: What
    when: AwareDatetime
    who: str
    why: str
    previous: tuple[str, ...] = ()

    def event(self) -> Event:
        """Return the event of the change that made it champion.

        It is made from this record alone, so that it is the same whenever it is written.
        """
        shared = self.model_dump(include={"when", "who", "what", "why", "version"})
        return Event(**shared, champion=self.version)


class Version(Versioned):
    """versions/<name>/version.json: a whole export folder.

    Attributes:
        name: The run's id and the first characters of the SHA-256 of SHA256SUMS, so that the same
            export is the same version.
        run: The id of the run that trained the model.
        architecture: The model's architecture.
        model_sha256: The digest of model.keras.
        manifest_sha256: The digest of the manifest of its training.
        files: The SHA-256 of each file by its name.
        bytes: The size of all files.
        seen: Whether seen.csv, the digests of what the training saw, is there.
        test: The card's metrics, on the test images of its time.
        registered: When it was registered.
        who: By whom.
    """

    name: str
    run: str
    architecture: str
    model_sha256: str
    manifest_sha256: str
    files: dict[str, str]
    bytes: int
    seen: bool
    test: Metrics
    registered: AwareDatetime
    who: str

    @property
    def knows_scope(self) -> bool:
        """Whether the model can say which images are unlike those of its training."""
        return "scope.json" in self.files

    def as_champion(
        self,
        what: What,
        who: str,
        why: str,
        previous: tuple[str, ...],
    ) -> Champion:
        """Return the record of this version as champion from now on.

        Args:
            what: The change that makes it champion.
            who: By whom.
            why: The reason.
            previous: The champions before it, the newest first.
        """
        return Champion(
            version=self.name,
            model_sha256=self.model_sha256,
            what=what,
            when=datetime.now(UTC),
            who=who,
            why=why,
            previous=previous,
        )


def to_bytes(record: Record) -> bytes:
    """Return a record as the registry stores it: indented JSON."""
    return (record.model_dump_json(indent=2) + "\n").encode()
