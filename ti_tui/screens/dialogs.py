"""Small dialogs: a question with answers, a text to read, a line to type, a path to pick; a base class for forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from ti_tui.formatting import printable
from ti_tui.paths import BadPath, user_path
from ti_tui.widgets.controls import Edited, PathSuggester

Result = TypeVar("Result")


class Dialog(ModalScreen[Result]):
    """A heading, an optional text, the body, and the keys; escape returns None."""

    FRAME: ClassVar[str] = "dialog"
    BINDINGS = [Binding("escape", "dismiss(None)", "Back", show=False)]

    def __init__(self, heading: str, text: str = "", *, keys: str = "") -> None:
        super().__init__()
        self._heading, self._text, self._keys = heading, text, keys

    def compose(self) -> ComposeResult:
        with Vertical(classes=self.FRAME):
            yield Static(self._heading, classes="dialog-title", markup=False)
            if self._text:
                yield Static(self._text, classes="dialog-text", markup=False)
            yield from self.body()
            yield Static(self._keys, id="keys", classes="dialog-keys", markup=False)

    def body(self) -> ComposeResult:
        """The widgets between the text and the keys."""
        raise NotImplementedError


class FormDialog(Dialog[Result]):
    """Controls, and below them the outcome of the present input."""

    FRAME = "dialog form"

    def on_mount(self) -> None:
        self.call_after_refresh(self.show_outcome)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_outcome)

    def on_edited(self, message: Edited) -> None:
        message.stop()
        self.show_outcome()

    def show_outcome(self) -> None:
        """Show the outcome of the present input."""
        raise NotImplementedError


def labelled(label: str, control: Widget) -> Horizontal:
    """A line of a form: a label and a control."""
    return Horizontal(Static(label, classes="label", markup=False), control, classes="line")


@dataclass(frozen=True)
class Answer:
    """One answer: its key, its text, and what it does."""

    key: str
    text: str
    do: Callable[[], object] = lambda: None


class QuestionDialog(Dialog[Answer | None]):
    """A question with a few answers; the first is the default, escape returns None. `ask` shows it."""

    def __init__(self, title: str, text: str, answers: Sequence[Answer]) -> None:
        super().__init__(title, text, keys="enter choose   esc back")
        self._answers = tuple(answers)

    def body(self) -> ComposeResult:
        yield OptionList(
            *(
                Option(Content.assemble((f"{answer.key}  ", "$accent"), Content(answer.text)))
                for answer in self._answers
            )
        )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._answers[event.option_index])

    def on_key(self, event: events.Key) -> None:
        for answer in self._answers:
            if event.character == answer.key or event.key == answer.key:
                event.stop()
                self.dismiss(answer)


def ask(app: App[Any], title: str, text: str, answers: Sequence[Answer], otherwise: Answer | None = None) -> None:
    """Ask a question and do what is answered. otherwise: the answer that escape gives, if it does anything."""

    def answered(answer: Answer | None) -> Any:
        chosen = answer or otherwise
        return chosen.do() if chosen is not None else None

    app.push_screen(QuestionDialog(title, text, answers), answered)


class Reader(Dialog[None]):
    """A text to read, shown without markup."""

    BINDINGS = [
        Binding("q,enter,v,l", "dismiss(None)", "Back", show=False),
        Binding("c", "copy", "Copy", show=False),
    ]

    def __init__(self, title: str, text: str | Content, *, plain: str | None = None) -> None:
        super().__init__(title, keys="arrows scroll   c copy all   esc back")
        self._content = text
        self._plain = plain if plain is not None else str(text)

    def body(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(self._content, classes="body", markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._plain)
        self.notify("Copied.", timeout=2)


class TextDialog(Dialog[str | None]):
    """A line to type."""

    def __init__(self, title: str, text: str, value: str = "", *, path: bool = False) -> None:
        super().__init__(title, text, keys="enter accept   esc back" + "   right complete the path" * path)
        self._value, self._path = value, path

    def body(self) -> ComposeResult:
        yield Input(self._value, compact=True, suggester=PathSuggester() if self._path else None)

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.dismiss(event.value)
        else:
            self.notify("Type something, or press esc.", timeout=2)


class PathPicker(Dialog[Path | None]):
    """Browses the folders of this machine. Returns a folder or, if `suffixes` are given, a file with one of them.

    The first entry is the open folder itself; `counted`: suffixes of the files that are counted there.
    """

    BINDINGS = [
        Binding("backspace,left", "up", "Up", show=False),
        Binding("full_stop", "hidden", "Hidden", show=False),
        Binding("space", "take", "Choose", show=False),
    ]

    def __init__(
        self,
        title: str,
        start: Path,
        *,
        suffixes: frozenset[str] = frozenset(),
        counted: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(title, keys="enter open   space choose   left up   . hidden   esc back")
        self._suffixes, self._counted, self._hidden = suffixes, counted, False
        self._folder = next((path for path in (start, *start.parents) if _is_folder(path)), Path.home())
        self._entries: list[Path] = []

    def body(self) -> ComposeResult:
        yield Static("", id="where", classes="dialog-text", markup=False)
        yield OptionList()

    def on_mount(self) -> None:
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
        others = images = 0
        try:
            for entry in self._folder.iterdir():
                if entry.name.startswith(".") and not self._hidden:
                    continue
                if entry.is_dir():
                    folders.append(entry)
                elif entry.suffix.lower() in self._suffixes:
                    files.append(entry)
                elif entry.suffix.lower() in self._counted:
                    images += 1
                else:
                    others += 1
            place = printable(str(self._folder)) + (f"   ({others} other files)" if others else "")
        except OSError as error:
            place = f"{printable(str(self._folder))}: {error.strerror}"
        self.query_one("#where", Static).update(place)
        key = lambda path: path.name.lower()  # noqa: E731
        self._entries = [self._folder, *sorted(folders, key=key), *sorted(files, key=key)]
        options = self.query_one(OptionList)
        here = "./  this folder" + (f", {images} images" if images else "")
        names = [f"{path.name}/" if path.is_dir() else path.name for path in self._entries[1:]]
        options.set_options([Content(printable(name)) for name in (here, *names)])
        # The folder itself if it contains matching files, else its first entry.
        first = 0 if images or len(self._entries) == 1 else 1
        options.highlighted = self._entries.index(at) if at in self._entries else first


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def start_of(text: str) -> Path:
    """The folder in which a picker starts, from the text typed so far."""
    try:
        return user_path(text).absolute() if text else Path.home()
    except BadPath:
        return Path.home()
