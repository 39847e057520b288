"""The parameters step: a form made from the run file's field table, with the advanced fields behind a key."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from ti_tui.screens.wizard.pane import FormPane
from ti_tui.setup.draft import Draft
from ti_tui.setup.fields import FieldSpec, recipe_fields
from ti_tui.setup.findings import Findings
from ti_tui.setup.steps import step_of
from ti_tui.widgets.controls import Edited, EditingFinished, TextLine, as_default
from ti_tui.widgets.field_row import FieldRow

HIDDEN = frozenset({"dataset.images"})
"""Set when the run is made."""
TITLES = {
    "model": "Model",
    "dataset": "Images",
    "embedding": "Embedding",
    "training": "Training",
    "save": "Checkpoints",
    "sample": "Samples",
    "evaluation": "Eval loss",
}


def shown_fields() -> list[FieldSpec]:
    """The fields of this step, without those that have only one possible value."""
    return [
        spec
        for name, spec in recipe_fields().items()
        if step_of(name) == "parameters"
        and name not in HIDDEN
        and not (spec.kind == "choice" and len(spec.choices) < 2)
    ]


class ParametersPane(FormPane):
    """Every field that is in no other step."""

    step = "parameters"
    TERMS = (
        "initial words", "vectors", "norm", "batch size", "gradient accumulation", "effective batch",
        "optimizer", "seed", "checkpoint", "sample", "eval loss", "held-out images", "gradient checkpointing",
    )  # fmt: skip
    WORDS = (
        "Everything has a working default. A star marks a field that differs from its "
        "default; ctrl+r resets it.\n\nBatch size and gradient accumulation are best left on auto: together they make "
        "each step use every image once, in micro-batches that fit into memory. That makes the loss steady, and the "
        "size of the micro-batches does not change the result.\n\nVectors: more of them hold more detail, need more "
        "images, and leave less room in your prompts. 4 to 16 are usual for a face."
    )

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._advanced = False
        self._query = ""
        self._all: list[FieldSpec] = []
        self._have: set[str] = set()

    def compose(self) -> ComposeResult:
        self._all = shown_fields()
        with Horizontal(id="search"):
            yield Static("Search  ", classes="muted", markup=False)
            yield TextLine(placeholder="a word in the name or explanation of a field")
        with VerticalScroll(classes="scrolled", id="fields") as column:
            column.can_focus = False
            for spec in self._all:
                if spec.basic:
                    yield self._row(spec)
            yield Static("", id="more", classes="section", markup=False)

    def on_mount(self) -> None:
        # If the draft changes advanced fields, show them.
        changed = any(not spec.basic and self.draft.changed(spec.name) for spec in self._all)
        self._show_advanced(changed)

    def show_row(self, row: FieldRow) -> None:
        super().show_row(row)
        if row.spec.name == "embedding.init" and isinstance(row.control, TextLine):
            row.control.placeholder = as_default(self.draft.class_word or "random vectors")

    def show(self, findings: Findings) -> None:
        super().show(findings)
        changed = sum(self.draft.changed(spec.name) for spec in self._all if not spec.basic)
        count = sum(not spec.basic for spec in self._all)
        text = f"▾ advanced ({count})" if self._advanced else f"▸ advanced ({count})"
        text += f"   {changed} changed" if changed else ""
        hidden = {spec.name for spec in self._all if not spec.basic} if not self._advanced else set()
        needs = sum(problem.field in hidden for problem in findings.errors)
        text += f"   ! {needs} to correct" if needs else ""
        if self._query and not self.rows():
            text = "no field matches"
        self.query_one("#more", Static).update(text)

    def explanation(self) -> str:
        row = self.row_with_focus()
        if row is None:
            return "Type a part of a name; enter goes to the first match, esc closes the search."
        takes = f" ({row.spec.accepted})" if row.spec.accepted and row.spec.kind == "number" else ""
        return f"{super().explanation()}{takes}"

    def go_to(self, field: str) -> bool:
        spec = next((spec for spec in self._all if spec.name == field), None)
        if spec is None:
            return False
        if not spec.basic and not self._advanced:
            self._show_advanced(True)
            self.call_after_refresh(lambda: super(ParametersPane, self).go_to(field))
            return True
        return super().go_to(field)

    def enter(self) -> None:
        self._end_search()
        super().enter()

    def toggle_advanced(self) -> None:
        self._end_search()
        self._show_advanced(not self._advanced)
        if self._advanced:
            first = next(spec.name for spec in self._all if not spec.basic)
            self.call_after_refresh(super().go_to, first)

    def search(self) -> None:
        self.query_one("#search").display = True
        self.query_one("#search TextLine").focus()
        self._show_advanced(True)

    def on_edited(self, message: Edited) -> None:
        message.stop()
        self._query = message.text.strip().lower()
        self._filter()

    def on_editing_finished(self, message: EditingFinished) -> None:
        message.stop()
        if rows := self.rows():
            rows[0].entry.focus()

    def leave_inner(self) -> bool:
        if not self.query_one("#search").display:
            return False
        found = self.row_with_focus()
        self._end_search()
        if found is not None:
            found.entry.focus()
            self.call_after_refresh(found.scroll_visible, animate=False)
        else:
            self.enter()
        return True

    def _end_search(self) -> None:
        if self.query_one("#search").display:
            self.query_one("#search TextLine", TextLine).show_text("")
            self._query = ""
            self.query_one("#search").display = False
            self._filter()

    def _row(self, spec: FieldSpec) -> FieldRow:
        self._have.add(spec.name)
        return FieldRow(spec, self.draft.text(spec.name))

    def _show_advanced(self, on: bool) -> None:
        self._advanced = on
        column = self.query_one("#fields", VerticalScroll)
        # Made on first use: forty rows take time, and most people never open them.
        if on and not all(spec.name in self._have for spec in self._all):
            table = ""
            for spec in self._all:
                if spec.name in self._have:
                    continue
                if spec.table != table:
                    table = spec.table
                    column.mount(Static(TITLES.get(table, table), classes="section -advanced", markup=False))
                column.mount(self._row(spec))
        self.call_after_refresh(self._filter)

    def _filter(self) -> None:
        for row in self.query(FieldRow):
            words = f"{row.spec.label} {row.spec.name} {row.spec.help}".lower()
            row.display = self._query in words and (row.spec.basic or self._advanced)
        for title in self.query(".section.-advanced"):
            title.display = self._advanced and not self._query
        self.show(self.findings)
