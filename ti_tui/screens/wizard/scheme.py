"""The scheme step: learning rates as a preset or a text, its two readings, its segments, its curve."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Static

from ti_tui.run.scheme import (
    PRESETS,
    Scheme,
    SchemeError,
    SchemeReading,
    SchemeReadings,
    SchemeShape,
    Segment,
    format_scheme,
    parse,
    readings,
)
from ti_tui.screens.wizard.draft_screen import DraftChanged
from ti_tui.screens.wizard.pane import NextStep, StepPane
from ti_tui.setup.draft import Draft
from ti_tui.setup.fields import recipe_fields
from ti_tui.setup.findings import Findings
from ti_tui.widgets.canvas import Canvas, marked
from ti_tui.widgets.chart import scheme_chart
from ti_tui.widgets.controls import ChoiceRow, Edited, EditingFinished, TextLine, as_example
from ti_tui.widgets.field_row import FieldRow, problem_lines
from ti_tui.widgets.segment_table import SegmentTable

OWN, FOR = "own", "for N steps"
READINGS: dict[str, SchemeReading] = {FOR: "for", "until step N": "until"}
SEGMENTS, SHAPE, WARMUP = "scheme.segments", "scheme.shape", "scheme.warmup_steps"
CHOICES = {
    **PRESETS,
    # One rate, and a decay from the first rate to the last.
    "constant": Scheme((Segment(0.005, 2000),), shape="constant"),
    "cosine": Scheme((Segment(0.005, 1999), Segment(0.0001, 1)), shape="cosine"),
}
WORDS_OF = {
    "faces": "large steps first, then smaller and smaller: for people and things",
    "styles": "small steps: for a way of painting",
    "first look": "790 steps, to see whether it works at all",
    "constant": "one rate from the first step to the last",
    "cosine": "falls slowly, then quickly, then slowly to a small rate",
    "own": "your own text or table",
}
EXPLANATIONS = {
    "preset": "left and right choose a scheme; each can be changed below.",
    "text": "rate:number pairs as in A1111; you can paste them here.",
    "reading": "People who restart kohya by hand mean FOR N steps each; A1111 reads UNTIL step N.",
    "segments": "arrows move, typing changes a cell, enter accepts it or continues, + adds a row, del deletes it.",
}
"""The sentence about each widget by its id."""


class SchemePane(StepPane):
    """The learning rates of the run. The text can be read in two ways; both are shown. The run file has segments."""

    step = "scheme"
    TERMS = ("scheme", "segment", "learning rate", "step", "epoch", "warm-up")
    WORDS = (
        "The learning rate says how far each step moves the vectors. A scheme begins with large steps and ends with "
        "small ones, in one run.\n\nA text like `0.05:10, 0.02:20` has two meanings in use: A1111 reads the number as "
        "the step UNTIL which the rate holds; people who restart kohya by hand mean FOR how many steps. Both totals "
        "are shown; left and right on `Read as` choose.\n\nIn the table: arrows move, typing changes a cell, enter "
        "accepts it, + adds a row, del deletes it.\n\nA warm-up rarely helps here: the first rate is large on "
        "purpose, and only a few vectors are learned."
    )
    BINDINGS = [Binding("ctrl+y", "preset", "Preset", show=False, id="scheme.preset", priority=True)]

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._problem = ""

    def compose(self) -> ComposeResult:
        scheme = self._scheme()
        text = self.draft.mistyped.get(SEGMENTS) or format_scheme(scheme.segments)
        with Horizontal(classes="line"):
            yield Static("  Preset", classes="label", markup=False)
            yield ChoiceRow((*CHOICES, OWN), self._preset(scheme), id="preset")
        yield Canvas(id="preset-words")
        with Horizontal(classes="line"):
            yield Static("  Text", classes="label", markup=False)
            yield TextLine(text, placeholder=as_example("0.05:10, 0.02:20, 0.001:500"), joiner=", ", id="text")
        with Horizontal(classes="line"):
            yield Static("  Read as", classes="label", markup=False)
            yield ChoiceRow(tuple(READINGS), FOR, id="reading")
        yield Canvas(id="readings")
        yield SegmentTable(scheme.segments, id="segments")
        yield FieldRow(recipe_fields()[WARMUP], self.draft.text(WARMUP))
        yield Canvas(id="curve")

    def enter(self) -> None:
        self.query_one("#preset").focus()

    def go_to(self, field: str) -> bool:
        if field == WARMUP:
            self.query_one(FieldRow).entry.focus()
        else:
            self.query_one("#text").focus()
        return True

    def show(self, findings: Findings) -> None:
        super().show(findings)
        self._show()

    def explanation(self) -> str:
        if row := self.row_with_focus():
            return f"{row.spec.label}: {row.spec.help} The first rate is large on purpose: it rarely helps here."
        focused = self.screen.focused
        return EXPLANATIONS.get(focused.id or "", "") if focused is not None else ""

    def on_mount(self) -> None:
        if SEGMENTS in self.draft.mistyped:
            self._take_text()

    def on_resize(self) -> None:
        table = self.query_one(SegmentTable)
        table.most_rows = 7 if self.size.height < 28 else 12
        table.redraw()
        self._show()

    def on_edited(self, message: Edited) -> None:
        message.stop()
        match message.source.id:
            case "preset":
                self._take_preset(message.text)
            case "text" | "reading":
                self._take_text()

    def on_editing_finished(self, message: EditingFinished) -> None:
        message.stop()
        after = {"preset": "#text", "text": "#reading", "reading": "#segments"}
        if message.source.id == "text" and self._problem:
            return
        self.query_one(after[str(message.source.id)]).focus()

    def on_segment_table_changed(self, message: SegmentTable.Changed) -> None:
        message.stop()
        self._put(Scheme(message.segments, shape=self._shape()), text=True)

    def on_segment_table_finished(self, message: SegmentTable.Finished) -> None:
        message.stop()
        self.query_one(FieldRow).entry.focus()

    def on_field_row_done(self, message: FieldRow.Done) -> None:
        message.stop()
        self.post_message(NextStep())

    def action_preset(self) -> None:
        self.query_one("#preset").focus()

    def _take_preset(self, name: str) -> None:
        if name in CHOICES:
            self._put(CHOICES[name], text=True)
        else:
            self.query_one("#text").focus()

    def _take_text(self) -> None:
        try:
            scheme = parse(self._text, self._reading)
        except SchemeError as error:
            self._problem = error.sentence
            self.draft.mistyped[SEGMENTS] = self._text
            self._show()
            self.post_message(DraftChanged())
            return
        self._put(Scheme(scheme.segments, shape=self._shape()))

    def _put(self, scheme: Scheme, *, text: bool = False) -> None:
        """Put a scheme into the draft; text: write it into the text line too."""
        self._problem = ""
        self.draft.put_segments(scheme.segments)
        if scheme.shape == "segments":
            self.draft.reset(SHAPE)
        else:
            self.draft.put(SHAPE, scheme.shape)
        if text:
            self.query_one("#reading", ChoiceRow).show_text(FOR)
            self.query_one("#text", TextLine).show_text(format_scheme(scheme.segments))
        self.query_one("#preset", ChoiceRow).show_text(self._preset(scheme))
        self.query_one(SegmentTable).show(scheme.segments)
        self._show()
        self.post_message(DraftChanged())

    @property
    def _text(self) -> str:
        return self.query_one("#text", TextLine).value

    @property
    def _reading(self) -> SchemeReading:
        return READINGS[self.query_one("#reading", ChoiceRow).text]

    def _scheme(self) -> Scheme:
        return Scheme(self.draft.segments, shape=self._shape())

    def _shape(self) -> SchemeShape:
        shape: SchemeShape = self.draft.value(SHAPE)
        return shape

    def _preset(self, scheme: Scheme) -> str:
        wanted = (scheme.shape, scheme.segments)
        return next((name for name, choice in CHOICES.items() if (choice.shape, choice.segments) == wanted), OWN)

    def _show(self) -> None:
        preset = self.query_one("#preset", ChoiceRow).text
        self.query_one("#preset-words", Canvas).draw([[(" " * 18, ""), (WORDS_OF[preset], "muted")]])
        wrong = self.findings.about(SEGMENTS) if not self._problem else []
        told = [line for problem in wrong for line in problem_lines(problem, max(20, self.size.width - 22))]
        indented = [[(" " * 18, ""), *line] for line in told]
        self.query_one("#readings", Canvas).draw([*self._reading_lines(), *indented])
        row = self.query_one(FieldRow)
        row.show(
            self.draft.text(WARMUP),
            note="" if self.draft.value(WARMUP) else "none: a large first rate is wanted",
            problems=self.findings.about(WARMUP),
            changed=self.draft.changed(WARMUP),
        )
        self._show_curve()

    def _reading_lines(self) -> list[list[tuple[str, str]]]:
        if self._problem:
            return [
                [(" " * 18, ""), *line] for line in marked("✗ ", self._problem, "error", max(20, self.size.width - 26))
            ]
        try:
            both: SchemeReadings | None = readings(self._text)
        except SchemeError:
            both = None
        if both is None or not both.ambiguous:
            return [[(" " * 18, ""), (f"{self._scheme().total_steps} steps in all", "muted")]]
        for_total = both.for_steps.total_steps if both.for_steps else 0
        until_total = both.until_step.total_steps if both.until_step else 0
        totals = [
            (f"for N steps: {for_total} in all", "b" if self._reading == "for" else "muted"),
            (f"until step N: {until_total} in all", "b" if self._reading == "until" else "muted"),
        ]
        if 18 + sum(len(text) for text, _ in totals) + 4 > self.query_one("#readings").size.width:
            return [[(" " * 18, ""), total] for total in totals]
        return [[(" " * 18, ""), totals[0], ("    ", ""), totals[1]]]

    def _show_curve(self) -> None:
        canvas = self.query_one("#curve", Canvas)
        width, height = canvas.size.width, canvas.size.height
        if width < 20 or height < 4:
            canvas.draw([])
            return
        try:
            warmup = int(self.draft.value(WARMUP))
            scheme = self._scheme()
            scheme = Scheme(scheme.segments, min(warmup, scheme.segments[0].steps), scheme.shape)
        except SchemeError:
            return
        canvas.draw(scheme_chart(scheme, min(width, 100), height))
