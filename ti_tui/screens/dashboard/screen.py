"""The dashboard's screen: follows a run's log and its device, and hands on what a person asks for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, OptionList, Rule
from textual.widgets.option_list import Option
from textual.worker import Worker, WorkerState

from ti_tui import settings
from ti_tui.errors import UserError
from ti_tui.run import requests
from ti_tui.run.folder import RunFolder, Status
from ti_tui.run.history import CheckpointRow
from ti_tui.run.history_reader import HistoryReader
from ti_tui.run.monitor import DeviceMonitor, Reading
from ti_tui.run.scheme import Scheme
from ti_tui.screens.dashboard import lines
from ti_tui.screens.dashboard.lines import View
from ti_tui.screens.dashboard.samples import picture_at, step_for, training_picture
from ti_tui.setup.telling import EventTail
from ti_tui.setup.words import location
from ti_tui.widgets.canvas import Canvas
from ti_tui.widgets.picture import Picture

if TYPE_CHECKING:
    from ti_tui.screens.app import TiTuiApp

NARROW = 100
ZOOMS = (0, 1000, 200)
MONITOR_SECONDS = 2.0
CHART_SECONDS = 2.0
CATCH_UP_SECONDS = 0.01


class MonitorRead(Message):
    """What the device does now."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self.reading = reading


class Told(Message):
    """A request was carried out or refused: say so, and look at the run again."""

    def __init__(self, text: str, *, wrong: bool = False) -> None:
        super().__init__()
        self.text, self.wrong = text, wrong


class DashboardScreen(Screen[None]):
    """One run, going or done. It reads the run folder only, so any number may look at once."""

    CSS_PATH = "dashboard.tcss"
    AUTO_FOCUS = "#checkpoints"
    BINDINGS = [
        Binding("s", "save", "Save", id="dashboard.save", tooltip="Save a checkpoint after this step"),
        Binding("p", "sample", "Sample", id="dashboard.sample", tooltip="Draw the previews after this step"),
        Binding("e", "scheme", "Rate", id="dashboard.scheme", tooltip="Change the rates from here on"),
        Binding("x", "stop", "Stop", id="dashboard.stop", tooltip="Save an exact checkpoint and end"),
        Binding("t", "train", "Train on", id="dashboard.train", tooltip="Start the trainer again"),
        Binding("i", "install", "Install", id="dashboard.install", tooltip="Copy the embedding to a program"),
        Binding("g", "compare", "Compare", id="dashboard.compare", tooltip="Samples side by side"),
        Binding("l", "log", "Log", id="dashboard.log", tooltip="What happened, followed"),
        Binding("z", "zoom", "Zoom", id="dashboard.zoom", tooltip="Chart: whole run, last 1000, last 200 steps"),
        Binding("o", "overlay", "Rate curve", show=False, id="dashboard.overlay", tooltip="Rate over the loss"),
        Binding("c", "copy", "Copy path", show=False, id="dashboard.copy", tooltip="Copy the embedding's path"),
        Binding("d,delete", "delete", "Delete", show=False, id="dashboard.delete", tooltip="Delete the checkpoint"),
        Binding("w", "read", "Warning read", show=False, id="dashboard.read", tooltip="The warning was read"),
        Binding("right_square_bracket", "prompt(1)", "Next prompt", show=False, key_display="]"),
        Binding("left_square_bracket", "prompt(-1)", "Prompt before", show=False, key_display="["),
        Binding("q", "app.quit", "Leave", id="dashboard.leave"),
    ]

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder
        self._reader = HistoryReader(folder.events)
        self._tail = EventTail(folder.events)
        self._told: list[tuple[float, str]] = []
        self._status: Status | None = None
        self._scheme: Scheme | None = None
        self._scheme_from = 0.0
        self._token, self._install_to, self._device = folder.name, "", "auto"
        self._reading: Reading | None = None
        self._monitor: DeviceMonitor | None = None
        self._behind = 0.0
        self._zoom, self._overlay, self._prompt = 0, True, 0
        self._read_warnings = 0
        self._newest_sample = -1
        self._rows: list[CheckpointRow] = []
        self._drawn_at = 0.0
        self._ended = ""
        self._caught_up = False

    @property
    def ti_tui(self) -> TiTuiApp:
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        yield Canvas(id="head")
        with Horizontal(id="upper"):
            yield Canvas(id="chart")
            with Vertical(id="side"):
                yield Canvas(id="meter")
                yield Canvas(id="about")
        yield Rule(line_style="solid", classes="rule")
        yield Canvas(id="notices")
        with Horizontal(id="lower"):
            with Vertical(id="saves"):
                yield Canvas(id="heading")
                yield OptionList(id="checkpoints")
            with Horizontal(id="samples"):
                for name in ("then", "now", "real"):
                    yield Picture(id=name, classes="shot", images=self.ti_tui.images, cache=self.ti_tui.pictures)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#heading", Canvas).draw([lines.checkpoint_heading(44)])
        self.query_one("#real", Picture).show(training_picture(self.folder), "a training picture")
        self._tick()
        self.set_interval(self.ti_tui.config.refresh_seconds, self._tick)
        self.set_interval(MONITOR_SECONDS, self._look_at_device)
        self._look_at_device()

    def on_unmount(self) -> None:
        if self._monitor is not None:
            self._monitor.close()

    # Following

    def _tick(self) -> None:
        """Read what is new, for a moment at most, and show it."""
        more = self._reader.read(limit_seconds=0.04)
        if more and not self._caught_up:
            self._behind = self._reader.share_read()
            self.set_timer(CATCH_UP_SECONDS, self._tick)
            if self._behind and time.monotonic() - self._drawn_at < 0.3:
                return
        else:
            self._caught_up, self._behind = True, 0.0
        self._status = self.folder.current_status()
        self._read_run_file()
        self._told = [*self._told, *self._tail.read()][-100:]
        self._show()

    def _read_run_file(self) -> None:
        try:
            changed = self.folder.file.stat().st_mtime
        except OSError:
            return
        if changed == self._scheme_from:
            return
        self._scheme_from = changed
        from ti_tui.run.file import load

        try:
            run = load(self.folder.file)
        except UserError:
            return
        self._scheme = run.scheme.scheme()
        self._token = run.embedding.token
        self._install_to, self._device = run.save.install_to, run.training.device

    def _look_at_device(self) -> None:
        if self.is_current or self._reading is None:
            status = self.folder.read_status()
            self._read_device(status.pid if status is not None and status.going else None)

    @work(thread=True, exclusive=True, group="monitor", exit_on_error=False)
    def _read_device(self, pid: int | None) -> None:
        if self._monitor is None or self._monitor_pid != pid:
            if self._monitor is not None:
                self._monitor.close()
            self._monitor, self._monitor_pid = DeviceMonitor(self._device, pid), pid
        self.post_message(MonitorRead(self._monitor.read()))

    _monitor_pid: int | None = None

    def on_monitor_read(self, message: MonitorRead) -> None:
        self._reading = message.reading
        self._show_meter()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR and isinstance(event.worker.error, Exception):
            from ti_tui.screens.app import write_crash

            path = write_crash(event.worker.error)
            text = f"That did not work: {event.worker.error}\nThe details are in {path}"
            self.notify(text, severity="error", markup=False, timeout=10)

    # What is shown

    @property
    def view(self) -> View:
        """All that the lines say, as it is now."""
        return View(
            self.folder.name,
            self._reader.history,
            self._status,
            self._scheme,
            self._reading,
            self._zoom,
            self._overlay,
            self._behind,
        )

    def on_resize(self) -> None:
        self.query_one(Footer).compact = self.size.width < NARROW
        self.call_after_refresh(self._show, chart=True)

    def _show(self, *, chart: bool = False) -> None:
        view = self.view
        self.query_one("#head", Canvas).draw(lines.head(view, self.size.width))
        now = time.monotonic()
        if chart or now - self._drawn_at >= CHART_SECONDS or not view.status or not view.status.going:
            canvas = self.query_one("#chart", Canvas)
            canvas.draw(lines.curves(view, canvas.size.width - 1, canvas.size.height))
            self._drawn_at = now
        self._show_meter()
        self._show_notices()
        self._show_checkpoints()
        newest = max(self._reader.history.samples, default=-1)
        if newest != self._newest_sample:
            self._newest_sample = newest
            self._show_samples()
        self._show_end()

    def _show_meter(self) -> None:
        view = self.view
        meter, about = self.query_one("#meter", Canvas), self.query_one("#about", Canvas)
        meter.draw(lines.meter(view, meter.size.width))
        about.draw(lines.about(view, about.size.width, self._told, about.size.height))

    def _show_notices(self) -> None:
        view, width = self.view, self.size.width - 2
        shown = lines.warnings(view, self._read_warnings, width)
        if view.status is None or not view.status.going:
            shown = [*shown, *lines.result(view, self._token, self._result_file(), width)]
        self.query_one("#notices", Canvas).draw(shown)

    def _result_file(self) -> str:
        path = self.folder.embedding(self._token, None)
        return location(path) if path.exists() else location(self.folder.models)

    def _show_checkpoints(self) -> None:
        history = self._reader.history
        rows = [row for row in reversed(history.checkpoints) if self._is_there(row)]
        if rows == self._rows:
            return
        box = self.query_one("#checkpoints", OptionList)
        at = box.highlighted
        follows = at is None or at == 0
        kept = self._rows[at].step if at is not None and at < len(self._rows) else None
        self._rows = rows
        box.set_options([Option(self._option(row, last=i == 0)) for i, row in enumerate(rows)])
        if rows:
            steps = [row.step for row in rows]
            box.highlighted = 0 if follows or kept not in steps else steps.index(kept)
        self._show_samples()

    def _option(self, row: CheckpointRow, *, last: bool) -> Content:
        pieces = lines.checkpoint(row, 44, last=last)
        return Content.assemble(
            *((text, " ".join(f"${s}" if len(s) > 1 else "bold" for s in style.split())) for text, style in pieces)
        )

    def _is_there(self, row: CheckpointRow) -> bool:
        return any((self.folder.root / file).exists() for file in row.files) or bool(row.installed)

    def _show_samples(self) -> None:
        history = self._reader.history
        then, now = self.query_one("#then", Picture), self.query_one("#now", Picture)
        if not history.samples:
            then.show(None, "no samples yet")
            return
        last = max(history.samples)
        chosen = self._chosen()
        step = step_for(history, chosen.step) if chosen else None
        if step is None or step == last:
            # The newest is at its own place; the first one shows how far it has come.
            step = min(history.samples)
        path, _ = picture_at(self.folder, history, step, self._prompt)
        then.show(path, f"step {step}")
        path, _ = picture_at(self.folder, history, last, self._prompt)
        now.show(path, f"step {last}")

    def _chosen(self) -> CheckpointRow | None:
        at = self.query_one("#checkpoints", OptionList).highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    def _show_end(self) -> None:
        status = self._status
        if status is None or status.going:
            self._ended = ""
            return
        if self._ended != status.phase:
            # Not for a run that had ended before it was looked at.
            if self._ended == "" and time.time() - status.updated < 30:
                self.app.bell()
            self._ended = status.phase
            self.refresh_bindings()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self._show_samples()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_compare()

    def help_text(self) -> str:
        """What the dashboard shows."""
        return (
            "The train loss jumps: every step has other noise. The smoothed line shows the trend; the eval loss is "
            "taken on a fixed set and can be compared from step to step.\n\nThe trainer is a process of its own: "
            "leaving, or closing the terminal, does not end it. `ti-tui watch` comes back to it.\n\n"
            + lines.how_to_use(self._token, self._result_file())
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        going = self._status is not None and self._status.going
        if action in {"save", "sample", "stop"}:
            return going
        if action == "train":
            return not going
        return True

    # What a person asks for

    def action_save(self) -> None:
        self._ask("save", "A checkpoint is saved after this step.")

    def action_sample(self) -> None:
        self._ask("sample", "The previews are drawn after this step.")

    def action_stop(self) -> None:
        trainer = self.folder.trainer()
        if trainer is None:
            self.notify("No trainer runs here.", timeout=3)
            return
        try:
            requests.ask_to_stop(self.folder, trainer)
        except UserError as error:
            self._say(str(error), wrong=True)
            return
        self._say("It saves an exact checkpoint and ends; t goes on from there.")

    def action_train(self) -> None:
        self._say("Starting the trainer ...")
        self._start()

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _start(self) -> None:
        from ti_tui.setup.start import start_trainer

        try:
            start_trainer(self.folder)
        except UserError as error:
            self.post_message(Told(str(error), wrong=True))
            return
        self.post_message(Told("The trainer runs."))

    def action_scheme(self) -> None:
        from ti_tui.screens.dashboard.scheme_change import SchemeChange

        if self._scheme is None:
            self.notify("The run file cannot be read now.", timeout=3)
            return
        step = self._reader.history.step

        def changed(text: str | None) -> None:
            if text is None:
                return
            from ti_tui.setup.steer import change_scheme

            try:
                scheme = change_scheme(self.folder, max(step, self._reader.history.step), text)
            except UserError as error:
                self._say(str(error), wrong=True)
                return
            self._say(f"The rates ahead are changed: {scheme.total_steps} steps in all.")
            self._tick()

        self.app.push_screen(SchemeChange(self._scheme, step), changed)

    def action_install(self) -> None:
        from ti_tui.screens.dialogs import Typed

        chosen = self._chosen()
        if chosen is None:
            self.notify("There is no checkpoint yet.", timeout=3)
            return
        known = self._install_to or settings.remembered_choice("embeddings_folder") or ""

        def given(text: str | None) -> None:
            if text:
                self._install(chosen.step, text)

        title = f"Install step {chosen.step} as {self._token}"
        text = "The embeddings folder, or the folder of A1111, Forge or ComfyUI itself."
        self.app.push_screen(Typed(title, text, known or _guess(), path=True), given)

    @work(thread=True, exclusive=True, group="install", exit_on_error=False)
    def _install(self, step: int, into: str) -> None:
        from ti_tui.paths import user_path
        from ti_tui.setup.steer import install_checkpoint

        try:
            target = install_checkpoint(self.folder, step, user_path(into), self._token)
        except UserError as error:
            self.post_message(Told(str(error), wrong=True))
            return
        settings.remember_choice("embeddings_folder", into)
        self.post_message(Told(f"Installed {target}. In a prompt: {self._token}"))

    def on_told(self, message: Told) -> None:
        self._say(message.text, wrong=message.wrong)
        self._tick()
        self.refresh_bindings()

    def action_copy(self) -> None:
        from ti_tui.setup.steer import embedding_at

        chosen = self._chosen()
        try:
            path = embedding_at(self.folder, chosen.step if chosen else None) or embedding_at(self.folder, None)
        except UserError as error:
            self._say(str(error), wrong=True)
            return
        if path is None:
            self.notify("There is no embedding yet.", timeout=3)
        else:
            self.ti_tui.copy(str(path), "the path")

    def action_delete(self) -> None:
        from ti_tui.screens.dialogs import Answer, Question

        chosen = self._chosen()
        if chosen is None:
            return

        def answered(answer: str | None) -> None:
            if answer != "delete":
                return
            from ti_tui.setup.steer import delete_checkpoint

            try:
                delete_checkpoint(self.folder, chosen.step)
            except UserError as error:
                self._say(str(error), wrong=True)
                return
            self._tick()

        question = Question(
            f"Delete the checkpoint of step {chosen.step}?",
            "Its embedding files and its exact state are gone then; the samples stay.",
            [Answer("keep", "k", "keep it"), Answer("delete", "y", "delete it")],
        )
        self.app.push_screen(question, answered)

    def action_compare(self) -> None:
        from ti_tui.screens.dashboard.samples import CompareScreen

        history = self._reader.history
        if not history.samples:
            self.notify("There are no samples yet. p draws some after this step.", timeout=4)
            return
        chosen = self._chosen()
        self.app.push_screen(CompareScreen(self.folder, history, step_for(history, chosen.step) if chosen else None))

    def action_log(self) -> None:
        from ti_tui.screens.dashboard.log import LogScreen

        self.app.push_screen(LogScreen(self.folder))

    def action_zoom(self) -> None:
        self._zoom = ZOOMS[(ZOOMS.index(self._zoom) + 1) % len(ZOOMS)]
        self._show(chart=True)

    def action_overlay(self) -> None:
        self._overlay = not self._overlay
        self._show(chart=True)

    def action_prompt(self, by: int) -> None:
        most = max((len(files) for files in self._reader.history.samples.values()), default=1)
        self._prompt = (self._prompt + by) % most
        self._show_samples()

    def action_read(self) -> None:
        self._read_warnings = len(self._reader.history.warnings)
        self._show_notices()

    def ask_quit(self) -> None:
        """Leave: a run that is going goes on, unless it is to be stopped."""
        from ti_tui.screens.dialogs import Answer, Question

        if self.folder.trainer() is None:
            self.app.exit()
            return

        def answered(answer: str | None) -> None:
            if answer == "stop":
                self.action_stop()
            if answer is not None:
                self.app.exit()

        question = Question(
            f"{self.folder.name} is training",
            f"`ti-tui watch {location(self.folder.root)}` comes back to it.",
            [Answer("leave", "l", "leave it running"), Answer("stop", "x", "save, stop it and leave")],
        )
        self.app.push_screen(question, answered)

    def _ask(self, kind: requests.RequestKind, said: str) -> None:
        if self.folder.trainer() is None:
            self.notify("No trainer runs here. t starts it.", timeout=3)
            return
        try:
            requests.submit(self.folder, kind)
        except UserError as error:
            self._say(str(error), wrong=True)
            return
        self._say(said)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        self.notify(text, severity="error" if wrong else "information", markup=False, timeout=10 if wrong else 4)


def _guess() -> str:
    from ti_tui.setup.places import embeddings_folders

    found = embeddings_folders()
    return location(found[0]) if found else ""
