"""The dashboard's screen: the curves, checkpoints, samples and device of one run."""

from __future__ import annotations

import threading
import time

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import OptionList, Rule, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from ti_tui.formatting import location, printable
from ti_tui.results.ranking import checkpoint_ranks
from ti_tui.run.device_monitor import DeviceMonitor, DeviceReading
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import CheckpointRow
from ti_tui.screens.action_commands import ActionCommands
from ti_tui.screens.base import fit_key_line
from ti_tui.screens.dashboard import checkpoint_lines, lines, panels, verdict_lines
from ti_tui.screens.dashboard.checkpoint_lines import CheckpointLine
from ti_tui.screens.dashboard.health import HealthScreen
from ti_tui.screens.dashboard.lines import View
from ti_tui.screens.dashboard.panel_layout import PanelLayout
from ti_tui.screens.dashboard.panels import Panel
from ti_tui.screens.dashboard.sample_panel import SamplePanel
from ti_tui.screens.dashboard.samples import step_for
from ti_tui.screens.dashboard.steering import SteeringScreen
from ti_tui.screens.terminal_title import TerminalTitle, has_title
from ti_tui.widgets.canvas import Canvas, Line, Piece
from ti_tui.widgets.key_line import KeyLine

ZOOMS = (0, -1, 1000, 200)
MONITOR_SECONDS = 2.0
CHART_SECONDS = 2.0
CATCH_UP_SECONDS = 0.01
READ_SECONDS = 0.06
CATCH_UP_SHOWN_SECONDS = 0.3
"""How often the screen is updated while a long log is read."""


class MonitorRead(Message):
    """The device was read."""

    def __init__(self, reading: DeviceReading) -> None:
        super().__init__()
        self.reading = reading


class DashboardScreen(PanelLayout, SteeringScreen):
    """One run, running or finished. Several may show one run."""

    CSS_PATH = "dashboard.tcss"
    AUTO_FOCUS = "#checkpoints"
    COMMANDS = {ActionCommands}
    help_terms = (
        "phase", "step", "epoch", "left (ETA)", "steps/s", "silent", "train loss", "smooth", "not numbers", "eval loss",
        "gain", "rate", "scheme", "verdict", "learning", "learned", "overtraining", "not learning", "diverging",
        "checkpoint", "best checkpoint", "rank", "prompt-following", "held-out images", "norm", "median word",
        "eval", "held out", "prompts", "installed", "save", "so far", "VRAM", "peak", "predicted", "others", "load",
        "batch", "sample", "request",
    )  # fmt: skip
    BINDINGS = [
        Binding("r", "zoom", "Range", show=False, id="dashboard.zoom",
                tooltip="Chart: whole run, so far, last 1000, last 200 steps"),
        Binding("v", "vectors", "Vectors", id="dashboard.vectors", tooltip="Gains, and the health of the vectors"),
        Binding("o", "overlay", "Rate curve", show=False, id="dashboard.overlay",
                tooltip="Show the learning rate in the chart"),
        Binding("w", "read", "Warning read", show=False, id="dashboard.read", tooltip="Dismiss the warning"),
        Binding("right_square_bracket", "prompt(1)", "Next prompt", show=False, key_display="]"),
        Binding("left_square_bracket", "prompt(-1)", "Previous prompt", show=False, key_display="["),
        Binding("q", "app.quit", "Leave", id="dashboard.leave"),
    ]  # fmt: skip

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder)
        self._reading: DeviceReading | None = None
        self._monitor: DeviceMonitor | None = None
        self._monitored: tuple[int | None, str] | None = None
        self._monitor_lock = threading.Lock()
        self._zoom, self._overlay = 0, True
        self._read_warnings = self._replaced = 0
        self._newest_sample = -1
        self._title: TerminalTitle | None = None
        self._listed: object = None
        self._why: list[Line] = []
        self._shown_steps: list[int] = []
        self._drawn: object = None
        self._drawn_at = 0.0
        self._catching_up: Timer | None = None
        self._was_going = False
        self._ended = ""

    def compose(self) -> ComposeResult:
        yield Canvas(id="head")
        with Container(id="body"):
            with panels.chart_panel():
                yield Canvas(id="chart")
            with Vertical(id="side"):
                with panels.device_panel():
                    yield Canvas(id="meter")
                    yield Canvas(id="facts")
                with panels.log_panel():
                    yield Canvas(id="log")
            with Vertical(id="middle"):
                yield Rule(line_style="solid", classes="rule")
                yield Canvas(id="notices")
            with panels.checkpoints_panel():
                yield Canvas(id="heading")
                yield OptionList(id="checkpoints")
                yield Canvas(id="why")
                yield Static("", id="file", markup=False)
            yield panels.samples_panel(SamplePanel)
        yield KeyLine()

    def on_mount(self) -> None:
        driver = self.app._driver
        if driver is not None and not self.app.is_headless and has_title():
            self._title = TerminalTitle(driver.write)
        self._reconcile()
        self.look_again()
        self.set_interval(self.ti_tui.config.refresh_seconds, self._on_time)
        self.set_interval(MONITOR_SECONDS, self._look_at_device)
        self._look_at_device()

    @work(thread=True, exit_on_error=False)
    def _reconcile(self) -> None:
        from ti_tui.embeddings.run_files import reconcile_if_idle

        reconcile_if_idle(self.followed.folder)

    def on_unmount(self) -> None:
        if self._title is not None:
            self._title.restore()
        with self._monitor_lock:
            if self._monitor is not None:
                self._monitor.close()

    # Following

    def _on_time(self) -> None:
        """Called about once a second; does nothing while another run or the wizard is shown."""
        if self in self.app.screen_stack:
            self.look_again()

    def look_again(self) -> None:
        """Read new events, for a moment at most, and show them."""
        more = self.followed.read(READ_SECONDS)
        if more:
            if self._catching_up is not None:
                self._catching_up.stop()
            self._catching_up = self.set_timer(CATCH_UP_SECONDS, self.look_again)
            if time.monotonic() - self._drawn_at < CATCH_UP_SHOWN_SECONDS:
                return
        self.followed.look()
        if self.followed.replaced != self._replaced:
            self._replaced, self._read_warnings = self.followed.replaced, 0
        self._show()

    def _look_at_device(self) -> None:
        if self not in self.app.screen_stack:
            return
        status = self.followed.status
        # On another machine, or once the process has ended, the pid may belong to some other process here.
        alive = status is not None and status.going and status.process.alive()
        self._read_device(status.pid if alive and status is not None else None, self.followed.device)

    @work(thread=True, exclusive=True, group="monitor", exit_on_error=False)
    def _read_device(self, pid: int | None, device: str) -> None:
        # One reader at a time: the thread of a cancelled worker may still be running when the next one starts.
        with self._monitor_lock:
            if get_current_worker().is_cancelled:
                return
            if self._monitor is None or self._monitored != (pid, device):
                if self._monitor is not None:
                    self._monitor.close()
                self._monitor, self._monitored = DeviceMonitor(device, pid), (pid, device)
            reading = self._monitor.read()
        self.post_message(MonitorRead(reading))

    def on_monitor_read(self, message: MonitorRead) -> None:
        self._reading = message.reading
        self._show_meter()

    # What is shown

    @property
    def view(self) -> View:
        return View(self.followed, self._reading, self._zoom, self._overlay)

    def on_resize(self) -> None:
        fit_key_line(self)
        self.fit_panels()

    def panels_changed(self) -> None:
        self.call_after_refresh(self._show)
        self.call_after_refresh(self._show_chart, now=True)

    def open_panel(self, panel: Panel) -> bool:
        screens = {"samples": self.action_compare, "log-panel": self.action_log}
        if (shows := screens.get(str(panel.id))) is not None:
            shows()
        return shows is not None

    def _show(self) -> None:
        self._show_checkpoints()
        view = self.view
        self.query_one("#head", Canvas).draw(lines.head(view, self.size.width))
        self._show_chart()
        self._show_meter()
        self._show_notices()
        newest = max(self.followed.history.samples, default=-1)
        if newest != self._newest_sample:
            self._newest_sample = newest
            self._show_samples()
        if self._title is not None and self.app.screen_stack[0] is self:
            self._title.show(lines.title(view))
        self._show_end()

    def _show_chart(self, *, now: bool = False) -> None:
        """Draw the chart if it has changed, and not too often."""
        view, canvas = self.view, self.query_one("#chart", Canvas)
        run, size = self.followed, canvas.size
        shown_of_run = (id(run.history), view.step, view.total, len(run.history.evals), run.saves(), run.scheme)
        content = (shown_of_run, size, view.zoom, view.overlay)
        late = time.monotonic() - self._drawn_at >= CHART_SECONDS or not run.going
        if content == self._drawn or not (now or late or self._drawn is None):
            return
        canvas.draw(lines.curves(view, size.width - 1, size.height, rate_axis=self.has_class("-large")))
        self._drawn, self._drawn_at = content, time.monotonic()

    def _show_meter(self) -> None:
        view = self.view
        meter, facts, log = (self.query_one(name, Canvas) for name in ("#meter", "#facts", "#log"))
        meter.draw(lines.meter(view, meter.size.width))
        facts.draw(lines.facts(view, facts.size.width, reasons=self.full == "device-panel"))
        log.draw(lines.log(log.size.width, self.followed.log_lines, log.size.height))

    def _show_notices(self) -> None:
        run, width = self.followed, self.query_one("#middle").size.width - 2
        most = 2 if self.has_class("-tiny") else 3
        shown = verdict_lines.lines(run.history, width, going=run.going, ends_itself=run.ends_itself, most=most)
        shown += lines.warnings(run.history, self._read_warnings, width)
        if not run.going:
            shown += lines.result(self.view, location(run.result_file()), width)
        notices = self.query_one("#notices", Canvas)
        rows = notices.size.height
        notices.draw(shown)
        if rows != len(shown):
            self.call_after_refresh(self._show_chart, now=True)

    def _show_checkpoints(self) -> None:
        rows = self.followed.rows
        history = self.followed.history
        box = self.query_one("#checkpoints", OptionList)
        # The highlighted row is as wide as the list, with a cell of padding at both sides.
        width = self.query_one("#saves").size.width - 2
        listed = (rows, self.followed.installed, history.best_step, len(history.evaluations), width)
        why = self.query_one("#why", Canvas)
        if listed == self._listed:
            why.draw(self._why)
            return
        at, before = box.highlighted, self._shown_steps
        follows = at is None or at == 0
        chosen_step = before[at] if at is not None and at < len(before) else None
        self._listed, self._shown_steps = listed, [row.step for row in rows]
        ranked = checkpoint_ranks(history)
        told = [
            CheckpointLine(
                row,
                history.evaluation_at(row.step),
                ranked.get(row.step),
                best=row.step == history.best_step,
                installed=row.step in self.followed.installed,
            )
            for row in rows
        ]
        columns = checkpoint_lines.columns(width, told)
        self.query_one("#heading", Canvas).draw([[(" ", ""), *checkpoint_lines.heading(columns)]])
        box.set_options(
            [Option(_content(checkpoint_lines.checkpoint(one, columns, last=i == 0))) for i, one in enumerate(told)]
        )
        most = 1 if self.has_class("-short") else 3
        self._why = checkpoint_lines.star_lines(history, self._shown_steps, width, most)
        why.draw(self._why)
        if rows:
            known = chosen_step in self._shown_steps and not follows
            box.highlighted = self._shown_steps.index(chosen_step) if known and chosen_step is not None else 0
        self._show_samples()

    def _show_samples(self) -> None:
        history = self.followed.history
        chosen = self.chosen()
        file = chosen.files[0] if chosen and chosen.files else ""
        self.query_one("#file", Static).update(printable(f"file {file}") if file else "")
        step = step_for(history, chosen.step) if chosen else None
        self.query_one(SamplePanel).watch(self.followed.folder, history, step)

    def chosen(self) -> CheckpointRow | None:
        at = self.query_one("#checkpoints", OptionList).highlighted
        rows = self.followed.rows
        return rows[at] if at is not None and at < len(rows) else None

    def _show_end(self) -> None:
        going = self.followed.going
        if going != self._was_going:
            self._was_going = going
            self.refresh_bindings()
        if self.followed.status is None or going:
            self._ended = ""
        elif self._ended != self.followed.status.phase:
            # Not for a run that had ended before it was opened.
            if time.time() - self.followed.status.updated < 30:
                self.app.bell()
                if self.followed.rows:
                    # The keys act on the newest checkpoint, which the result line names.
                    self.query_one("#checkpoints", OptionList).highlighted = 0
            self._ended = self.followed.status.phase
            self.refresh_bindings()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self._show_samples()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_compare()

    @property
    def help_text(self) -> str:
        return (
            "The train loss jumps, because every step has different noise, and even its trend says little about what "
            "is learned. The eval loss is computed on a fixed eval set; its gain says how much smaller it is than with "
            f"the initial vectors. ★ marks the best checkpoint, which is also saved as {self.followed.name}-best. "
            "v shows more.\n\nThe trainer is a separate process: leaving the dashboard or closing the terminal does "
            "not stop it. `ti-tui watch` opens the dashboard again.\n\n"
            f"The embedding is {location(self.followed.result_file())}. Copy it into a program's embeddings folder and "
            f"write `{self.followed.name}` in a prompt."
        )

    # Display settings

    def action_zoom(self) -> None:
        self._zoom = ZOOMS[(ZOOMS.index(self._zoom) + 1) % len(ZOOMS)]
        self._show_chart(now=True)

    def action_vectors(self) -> None:
        self.app.push_screen(HealthScreen(self.followed))

    def action_overlay(self) -> None:
        self._overlay = not self._overlay
        self._show_chart(now=True)

    def action_prompt(self, by: int) -> None:
        self.query_one(SamplePanel).action_prompt(by)

    def on_sample_panel_compared(self) -> None:
        self.action_compare()

    def action_read(self) -> None:
        self._read_warnings = len(self.followed.history.warnings)
        self._show_notices()


def _content(pieces: list[Piece]) -> Content:
    """A line for a list: style names become Textual's."""
    return Content.assemble(
        *((text, " ".join(f"${s}" if len(s) > 1 else "bold" for s in style.split())) for text, style in pieces)
    )
