"""Small dialogs: a question with answers, a text to read, a line to type, a file or folder to pick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from ti_tui.formatting import printable
from ti_tui.paths import BadPath, user_path
from ti_tui.widgets.controls import PathSuggester


@dataclass(frozen=True)
class Answer:
    """One answer: what is returned for it, its key, its words."""

    id: str
    key: str
    text: str


class QuestionDialog(ModalScreen[str | None]):
    """A question with a few answers; the first is the default, escape answers nothing."""

    BINDINGS = [Binding("escape", "dismiss(None)", "Back", show=False)]

    def __init__(self, title: str, text: str, answers: Sequence[Answer]) -> None:
        super().__init__()
        self._heading, self._text, self._answers = title, text, tuple(answers)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._heading, classes="dialog-title", markup=False)
            if self._text:
                yield Static(self._text, classes="dialog-text", markup=False)
            yield OptionList(
                *(
                    Option(Content.assemble((f"{answer.key}  ", "$accent"), Content(answer.text)), id=answer.id)
                    for answer in self._answers
                )
            )
            yield Static("enter choose   esc back", classes="dialog-keys", markup=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def on_key(self, event: events.Key) -> None:
        for answer in self._answers:
            if event.character == answer.key or event.key == answer.key:
                event.stop()
                self.dismiss(answer.id)


class Reader(ModalScreen[None]):
    """A text to read, never taken as markup."""

    BINDINGS = [
        Binding("escape,q,enter,v,l", "dismiss(None)", "Back", show=False),
        Binding("c", "copy", "Copy", show=False),
    ]

    def __init__(self, title: str, text: str | Content, *, plain: str | None = None) -> None:
        super().__init__()
        self._heading, self._text = title, text
        self._plain = plain if plain is not None else str(text)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._heading, classes="dialog-title", markup=False)
            with VerticalScroll():
                yield Static(self._text, classes="body", markup=False)
            yield Static("arrows scroll   c copy all   esc back", classes="dialog-keys", markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._plain)
        self.notify("Copied.", timeout=2)


class Typed(ModalScreen[str | None]):
    """A line to type; escape gives None."""

    BINDINGS = [Binding("escape", "dismiss(None)", "Back", show=False)]

    def __init__(self, title: str, text: str, value: str = "", *, path: bool = False) -> None:
        super().__init__()
        self._heading, self._text, self._value, self._path = title, text, value, path

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._heading, classes="dialog-title", markup=False)
            if self._text:
                yield Static(self._text, classes="dialog-text", markup=False)
            yield Input(self._value, compact=True, suggester=PathSuggester() if self._path else None)
            keys = "enter take it   esc back" + ("   right complete the path" if self._path else "")
            yield Static(keys, classes="dialog-keys", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.dismiss(event.value)
        else:
            self.notify("Type something, or press esc.", timeout=2)


class PathPicker(ModalScreen[Path | None]):
    """Walks the folders of this machine. Gives a folder, or with `suffixes` also a file of one of them.

    The first entry is the folder itself; counted: endings whose files are counted in it.
    """

    BINDINGS = [
        Binding("escape", "dismiss(None)", "Back", show=False),
        Binding("backspace,left", "up", "Up", show=False),
        Binding("full_stop", "hidden", "Hidden", show=False),
        Binding("space", "take", "Take", show=False),
    ]

    def __init__(
        self,
        title: str,
        start: Path,
        *,
        suffixes: frozenset[str] = frozenset(),
        counted: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self._counted = counted
        self._heading, self._suffixes, self._hidden = title, suffixes, False
        self._folder = next((path for path in (start, *start.parents) if _is_folder(path)), Path.home())
        self._entries: list[Path] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._heading, classes="dialog-title", markup=False)
            yield Static("", id="where", classes="dialog-text", markup=False)
            yield OptionList()
            yield Static("", id="keys", classes="dialog-keys", markup=False)

    def on_mount(self) -> None:
        self.query_one("#keys", Static).update("enter open   space take it   left up   . hidden   esc back")
        self._fill()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        path = self._entries[event.option_index]
        if path.is_dir() and path != self._folder:
            self._folder = path
            self._fill()
        else:
            self.dismiss(path)

    def action_take(self) -> None:
        at = self.query_one(OptionList).highlighted
        self.dismiss(self._entries[at] if at is not None else self._folder)

    def action_up(self) -> None:
        came_from = self._folder
        self._folder = self._folder.parent
        self._fill(came_from)

    def action_hidden(self) -> None:
        self._hidden = not self._hidden
        self._fill()

    def _fill(self, at: Path | None = None) -> None:
        folders: list[Path] = []
        files: list[Path] = []
        others = pictures = 0
        try:
            for entry in self._folder.iterdir():
                if entry.name.startswith(".") and not self._hidden:
                    continue
                if entry.is_dir():
                    folders.append(entry)
                elif entry.suffix.lower() in self._suffixes:
                    files.append(entry)
                elif entry.suffix.lower() in self._counted:
                    pictures += 1
                else:
                    others += 1
            said = printable(str(self._folder)) + (f"   ({others} other files)" if others else "")
        except OSError as error:
            said = f"{printable(str(self._folder))}: {error.strerror}"
        self.query_one("#where", Static).update(said)
        key = lambda path: path.name.lower()  # noqa: E731
        self._entries = [self._folder, *sorted(folders, key=key), *sorted(files, key=key)]
        options = self.query_one(OptionList)
        here = "./  this folder" + (f", {pictures} pictures" if pictures else "")
        names = [f"{path.name}/" if path.is_dir() else path.name for path in self._entries[1:]]
        options.set_options([Content(printable(name)) for name in (here, *names)])
        # The folder itself, if it holds what is looked for; else the first one in it.
        first = 0 if pictures or len(self._entries) == 1 else 1
        options.highlighted = self._entries.index(at) if at in self._entries else first


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def start_of(text: str) -> Path:
    """Where a picker begins for what was typed so far."""
    try:
        return user_path(text).absolute() if text else Path.home()
    except BadPath:
        return Path.home()
