"""Small batches through a network on every core, or large ones through a GPU that the cores prepare for.

Left out: child processes (`child`), reading ahead (`ahead`).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from cxr.core.parallel import map_in_order
from cxr.models.compute import backend

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")


def map_batches(
    prepare: Callable[[_Batch], Any] | None,
    network: Callable[[Any], _Result],
    batches: Iterable[_Batch],
) -> Iterator[_Result]:
    """Yield network(prepare(batch)) in the order of `batches`, several at once; network(batch) where nothing is to prepare.

    Where a processor computes, each core has a stream: a batch as small as `backend.batch()` stays in its cache from
    layer to layer, and one stream prepares its next images while another computes (bench/streams.py). Where a GPU computes,
    batches go into it one after the other, and every core prepares for it.
    """
    left, streams = iter(batches), backend.parallel_batches()
    if streams == 1:
        with ThreadPoolExecutor(backend.thread_count()) as pool:
            yield from map(
                network,
                map_in_order(prepare, left, pool, backend.thread_count() + 1) if prepare else left,
            )
        return

    def both(batch: _Batch) -> _Result:
        return network(prepare(batch) if prepare else batch)

    yield from map(
        both, itertools.islice(left, 1)
    )  # alone: it builds the network's function, which two would do twice
    with ThreadPoolExecutor(streams) as pool:
        yield from map_in_order(both, left, pool, 2 * streams)
