"""Small batches through a network on every core, or large ones through a GPU that the cores prepare for.

Left out: child processes (`child`), reading ahead (`ahead`).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cxr import backend
from cxr.ahead import in_order

_Batch = TypeVar("_Batch")
_Input = TypeVar("_Input")
_Result = TypeVar("_Result")


def through(
    prepare: Callable[[_Batch], _Input], network: Callable[[_Input], _Result], batches: Iterable[_Batch]
) -> Iterator[_Result]:
    """Yield network(prepare(batch)) in the order of `batches`, several at once.

    Where a processor computes, each core has a stream: a batch as small as `backend.batch()` stays in its cache from
    layer to layer, and one stream prepares its next images while another computes (bench/streams.py). Where a GPU computes,
    batches go into it one after the other, and every core prepares for it.
    """
    left, streams = iter(batches), backend.streams()
    if streams == 1:
        with ThreadPoolExecutor(backend.threads()) as pool:
            for each in in_order(prepare, left, pool, backend.threads() + 1):
                yield network(each)
        return
    for first in itertools.islice(left, 1):
        yield network(prepare(first))  # alone: it builds the network's function, which two threads would do twice
    with ThreadPoolExecutor(streams) as pool:
        yield from in_order(lambda batch: network(prepare(batch)), left, pool, 2 * streams)
