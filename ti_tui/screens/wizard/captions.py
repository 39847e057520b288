"""The captions step: the prompt template, a list of the captions, and the entry to the caption review."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Static

from ti_tui.captions.desk import CaptionDesk
from ti_tui.captions.journal import history_of
from ti_tui.formatting import number
from ti_tui.paths import unquoted
from ti_tui.screens.review.listing import CaptionRows, Row, labels
from ti_tui.screens.wizard.draft_screen import DraftChanged
from ti_tui.screens.wizard.pane import FormPane
from ti_tui.setup.draft import Draft
from ti_tui.setup.fields import FieldSpec, recipe_fields
from ti_tui.setup.findings import Findings
from ti_tui.widgets.canvas import Canvas
from ti_tui.widgets.controls import as_example
from ti_tui.widgets.field_row import FieldRow
from ti_tui.widgets.picture import PictureView

if TYPE_CHECKING:
    from ti_tui.dataset.photograph_checks import SurveyedFile

OWN_FILE = "own file"
TEMPLATE = "dataset.template"
LABEL = 16


class CaptionsPane(FormPane):
    """Template and captions. Captions are edited in the review; your own caption files are not changed."""

    step = "captions"
    TERMS = ("caption", "caption file", "template", "token")
    WORDS = (
        "In training, each image is shown with a prompt. The template makes the prompt: object for a person or a "
        "thing, style for a way of painting, captions to use each image's own caption.\n\nCaption what should NOT "
        "become part of the token: background, clothes, light. What no caption names is learned. A caption never "
        "contains the token. Captions are kept in the run folder; the files beside your photographs are not "
        "changed.\n\nEnter on an image opens the review, where captions are typed, replaced, generated and undone."
    )

    # The keys of the list of captions.
    BINDINGS = [
        Binding("up,k", "move(-1)", "Image above", show=False),
        Binding("down,j", "move(1)", "Image below", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home", "move(-100000)", "First", show=False),
        Binding("end", "move(100000)", "Last", show=False),
        Binding("enter", "open", "Review", key_display="enter", id="captions.open", tooltip="Review the captions"),
    ]

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._desk: CaptionDesk | None = None
        self._images: list[SurveyedFile] = []
        self._names: list[str] = []
        self._at = 0

    def compose(self) -> ComposeResult:
        self._spec = recipe_fields()[TEMPLATE]
        choice = replace(self._spec, kind="choice", choices=(*_built_in(), OWN_FILE), default="object")
        yield FieldRow(choice, self._template)
        path = FieldSpec(
            "template_file", "Template file", "A text file with one prompt per line; each contains [name].", "path"
        )
        yield FieldRow(path, self._own_file, placeholder=as_example("~/templates/anna.txt"))
        yield Canvas(id="examples")
        yield Static("", id="count", markup=False)
        with Horizontal(id="list"):
            yield CaptionRows(id="captions")
            yield PictureView(id="preview")

    def on_mount(self) -> None:
        self._show_file_row()

    def show(self, findings: Findings) -> None:
        super().show(findings)
        images = [file for file in self.drafting.seen if file.picture is not None]
        if images != self._images or self._desk is None or self._desk.draft is not self.draft:
            self._images = images
            source = self.draft.source()
            history = history_of(source) if source is not None and self.draft.kept else None
            self._desk = CaptionDesk(self.draft, images, save=self.drafting.keep_draft, history=history)
            self._at = self._first_to_review(self._desk)
        self._fill()

    @staticmethod
    def _first_to_review(desk: CaptionDesk) -> int:
        """Where to continue a review: the first image that is neither left out nor reviewed."""
        marks = [mark for name in desk.names if (mark := desk.mark(name)) != "out"]
        return next((at for at, mark in enumerate(marks) if mark != "reviewed"), 0)

    def show_row(self, row: FieldRow) -> None:
        if row.spec.name == "template_file":
            row.show(self._own_file, note="", problems=self.findings.about(TEMPLATE), changed=False)
            return
        super().show_row(row)
        if not self.query("FieldRow.-file").first(FieldRow).display:
            return
        row.show(OWN_FILE, note="", problems=(), changed=True)

    @property
    def _template(self) -> str:
        """The chosen template, OWN_FILE for any file."""
        chosen = str(self.draft.value(TEMPLATE))
        return chosen if chosen in _built_in() else OWN_FILE

    @property
    def _own_file(self) -> str:
        """The template file as typed; "" if a built-in template is chosen."""
        return self.draft.text(TEMPLATE) if self._template == OWN_FILE else ""

    def explanation(self) -> str:
        if self.query_one("#captions").has_focus:
            return "enter opens the review at this caption; ctrl+n goes to the next step."
        return super().explanation()

    def take(self, name: str, text: str) -> None:
        if name == "template_file":
            super().take(TEMPLATE, unquoted(text))
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
        self._show_template()
        self.rows()[0].entry.focus()
        self.post_message(DraftChanged())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.query_one("#captions").has_focus if action in {"move", "open"} else True

    def action_move(self, by: int) -> None:
        self._at = min(max(self._at + by, 0), max(0, len(self._names) - 1))
        self._fill()

    def on_caption_rows_clicked(self, message: CaptionRows.Clicked) -> None:
        message.stop()
        self._at = self._names.index(message.name)
        self._fill()

    def action_open(self) -> None:
        if self._desk is None or not self._names:
            return
        from ti_tui.screens.review.captions import CaptionReview

        review = CaptionReview(self._desk, at=self._names[self._at], checked=self.findings.checked)
        self.app.push_screen(review, self._reviewed)

    def _reviewed(self, last: str | None) -> None:
        if last in self._names:
            self._at = self._names.index(last)
        # The review may have chosen the template that uses captions.
        self._show_template()
        self._fill()
        self.post_message(DraftChanged())

    def _show_template(self) -> None:
        self._show_file_row()
        self.rows()[0].control.show_text(self._template)

    def _show_file_row(self, own: bool | None = None) -> None:
        row = next(row for row in self.query(FieldRow) if row.spec.name == "template_file")
        row.add_class("-file")
        row.display = self._template == OWN_FILE if own is None else own

    def _fill(self) -> None:
        """Show the captions as they are now."""
        desk = self._desk
        if desk is None:
            return
        self._names = [name for name in desk.names if not desk.is_out(name)]
        self._at = min(self._at, max(0, len(self._names) - 1))
        short = labels(self._names, LABEL)
        rows = [Row(name, desk.mark(name), short[name], desk.caption(name)) for name in self._names]
        self.query_one("#captions", CaptionRows).show(rows, self._at if rows else None)
        current = self._names[self._at] if self._names else None
        self.query_one("#preview", PictureView).show(desk.path(current) if current else None)
        counts = desk.counts()
        text = f"{counts.trained - counts.without} of {number(counts.trained, 'image')} with a caption"
        if self._names:
            text += f", {counts.reviewed} reviewed   tab: the list"
        self.query_one("#count", Static).update(text if self._names else "")
        self._show_examples(desk.in_prompt(current) if current else "")

    def _show_examples(self, caption: str) -> None:
        from ti_tui.setup.explain import examples

        template = str(self.draft.value(TEMPLATE))
        prompts = examples(template, self.findings.checked, self.draft, caption)
        lead = " the model reads"
        lines = [[((lead if i == 0 else "").ljust(18), "muted"), (text, "")] for i, text in enumerate(prompts)]
        uses = any("[filewords]" in pattern for pattern in self._patterns(template))
        if not uses and self._desk is not None and any(self._desk.trained().values()):
            lines.append([(" " * 18, ""), ("this template does not use the captions", "warning")])
        self.query_one("#examples", Canvas).draw(lines)

    def _patterns(self, template: str) -> tuple[str, ...]:
        from ti_tui.dataset.templates import BUILT_IN

        checked = self.findings.checked
        return BUILT_IN.get(template) or (checked.templates if checked else ())


def _built_in() -> tuple[str, ...]:
    from ti_tui.dataset.templates import BUILT_IN

    return tuple(BUILT_IN)
