"""Small batches through a network on every core. Left out: child processes (`child`), reading ahead (`ahead`)."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cxr import hardware
from cxr.ahead import in_order

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")


def through(network: Callable[[_Batch], _Result], batches: Iterable[_Batch]) -> Iterator[_Result]:
    """Yield network(batch) in the order of `batches`, several at once: one stream a core, two where there is a GPU.

    A batch as small as `hardware.batch()` stays in a processor's cache from layer to layer, and one stream reads its next
    images while another computes (bench/streams.py).
    """
    left, streams = iter(batches), hardware.streams()
    for first in itertools.islice(left, 1):
        yield network(first)  # alone: it builds the network's function, which two threads would do twice
    with ThreadPoolExecutor(streams) as pool:
        yield from in_order(network, left, pool, 2 * streams)
