"""Work done in threads and taken in its order: files read ahead, small batches through a network on every core.

Left out: child processes (`child`), and reading many objects from S3, which has its own connections.
"""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cxr import hardware

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], threads: int, most: int
) -> Generator[_Result, None, None]:
    """Yield work(item) in the order of `items`, done in threads; at most `most` are under way or wait to be taken.

    What `work` raises is raised in its place, and nothing further is begun.
    """
    left = iter(items)
    pool = ThreadPoolExecutor(threads)
    try:
        waiting = deque(pool.submit(work, item) for item in itertools.islice(left, most))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in itertools.islice(left, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def through(network: Callable[[_Item], _Result], batches: Iterable[_Item]) -> Iterator[_Result]:
    """Yield network(batch) in the order of `batches`, several at once: one stream a core, two where there is a GPU.

    A batch as small as `hardware.batch()` stays in a processor's cache from layer to layer, and one stream reads its next
    images while another computes (bench/streams.py).
    """
    left, streams = iter(batches), hardware.streams()
    for first in itertools.islice(left, 1):
        yield network(first)  # alone: it builds the network's function, which two threads would do twice
    yield from in_order(network, left, streams, 2 * streams)
