"""The records of the registry: versions, the champion, the log."""

from typing import Literal

from pydantic import AwareDatetime

from cxr.core.records import Versioned
from cxr.stats.metrics import Metrics

What = Literal["register", "promote", "promote against the rule", "rollback", "keep"]


class Version(Versioned):
    """versions/<name>/version.json: an export folder whole; `files` maps each name to its SHA-256.

    The name is the run's id and the beginning of the SHA-256 of SHA256SUMS: the same export is the same version.
    `seen` tells whether seen.csv is there. `test` are the card's figures, each version's on the test images of its time.
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


class Champion(Versioned):
    """champion.json: the version in use, and how it came to be; `previous` are the champions before, the newest first."""

    version: str
    model_sha256: str
    what: What
    when: AwareDatetime
    who: str
    why: str
    previous: tuple[str, ...] = ()


class Event(Versioned):
    """log/<time>-<what>-<version>.json: one thing that was done, by whom and why; `champion` is the one afterwards."""

    when: AwareDatetime
    who: str
    what: What
    version: str
    why: str
    champion: str | None
