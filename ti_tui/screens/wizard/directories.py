"""The directories step: token, run folder and its contents, and where the embedding is installed."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import OptionList

from ti_tui.embeddings.program_folders import embeddings_folders
from ti_tui.errors import UserError
from ti_tui.formatting import location, printable
from ti_tui.screens.wizard.pane import FormPane, scrolled
from ti_tui.setup.draft import Draft
from ti_tui.setup.fields import FieldSpec, field
from ti_tui.setup.findings import Findings
from ti_tui.setup.steps import STEPS
from ti_tui.widgets.canvas import Canvas
from ti_tui.widgets.controls import TextLine, as_default, as_example
from ti_tui.widgets.field_row import FieldRow

PLACEHOLDERS = {
    "embedding.token": as_example("zkz"),
    "class_word": as_example("woman"),
    "save.install_to": as_default("nowhere"),
}
LABELS = {"embedding.token": "Token", "save.install_to": "Install to"}


class DirectoriesPane(FormPane):
    """Token, class word, run folder, and the tree of files that will be made. Nothing is made yet."""

    step = "directories"
    TERMS = ("token", "class word", "run folder", "repeats", "embedding")
    WORDS = (
        "The token is the word that will call the subject in prompts. Choose a short one that the model does not know. "
        "The class word says what the subject is; the vectors start from it.\n\nThe run folder has kohya's layout, so "
        "that kohya's trainer can use it too. It is made in the last step, not before. The embedding can be installed "
        "where A1111, Forge or ComfyUI finds it."
    )

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._found: list[Path] = []

    def compose(self) -> ComposeResult:
        rows = []
        for name in next(step.fields for step in STEPS if step.id == self.step):
            spec, text, label = field(name), self.draft.text(name), LABELS.get(name, "")
            rows.append(FieldRow(spec, text, placeholder=self._placeholder(spec), label=label))
        yield scrolled(*rows, OptionList(id="found"), Canvas(id="tree"))

    def on_mount(self) -> None:
        self._found = embeddings_folders()[:5]
        found = self.query_one("#found", OptionList)
        found.add_options([Content(f"found: {printable(location(folder))}") for folder in self._found])
        found.display = bool(self._found)

    def show(self, findings: Findings) -> None:
        super().show(findings)
        from ti_tui.setup.assess import tree

        row = self.row("run_folder")
        if row is not None and isinstance(row.control, TextLine):
            row.control.placeholder = self._placeholder(row.spec)
        self.query_one("#found").display = bool(self._found) and not self.draft.text("save.install_to")
        lines = [printable(line) for line in tree(self.draft, findings)]
        self.query_one("#tree", Canvas).draw(
            [[("  will be made   ", "muted"), (lines[0], "b")]]
            + [[(" " * 17, ""), (line[:26], ""), (line[26:], "muted")] for line in lines[1:]]
        )

    def show_row(self, row: FieldRow) -> None:
        super().show_row(row)
        if row.spec.name == "embedding.token" and self.draft.text(row.spec.name):
            # Everything is named after the token: what is wrong with it is shown while it is typed.
            row.flag()

    def explanation(self) -> str:
        if self.query_one("#found").has_focus:
            return "enter uses this embeddings folder."
        return super().explanation()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.take_path("save.install_to", self._found[event.option_index])

    def _placeholder(self, spec: FieldSpec) -> str:
        if spec.name != "run_folder":
            return PLACEHOLDERS.get(spec.name, "")
        try:
            return as_default(printable(location(self.draft.folder(self.ti_tui.config.runs_folder))))
        except UserError:
            return ""
