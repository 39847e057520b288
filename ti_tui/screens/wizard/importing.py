"""Settings of other trainers in the wizard: recognised where a path is typed, or picked, and put into the draft."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.content import Content
from textual.message import Message

from ti_tui.errors import UserError
from ti_tui.formatting import printable
from ti_tui.paths import BadPath, user_path
from ti_tui.screens.wizard.draft_screen import DraftChanged, DraftScreen
from ti_tui.setup.draft import Draft

if TYPE_CHECKING:
    from ti_tui.exchange.importing import ImportedSettings

LOOK_SECONDS = 0.7
WATCHED = ("photographs", "model.base")
"""Fields in which people may give a file of settings."""
SUFFIXES = frozenset({".json", ".toml", ".yaml", ".yml", ".sh", ".bat", ".cmd", ".ps1"})


class SettingsRead(Message):
    """A file of settings was read. field: in which its path was typed; "" if it was picked."""

    def __init__(self, found: ImportedSettings, field: str) -> None:
        super().__init__()
        self.found, self.field = found, field


class SettingsRefused(Message):
    """A file that was picked holds no settings; why."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class ImportingScreen(DraftScreen):
    """A draft that can be filled in from the settings of another trainer."""

    def __init__(self, draft: Draft | None = None) -> None:
        super().__init__(draft)
        self._offered: set[str] = set()

    async def take_draft(self, draft: Draft) -> None:
        """Continue with `draft` instead of the open one."""
        raise NotImplementedError

    def import_settings(self) -> None:
        """Let a file be picked, and offer what is in it."""
        from ti_tui.screens.dialogs import PathPicker, start_of

        def picked(path: Path | None) -> None:
            if path is not None:
                self._read_settings(path, "", told=True)

        start = start_of(self.draft.photographs)
        self.app.push_screen(PathPicker("Settings of another trainer", start, suffixes=SUFFIXES), picked)

    def on_draft_changed(self, message: DraftChanged) -> None:
        self._later("look", LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Offer the file that is named in a field for a folder or a model, once."""
        for name in WATCHED:
            text = self.draft.text(name).strip()
            if Path(text).suffix.lower() in SUFFIXES and text not in self._offered:
                self._offered.add(text)
                try:
                    self._read_settings(user_path(text), name, told=False)
                except BadPath:
                    continue

    @work(thread=True, group="import", exit_on_error=False)
    def _read_settings(self, path: Path, field: str, *, told: bool) -> None:
        from ti_tui.exchange.importing import import_settings

        try:
            found = import_settings(path)
            if found.needs and self.draft.source() is not None and field != "photographs":
                from ti_tui.exchange.gathering import Given

                found = import_settings(path, Given(images=self.draft.photographs))
        except UserError as error:
            if told:
                self.post_message(SettingsRefused(str(error)))
            return
        self.post_message(SettingsRead(found, field))

    def on_settings_refused(self, message: SettingsRefused) -> None:
        self.notify(message.why, severity="warning", markup=False, timeout=8)

    def on_settings_read(self, message: SettingsRead) -> None:
        from ti_tui.screens.dialogs import Answer, Reader, ask

        found = message.found

        def table() -> None:
            self.app.push_screen(Reader(found.title, _table(found)), lambda _: self.on_settings_read(message))

        use = Answer("u", "use these settings", partial(self._use, found, message.field))
        answers = [use, Answer("t", "show what becomes of each field", table), Answer("n", "leave the draft as it is")]
        ask(self.app, f"Import {printable(found.file.name)}?", _summary(found), answers)

    async def _use(self, found: ImportedSettings, field: str) -> None:
        draft = copy.deepcopy(self.draft)
        if field:
            draft.reset(field)
        imported = found.draft()
        for name, value in imported.fields.items():
            draft.put(name, value)
        for name, text in found.own.items():
            draft.set(name, text)
        await self.take_draft(draft)


def _summary(found: ImportedSettings) -> str:
    counts = found.counts()
    lost = [row.name.rpartition(".")[2] for row in found.rows if row.fate == "left out"]
    lines = [
        printable(found.title),
        f"{counts['same']} fields same, {counts['changed']} changed, {len(lost)} left out.",
    ]
    if lost:
        more = f" and {len(lost) - 8} more" if len(lost) > 8 else ""
        lines.append(f"Left out: {printable(', '.join(lost[:8]))}{more}.")
    return "\n".join(lines)


def _table(found: ImportedSettings) -> Content:
    """Every field of the file with what becomes of it; first those that are not the same."""
    pieces: list[tuple[str, str]] = []
    for fate in ("left out", "changed", "same"):
        for row in found.rows:
            if row.fate == fate:
                told = ", ".join(filter(None, (row.ours, row.note)))
                what = printable(f"{row.fate}{told and f': {told}'}")
                pieces += [(f"{printable(row.name)}  {printable(row.value)}\n", ""), (f"  {what}\n", "$muted")]
    return Content.assemble(*pieces)
