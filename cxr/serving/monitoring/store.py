"""A monitoring store, a folder or in S3: aggregates of predictions, one new file for each.

    salt                        makes the names of batches; made with the store
    <stream>/reference.json     the model, and what its images are compared with
    <stream>/batches/<name>.json    the aggregates of one prediction

A stream is a model with its threshold, site and reference, so that what another one scored is never
mixed in. Files are only ever made, each as a whole, and never changed but for one that is damaged:
any number of writers may be at work at once.

A batch is named by a keyed digest of the names of its images, all together, and of its counts. So a
prediction that is tried again, on another day too, is the same batch and is counted once, while new
images under old names are another batch. The name identifies nobody: it is one digest of the whole
batch, keyed with the store's own random salt. Whoever holds the salt can only test a guess of all
names and all counts at once, that is, must have the very images and the model already.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import ConflictError, DamagedError, DataError, StorageError, UsageError
from cxr.core.records import Record
from cxr.results.cards.model_card import Card
from cxr.serving.monitoring.records import Batch, Group, Reference
from cxr.serving.monitoring.reference import make_reference
from cxr.serving.sites.records import Site
from cxr.stats.drift.expected import sum_called
from cxr.storage.addresses import open_storage, scheme_of
from cxr.storage.base import Storage

SALT = "salt"
REFERENCE = "reference.json"
_SALT_BYTES = 32
_NOT_FILMS = {"ignored", "not_an_image", "excluded", "outside_root", "abstained"}
_UNFINISHED = ".writing-"  # how a file is called while it is written
_OURS = re.compile(rf"{SALT}|[^/]+/({re.escape(REFERENCE)}|batches/[^/]+\.json)")


class Stored(NamedTuple):
    """What is in a store.

    Attributes:
        references: Of each stream, by its name.
        batches: Of each stream, by its name; in no particular order.
        unreadable: Which files were not counted, and why.
    """

    references: dict[str, Reference]
    batches: dict[str, list[Batch]]
    unreadable: list[str]


def require_place(place: str) -> None:
    """Raise UsageError if there can be no store at a place, before images are scored for it.

    Args:
        place: The store, a folder or s3://bucket/prefix.
    """
    if scheme_of(place) not in {"", "file", "s3"}:
        raise UsageError(
            f"--monitor {place}: expected a folder or s3://bucket/prefix, found a place that is "
            "only read"
        )
    storage = open_storage(place)
    if storage.version("ingest.json") is not None:
        raise UsageError(
            f"--monitor {place}: expected a folder of its own, found a work folder: what is "
            "watched outlives it"
        )


def append(
    place: str,
    card: Card,
    measured: pd.DataFrame,
    table: pd.DataFrame,
    validation: pd.DataFrame | None,
    site: Site | None = None,
) -> bool:
    """Add the aggregates of one prediction to a store, which is made if it is not there.

    Args:
        place: The store, a folder or s3://bucket/prefix.
        card: The model's card.
        measured: A row for each image that the network scored: score, prediction, device, day, and
            the measurements.
        table: The table of predictions, which has the images that were rejected, too.
        validation: The validation images of the export; see `make_reference`.
        site: The site whose threshold and calibration are applied; None for the card's own.

    Returns:
        Whether it is new: the same prediction tried again is counted once.

    Raises:
        StorageError: The store cannot be written. The table of predictions is there all the same;
            predict again, and nothing is counted twice.
    """
    storage = open_storage(place)
    now = datetime.now(UTC)
    threshold = float(table["threshold"].astype(float).iloc[0])
    reference = make_reference(card, validation, threshold, site, now)
    batch = make_batch(reference, measured, table, now)
    _keep_record(storage, f"{reference.stream}/{REFERENCE}", reference)
    name = name_batch(_find_salt(storage), reference.stream, batch, table["image"])
    return _keep_record(storage, f"{reference.stream}/batches/{name}.json", batch)


def make_batch(
    reference: Reference,
    measured: pd.DataFrame,
    table: pd.DataFrame,
    now: datetime,
) -> Batch:
    """Return the aggregates of one prediction; see `append`."""
    groups = []
    for (day, device), images in measured.groupby(["day", "device"], sort=True):
        groups.append(_make_group(reference, str(day), str(device), images))
    is_rejected = table["status"] == "rejected"
    reasons = [str(reason).partition(":")[0] for reason in table.loc[is_rejected, "reason"]]
    return Batch(written=now, groups=tuple(groups), rejected=dict(Counter(reasons)))


def _make_group(
    reference: Reference,
    day: str,
    device: str,
    images: pd.DataFrame,
) -> Group:
    """Return the aggregates of the images of one day and device."""
    names = [bins.name for bins in reference.bins]
    # What was not measured becomes NaN, which has a bin of its own.
    values = images.reindex(columns=names).to_numpy(np.float64)
    counts = {}
    for bins, column in zip(reference.bins, values.T, strict=True):
        counts[bins.name] = tuple(bins.count(column).tolist())
    scores = images["score"].to_numpy(np.float64)
    is_called = (images["prediction"] != "").to_numpy(bool)
    is_positive = scores >= reference.threshold
    return Group.model_validate(
        {
            "day": day,
            "device": device,
            "images": len(images),
            "abstained": int((~is_called).sum()),
            "positive": sum_called(scores[is_called & is_positive]),
            "negative": sum_called(scores[is_called & ~is_positive]),
            "counts": counts,
        }
    )


def name_batch(
    salt: bytes,
    stream: str,
    batch: Batch,
    images: "pd.Series[str]",
) -> str:
    """Return the name of a batch, 32 hexadecimal digits; see the top of this file.

    Args:
        salt: Of the store.
        stream: Of the batch.
        batch: The aggregates, whose times are left out.
        images: The names of all images of the prediction.
    """
    counts = sorted(
        (group.device, sorted(group.counts.items()), group.images) for group in batch.groups
    )
    content = [stream, sorted(images), counts, sorted(batch.rejected.items())]
    text = json.dumps(content).encode("utf-8", "surrogateescape")
    return hmac.new(salt, text, hashlib.sha256).hexdigest()[:32]


def count_rejected_films(batch: Batch) -> int:
    """Return how many files were rejected that may have been films."""
    counts = [count for reason, count in batch.rejected.items() if reason not in _NOT_FILMS]
    return sum(counts)


def _find_salt(storage: Storage) -> bytes:
    """Return the salt of a store, made if there is none; of two writers at once one makes it."""
    _create(storage, SALT, secrets.token_hex(_SALT_BYTES).encode())
    return storage.read(SALT)


def _keep_record(storage: Storage, key: str, record: Record) -> bool:
    """Write a record if there is none yet, or one that is damaged; return whether it was written."""
    data = (record.model_dump_json() + "\n").encode()
    if _create(storage, key, data):
        return True
    try:
        type(record).parse(storage.read(key), key)
    except DataError:
        storage.write(key, data)
        return True
    return False


def _create(storage: Storage, key: str, data: bytes) -> bool:
    """Write a file if there is none yet, and return whether there was none."""
    if storage.version(key) is not None:
        return False
    try:
        storage.write(key, data, expected=None)
    except ConflictError:
        return False
    return True


def read_store(place: str) -> Stored:
    """Return what is in a store.

    Raises:
        DataError: There is no store.
        StorageError: It cannot be read.
    """
    storage = open_storage(place)
    stored = Stored({}, {}, [])
    keys = _list_files(storage, stored.unreadable)
    if not keys:
        raise DataError(
            f"{place}: expected a monitoring store, found none: "
            f"predict with --monitor {place} first"
        )
    for key, content in storage.read_many((key, None) for key in keys):
        if isinstance(content, StorageError) and not isinstance(content, DamagedError):
            raise content
        try:
            if isinstance(content, Exception):
                raise content
            _keep(stored, key, content)
        except (DataError, DamagedError, OSError) as error:
            stored.unreadable.append(f"{key}: {error}")
    return stored


def _list_files(storage: Storage, unreadable: list[str]) -> list[str]:
    """Return the keys of references, then those of batches, which are checked by them.

    Args:
        storage: Of the store.
        unreadable: Gets what is no file of a store, or cannot be read.
    """
    references = []
    batches = []
    foreign = []
    for entry in storage.list():
        if not _OURS.fullmatch(entry.key):
            foreign.append(entry.key)
        elif entry.problem:
            unreadable.append(f"{entry.key}: {entry.problem[1]}")
        elif entry.key.endswith(f"/{REFERENCE}"):
            references.append(entry.key)
        elif entry.key != SALT:
            batches.append(entry.key)
    if foreign:
        unreadable.append(
            f"{min(foreign)} and {len(foreign) - 1} more: no files of a monitoring store, left alone"
        )
    return [*sorted(references), *sorted(batches)]


def _keep(stored: Stored, key: str, content: bytes) -> None:
    """Add one file of a store to what is read.

    Raises:
        DataError: It is damaged, or does not fit its reference.
    """
    stream, _, rest = key.partition("/")
    if rest == REFERENCE:
        stored.references[stream] = Reference.parse(content, key)
        stored.batches[stream] = []
        return
    if rest.startswith(f"batches/{_UNFINISHED}"):
        raise DataError("a write that was never finished: predict the same images again")
    if stream not in stored.references:
        raise DataError(f"its {REFERENCE} is missing or unreadable")
    batch = Batch.parse(content, key)
    _require_fit(stored.references[stream], batch)
    stored.batches[stream].append(batch)


def _require_fit(reference: Reference, batch: Batch) -> None:
    """Raise DataError if a batch was counted in other bins than its reference's."""
    for group in batch.groups:
        for bins in reference.bins:
            bins.require(group.counts.get(bins.name, ()))


def iterate_groups(batches: list[Batch]) -> Iterator[tuple[Batch, Group]]:
    """Yield each group with its batch, in the order of days, then of the times of writing."""
    pairs = [(batch, group) for batch in batches for group in batch.groups]
    pairs.sort(key=lambda pair: (pair[1].day, pair[0].written))
    yield from pairs
