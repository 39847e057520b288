"""Two pictures at a time, within bounded memory; `survey` and `prepare` work through their pictures with it."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

WORKERS = 2
"""Pillow lets go of Python's lock while it decodes and resizes. More than two bring little and take memory."""
AHEAD = 2
"""Pictures per worker that are begun before the first of them was taken."""
ROOM_BYTES = 400_000_000

Item = TypeVar("Item")
Result = TypeVar("Result")


class Room:
    """Memory that threads share: a large picture waits until the others are done, and is never refused."""

    def __init__(self, size_bytes: int = ROOM_BYTES) -> None:
        self._size_bytes = size_bytes
        self._taken = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Hold `size_bytes`; waits until they are free, or nobody else holds any. Not to be nested in a thread."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size_bytes <= self._size_bytes)
            self._taken += size_bytes
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size_bytes
                self._changed.notify_all()


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int = WORKERS
) -> Generator[Result, None, None]:
    """`map` in a few threads: results in the order of the items, each as soon as it and those before it are done.

    What has not been begun when the iterator is closed is dropped. An exception of `work` comes out at its item.
    """
    waiting: deque[Future[Result]] = deque()
    rest = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
    try:
        while True:
            while len(waiting) < workers * AHEAD and (item := next(rest, pool)) is not pool:
                waiting.append(pool.submit(work, item))  # type: ignore[arg-type]
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
