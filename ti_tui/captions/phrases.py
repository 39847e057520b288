"""Nine phrases that are added to captions with a digit key, kept between drafts."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ti_tui import atomic, bounded
from ti_tui.dataset.caption_files import one_line
from ti_tui.settings import state_folder

MOST = 9
FILE = "phrases.json"


def load_phrases() -> tuple[str, ...]:
    """The nine phrases, "" for empty ones. A file that cannot be read counts as empty."""
    try:
        kept = bounded.read_json(state_folder() / FILE)
    except (OSError, ValueError, RecursionError):
        kept = []
    texts = [one_line(text) if isinstance(text, str) else "" for text in kept] if isinstance(kept, list) else []
    return tuple([*texts, *[""] * MOST][:MOST])


def save_phrases(phrases: Sequence[str]) -> None:
    """Save the phrases. A file that cannot be written is no error."""
    with contextlib.suppress(atomic.CannotWrite):
        atomic.write_json(state_folder() / FILE, [one_line(text) for text in phrases[:MOST]])


def with_phrase(caption: str, phrase: str) -> str:
    """`caption` with `phrase` at its end, after a comma; unchanged if it has the phrase already."""
    caption, phrase = one_line(caption), one_line(phrase)
    if not phrase or phrase.casefold() in (part.strip().casefold() for part in caption.split(",")):
        return caption
    return f"{caption.rstrip(' ,')}, {phrase}" if caption else phrase
