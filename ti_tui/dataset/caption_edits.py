"""Changing many captions at once: find and replace, and what stands around all of them. Pure: texts in, texts out."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ti_tui.dataset.caption_files import one_line
from ti_tui.dataset.caption_text import begins_with, ends_with
from ti_tui.errors import UserError

LONGEST_SECONDS = 0.5
"""How long an expression may look through the captions: some take years."""

_SEAM = "\x00"
"""Stands where words were taken out, until the commas and spaces around are mended. No caption holds one."""
_SEAMS = re.compile(r"(\s*,)?(\s*)\x00(?:[\s,]*\x00)*(\s*)(,\s*)?")


class ReplaceError(UserError):
    """What is looked for, or put in its place, cannot be understood: where, and why."""


@dataclass(frozen=True)
class Replacement:
    """What to look for, and what to put in its place; regex: both are Python's expressions."""

    find: str
    replace: str = ""
    whole_word: bool = False
    ignore_case: bool = False
    regex: bool = False


@dataclass(frozen=True)
class Replaced:
    """changed: the new captions by name, of those that become others; places: how often it was found in all."""

    changed: Mapping[str, str]
    places: int


def replace_in(captions: Mapping[str, str], wish: Replacement) -> Replaced:
    """`captions` with the replacement made. Raises ReplaceError, and then nothing is changed.

    Where words are taken out, the commas and spaces that stood around them go too.
    """
    if not wish.find:
        return Replaced({}, 0)
    pattern = _pattern(wish)
    template: str | None = wish.replace if wish.regex else None
    changed: dict[str, str] = {}
    places = 0

    def put(found: re.Match[str]) -> str:
        new = wish.replace if template is None else found.expand(template)
        return new if new or not found[0] else _SEAM

    try:
        with _time_limit(LONGEST_SECONDS):
            for name, caption in captions.items():
                text, count = pattern.subn(put, caption)
                places += count
                new = clean_line(_SEAMS.sub(_mended, text))
                if count and new != caption:
                    changed[name] = new
    except (re.error, IndexError) as error:
        raise ReplaceError(f"what is put instead: {_reason(error)}") from None
    except TimeoutError:
        raise ReplaceError("this expression takes too long", remedy="Make it simpler.") from None
    return Replaced(changed, places)


def clean_line(text: str) -> str:
    """`text` as a caption is kept: one line, nothing invisible; doing it again changes nothing."""
    # What is invisible may only be seen once another invisible letter is gone.
    while (line := one_line(text)) != text:
        text = line
    return line


def framed(caption: str, prefix: str, suffix: str) -> str:
    """`caption` between prefix and suffix, each put once: what has them stays as it is. No caption gets none."""
    caption, prefix, suffix = (" ".join(text.split()) for text in (caption, prefix, suffix))
    if not caption:
        return ""
    if prefix and not begins_with(caption, prefix):
        caption = f"{prefix} {caption}"
    if suffix and not ends_with(caption, suffix):
        caption = f"{caption}{'' if suffix[0] in ',.;:!?' else ' '}{suffix}"
    return caption


def _pattern(wish: Replacement) -> re.Pattern[str]:
    find = wish.find if wish.regex else re.escape(wish.find)
    if wish.whole_word:
        find = rf"(?<!\w)(?:{find})(?!\w)"
    try:
        # Compiled alone first: an error's place counts from what was typed.
        if wish.regex:
            re.compile(wish.find)
        return re.compile(find, re.IGNORECASE if wish.ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise ReplaceError(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, re.error) and error.pos is not None:
        return f"letter {error.pos + 1}: {error.msg}"
    return str(error)


def _mended(seam: re.Match[str]) -> str:
    before, left, right, after = seam[1], seam[2], seam[3], seam[4]
    start, end = seam.start() == 0, seam.end() == len(seam.string)
    if start or end:
        return ""
    if before or after:
        return ", "
    return " " if left or right else ""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block after so long. Only where signals interrupt: in the main thread, not on Windows.

    Python's expressions look at signals while they search, and at nothing else.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: object) -> None:
        raise TimeoutError

    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            # Somebody else's alarm, such as a test's, goes on.
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)), interval)
