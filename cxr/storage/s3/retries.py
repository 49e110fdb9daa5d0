"""Repeated reading: botocore repeats requests itself, but not the reading of their answers."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from cxr.core.errors import DamagedError
from cxr.storage.s3.faults import errors, failure, is_cut_short

# Seconds before each further attempt, each up to doubled at random.
DELAYS: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
_Result = TypeVar("_Result")


def retry_read(verb: str, uri: str, attempt: Callable[[], _Result]) -> _Result:
    """Return the result of `attempt`, repeated while a body is cut short or damaged.

    Args:
        verb: What is tried, as in "cannot `verb` `uri`".
        uri: The object it is tried on.
        attempt: What reads the object.

    Raises:
        DamagedError: The body was damaged each time.
        StorageError: The body was cut short each time.
    """
    for delay in DELAYS:
        try:
            return attempt()
        except errors() as error:
            if not is_cut_short(error):
                raise
        except DamagedError:
            pass
        pause(delay)
    try:
        return attempt()
    except errors() as error:
        raise failure(verb, uri, error) from error


def pause(delay: float) -> None:
    """Wait for `delay` seconds, up to doubled at random.

    So many processes that wait at the same time do not come back together.
    """
    time.sleep(delay * random.uniform(1, 2))
