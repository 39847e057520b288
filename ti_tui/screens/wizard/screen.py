"""The wizard's screen: the rail of steps, the open step, and moving between steps."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Rule, Static

from ti_tui.formatting import clock, printable
from ti_tui.run.hardware import GIB
from ti_tui.screens.base import fit_key_line
from ti_tui.screens.wizard.dataset import DatasetPane
from ti_tui.screens.wizard.importing import ImportingScreen
from ti_tui.screens.wizard.pane import FormPane, GoTo, Ready, StepPane
from ti_tui.setup.draft import Draft, bad_draft_path, drop_draft, load_draft
from ti_tui.setup.last_run import proposed_draft
from ti_tui.setup.steps import STEPS, StepId, state_of, step_of
from ti_tui.widgets.canvas import Canvas, spread
from ti_tui.widgets.key_line import KeyLine
from ti_tui.widgets.step_rail import StepRail

if TYPE_CHECKING:
    from ti_tui.dataset.photograph_checks import SurveyedFile

NUMBERS = range(1, len(STEPS) + 1)
PAGE_KEYS = ("pageup", "pagedown", "home", "end")
LINE_OF_TEXT = 76
"""Columns in which every explanation takes at most two lines."""
ONLY_IN: dict[str, tuple[StepId, ...]] = {
    "advanced": ("parameters",),
    "search": ("parameters",),
    "view": ("train",),
    "page": ("train",),
    "pick": ("dataset", "captions", "directories", "parameters"),
    "reset_field": ("captions", "directories", "parameters"),
}
"""Actions that only some steps have."""


class WizardScreen(ImportingScreen):
    """Six steps from a folder of photographs to a started run."""

    CSS_PATH = "wizard.tcss"
    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("ctrl+n,alt+right", "next_step", "Next step", id="wizard.next", priority=True),
        Binding("ctrl+b,alt+left", "previous_step", "Back", id="wizard.back", priority=True),
        *(Binding(str(n), f"jump({n - 1})", f"Step {n}", show=False, id=f"wizard.step-{n}") for n in NUMBERS),
        # A text line takes alt+digit as a character, so these bindings have priority.
        *(Binding(f"alt+{n}", f"jump({n - 1})", f"Step {n}", show=False, priority=True, id=f"wizard.alt-step-{n}",
                  key_display=f"alt+1…{len(STEPS)}", tooltip="Go to a step; without alt outside text fields")
          for n in NUMBERS),
        Binding("tab", "app.focus_next", "Next field", show=False, id="wizard.field-next"),
        Binding("shift+tab", "app.focus_previous", "Previous field", show=False, id="wizard.field-back"),
        Binding("ctrl+o", "pick", "Pick", id="wizard.pick", priority=True, tooltip="Pick a folder or file"),
        Binding("ctrl+r", "reset_field", "Default", id="wizard.reset", priority=True,
                tooltip="Reset the field to its default"),
        Binding("ctrl+t", "advanced", "Advanced", id="parameters.advanced", priority=True),
        Binding("ctrl+f", "search", "Search", id="parameters.search", priority=True, tooltip="Search fields by name"),
        Binding("slash", "search", "Search", show=False, id="parameters.search-letter"),
        Binding("v", "view", "Run file", id="train.view", tooltip="See the run file that will be written"),
        # Priority: the list of problems would take these keys for itself.
        *(Binding(key, f"page({key!r})", "Scroll", show=False, priority=True, id=f"train.{key}",
                  key_display="pgup pgdn home end", tooltip="Scroll the receipt") for key in PAGE_KEYS),
        Binding("ctrl+q", "app.quit", "Quit", id="wizard.quit", tooltip="Leave; the draft is saved"),
        Binding("escape", "leave_field", "Leave the field", show=False, id="wizard.leave"),
    ]  # fmt: skip

    def __init__(self, draft: Draft | None = None) -> None:
        super().__init__(draft or proposed_draft())
        self.here: StepId = "dataset"
        # In a draft that is given filled in, only the last step is still ahead.
        self.visited: set[StepId] = {step.id for step in STEPS[:-1]} if draft is not None else set()
        self._wanted = ""
        self.opening = False

    def compose(self) -> ComposeResult:
        yield Canvas(id="head")
        yield Rule(line_style="heavy", classes="rule")
        with Horizontal(id="body"):
            yield StepRail(STEPS, id="rail")
            yield Vertical(id="panes")
        yield Rule(line_style="solid", classes="rule")
        yield Static("", id="explanation", markup=False)
        yield KeyLine(needed=("next_step", "advanced", "view"))

    def on_mount(self) -> None:
        left = load_draft() if self.draft.kept else None
        self._open("dataset")
        if not self.draft.kept:
            # Do not offer the user's own draft here.
            return
        if left is not None:
            self._offer(left)
        elif bad_draft_path().exists() and time.time() - bad_draft_path().stat().st_mtime < 7 * 86400:
            text = f"The last draft cannot be read. It is kept in {bad_draft_path()}"
            self.notify(text, severity="warning", markup=False, timeout=8)

    # Steps

    @property
    def open_pane(self) -> StepPane | None:
        """The open step, once it is mounted."""
        return next((pane for pane in self.query(StepPane) if pane.step == self.here and pane.is_mounted), None)

    def action_next_step(self) -> None:
        at = self._index()
        if at + 1 < len(STEPS):
            self._open(STEPS[at + 1].id)

    def action_previous_step(self) -> None:
        if (at := self._index()) > 0:
            self._open(STEPS[at - 1].id)

    def action_jump(self, index: int) -> None:
        self._open(STEPS[index].id)

    def action_leave_field(self) -> None:
        if self.open_pane is None or not self.open_pane.leave_inner():
            self.query_one("#rail").focus()

    def action_advanced(self) -> None:
        if isinstance(self.open_pane, FormPane):
            self.open_pane.toggle_advanced()

    def action_search(self) -> None:
        if isinstance(self.open_pane, FormPane):
            self.open_pane.search()

    def action_view(self) -> None:
        if self.open_pane is not None:
            self.open_pane.view()

    def action_page(self, key: str) -> None:
        if self.open_pane is not None:
            self.open_pane.page(key)

    def action_reset_field(self) -> None:
        if isinstance(self.open_pane, FormPane):
            self.open_pane.reset()

    def action_pick(self) -> None:
        from ti_tui.dataset.picture_file import SUFFIXES
        from ti_tui.embeddings.files import READABLE
        from ti_tui.run.model import WEIGHTS
        from ti_tui.screens.dialogs import PathPicker, start_of

        pane = self.open_pane
        if pane is None:
            return
        row = pane.row_with_focus()
        paths = [row for row in pane.rows() if row.spec.kind == "path"]
        if row is None and paths and (len(paths) == 1 or self.here == "dataset"):
            row = paths[0]
        if row is None or (row.spec.kind != "path" and row.spec.name != "embedding.init"):
            self.notify("This field takes no path.", timeout=2)
            return
        field, name = row, row.spec.name

        def picked(path: Path | None) -> None:
            if path is not None:
                pane.take_path(name, path)
            else:
                field.entry.focus()

        start = start_of(self.draft.text(name))
        # Files with these suffixes can be picked; for other fields a folder is picked.
        files = {"template_file": {".txt"}, "model.base": WEIGHTS, "model.vae": WEIGHTS, "embedding.init": READABLE}
        suffixes = frozenset(files.get(name, ()))
        counted = SUFFIXES if name == "photographs" else frozenset()
        self.app.push_screen(PathPicker(row.spec.label, start, suffixes=suffixes, counted=counted), picked)

    def on_next_step(self) -> None:
        self.action_next_step()

    def on_go_to(self, message: GoTo) -> None:
        self._open(step_of(message.field), field=message.field)

    def on_step_rail_chosen(self, message: StepRail.Chosen) -> None:
        self._open(message.step)

    def _index(self) -> int:
        return next(i for i, step in enumerate(STEPS) if step.id == self.here)

    def _open(self, step: StepId, *, field: str = "") -> None:
        """Open a step, with the cursor on `field` or on the first thing to do."""
        self.visited.add(self.here)
        self.here = self.draft.step = step
        if self.visited != {"dataset"} or step != "dataset" or not self.draft.empty:
            # Files may have changed since the last check. Not while the draft is empty: assessing it loads modules
            # that the first screen does not need.
            self.check_if_changed()
            self.check_again()
        self._wanted = field
        panes = self.query_one("#panes")
        for pane in panes.query(StepPane):
            pane.display = pane.step == step
        if panes.query(f"#pane-{step}"):
            self._enter(step)
        else:
            # The next key is for the field that it begins with.
            self.opening = True
            panes.mount(_pane(step, self.draft))
        self.show_findings()

    def on_ready(self, message: Ready) -> None:
        if message.step == "dataset":
            self.show_photographs()
        self._enter(message.step)
        self.show_findings()

    def _enter(self, step: StepId) -> None:
        pane = self.open_pane
        if pane is None or step != self.here:
            return
        self.opening = False
        pane.show(self.findings)
        if not (self._wanted and pane.go_to(self._wanted)):
            pane.enter()
        self._wanted = ""

    # The draft

    def _offer(self, left: Draft) -> None:
        from ti_tui.screens.dialogs import Answer, ask

        recent = time.time() - left.saved < 20 * 3600
        when = clock(left.saved, "%H:%M" if recent else "%d %B, %H:%M")
        token = left.fields.get("embedding.token") or left.photographs or "no name yet"

        def start_new() -> None:
            drop_draft()
            self._enter(self.here)
            self.check_again()

        go_on = Answer("g", "continue it", partial(self.take_draft, left))
        answers = [go_on, Answer("n", "start a new one", start_new)]
        ask(self.app, f"Continue the draft of {when}?", printable(str(token)), answers, otherwise=go_on)

    async def take_draft(self, draft: Draft) -> None:
        """Continue with `draft` instead of the open one."""
        self.take_over(draft)
        await self.query_one("#panes").remove_children()
        steps = [step.id for step in STEPS]
        self.here = draft.step if draft.step in steps else "dataset"
        self.visited = set(steps[: self._index()])
        self._open(self.here)

    def ask_quit(self) -> None:
        """Leave: the draft is saved, so there is nothing to ask."""
        self.keep_draft()
        self.app.exit()

    # What is shown

    def _dataset(self) -> DatasetPane | None:
        return next((pane for pane in self.query(DatasetPane) if pane.is_mounted), None)

    def show_photographs(self) -> None:
        if dataset := self._dataset():
            dataset.fill()

    def add_photograph(self, photograph: SurveyedFile) -> None:
        if dataset := self._dataset():
            dataset.add(photograph)

    def show_findings(self) -> None:
        self._show_head()
        rail = self.query_one(StepRail)
        rail.show([state_of(step, self.draft, self.findings, here=self.here, seen=self.visited) for step in STEPS])
        if self.open_pane is not None:
            self.open_pane.show(self.findings)
        self.explain()

    def _show_head(self) -> None:
        hardware = self.findings.hardware
        device = ""
        if hardware is not None:
            free, total = hardware.free_bytes / GIB, hardware.total_bytes / GIB
            # A machine's free memory never rests; its tenths would be sent again with every key.
            digits = 1 if hardware.kind == "cuda" else 0
            device = f"{hardware.name}   {free:.{digits}f} of {total:.{digits}f} GiB free "
        like = f", settings of {printable(self.draft.like)}" if self.draft.like else ""
        title = [(" ti_tui", "accent b"), (f"   {self.draft.occasion or 'new embedding'}", "muted"), (like, "muted")]
        self.query_one("#head", Canvas).draw([spread(title, (device, "muted"), self.size.width, least=2)])

    def explain(self) -> None:
        """Explain the focused widget."""
        text = self.open_pane.explanation() if self.open_pane is not None else ""
        self.query_one("#explanation", Static).update(text)

    def on_descendant_focus(self) -> None:
        self.explain()
        self.refresh_bindings()

    def on_resize(self) -> None:
        self.query_one(StepRail).narrow = fit_key_line(self)
        self.query_one("#explanation").styles.height = 2 if self.size.width >= LINE_OF_TEXT else 3
        self.show_findings()

    @property
    def help_text(self) -> str:
        return self.open_pane.WORDS if self.open_pane is not None else ""

    @property
    def help_terms(self) -> tuple[str, ...]:
        return self.open_pane.TERMS if self.open_pane is not None else ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "next_step":
            return self.here != STEPS[-1].id
        if action == "previous_step":
            return self.here != STEPS[0].id
        return self.here in ONLY_IN.get(action, (self.here,))


def _pane(step: StepId, draft: Draft) -> StepPane:
    match step:
        case "dataset":
            return DatasetPane(draft)
        case "captions":
            from ti_tui.screens.wizard.captions import CaptionsPane

            return CaptionsPane(draft)
        case "directories":
            from ti_tui.screens.wizard.directories import DirectoriesPane

            return DirectoriesPane(draft)
        case "parameters":
            from ti_tui.screens.wizard.parameters import ParametersPane

            return ParametersPane(draft)
        case "scheme":
            from ti_tui.screens.wizard.scheme import SchemePane

            return SchemePane(draft)
        case "train":
            from ti_tui.screens.wizard.train import TrainPane

            return TrainPane(draft)
