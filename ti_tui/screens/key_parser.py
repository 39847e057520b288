"""Reads keys from the terminal's bytes where an Esc and what was typed after it arrive together."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from textual import events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._xterm_parser import XTermParser

ESC = "\x1b"
INTRODUCERS = "[O]P_^"
"""After Esc these begin a longer sequence of the terminal."""
ALT_KEYS = frozenset("123456s")
"""The characters that the program's own keys are bound to together with Alt."""


class KeyParser(XTermParser):
    """Tells Alt with a character from Esc and a character, which a terminal sends as the same two bytes.

    Textual waits up to 32 characters for the end of a sequence that it does not know, and then loses the Esc: after a
    stalled connection that is everything typed since. Here two bytes are enough. They are Alt with the character if a
    key is bound to that, else Esc and then the character.
    """

    alt_keys: Collection[str] = ALT_KEYS

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[events.Key]:
        if len(sequence) == 2 and sequence[0] == ESC and sequence not in ANSI_SEQUENCES_KEYS:
            character = sequence[1]
            if character not in INTRODUCERS and character != ESC:
                bound = character in self.alt_keys
                if not bound:
                    yield events.Key("escape", ESC)
                yield from super()._sequence_to_key_events(character, alt=bound)
                return
        yield from super()._sequence_to_key_events(sequence, alt=alt)


def install(keymap: Collection[str] = ()) -> None:
    """Let Textual's drivers read keys in this way. keymap: the user's own keys, such as `alt+x`."""
    for key in keymap:
        name = key.removeprefix("alt+")
        if name != key and len(name) == 1:
            KeyParser.alt_keys = {*KeyParser.alt_keys, name}
    for digit in range(1, 7):
        # Textual takes these for what WezTerm types on a Mac.
        ANSI_SEQUENCES_KEYS.pop(f"{ESC}{digit}", None)  # type: ignore[attr-defined]
    if os.name != "nt":
        from textual.drivers import linux_driver

        linux_driver.XTermParser = KeyParser  # type: ignore[attr-defined]
