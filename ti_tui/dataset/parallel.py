"""Processes pictures in two threads within bounded memory, for `survey` and `prepare`."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

WORKERS = 2
"""Pillow releases Python's lock while it decodes and resizes. More than two threads gain little and need memory."""
AHEAD = 2
"""Pictures per thread that are started before the first result is taken."""
ROOM_BYTES = 400_000_000
BYTES_A_PIXEL = 8
"""Approximate memory per pixel for decoding a picture and converting it once."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Room:
    """Memory shared by threads: a large picture waits until the others are done, but is never refused."""

    def __init__(self, size_bytes: int = ROOM_BYTES) -> None:
        self._size_bytes = size_bytes
        self._taken = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Reserve `size_bytes`: wait until they are free, or nothing is reserved. Must not be nested in a thread."""
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
    """`map` in a few threads: results in the order of the items, each as soon as it and all before it are done.

    Items that have not been started when the iterator is closed are dropped. An exception in `work` is raised in turn.
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
