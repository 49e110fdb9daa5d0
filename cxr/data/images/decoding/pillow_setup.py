"""Pillow's global settings: the one place that changes them, for the whole process."""

import contextlib
import ctypes
import functools
import logging
import re
import threading
import warnings

from PIL import Image, _imaging

from cxr.data.images.decoding.formats import MAX_PIXELS

_WARNINGS_OF_PILLOW = r"PIL\."
_FILTER = (  # as `warnings` keeps it
    "ignore",
    None,  # any message
    Warning,
    re.compile(_WARNINGS_OF_PILLOW),
    0,  # any line
)
_filter_lock = threading.Lock()


def configure_pillow() -> None:
    """Prepare Pillow for the decoding of any file; call it before each one, it is cheap.

    Afterwards the decoder decides which images are too large, and what Pillow and libtiff warn of
    is neither printed nor, where warnings are errors, raised.
    """
    _configure_once()
    # `warnings.catch_warnings` around each decoding would swap the filters of all threads. The
    # filter is added once, and again where somebody has reset the filters since.
    if _FILTER not in warnings.filters:
        with _filter_lock:
            warnings.filterwarnings("ignore", module=_WARNINGS_OF_PILLOW)


@functools.cache
def _configure_once() -> None:
    """Set what nobody resets."""
    # Pillow raises an error above twice this limit. `decoder` rejects by its own limit before that.
    Image.MAX_IMAGE_PIXELS = 2 * MAX_PIXELS
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # libtiff writes to the terminal itself. A Pillow without libtiff has nothing to silence, and
    # one that hides libtiff's names offers no way to.
    with contextlib.suppress(OSError, AttributeError):
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)
