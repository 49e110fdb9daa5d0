"""Run batches through a network: several at once on a processor's cores, one at a time on a GPU."""

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
    """Yield network(prepare(batch)), or network(batch) without `prepare`, in the order of batches.

    Where a processor computes, each core has a stream: a batch as small as
    `backend.inference_batch_size()` stays in its cache from layer to layer, and one stream prepares
    its next images while another computes (bench/streams.py). Where a GPU computes, batches go into
    it one after the other, and every core prepares for it.

    Args:
        prepare: Makes the input of the network; None if the batches are that.
        network: Computes the result of a batch.
        batches: What the batches are made from.
    """
    streams = backend.parallel_batches()
    if streams == 1:
        yield from _one_after_the_other(prepare, network, batches)
        return

    def process(batch: _Batch) -> _Result:
        return network(batch if prepare is None else prepare(batch))

    remaining = iter(batches)
    # The first batch alone: it builds the network's function, which two at once would do twice.
    yield from map(process, itertools.islice(remaining, 1))
    with ThreadPoolExecutor(streams) as pool:
        yield from map_in_order(process, remaining, pool, 2 * streams)


def _one_after_the_other(
    prepare: Callable[[_Batch], Any] | None,
    network: Callable[[Any], _Result],
    batches: Iterable[_Batch],
) -> Iterator[_Result]:
    """Yield the results of batches that go into the network one after the other."""
    if prepare is None:
        yield from map(network, batches)
        return
    threads = backend.thread_count()
    with ThreadPoolExecutor(threads) as pool:
        prepared = map_in_order(prepare, batches, pool, threads + 1)
        yield from map(network, prepared)
