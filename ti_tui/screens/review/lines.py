"""The text of the caption review: head, what the model reads, remarks. Pure functions; `reviewing` draws it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from ti_tui.captions.desk import Counts
from ti_tui.captions.prompt import PromptReading, Remark
from ti_tui.dataset.templates import NAME
from ti_tui.formatting import printable
from ti_tui.screens.review.captioning import CaptioningProgress
from ti_tui.widgets.canvas import Line, Piece, cut, spread

HELP = """\
Caption what should NOT become part of the token: background, clothes, light. What no caption names is learned; what \
all captions name is not.

✓ reviewed   ● not reviewed yet   · no caption
× left out   ≠ the image has changed since it was reviewed

The filter takes words and is:empty, is:reviewed, is:auto, is:changed, is:out, tokens:>60 (of the whole prompt), \
name:beach; a - before a term negates it: -is:reviewed.

Everything is saved as you type, and U undoes it, even after a restart. The files beside your photographs are not \
changed. esc stops the captioner, then clears the filter, then goes back.
"""
READS = "the model will read: "
LONGEST_SHOWN = 600
"""Characters of a prompt that are shown; 75 tokens are about 300."""
_SPACE = "\ue000"
"""Replaces the space inside the token's label while lines are wrapped."""


def head(
    width: int,
    at: int,
    total: int,
    counts: Counts,
    reading: PromptReading | None,
    progress: CaptioningProgress | None,
    stops: str = "",
) -> Line:
    """The position in the list, the progress of the review or the captioner, and the length of the prompt.

    stops: which keys stop the captioner, in words.
    """
    digits = len(str(total))
    left: list[Piece] = [(" Captions", "accent b"), (f"   {at:>{digits}} of {total}", "b")]
    if progress is not None:
        left.append((f"   {progress.describe()}", "accent"))
        left.append((f"   {stops}", "muted"))
    else:
        left.append((f"   {counts.reviewed:>{digits}} reviewed", "muted"))
        left.append((f"   {counts.without:>{digits}} without", "muted"))
    right: Piece = ("", "")
    if reading is not None:
        length = f"{reading.words}+{reading.vectors} of {reading.room} tokens "
        right = (f"! {length}", "warning b") if reading.too_long else (length, "muted")
    # The progress matters more than the key that stops it.
    return spread(left, right, width, least=3)


def reads(reading: PromptReading, token: str, width: int, height: int) -> list[Line]:
    """The prompt in `height` lines, with `token` for [name]; first what is cut off, if anything is."""
    lines: list[Line] = []
    if not reading.whole_token:
        lines.append([("! vectors of the token are cut off: put [name] first, or use fewer vectors", "warning")])
    elif reading.cut:
        cut_off = cut(printable(reading.cut[:LONGEST_SHOWN]), width - 12)
        lines.append([("! not read: ", "warning b"), (cut_off, "warning")])
    label = named(NAME, token, reading.each)
    text = READS + printable(reading.read[:LONGEST_SHOWN]).replace(NAME, label.replace(" ", _SPACE))
    parts = [part.plain.rstrip() for part in Content(text).wrap(max(len(READS) + 1, width))]
    room = height - len(lines)
    if len(parts) > room:
        parts = [*parts[: room - 1], cut(f"{parts[room - 1]} {parts[room]}", width)]
    for number, part in enumerate(parts):
        part = part.replace(_SPACE, " ")
        lead: list[Piece] = [(READS, "muted")] if number == 0 else []
        part = part.removeprefix(READS) if number == 0 else part
        pieces = part.split(label)
        for piece in pieces[:-1]:
            lead += [(piece, ""), (label, "accent")]
        lines.append([*lead, (pieces[-1], "")])
    return [*lines, *[[]] * (height - len(lines))]


def named(prompt: str, token: str, vectors: int) -> str:
    """A prompt with the token in place of [name], and its number of vectors: `[zkz x12]`."""
    return prompt.replace(NAME, f"[{token} x{vectors}]")


def remark(message: str, note: str, remarks: Sequence[Remark], width: int, height: int, *, listing: bool) -> list[Line]:
    """The answer to a key, else the note about this caption's file and the remarks about all captions.

    listing: the list has the focus, so that the key w works at once.
    """
    if message:
        return [[(cut(printable(message), width), "accent")], *[[]] * (height - 1)]
    lines: list[Line] = [[("! ", "warning b"), (cut(printable(note), width - 2), "warning")]] if note else []
    room = height - len(lines)
    for number, item in enumerate(remarks[:room]):
        key = ("w  " if listing else "esc w  ") if number == 0 and (item.word or item.template) else ""
        more = f"   and {len(remarks) - room} more" if number == room - 1 and len(remarks) > room else ""
        text = cut(printable(item.text), width - len(key) - len(more) - 2)
        lines.append([("! ", "warning b"), (key, "accent"), (text, "warning"), (more, "muted")])
    return [*lines, *[[]] * (height - len(lines))]
