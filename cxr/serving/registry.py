"""The registry: whole export folders at a path or in S3, one of them the champion. No server of its own.

    versions/<version>/     the files of the export folder, seen.csv, and version.json, written last
    champion.json           which version is in use; every change is one conditional write
    challenges/<version>/   what the rule said of it against a champion
    log/                    one file per event: when, who, what, why; nothing is ever overwritten
    retrainings/            what each retraining found and did (`retraining`)

Left out: deleting versions (remove a folder of versions/ that is neither the champion nor in its `previous`).
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pandas as pd

from cxr.core.errors import ConflictError, DataError, ModelError, RegistryError
from cxr.core.files import file_sha256, read_table, write_table
from cxr.core.records import Record
from cxr.results.model_card import Card, read_card
from cxr.serving.challenge import Challenge
from cxr.serving.registry_records import Champion, Event, Version, What
from cxr.stats.metrics import Vector
from cxr.storage.addresses import open_storage

_Kind = TypeVar("_Kind", bound=Record)
_SUMS, _RECORD, _SEEN, _CHAMPION = "SHA256SUMS", "version.json", "seen.csv", "champion.json"


class Registry:
    """The versions below one URI, and which of them is the champion."""

    def __init__(self, uri: str):
        self.uri = uri
        self.storage = open_storage(uri)

    def register(self, export: Path, who: str, manifest: Path | None = None) -> Version:
        """Upload an export folder, the record last, and return it; what is there already is left alone.

        `manifest` is the clean_metadata.csv of the model's training: what it had seen is kept as digests. Raises
        ModelError for a folder that does not fit its SHA256SUMS and card, DataError for another manifest than the card's.
        """
        card, files = read_whole_export(export)
        name = f"{card.run}-{file_sha256(export / _SUMS)[:8]}"
        if known := self._find(name):
            return known
        for file in files:
            self.storage.upload(export / file, f"versions/{name}/{file}")
        if manifest is not None:
            self._upload_seen(name, manifest, card)
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
        try:
            self.storage.write(f"versions/{name}/{_RECORD}", _data(version), expected=None)
        except ConflictError:  # another registered the very same export meanwhile
            return self.version(name)
        self._note(self._event("register", name, who, f"run {card.run}", version.registered))
        return version

    def versions(self) -> list[Version]:
        """Return every whole version, the first registered first; a half uploaded one has no record yet."""
        parts = (key.split("/") for key in self.keys("versions/"))
        names = [name for _, name, *rest in parts if rest == [_RECORD]]
        return sorted(
            map(self.version, names), key=lambda version: (version.registered, version.name)
        )

    def version(self, name: str) -> Version:
        """Return one version's record; RegistryError where there is none."""
        if found := self._find(name):
            return found
        known = ", ".join(version.name for version in self.versions()) or "none yet"
        raise RegistryError(
            f"{self.uri}: expected one of the versions registered ({known}), found {name!r}"
        )

    def champion(self) -> Champion | None:
        """Return the champion's record, or None where nothing was promoted yet."""
        return self._champion()[0]

    def promote(self, name: str, who: str, why: str, against_the_rule: bool = False) -> Champion:
        """Make a version the champion, its bytes verified first, by one conditional write; return the new record.

        Raises RegistryError where no challenge says that it may follow the present champion, unless `against_the_rule`,
        which the log keeps; ConflictError where another promotion came first; ModelError for bytes that are not whole.
        """
        now, token = self._champion()
        version = self.version(name)
        if now and now.version == name:
            return now
        problem = self._refusal(name, now)
        if problem and not against_the_rule:
            raise RegistryError(f"{name} is not promoted: {problem}")
        what: What = "promote against the rule" if problem else "promote"
        previous = (now.version, *now.previous) if now else ()
        return self._switch(version, what, who, why, previous, now, token)

    def rollback(self, who: str, why: str) -> Champion:
        """Make the champion before this one the champion again, its bytes verified first; return the new record.

        Raises RegistryError where there was none before; else as `promote`.
        """
        now, token = self._champion()
        if now is None or not now.previous:
            raise RegistryError(
                f"{self.uri}: expected an earlier champion to go back to, found none"
            )
        return self._switch(
            self.version(now.previous[0]), "rollback", who, why, now.previous[1:], now, token
        )

    def keep(self, challenge: Challenge, who: str, why: str) -> None:
        """Note in the log that a challenger was not promoted."""
        self._note(self._event("keep", challenge.challenger, who, why, _now()))

    def add_challenge(self, challenge: Challenge) -> Challenge:
        """Keep what the rule said, for `promote`, and return it; a later comparison of the two replaces it."""
        self.storage.write(
            _challenge_key(challenge.challenger, challenge.champion), _data(challenge)
        )
        return challenge

    def restore(self, name: str, folder: Path) -> Path:
        """Write a version's files to `folder`, byte for byte those registered, and return it; ModelError otherwise."""
        version = self.version(name)
        for file, digest in version.files.items():
            path = folder / _inside(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.storage.download(f"versions/{name}/{file}", path)
            except FileNotFoundError:
                raise ModelError(
                    f"{self.uri}: {file} of version {name} is gone: register its export again"
                ) from None
            if file_sha256(path) != digest:
                raise ModelError(
                    f"{self.uri}: {file} of version {name} is not as registered (SHA-256 differs)"
                )
        return folder

    def seen(self, name: str, rows: pd.DataFrame, patient_key: str) -> Vector | None:
        """Return which rows (of a manifest) the version had in train or val, by picture or patient: bool (n,).

        None where that is not known. Patients are the same where their id and the rule that reads it are.
        """
        if not self.version(name).seen:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            self.storage.download(f"versions/{name}/{_SEEN}", Path(scratch) / _SEEN)
            known = read_table(Path(scratch) / _SEEN)
        patients = set(known["patient"]) - {""}
        same = rows["pixel_sha256"].isin(set(known["pixel_sha256"])) | _patients(
            rows, patient_key
        ).isin(patients)
        return same.to_numpy(dtype=bool)

    def log(self) -> list[Event]:
        """Return every event, the first one first."""
        events = [self._record(Event, key) for key in self.keys("log/")]
        if (champion := self.champion()) and (own := _event_of(champion)) not in events:
            events.append(own)  # a process killed right after its switch did not write it
        return sorted(events, key=lambda event: event.when)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below the registry that begin with `prefix`, sorted; not those of half written files."""
        try:
            found = [entry.key for entry in self.storage.list(prefix) if not entry.problem]
        except DataError:  # no such folder yet
            return []
        return sorted(key for key in found if not PurePosixPath(key).name.startswith("."))

    def _champion(self) -> tuple[Champion | None, str | None]:
        token = self.storage.version(
            _CHAMPION
        )  # before the content: an older token can only make a write fail
        if token is None:
            return None, None
        return self._record(Champion, _CHAMPION), token

    def _find(self, name: str) -> Version | None:
        try:
            return self._record(Version, f"versions/{_inside(name)}/{_RECORD}")
        except FileNotFoundError:
            return None

    def _record(self, kind: type[_Kind], key: str) -> _Kind:
        """Return the record at `key`; RegistryError where it is none that can be read."""
        try:
            return kind.parse(self.storage.read(key), f"{self.uri}/{key}")
        except DataError as error:
            raise RegistryError(str(error)) from error

    def _refusal(self, name: str, now: Champion | None) -> str:
        """Return why the rule does not let a version follow the present champion, or an empty text."""
        against = now.version if now else None
        try:
            found = self._record(Challenge, _challenge_key(name, against))
        except FileNotFoundError:
            return f"it was never compared with the champion ({against or 'none yet'}): `cxr retrain` does that"
        return "" if found.promote else found.reason

    def _switch(
        self,
        version: Version,
        what: What,
        who: str,
        why: str,
        previous: tuple[str, ...],
        now: Champion | None,
        token: str | None,
    ) -> Champion:
        with tempfile.TemporaryDirectory() as scratch:
            read_card(self.restore(version.name, Path(scratch)))
        if now:
            self._note(_event_of(now))  # a process killed right after its switch did not
        champion = Champion(
            version=version.name,
            model_sha256=version.model_sha256,
            what=what,
            when=_now(),
            who=who,
            why=why,
            previous=previous,
        )
        try:
            self.storage.write(_CHAMPION, _data(champion), expected=token)
        except ConflictError:
            found = self.champion()
            if found != champion:  # equal: the write was repeated after its own answer was lost
                raise ConflictError(
                    f"{self.uri}: another change of the champion came first, it is {found.version if found else 'none'} "
                    "now: look with `cxr registry list`, then decide again"
                ) from None
        self._note(_event_of(champion))
        return champion

    def _event(self, what: What, name: str, who: str, why: str, when: datetime) -> Event:
        now = self.champion()
        return Event(
            when=when,
            who=who,
            what=what,
            version=name,
            why=why,
            champion=now.version if now else None,
        )

    def _note(self, event: Event) -> None:
        key = (
            f"log/{event.when:%Y%m%dT%H%M%S.%f}-{event.what.replace(' ', '-')}-{event.version}.json"
        )
        with contextlib.suppress(ConflictError):  # noted before
            self.storage.write(key, _data(event), expected=None)

    def _upload_seen(self, name: str, manifest: Path, card: Card) -> None:
        if file_sha256(manifest) != card.data.manifest_sha256:
            raise DataError(
                f"{manifest} is not the manifest that the model's card names (SHA-256 differs)"
            )
        rows = read_table(manifest)
        rows = rows[rows["split"].isin(["train", "val"])]
        table = pd.DataFrame(
            {
                "pixel_sha256": rows["pixel_sha256"],
                "patient": _patients(rows, card.data.leakage.patient_key),
            }
        )
        with tempfile.TemporaryDirectory() as scratch:
            write_table(table, Path(scratch) / _SEEN)
            self.storage.upload(Path(scratch) / _SEEN, f"versions/{name}/{_SEEN}")


def read_whole_export(export: Path) -> tuple[Card, dict[str, str]]:
    """Return an export folder's card and {file: SHA-256}, SHA256SUMS itself included.

    Raises ModelError where a file is missing or differs, or where model.keras is not the card's.
    """
    if not (export / _SUMS).is_file():
        raise ModelError(
            f"{export}: expected an export folder with {_SUMS}, model.keras and model_card.json"
        )
    lines = (export / _SUMS).read_text(encoding="utf-8").splitlines()
    files = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name, digest in files.items():
        if name in {_RECORD, _SEEN} or not (export / _inside(name)).is_file():
            raise ModelError(
                f"{export}: {name} is in {_SUMS} but missing, or has a name that the registry uses"
            )
        if file_sha256(export / name) != digest:
            raise ModelError(
                f"{export}: {name} is not the file in {_SUMS} (SHA-256 differs): export again"
            )
    card = read_card(export)
    if not {"model.keras", "model_card.json"} <= set(files):
        raise ModelError(
            f"{export}: {_SUMS} leaves out model.keras or model_card.json: export again"
        )
    return card, files | {_SUMS: file_sha256(export / _SUMS)}


@contextlib.contextmanager
def find_model(model: str) -> Iterator[str]:
    """Give the address of an export folder: the one given (or the model.keras given), or a registry's champion.

    A place with champion.json in it is a registry; its champion is restored to a folder here, verified, for the time of
    the block.
    """
    champion = None if model.endswith(".keras") else Registry(model).champion()
    if champion is None:
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="champion-") as folder:
        yield str(Registry(model).restore(champion.version, Path(folder)))


def _event_of(champion: Champion) -> Event:
    """Return the log's event of a change of the champion: the same from the record itself, whenever it is written."""
    given = champion.model_dump(include={"when", "who", "what", "why", "version"})
    return Event(**given, champion=champion.version)


def _challenge_key(challenger: str, champion: str | None) -> str:
    return f"challenges/{_inside(challenger)}/{champion or 'no-champion'}.json"


def _patients(rows: pd.DataFrame, patient_key: str) -> "pd.Series[str]":
    """Return a digest for each row's patient, "" where it has none: the registry keeps no id."""

    def digest(patient: str) -> str:
        return hashlib.sha256(
            f"{patient_key}\0{patient}".encode("utf-8", "surrogateescape")
        ).hexdigest()

    return rows["patient_id"].map(lambda patient: digest(patient) if patient else "")


def _inside(name: str) -> str:
    """Return a relative name that stays inside its folder; RegistryError otherwise."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise RegistryError(f"expected a name inside the registry, found {name!r}")
    return name


def _data(record: Record) -> bytes:
    return (record.model_dump_json(indent=2) + "\n").encode()


def _now() -> datetime:
    return datetime.now(UTC)
