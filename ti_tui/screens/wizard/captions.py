"""Captions: the template that the prompts are made with, and the caption of each picture."""

from __future__ import annotations

from dataclasses import replace

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ti_tui.dataset.scan import Picture as TrainingPicture
from ti_tui.dataset.scan import name_in
from ti_tui.screens.wizard.pane import DraftChanged, FormPane, NextStep
from ti_tui.setup.draft import Draft
from ti_tui.setup.fields import FieldSpec, recipe_fields
from ti_tui.setup.findings import Findings
from ti_tui.setup.words import printable
from ti_tui.widgets.canvas import Canvas, cut
from ti_tui.widgets.controls import Edited, Finished, TextLine
from ti_tui.widgets.field_row import FieldRow
from ti_tui.widgets.picture import Picture

OWN_FILE = "own file"
TEMPLATE = "dataset.template"


class CaptionsPane(FormPane):
    """Template and captions. Edited captions go into the run; the sidecars in the source folder stay as they are."""

    step = "captions"
    WORDS = (
        "While training, each picture is shown with a prompt. The template makes it: object for a person or a thing, "
        "style for a way of painting, captions to use each picture's own caption.\n\nCaption what should NOT become "
        "part of the word: background, clothes, light. What no caption names is learned. Captions never hold the "
        "word itself. They are kept in the run's folder; the files beside your photographs stay as they are."
    )

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._pictures: list[TrainingPicture] = []
        self._names: list[str] = []
        self._editing = ""

    def compose(self) -> ComposeResult:
        self._spec = recipe_fields()[TEMPLATE]
        chosen = str(self.draft.value(TEMPLATE))
        kind = chosen if chosen in _built_in() else OWN_FILE
        choice = replace(self._spec, kind="choice", choices=(*_built_in(), OWN_FILE), default="object")
        yield FieldRow(choice, kind)
        path = FieldSpec(
            "template_file", "Template file", "A text file with one prompt a line; each holds [name].", "path"
        )
        yield FieldRow(path, "" if chosen in _built_in() else chosen, placeholder="~/templates/anna.txt")
        yield Canvas(id="examples")
        with Horizontal(id="list"):
            yield OptionList(id="captions")
            yield Picture(id="preview", images=self.ti_tui.images, cache=self.ti_tui.pictures)
        with Vertical(id="editor"):
            yield Static("", id="editing", classes="hint", markup=False)
            yield TextLine(id="caption")
            yield Static("kept as you type   enter the next one   esc back", classes="hint", markup=False)

    def on_mount(self) -> None:
        self._show_file_row()

    def show(self, findings: Findings) -> None:
        super().show(findings)
        found = findings.pictures
        pictures = list(found.pictures) if found else []
        if found is not None and pictures != self._pictures:
            self._pictures = pictures
            self._names = [name_in(found.folder, picture.path) for picture in pictures]
            captions = self.query_one("#captions", OptionList)
            at = captions.highlighted
            captions.set_options([Option(self._prompt(picture)) for picture in pictures])
            captions.highlighted = min(at or 0, len(pictures) - 1) if pictures else None
            if self._editing not in self._names:
                self.close_editor()
        self._show_examples()

    def show_row(self, row: FieldRow) -> None:
        if row.spec.name == "template_file":
            problems = self.findings.about(TEMPLATE)
            chosen = str(self.draft.value(TEMPLATE))
            text = self.draft.text(TEMPLATE) if chosen not in _built_in() else ""
            row.show(text, note="", problems=problems, changed=False)
            return
        super().show_row(row)
        if not self.query("FieldRow.-file").first(FieldRow).display:
            return
        row.show(OWN_FILE, note="", problems=(), changed=True)

    def explanation(self) -> str:
        if self._editing:
            return "What is in the picture besides the subject. The word itself does not belong here."
        if self.query_one("#captions").has_focus:
            return "enter edits the caption of this picture; ctrl+n goes on to the next step."
        return super().explanation()

    def take(self, name: str, text: str) -> None:
        if name == "template_file":
            super().take(TEMPLATE, text)
        elif text == OWN_FILE:
            self._show_file_row(own=True)
        else:
            super().take(TEMPLATE, text)
            self._show_file_row(own=False)

    def reset(self) -> None:
        row = self.row_with_focus()
        if row is None:
            return
        self.draft.reset(TEMPLATE)
        self._show_file_row()
        self.rows()[0].control.show_text("object")
        self.rows()[0].entry.focus()
        self.post_message(DraftChanged())

    def after_last(self) -> None:
        self.post_message(NextStep())

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_index < len(self._pictures):
            self.query_one("#preview", Picture).show(self._pictures[event.option_index].path)
            self._show_examples()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._edit(event.option_index)

    def on_edited(self, message: Edited) -> None:
        if self._editing:
            message.stop()
            # Kept with every letter: nothing is lost, whatever key comes next.
            self._keep(self._editing, message.text)
            self._show_examples(message.text)

    def on_finished(self, message: Finished) -> None:
        if not self._editing:
            return
        message.stop()
        after = self._names.index(self._editing) + 1
        if after < len(self._names):
            self._edit(after)
        else:
            self.leave_inner()

    def leave_inner(self) -> bool:
        if not self._editing:
            return False
        self.close_editor()
        self.query_one("#captions").focus()
        self._show_examples()
        return True

    def left(self) -> None:
        self.close_editor()

    def close_editor(self) -> None:
        """Close the caption's line; its text was kept as it was typed."""
        self._editing = ""
        self.query_one("#editor").display = False

    def _edit(self, at: int) -> None:
        self._editing = self._names[at]
        self.query_one("#captions", OptionList).highlighted = at
        self.query_one("#editor").display = True
        self.query_one("#editing", Static).update(f"Caption of {printable(self._names[at])}")
        line = self.query_one("#caption", TextLine)
        line.show_text(self._pictures[at].caption)
        line.cursor_position = len(line.value)
        line.focus()
        self._show_examples()

    def _keep(self, name: str, text: str) -> None:
        caption, at = " ".join(text.split()), self._names.index(name)
        picture = self._pictures[at]
        if caption == picture.caption:
            return
        self.draft.caption(name, caption)
        self._pictures[at] = replace(picture, caption=caption)
        self.query_one("#captions", OptionList).replace_option_prompt_at_index(at, self._prompt(self._pictures[at]))
        self.post_message(DraftChanged())

    def _show_file_row(self, own: bool | None = None) -> None:
        row = next(row for row in self.query(FieldRow) if row.spec.name == "template_file")
        row.add_class("-file")
        row.display = str(self.draft.value(TEMPLATE)) not in _built_in() if own is None else own

    def _show_examples(self, caption: str | None = None) -> None:
        from ti_tui.setup.explain import examples

        at = self.query_one("#captions", OptionList).highlighted
        if caption is None:
            caption = self._pictures[at].caption if at is not None and at < len(self._pictures) else ""
        template = str(self.draft.value(TEMPLATE))
        prompts = examples(template, self.findings.checked, self.draft, caption)
        lines = [
            [("the model reads    " if i == 0 else " " * 19, "muted"), (text, "")] for i, text in enumerate(prompts)
        ]
        captions = sum(bool(picture.caption) for picture in self._pictures)
        uses = any("[filewords]" in pattern for pattern in self._patterns(template))
        if (captions or self._editing) and not uses:
            lines.append([(" " * 19, ""), ("this template does not use the captions", "warning")])
        self.query_one("#examples", Canvas).draw(lines)

    def _patterns(self, template: str) -> tuple[str, ...]:
        from ti_tui.dataset.templates import BUILT_IN

        checked = self.findings.checked
        return BUILT_IN.get(template) or (checked.templates if checked else ())

    def _prompt(self, picture: TrainingPicture) -> Content:
        name = cut(printable(picture.path.name), 22)
        if picture.caption:
            return Content.assemble(("✓ ", "$success"), (f"{name}  ", "$muted"), Content(printable(picture.caption)))
        return Content.assemble(("· ", "$muted"), (f"{name}  no caption", "$muted"))


def _built_in() -> tuple[str, ...]:
    from ti_tui.dataset.templates import BUILT_IN

    return tuple(BUILT_IN)
