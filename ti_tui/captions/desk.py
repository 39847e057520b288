"""The captions of a draft while they are reviewed: marks, edits, undo and redo, for the review screen. No textual.

Captions are kept in the draft. Each change is written first to a journal, for undo and restarts, then to the draft: if
the program is killed in between, the next desk takes from the journal what the draft lacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ti_tui.captions.filter import CaptionState
from ti_tui.captions.journal import REDO, UNDO, Batch, CaptionJournal
from ti_tui.dataset.caption_edits import framed
from ti_tui.dataset.caption_files import one_line
from ti_tui.setup.draft import Draft

if TYPE_CHECKING:
    from ti_tui.dataset.photograph_checks import SurveyedFile

CaptionMark = Literal["out", "changed", "reviewed", "none", "open"]
"""Left out; reviewed, but the file has changed since; reviewed; without a caption; not reviewed."""

TYPED, REPLACED, PHRASE, BY_NAME = "typed", "find and replace", "phrase", "file name"
BY_HAND = frozenset({TYPED, REPLACED, PHRASE, UNDO, REDO})
"""How a caption was made, if not by a program."""


@dataclass(frozen=True)
class Counts:
    """Number of trained images: all, reviewed, and without a caption."""

    trained: int
    reviewed: int
    without: int


@dataclass(frozen=True)
class Undone:
    """What was undone or redone: how the change was made, and the images whose captions changed, in their order."""

    how: str
    names: tuple[str, ...]


class CaptionDesk:
    """Reads and changes the captions of `draft`'s photographs.

    pictures: the usable photographs, in their order; left-out ones too.
    save:     writes the draft to disk.
    history:  the file of the journal; None keeps it in memory.
    """

    def __init__(
        self,
        draft: Draft,
        pictures: Sequence[SurveyedFile],
        *,
        save: Callable[[], None] = lambda: None,
        history: Path | None = None,
    ) -> None:
        self.draft = draft
        self.names = tuple(file.name for file in pictures)
        self._pictures = {file.name: file for file in pictures}
        self._stamps = {file.name: file_stamp(file.path) for file in pictures}
        self._from_files = {file.name: one_line(file.picture.caption) if file.picture else "" for file in pictures}
        self.save = save
        self._journal = CaptionJournal(history)
        self._recover()
        self._own_framed()

    # Reading

    @property
    def history_error(self) -> str:
        """Why changes cannot be kept over restarts; "" if they can."""
        return self._journal.error

    @property
    def frame(self) -> tuple[str, str]:
        """(prefix, suffix) of every caption."""
        own = self.draft.owns_choices
        return (self.draft.caption_prefix, self.draft.caption_suffix) if own else ("", "")

    def path(self, name: str) -> Path:
        return self._pictures[name].path

    def caption(self, name: str) -> str:
        """The caption as it is now, without prefix and suffix; "" for none."""
        own = self.draft.captions if self.draft.owns_choices else {}
        return own.get(name, self._from_files[name])

    def in_prompt(self, name: str) -> str:
        """The caption as it goes into the prompt, with prefix and suffix."""
        return framed(self.caption(name), *self.frame)

    def note(self, name: str) -> str:
        """The problem with the caption file, as long as its caption is used and not reviewed; else ""."""
        if self.mark(name) not in {"open", "none"} or self.caption(name) != self._from_files[name]:
            return ""
        found = (problem for problem in self._pictures[name].problems if problem.kind == "caption")
        return "; ".join(problem.message.removeprefix(f"{self.path(name).name}: ") for problem in found)

    def is_out(self, name: str) -> bool:
        return self.draft.owns_choices and name in self.draft.left_out

    def mark(self, name: str) -> CaptionMark:
        if self.is_out(name):
            return "out"
        caption = self.caption(name)
        if not caption:
            return "none"
        reviewed, _, stamp = self.draft.reviewed.get(name, "").partition(" ")
        if not self.draft.owns_choices or reviewed != mark_of(caption):
            return "open"
        return "reviewed" if stamp == self._stamps[name] else "changed"

    def states(self, name: str) -> frozenset[CaptionState]:
        """The states that a filter's `is:` matches."""
        found: set[CaptionState] = set()
        mark = self.mark(name)
        if mark == "out" or mark == "reviewed" or mark == "changed":
            found.add(mark)
        if not self.caption(name):
            found.add("empty")
        if mark == "open" and self.draft.made.get(name) == mark_of(self.caption(name)):
            found.add("auto")
        return frozenset(found)

    def counts(self) -> Counts:
        marks = [mark for name in self.names if (mark := self.mark(name)) != "out"]
        return Counts(len(marks), marks.count("reviewed"), marks.count("none"))

    def trained(self) -> dict[str, str]:
        """The captions of the photographs that are trained, by name; "" for none."""
        return {name: self.caption(name) for name in self.names if not self.is_out(name)}

    def next_without(self, after: str) -> str | None:
        """The next image without a caption after `after`, wrapping around at the end; None if there is none."""
        at = self.names.index(after) + 1 if after in self.names else 0
        return next((name for name in (*self.names[at:], *self.names[:at]) if self.mark(name) == "none"), None)

    def earlier(self) -> dict[str, str]:
        """Captions from an earlier draft for images that have none now."""
        last = {name: one_line(self._journal.earlier.get(name, "")) for name in self.names}
        return {name: text for name, text in last.items() if text and self.mark(name) == "none"}

    # One caption

    def type(self, name: str, text: str) -> bool:
        """Set the text typed so far; `finish` records it as a change. False if the caption stays the same."""
        caption, old = one_line(text), self.caption(name)
        if caption == old:
            return False
        self._begin()
        self.draft.typing.setdefault(name, old)
        self.draft.captions[name] = caption
        return True

    def finish(self, *, reviewed: str | None = None) -> None:
        """Record what was typed as changes, and mark the caption of `reviewed` as reviewed."""
        typing = self.draft.typing if self.draft.owns_choices else {}
        if not typing and reviewed is None:
            return
        self.draft.own_choices()
        changes = {name: (old, self.caption(name)) for name, old in typing.items() if name in self._pictures}
        self.draft.typing = {}
        if reviewed is not None:
            self._mark_reviewed(reviewed)
        self._note(changes, TYPED)
        self.save()

    def toggle_reviewed(self, name: str) -> None:
        """Mark a caption as reviewed, or remove the mark."""
        self.draft.own_choices()
        if self.mark(name) == "reviewed":
            del self.draft.reviewed[name]
        else:
            self._mark_reviewed(name)
        self.save()

    def leave_out(self, name: str) -> None:
        """Leave an image out, or use it again; its caption stays."""
        self.draft.leave_out(name)
        self.save()

    # Many captions

    def change(self, captions: Mapping[str, str], how: str, *, batch: str = "") -> int:
        """Change captions as one batch, which is undone as a whole. Returns how many changed.

        how:   TYPED, PHRASE, REPLACED, or the program that made them.
        batch: a common name for changes that are made one by one but belong together.
        """
        if any(name in self.draft.typing for name in captions):
            self.finish()
        mine = {name: one_line(text) for name, text in captions.items() if name in self._pictures}
        changes = {name: (old, new) for name, new in mine.items() if (old := self.caption(name)) != new}
        if changes:
            self._begin()
            for name, (old, new) in changes.items():
                self._put(name, old, new, how)
            self._note(changes, how, batch)
            self.save()
        return len(changes)

    def set_frame(self, prefix: str, suffix: str) -> None:
        """Put a prefix and a suffix around every caption when the run is made; "" is none."""
        self.draft.own_choices()
        self.draft.caption_prefix, self.draft.caption_suffix = one_line(prefix), one_line(suffix)
        self._own_framed()
        self.save()

    # Undo

    def undo(self) -> Undone | None:
        """Undo the last change, or a whole batch; None if there is nothing to undo."""
        self.finish()
        return self._turn_back(self._journal.undo, self._journal.redo, UNDO)

    def redo(self) -> Undone | None:
        self.finish()
        return self._turn_back(self._journal.redo, self._journal.undo, REDO)

    def _turn_back(self, stack: list[Batch], other: list[Batch], how: str) -> Undone | None:
        while stack:
            batch = stack.pop()
            changes: dict[str, tuple[str, str]] = {}
            for change in reversed(batch) if how == UNDO else batch:
                old, new = (change.new, change.old) if how == UNDO else (change.old, change.new)
                first = changes[change.picture][0] if change.picture in changes else old
                # A caption that differs by now, as after a shortened history, is left alone.
                if change.picture in self._pictures and self.caption(change.picture) == old:
                    again = how == REDO or batch[0].how == REPLACED
                    self._put(change.picture, old, new, batch[0].how if again else how)
                    changes[change.picture] = (first, new)
            if changes:
                self._note(changes, how)
                self.save()
                other.append(batch)
                return Undone(batch[0].how, tuple(name for name in self.names if name in changes))
        return None

    # Keeping

    def _begin(self) -> None:
        self.draft.own_choices()
        if not self.draft.journal:
            self.draft.journal = self._journal.begin()
            self.save()

    def _put(self, name: str, old: str, new: str, how: str) -> None:
        """Set a caption; find and replace keeps the marks of the previous one."""
        if how == REPLACED:
            if self.draft.made.get(name) == mark_of(old):
                self.draft.made[name] = mark_of(new)
            reviewed, space, stamp = self.draft.reviewed.get(name, "").partition(" ")
            if reviewed == mark_of(old):
                self.draft.reviewed[name] = f"{mark_of(new)}{space}{stamp}"
        elif how not in BY_HAND:
            self.draft.made[name] = mark_of(new)
        self.draft.captions[name] = new

    def _note(self, changes: Mapping[str, tuple[str, str]], how: str, batch: str = "") -> None:
        made = {name: (old, new) for name, (old, new) in changes.items() if old != new}
        if made:
            self._begin()
            self.draft.journal = self._journal.note(made, how, batch)

    def _recover(self) -> None:
        """Apply what the journal has and the draft lacks, and finish what was being typed."""
        own = self.draft.owns_choices
        lacking = self._journal.recover(self.draft.journal if own else 0.0)
        if not own:
            return
        # A draft may have been edited by hand; all other captions are clean already.
        self.draft.captions = {name: one_line(text) for name, text in self.draft.captions.items()}
        if lacking is None:
            self.draft.journal = 0.0
        for change in lacking or ():
            if change.picture in self._pictures:
                self._put(change.picture, self.caption(change.picture), change.new, change.how)
                self.draft.typing.pop(change.picture, None)
            self.draft.journal = change.t
        self.finish()

    def _own_framed(self) -> None:
        """With a prefix or suffix every caption must be in the draft: caption files are copied to the run unchanged."""
        if any(self.frame):
            for name in self.names:
                if caption := self._from_files[name]:
                    self.draft.captions.setdefault(name, caption)

    def _mark_reviewed(self, name: str) -> None:
        if caption := self.caption(name):
            self.draft.reviewed[name] = f"{mark_of(caption)} {self._stamps[name]}"


def mark_of(caption: str) -> str:
    """A short hash that identifies a caption."""
    return hashlib.sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def file_stamp(path: Path) -> str:
    """Size and time of a file as a short text, which differs after the file was changed."""
    try:
        status = path.stat()
    except OSError:
        return "gone"
    return f"{status.st_size}-{status.st_mtime_ns}"
