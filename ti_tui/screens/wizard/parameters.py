"""Parameters: the form made from the run file's field table; basic fields first, the others behind one key."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from ti_tui.screens.wizard.pane import FormPane
from ti_tui.setup.draft import Draft
from ti_tui.setup.fields import FieldSpec, recipe_fields
from ti_tui.setup.findings import Findings
from ti_tui.setup.steps import step_of
from ti_tui.widgets.controls import Edited, EditingFinished, TextLine
from ti_tui.widgets.field_row import FieldRow

HIDDEN = frozenset({"dataset.images"})
"""Filled in by the run itself."""
TITLES = {
    "model": "Model",
    "dataset": "Pictures",
    "embedding": "Embedding",
    "training": "Training",
    "save": "Saves",
    "sample": "Samples",
    "evaluation": "Eval loss",
}
PLACEHOLDERS = {"model.base": "~/models/realisticVision.safetensors"}


def shown_fields() -> list[FieldSpec]:
    """The fields of this step; those that have one value only are no choice."""
    return [
        spec
        for name, spec in recipe_fields().items()
        if step_of(name) == "parameters"
        and name not in HIDDEN
        and not (spec.kind == "choice" and len(spec.choices) < 2)
    ]


class ParametersPane(FormPane):
    """Every field that no other step asks for."""

    step = "parameters"
    TERMS = (
        "model", "initial words", "vectors", "norm", "batch size", "gradient accumulation", "effective batch",
        "optimizer", "seed", "checkpoint", "sample", "eval loss", "held-out images", "gradient checkpointing",
    )  # fmt: skip
    WORDS = (
        "Everything has a default that works; only the model must be chosen. A star marks what differs from its "
        "default, ctrl+r takes it back.\n\nImages at once and Accumulate are left to auto best: together they make one "
        "step use every picture once, in pieces that fit the memory. That is what makes the loss steady, and neither "
        "changes the result.\n\nVectors: more hold more detail, need more pictures, and leave fewer words for your "
        "prompt. 4 to 16 are usual for a face."
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
            yield TextLine(placeholder="a word of a field's name or explanation")
        with VerticalScroll(classes="scrolled", id="fields") as column:
            column.can_focus = False
            for spec in self._all:
                if spec.basic:
                    yield self._row(spec)
            yield Static("", id="more", classes="section", markup=False)

    def on_mount(self) -> None:
        # A draft may hold advanced choices: they are shown, not hidden behind a key.
        changed = any(not spec.basic and self.draft.changed(spec.name) for spec in self._all)
        self._show_advanced(changed)

    def show_row(self, row: FieldRow) -> None:
        super().show_row(row)
        if row.spec.name == "embedding.init" and isinstance(row.control, TextLine):
            row.control.placeholder = self.draft.class_word or "empty: random vectors"

    def show(self, findings: Findings) -> None:
        super().show(findings)
        changed = sum(self.draft.changed(spec.name) for spec in self._all if not spec.basic)
        count = sum(not spec.basic for spec in self._all)
        said = f"▾ advanced ({count})" if self._advanced else f"▸ advanced ({count})"
        said += f"   {changed} changed" if changed else ""
        hidden = {spec.name for spec in self._all if not spec.basic} if not self._advanced else set()
        needs = sum(problem.field in hidden for problem in findings.errors)
        said += f"   ! {needs} needs you" if needs else ""
        if self._query and not self.rows():
            said = "no field has that in its name or explanation"
        self.query_one("#more", Static).update(said)

    def explanation(self) -> str:
        row = self.row_with_focus()
        if row is None:
            return "Type a part of a name; enter goes to the first field found, esc closes the search."
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
        """Show the advanced fields, or hide them."""
        self._end_search()
        self._show_advanced(not self._advanced)
        if self._advanced:
            first = next(spec.name for spec in self._all if not spec.basic)
            self.call_after_refresh(super().go_to, first)

    def search(self) -> None:
        """Open the search line."""
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
        return FieldRow(spec, self.draft.text(spec.name), placeholder=PLACEHOLDERS.get(spec.name, ""))

    def _show_advanced(self, on: bool) -> None:
        self._advanced = on
        column = self.query_one("#fields", VerticalScroll)
        # Made when first asked for: forty rows cost time that most people never need.
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
