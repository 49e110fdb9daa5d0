"""The registry: whole export folders at a path or in S3, one of them the champion. It needs no server.

    versions/<version>/     the files of the export folder, seen.csv, and version.json, written last
    champion.json           which version is in use; every change is one conditional write
    challenges/<version>/   the verdict of the rule on it against a champion
    log/                    one file per event: when, who, what, why; nothing is ever overwritten
    retrainings/            what each retraining found and did (`retrain`)

Nothing deletes versions: remove a folder of versions/ that is neither the champion nor in its
`previous`.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pandas as pd

from cxr.core.errors import ConflictError, DataError, RegistryError
from cxr.core.files import file_sha256
from cxr.core.records import Record
from cxr.results.cards.model_card import read_card
from cxr.serving.registry.files import (
    CHECKSUMS,
    RECORD,
    download,
    download_seen,
    mark_seen,
    read_whole_export,
    require_inside,
    upload_seen,
)
from cxr.serving.registry.records import Champion, Event, Version, What, to_bytes
from cxr.serving.retraining.challenge import Challenge
from cxr.stats.metrics import Vector
from cxr.storage.addresses import open_storage

_CHAMPION = "champion.json"
_Kind = TypeVar("_Kind", bound=Record)


class Registry:
    """The versions below one URI, and which of them is the champion.

    Attributes:
        uri: Where the registry is, a path or s3://bucket/prefix.
        storage: The storage there.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self.storage = open_storage(uri)

    def register(self, export: Path, who: str, manifest: Path | None = None) -> Version:
        """Upload an export folder, its record last; a version that is there already is left alone.

        Args:
            export: The export folder.
            who: Who registers it, for the log.
            manifest: The clean_metadata.csv of the model's training: what it saw is kept as
                digests.

        Raises:
            ModelError: The folder does not fit its SHA256SUMS and card.
            DataError: The card names another manifest.
        """
        card, files = read_whole_export(export)
        checksums_digest = file_sha256(export / CHECKSUMS)
        name = f"{card.run}-{checksums_digest[:8]}"
        known = self._find(name)
        if known:
            return known
        for file in files:
            self.storage.upload(export / file, f"versions/{name}/{file}")
        if manifest is not None:
            upload_seen(self.storage, name, manifest, card)
        version = Version(
            name=name,
            run=card.run,
            architecture=card.architecture,
            model_sha256=card.model_sha256,
            manifest_sha256=card.data.manifest_sha256,
            files=files,
            test=card.evaluation.test,
            registered=_now(),
            who=who,
            bytes=sum((export / file).stat().st_size for file in files),
            seen=manifest is not None,
        )
        key = f"versions/{name}/{RECORD}"
        try:
            self.storage.write(key, to_bytes(version), expected=None)
        except ConflictError:  # another registered the very same export in the meantime
            return self.version(name)
        self._log(self._event("register", name, who, f"run {card.run}", version.registered))
        return version

    def versions(self) -> list[Version]:
        """Return every whole version, the first registered first.

        One that was uploaded in part has no record yet.
        """
        versions = []
        for key in self.keys("versions/"):
            _, name, *rest = key.split("/")
            if rest == [RECORD]:
                versions.append(self.version(name))
        return sorted(versions, key=lambda version: (version.registered, version.name))

    def version(self, name: str) -> Version:
        """Return one version's record; RegistryError if there is none."""
        version = self._find(name)
        if version:
            return version
        known = ", ".join(version.name for version in self.versions()) or "none yet"
        raise RegistryError(
            f"{self.uri}: expected one of the versions registered ({known}), found {name!r}"
        )

    def champion(self) -> Champion | None:
        """Return the champion's record, or None if nothing was promoted yet."""
        champion, _ = self._champion_and_token()
        return champion

    def promote(self, name: str, who: str, why: str, against_the_rule: bool = False) -> Champion:
        """Make a version the champion by one conditional write, its files verified first.

        Args:
            name: The version.
            who: Who promotes it, for the log.
            why: The reason, for the log.
            against_the_rule: Promote it even if no challenge says that it may follow the present
                champion; the log says so.

        Raises:
            RegistryError: There is no such version, or the rule is against it.
            ConflictError: Another promotion came first.
            ModelError: A file is not as registered.
        """
        present, token = self._champion_and_token()
        version = self.version(name)
        if present and present.version == name:
            return present
        objection = self._find_objection(name, present)
        if objection and not against_the_rule:
            raise RegistryError(f"{name} is not promoted: {objection}")
        what: What = "promote against the rule" if objection else "promote"
        previous = (present.version, *present.previous) if present else ()
        champion = version.as_champion(what, who, why, previous)
        return self._replace_champion(champion, present, token)

    def rollback(self, who: str, why: str) -> Champion:
        """Make the champion before this one the champion again, its files verified first.

        Args:
            who: Who does it, for the log.
            why: The reason, for the log.

        Raises:
            RegistryError: There was no champion before this one.
            ConflictError: Another change of the champion came first.
            ModelError: A file is not as registered.
        """
        present, token = self._champion_and_token()
        if present is None or not present.previous:
            raise RegistryError(
                f"{self.uri}: expected an earlier champion to go back to, found none"
            )
        earlier, *previous = present.previous
        version = self.version(earlier)
        champion = version.as_champion("rollback", who, why, tuple(previous))
        return self._replace_champion(champion, present, token)

    def keep(self, challenge: Challenge, who: str, why: str) -> None:
        """Note in the log that a challenger was not promoted."""
        self._log(self._event("keep", challenge.challenger, who, why, _now()))

    def add_challenge(self, challenge: Challenge) -> Challenge:
        """Keep a verdict for `promote`; a later comparison of the same two versions replaces it."""
        key = _challenge_key(challenge.challenger, challenge.champion)
        self.storage.write(key, to_bytes(challenge))
        return challenge

    def restore(self, name: str, folder: Path) -> Path:
        """Write a version's files to a folder, byte for byte as registered, and return it.

        Raises:
            ModelError: A file is gone or not as registered.
        """
        download(self.storage, self.version(name), folder)
        return folder

    def seen(self, name: str, rows: pd.DataFrame, patient_key: str) -> Vector | None:
        """Return which rows show a picture or a patient that a version had in train or val.

        Args:
            name: The version.
            rows: Rows of a manifest.
            patient_key: How their patients are read.

        Returns:
            bool (n,); None if the version does not tell.
        """
        if not self.version(name).seen:
            return None
        seen = download_seen(self.storage, name)
        return mark_seen(rows, seen, patient_key)

    def log(self) -> list[Event]:
        """Return every event, the first one first."""
        events = [self._record(Event, key) for key in self.keys("log/")]
        champion = self.champion()
        if champion:
            event = champion.event()
            if event not in events:  # a process killed right after its change did not write it
                events.append(event)
        return sorted(events, key=lambda event: event.when)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted, without those of half-written files."""
        try:
            keys = [entry.key for entry in self.storage.list(prefix) if not entry.problem]
        except DataError:  # no such folder yet
            return []
        return sorted(key for key in keys if not PurePosixPath(key).name.startswith("."))

    def _champion_and_token(self) -> tuple[Champion | None, str | None]:
        """Return the champion's record and the version of its file, for a conditional write.

        The file's version is asked for before its content: an older one can only make a write
        fail, a newer one would overwrite a change that was not seen.
        """
        token = self.storage.version(_CHAMPION)
        if token is None:
            return None, None
        return self._record(Champion, _CHAMPION), token

    def _find(self, name: str) -> Version | None:
        """Return a version's record, or None."""
        key = f"versions/{require_inside(name)}/{RECORD}"
        try:
            return self._record(Version, key)
        except FileNotFoundError:
            return None

    def _record(self, kind: type[_Kind], key: str) -> _Kind:
        """Return the record at a key; RegistryError if it cannot be read as one."""
        try:
            return kind.parse(self.storage.read(key), f"{self.uri}/{key}")
        except DataError as error:
            raise RegistryError(str(error)) from error

    def _find_objection(self, name: str, present: Champion | None) -> str:
        """Return why the rule does not let a version follow the present champion, or an empty text."""
        champion = present.version if present else None
        try:
            challenge = self._record(Challenge, _challenge_key(name, champion))
        except FileNotFoundError:
            return (
                f"it was never compared with the champion ({champion or 'none yet'}): "
                "`cxr retrain` does that"
            )
        return "" if challenge.promote else challenge.reason

    def _replace_champion(
        self,
        champion: Champion,
        present: Champion | None,
        token: str | None,
    ) -> Champion:
        """Verify the new champion's files, then write its record over that of the present one.

        Args:
            champion: The new champion.
            present: The present one.
            token: The version of its file, as it was read.
        """
        with tempfile.TemporaryDirectory() as scratch:
            read_card(self.restore(champion.version, Path(scratch)))
        if present:
            self._log(present.event())  # a process killed right after its change did not
        try:
            self.storage.write(_CHAMPION, to_bytes(champion), expected=token)
        except ConflictError:
            winner = self.champion()
            # They are equal if the write was repeated after its own answer was lost.
            if winner != champion:
                name = winner.version if winner else "none"
                raise ConflictError(
                    f"{self.uri}: another change of the champion came first, it is {name} now: "
                    "look with `cxr registry list`, then decide again"
                ) from None
        self._log(champion.event())
        return champion

    def _event(self, what: What, name: str, who: str, why: str, when: datetime) -> Event:
        """Return an event that leaves the champion as it is."""
        champion = self.champion()
        return Event(
            when=when,
            who=who,
            what=what,
            version=name,
            why=why,
            champion=champion.version if champion else None,
        )

    def _log(self, event: Event) -> None:
        """Write an event to the log, once."""
        time = f"{event.when:%Y%m%dT%H%M%S.%f}"
        what = event.what.replace(" ", "-")
        with contextlib.suppress(ConflictError):  # it is there already
            key = f"log/{time}-{what}-{event.version}.json"
            self.storage.write(key, to_bytes(event), expected=None)


@contextlib.contextmanager
def find_model(model: str) -> Iterator[str]:
    """Give the address of an export folder.

    A place with champion.json in it is a registry; its champion is restored to a folder here,
    verified, which is there while the block runs.

    Args:
        model: An export folder, the model.keras in it, or a registry.
    """
    champion = None if model.endswith(".keras") else Registry(model).champion()
    if champion is None:
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="champion-") as folder:
        yield str(Registry(model).restore(champion.version, Path(folder)))


def _challenge_key(challenger: str, champion: str | None) -> str:
    """Return the key of the verdict on a challenger against a champion."""
    return f"challenges/{require_inside(challenger)}/{champion or 'no-champion'}.json"


def _now() -> datetime:
    return datetime.now(UTC)
