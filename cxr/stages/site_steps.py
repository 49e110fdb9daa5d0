"""A new site: a labelled sample is read, scored and measured, and what comes out is written."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core import __version__
from cxr.core.errors import DataError, UsageError
from cxr.core.files import write_table
from cxr.core.settings import (
    LABEL_NAMES,
    PixelSettings,
    ReadingSettings,
    SiteSettings,
    SplitSettings,
)
from cxr.data.images import pixel_cache
from cxr.data.manifest import distinct_images, publish, scanning
from cxr.data.manifest.comparison import load_parts, load_table
from cxr.data.patients.hidden_storage import open_data
from cxr.models.scope import read_scope
from cxr.results import exporting
from cxr.results.cards.model_card import Card, read_card
from cxr.serving import registry
from cxr.serving.prediction import publishing
from cxr.serving.sites import card as site_card
from cxr.serving.sites import sample as site_sample
from cxr.serving.sites import scoring
from cxr.serving.sites.measurement import Model, measure
from cxr.serving.sites.promise import DEFAULT_PROMISE
from cxr.serving.sites.records import NAME, NOT_MEASURED, REFERENCE_SCORES, Site
from cxr.serving.sites.sample import Sample
from cxr.stages import data_steps
from cxr.stages.data_steps import OnProgress, no_progress
from cxr.storage.addresses import open_storage
from cxr.storage.local import LocalStorage
from cxr.storage.workspace import workspace


def measure_site(
    model: str,
    data: str,
    out: str,
    reading: ReadingSettings | None = None,
    settings: SiteSettings | None = None,
    key_map: str | None = None,
    on_progress: OnProgress = no_progress,
) -> Site:
    """Measure a model on a labelled sample of a site, and write what it has there.

    Writes not_measured.csv, scores_site.csv, scores_site_worlds.csv, SITE_CARD.md with its pictures
    and, last, site.json.

    Args:
        model: An export folder, the model.keras in it, or a registry, which means its champion.
        data: The labelled images: a folder or s3://bucket/prefix, read as `preprocess` reads it.
        out: The folder for what is written, a path or s3://….
        reading: Which folder is which class, where labels are, which files are used.
        settings: What is promised, and how common pneumonia is.
        key_map: A file outside `out` for the real names behind those of DICOM files.
        on_progress: Told how many images are inspected and scored.

    Raises:
        UsageError: `out` lies in `data`.
        DataError: The sample cannot be read, or is too small to say anything.
        ModelError: There is no model, or it does not fit its card.
    """
    settings = settings or SiteSettings()
    _require_apart(out, data)
    with registry.find_model(model) as address, _opened_site(out) as folder:
        export = exporting.find_export(address)
        card = read_card(export)
        order = _Order(
            model=model,
            export=export,
            card=card,
            data=data,
            reading=publishing.shown_as_trained(card, reading or ReadingSettings()),
            settings=settings,
            promised=_promised(card, settings),
        )
        with tempfile.TemporaryDirectory(dir=folder, prefix=".sample-") as name:
            scratch = Path(name)
            sample = _read_sample(order, scratch, key_map, on_progress)
            pixels = _cache_pixels(order, sample, scratch)
            # What an earlier measurement left must not look like that of this one.
            (folder / NAME).unlink(missing_ok=True)
            scoring.score_sample(
                export,
                sample.rows,
                pixels,
                folder,
                scratch,
                lambda done, total: on_progress("score images", done, total),
            )
        write_table(sample.unmeasured, folder / NOT_MEASURED)
        _write_reference(export, folder)
        return _write_site(order, sample, folder, settings.name or _last_part(out))


@contextlib.contextmanager
def _opened_site(out: str) -> Iterator[Path]:
    """Open the site's folder; one that was not there goes away again if the sample is refused."""
    was_there = workspace.local_copy_of(out).exists()
    with workspace.open_workspace(out) as folder:
        try:
            yield folder
        except Exception:
            if not was_there and {path.name for path in folder.iterdir()} <= {".lock"}:
                shutil.rmtree(folder)
            raise


class _Order(NamedTuple):
    """What is measured, and how: the arguments of `measure_site`, as they are understood."""

    model: str
    export: Path
    card: Card
    data: str
    reading: ReadingSettings
    settings: SiteSettings
    promised: float


def _last_part(address: str) -> str:
    """Return the name of the folder at an address."""
    return Path(address.rstrip("/")).absolute().name


def _promised(card: Card, settings: SiteSettings) -> float:
    """Return the sensitivity to promise: that which a person gave, else the model's own.

    Raises:
        DataError: The model's own is 1, which no sample can promise.
    """
    own = card.operating_point.min_sensitivity or DEFAULT_PROMISE
    promised = settings.min_sensitivity or own
    if promised >= 1:
        raise DataError(
            "the model's card promises a sensitivity of 1, which no number of labelled images can "
            "show: give a lower one with --min-sensitivity"
        )
    return promised


def _require_apart(out: str, data: str) -> None:
    """Raise UsageError where the site's folder lies among the images: it would be read as data."""
    if f"{_real_place(out)}/".startswith(f"{_real_place(data)}/"):
        raise UsageError(f"{out} lies in {data}, where it would be read as images: give another")


def _real_place(address: str) -> str:
    """Return an address without links and dots, so that two can be compared."""
    storage = open_storage(address)
    if isinstance(storage, LocalStorage):
        return str(storage.folder.resolve())
    return storage.uri


def _read_sample(
    order: _Order,
    scratch: Path,
    key_map: str | None,
    on_progress: OnProgress,
) -> Sample:
    """Read the labelled images as preprocessing does, and choose those that are measured.

    Raises:
        DataError: Something has to be asked first, or the sample is too small.
    """
    key = order.settings.patient_key
    scan = data_steps.scan_images(
        order.data, scratch, order.reading, key, _pixel_settings(order.card), key_map=key_map
    )
    data_steps.inspect_all(scan, scratch, on_progress)
    comparison = publish.find_near_duplicates(scan, scratch, SplitSettings(patient_key=key))
    inspection = scanning.folder_of(scan, scratch)
    rows = pd.concat(load_parts(comparison.rows, inspection), ignore_index=True)
    sample = site_sample.choose_images(
        rows,
        load_table(comparison.pairs, inspection),
        load_table(comparison.rejects, inspection),
        site_sample.find_seen(order.model, order.export, order.card, rows, key),
        comparison.notes,
    )
    site_sample.require_enough(sample, order.data)
    return sample


def _pixel_settings(card: Card) -> PixelSettings:
    """Return the pixels that the model wants."""
    return PixelSettings(image_size=card.image_size, harmonise=card.settings.harmonise)


def _cache_pixels(order: _Order, sample: Sample, scratch: Path) -> Path:
    """Return the folder of the cached pixels; inspection has kept them already."""
    wanted = _pixel_settings(order.card)
    data = open_data(order.data, order.reading.follow_links)
    return pixel_cache.fill_pixel_cache(
        sample.rows, data, wanted.image_size, wanted.harmonise, scratch
    )


def _write_reference(export: Path, folder: Path) -> None:
    """Write the scores of the model's validation images, with which the site's are compared.

    A model that an earlier version exported brings none: then there is no such file.
    """
    path = folder / REFERENCE_SCORES
    path.unlink(missing_ok=True)
    scope = read_scope(export)
    if scope is not None:
        write_table(scope.validation[["label", "score", "patient"]], path)


def _write_site(
    order: _Order,
    sample: Sample,
    folder: Path,
    name: str,
) -> Site:
    """Measure the scores, draw and write the card, and write site.json last."""
    card = order.card
    val = card.data.splits["val"]
    model = Model(card.calibration, card.threshold, val[LABEL_NAMES[1]] / sum(val.values()))
    tables = scoring.read_tables(folder)
    site = Site(
        name=name,
        measured=datetime.now(UTC),
        version=__version__,
        architecture=card.architecture,
        run=card.run,
        model_sha256=card.model_sha256,
        model_calibration=model.calibration,
        model_threshold=model.threshold,
        model_prevalence=model.prevalence,
        promised=order.promised,
        data=order.data,
        images=site_sample.count_by_class(sample.rows),
        patients=site_sample.count_patients(sample.rows),
        unmeasured=distinct_images.count_reasons(sample.unmeasured),
        seen=sample.seen,
        asked_prevalence=order.settings.prevalence,
        notes=sample.notes,
        digests=scoring.table_digests(folder),
        measurement=measure(*tables, model, order.promised, order.settings.prevalence),
    )
    site_card.write_card(site, folder)
    return site.write(folder / NAME)
