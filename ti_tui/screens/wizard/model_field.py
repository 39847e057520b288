"""The field of the model, and below it the models found on this machine: the dataset step shows it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from ti_tui import settings
from ti_tui.formatting import printable, size
from ti_tui.screens.base import AppAccess, WorkerErrors
from ti_tui.setup.fields import MODEL
from ti_tui.widgets.controls import as_example
from ti_tui.widgets.field_row import FieldRow

if TYPE_CHECKING:
    from ti_tui.setup.model_search import FoundModel

SHOW_SECONDS = 0.3
"""Between two updates of the list while models are searched for."""
OTHER_COLUMNS = 37
"""Columns of a line that are not the name's: size, family, use."""
LEAST_NAME = 16
LEAST_HEIGHT, SCROLLBAR = 6, 2
"""A list of more lines may have a scrollbar, which takes two columns."""
TO_TYPE = "no model was found: type a path or a hub id, or press ctrl+o for a picker"


class ModelsFound(Message):
    """The models found so far. ended: there will be no more."""

    def __init__(self, models: Sequence[FoundModel], *, ended: bool) -> None:
        super().__init__()
        self.models, self.ended = models, ended


class ModelField(AppAccess, WorkerErrors, Vertical):
    """A line for a path or a hub id. With the cursor in it, the models that were found stand below; down goes there."""

    DEFAULT_CSS = "ModelField { height: auto; }"
    BINDINGS = [Binding("down", "to_list", "Found models", show=False)]

    class Picked(Message):
        """A model of the list was chosen."""

        def __init__(self, base: str) -> None:
            super().__init__()
            self.base = base

    def __init__(self, text: str) -> None:
        super().__init__()
        self.row = FieldRow(MODEL, text, placeholder=as_example("~/models/anything.safetensors"))
        self._models: Sequence[FoundModel] = ()
        self._recent: list[str] = []
        self._begun = self._ended = False

    def compose(self) -> ComposeResult:
        yield self.row
        yield OptionList(id="models")

    @property
    def _list(self) -> OptionList:
        return self.query_one("#models", OptionList)

    def find(self) -> None:
        """Search for models, unless that was done already."""
        if not self._begun:
            self._begun = True
            self._recent = settings.recent_models()
            self._search(self.ti_tui.config.model_folders, self._recent)

    def filter(self) -> None:
        """Show the models whose name contains what is typed, all of them for a path."""
        options, shown = self._list, self._shown()
        width = self.size.width - 20 - (SCROLLBAR if len(shown) > LEAST_HEIGHT else 0)
        at = options.highlighted
        before = options.get_option_at_index(at).id if at is not None and options.option_count else None
        lines = [Option(Content(line_of(model, width)), id=model.base, disabled=bool(model.refused)) for model in shown]
        if not lines:
            lines = [Option(TO_TYPE if self._ended else "looking for models ...", disabled=True)]
        options.set_options(lines)
        usable = [model.base for model in shown if not model.refused]
        first = usable.index(before) if before in usable else 0
        options.highlighted = first if usable else None

    def action_to_list(self) -> None:
        self.enter_list()

    def enter_list(self) -> bool:
        """Go to the list; False if there is nothing in it to choose."""
        if self._list.highlighted is None:
            return False
        self._list.focus()
        return True

    @property
    def narrows(self) -> bool:
        """Whether the text is a part of the name of a found model, and not a model itself."""
        text = self.row.control.text
        return not text or ("/" not in text and any(not model.refused for model in self._shown()))

    def on_descendant_focus(self) -> None:
        self.find()
        self._list.display = True
        self.filter()

    def on_descendant_blur(self) -> None:
        self.call_after_refresh(self._hide_unless_here)

    def _hide_unless_here(self) -> None:
        self._list.display = self.has_focus_within

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Picked(str(event.option.id)))

    def on_models_found(self, message: ModelsFound) -> None:
        message.stop()
        self._models, self._ended = self._in_order(message.models), message.ended
        self.filter()

    def worker_failed(self, error: Exception, details: str) -> None:
        self._ended = True
        self.notify(f"The search for models failed: {error}\n{details}", severity="error", markup=False, timeout=10)

    @work(thread=True, exclusive=True, group="models", exit_on_error=False)
    def _search(self, named: Sequence[str], recent: Sequence[str]) -> None:
        from ti_tui.setup.model_places import model_places
        from ti_tui.setup.model_search import search_models

        worker, found, shown = get_current_worker(), [], time.monotonic()
        for model in search_models(model_places(named, recent), cancelled=lambda: worker.is_cancelled):
            found.append(model)
            if time.monotonic() - shown > SHOW_SECONDS:
                self.post_message(ModelsFound(tuple(found), ended=False))
                shown = time.monotonic()
        if not worker.is_cancelled:
            self.post_message(ModelsFound(tuple(found), ended=True))

    def _in_order(self, models: Sequence[FoundModel]) -> list[FoundModel]:
        """Recently used ones first, those that cannot be trained last."""
        from ti_tui.paths import as_given

        recent = {base: place for place, base in enumerate(self._recent)}

        def key(model: FoundModel) -> tuple[bool, int, bool, str]:
            place = recent.get(as_given(model.base), len(recent))
            return bool(model.refused), place, model.facts is None, model.name.lower()

        return sorted(models, key=key)

    def _shown(self) -> list[FoundModel]:
        text = self.row.control.text.lower()
        whole = "/" in text or text.startswith("~")
        return [model for model in self._models if whole or text in model.name.lower()]


def line_of(model: FoundModel, width: int) -> str:
    """A line of the list in columns: name, size, family, and what it is good for; at most `width` cells."""
    name, room = printable(model.name), max(LEAST_NAME, width - OTHER_COLUMNS)
    shown = name if len(name) <= room else f"{name[: room - 1]}…"
    what = model.use if model.refused else f"{model.family:<7} {model.use}"
    if width - room < OTHER_COLUMNS - 8:
        what = model.refused or model.family
    return f"{shown:<{room}} {size(model.size_bytes):>8}  {what}".rstrip()
