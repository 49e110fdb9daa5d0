"""Work in a pool whose results come in order, and how many processor cores there are for it."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def usable_cores() -> int:
    """Return how many processor cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_order(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    pool: Executor,
    most: int,
) -> Generator[_Result, None, None]:
    """Yield work(item) for every item, in the order of the items.

    At most `most` items are taken ahead, so that a long or endless input needs little memory. An
    error of `work` is raised in its item's place. After it, or when the generator is closed,
    no further item is started.

    Args:
        work: What to do with an item.
        items: The items.
        pool: Where the work is done.
        most: How many items may be under way, or done and not yet yielded.
    """
    remaining = iter(items)
    futures: deque[Future[_Result]] = deque()
    try:
        for item in itertools.islice(remaining, most):
            futures.append(pool.submit(work, item))
        while futures:
            yield futures.popleft().result()
            for item in itertools.islice(remaining, 1):
                futures.append(pool.submit(work, item))
    finally:
        for future in futures:
            future.cancel()
