"""Work done ahead in a pool, and how many cores there are for it."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar


def usable_cores() -> int:
    """Return the number of processor cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], pool: Executor, most: int
) -> Generator[_Result, None, None]:
    """Yield work(item) in the order of `items`, done in the pool; at most `most` are under way or wait to be taken.

    What `work` raises is raised in its place. Then, or closed, nothing further is begun.
    """
    left = iter(items)
    waiting: deque[Future[_Result]] = deque()
    try:
        waiting.extend(pool.submit(work, item) for item in itertools.islice(left, most))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in itertools.islice(left, 1))
    finally:
        for each in waiting:
            each.cancel()
