"""The keys of a screen as entries of the command palette: `COMMANDS = {ActionCommands}` on the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.dom import DOMNode


class ActionEntry(NamedTuple):
    """An action as it is listed: its name, what it does with its key, the action, and whose it is."""

    name: str
    about: str
    action: str
    owner: DOMNode


class ActionCommands(Provider):
    """Lists the actions that the screen's keys have now: those with an id, each once."""

    async def discover(self) -> Hits:
        for entry in self._entries():
            yield DiscoveryHit(entry.name, self._command(entry), help=entry.about)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for entry in self._entries():
            if score := max(matcher.match(entry.name), matcher.match(entry.about)):
                yield Hit(score, matcher.highlight(entry.name), self._command(entry), help=entry.about)

    def _entries(self) -> Iterator[ActionEntry]:
        seen = set()
        for active in self.screen.active_bindings.values():
            binding = active.binding
            # The keys of the app have entries of their own.
            if not binding.id or not active.enabled or active.node is self.app or binding.action in seen:
                continue
            seen.add(binding.action)
            about = f"{binding.tooltip or binding.description} ({self.app.get_key_display(binding)})"
            # The palette reads its texts as markup.
            yield ActionEntry(binding.description, about.replace("[", "\\["), binding.action, active.node)

    def _command(self, entry: ActionEntry) -> Callable[[], object]:
        # Called while the palette is still open: the action waits until it has closed.
        return partial(self.app.call_later, partial(self.app.run_action, entry.action, entry.owner))
