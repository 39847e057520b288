"""Hands keys to the widgets one at a time, so that a key cannot reach a widget that an earlier key has left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Any

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.message_pump import MessagePump

ROUNDS = 12
SECONDS = 5.0
"""How long the effects of one key may delay the next: a handler that waits for a person must not block the keyboard."""
POLL_SECONDS = 0.02
OPENING = "opening"
"""Attribute of a screen: whether a part of it is opening that will take the focus, and so the next key."""


class OrderedInput(App[None], inherit_bindings=False):
    """An app in which each key takes full effect, the move of the focus included, before the next one is delivered.

    Textual puts a key into the queue of the widget that has the focus when the key is read. A slow connection delivers
    several keys at once; those after a Tab would then still go to the field before it.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._waiting: deque[events.Event] = deque()
        self._delivery: asyncio.Task[None] | None = None

    async def on_event(self, event: events.Event) -> None:
        keyboard = isinstance(event, (events.Key, events.Paste))
        # A click has to wait for the keys before it, too.
        behind = isinstance(event, events.InputEvent) and bool(self._waiting)
        if event.is_forwarded or not (keyboard or behind):
            await super().on_event(event)
            return
        self._waiting.append(event)
        if self._delivery is None or self._delivery.done():
            self._delivery = asyncio.create_task(self._deliver())

    async def _deliver(self) -> None:
        try:
            while self._waiting and self.is_running:
                event = self._waiting[0]
                receiver = self.focused or self.screen
                try:
                    await super().on_event(event)
                    await self._take_effect(receiver)
                finally:
                    self._waiting.popleft()
        except Exception as error:
            self._handle_exception(error)

    async def _take_effect(self, receiver: DOMNode) -> None:
        """Wait until all messages that the last key caused are handled."""
        end = time.monotonic() + SECONDS
        before = self._receivers(receiver)
        for _ in range(ROUNDS):
            for pump in before:
                await _reach(pump, end)
            while getattr(self.screen, OPENING, False) and self.is_running and time.monotonic() < end:
                await asyncio.sleep(POLL_SECONDS)
            now = self._receivers(self.focused or self.screen)
            if now == before and not any(pump.message_queue_size for pump in now):
                return
            before = now

    def _receivers(self, first: DOMNode) -> list[DOMNode]:
        """`first`, what its messages bubble to, and the app."""
        found = first.ancestors_with_self
        return found if self in found else [*found, self]


async def _reach(pump: MessagePump, end: float) -> None:
    """Wait until `pump` has handled everything that is in its queue now, or has closed, or until `end`."""
    reached = asyncio.Event()
    if not pump.call_later(reached.set):
        return
    # A screen may not run yet, and one that was closed meanwhile never gets to the callback.
    started = pump.is_running
    while not reached.is_set() and (pump.is_running or not started) and time.monotonic() < end:
        started = started or pump.is_running
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reached.wait(), POLL_SECONDS)
