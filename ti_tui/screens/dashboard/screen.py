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
from textual.widgets import Footer, OptionList, Rule, Static
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
from ti_tui.setup.words import location, printable
from ti_tui.widgets.canvas import Canvas
from ti_tui.widgets.picture import Picture

if TYPE_CHECKING:
    from ti_tui.screens.app import TiTuiApp

NARROW = 100
SAVES_CELLS = 46
ZOOMS = (0, -1, 1000, 200)
MONITOR_SECONDS = 2.0
CHART_SECONDS = 2.0
CATCH_UP_SECONDS = 0.01
READ_SECONDS = 0.06
SOON_SECONDS = 3.0
"""Within so much time the trainer takes a request."""


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


class NotInstalled(Message):
    """The embedding could not be installed; replaces: because another file is there."""

    def __init__(self, step: int | None, into: str, wrong: str, *, replaces: bool = False) -> None:
        super().__init__()
        self.step, self.into, self.wrong, self.replaces = step, into, wrong, replaces


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
        Binding(
            "z", "zoom", "Zoom", id="dashboard.zoom", tooltip="Chart: whole run, so far, last 1000, last 200 steps"
        ),
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
        self._token, self._install_to, self._device, self._wrong = "", "", "auto", ""
        self._reading: Reading | None = None
        self._monitor: DeviceMonitor | None = None
        self._behind = 0.0
        self._zoom, self._overlay, self._prompt = 0, True, 0
        self._read_warnings = 0
        self._newest_sample = -1
        self._rows: list[CheckpointRow] = []
        self._drawn_at = 0.0
        self._ended = ""
        self._going = False
        self._starting = False
        self._caught_up = False
        self._history: object = None
        self._tail_restarts = 0
        self._drawn: object = None
        self._installed: set[int] = set()
        self._installed_as: object = None

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
                yield Static("", id="file", markup=False)
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
        more = self._reader.read(limit_seconds=READ_SECONDS)
        if more and not self._caught_up:
            self._behind = self._reader.share_read()
            self.set_timer(CATCH_UP_SECONDS, self._tick)
            if self._behind and time.monotonic() - self._drawn_at < 0.3:
                return
        else:
            self._caught_up, self._behind = True, 0.0
        self._status = self.folder.current_status()
        self._read_run_file()
        told = self._tail.read()
        if self._tail.restarts != self._tail_restarts:
            self._tail_restarts, self._told = self._tail.restarts, []
        self._told = [*self._told, *told][-100:]
        if self._reader.history is not self._history:
            self._history, self._read_warnings = self._reader.history, 0
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
        except UserError as error:
            self._wrong = str(error).splitlines()[0]
            return
        self._wrong = ""
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
            tuple(sorted(row.step for row in self._rows)),
            self._token or self.folder.name,
            self._wrong,
        )

    def on_resize(self) -> None:
        self.query_one(Footer).compact = self.size.width < NARROW
        samples = self.query_one("#samples")
        # Pictures of one width have one height, so their captions stand in one row.
        each = max(4, (self.size.width - SAVES_CELLS - 4) // 3 - 1)
        for picture in samples.query(Picture):
            picture.styles.width = each
        self.call_after_refresh(self._show)
        self.call_after_refresh(self._show_chart, now=True)

    def _show(self) -> None:
        self._show_checkpoints()
        view = self.view
        self.query_one("#head", Canvas).draw(lines.head(view, self.size.width))
        self._show_chart()
        self._show_meter()
        self._show_notices()
        newest = max(self._reader.history.samples, default=-1)
        if newest != self._newest_sample:
            self._newest_sample = newest
            self._show_samples()
        self._show_end()

    def _show_chart(self, *, now: bool = False) -> None:
        """Draw the chart if something in it is another, and not too often."""
        view, canvas = self.view, self.query_one("#chart", Canvas)
        size = canvas.size
        evals = len(view.history.evals)
        content = (
            id(view.history),
            view.step,
            view.total,
            evals,
            view.saves,
            size,
            view.zoom,
            view.overlay,
            self._scheme,
        )
        late = time.monotonic() - self._drawn_at >= CHART_SECONDS or not view.going
        if content == self._drawn or not (now or late or self._drawn is None):
            return
        canvas.draw(lines.curves(view, size.width - 1, size.height))
        self._drawn, self._drawn_at = content, time.monotonic()

    def _show_meter(self) -> None:
        view = self.view
        meter, about = self.query_one("#meter", Canvas), self.query_one("#about", Canvas)
        meter.draw(lines.meter(view, meter.size.width))
        about.draw(lines.about(view, about.size.width, self._told, about.size.height))

    def _show_notices(self) -> None:
        view, width = self.view, self.size.width - 2
        shown = lines.warnings(view, self._read_warnings, width)
        if not view.going:
            shown = [*shown, *lines.result(view, self._result_file(), width)]
        notices = self.query_one("#notices", Canvas)
        rows = notices.size.height
        notices.draw(shown)
        if rows != len(shown):
            self.call_after_refresh(self._show_chart, now=True)

    def _result_file(self) -> str:
        path = self.folder.embedding(self._token or self.folder.name, None)
        return location(path) if path.exists() else location(self.folder.models)

    def _show_checkpoints(self) -> None:
        history = self._reader.history
        rows = [row for row in reversed(history.checkpoints) if self._is_there(row)]
        installed = self._look_for_installed(rows)
        if rows == self._rows and installed == self._installed:
            return
        box = self.query_one("#checkpoints", OptionList)
        at = box.highlighted
        follows = at is None or at == 0
        kept = self._rows[at].step if at is not None and at < len(self._rows) else None
        self._rows, self._installed = rows, installed
        box.set_options([Option(self._option(row, last=i == 0)) for i, row in enumerate(rows)])
        if rows:
            steps = [row.step for row in rows]
            box.highlighted = 0 if follows or kept not in steps else steps.index(kept)
        self._show_samples()

    def _look_for_installed(self, rows: list[CheckpointRow]) -> set[int]:
        """Which checkpoints lie in the embeddings folder; looks only if something there or here has changed."""
        from ti_tui.setup.steer import installed_steps

        into = self._install_to or settings.remembered_choice("embeddings_folder") or ""
        steps = [row.step for row in rows]
        try:
            place = self.folder.path(into) if into else None
            changed = place.stat().st_mtime_ns if place is not None else 0
        except (UserError, OSError):
            return set()
        seen = (into, changed, tuple(steps), self._token)
        if place is None or not self._token:
            return set()
        if seen != self._installed_as:
            self._installed_as = seen
            return installed_steps(self.folder, steps, place, self._token)
        return self._installed

    def _option(self, row: CheckpointRow, *, last: bool) -> Content:
        pieces = lines.checkpoint(row, installed=row.step in self._installed, last=last)
        return Content.assemble(
            *((text, " ".join(f"${s}" if len(s) > 1 else "bold" for s in style.split())) for text, style in pieces)
        )

    def _is_there(self, row: CheckpointRow) -> bool:
        return any((self.folder.root / file).exists() for file in row.files) or bool(row.installed)

    def _show_samples(self) -> None:
        history = self._reader.history
        here = self._chosen()
        file = here.files[0] if here and here.files else ""
        self.query_one("#file", Static).update(printable(f"file {file}") if file else "")
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
        going = self._status is not None and self._status.going
        if going != self._going:
            self._going = going
            self.refresh_bindings()
        if self._status is None or going:
            self._ended = ""
        elif self._ended != self._status.phase:
            # Not for a run that had ended before it was looked at.
            if time.time() - self._status.updated < 30:
                self.app.bell()
                if self._rows:
                    # What the keys act on is what the last line names.
                    self.query_one("#checkpoints", OptionList).highlighted = 0
            self._ended = self._status.phase
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
            + lines.how_to_use(self._token or self.folder.name, self._result_file())
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
        from ti_tui.screens.dialogs import Answer, Question

        if self._starting:
            return
        steps = self.folder.checkpoints()
        total = self._scheme.total_steps if self._scheme else 0
        done = self._status is not None and self._status.phase == "done"
        if done and steps and total and steps[-1] >= total:
            self._say(f"All {total} steps are done. e adds some.")
            return
        if steps or not self._reader.history.step:
            self._begin()
            return

        def answered(answer: str | None) -> None:
            if answer == "begin":
                self._begin()

        question = Question(
            "Train from the beginning?",
            "No checkpoint is there to go on from. What was learned and exported so far is replaced.",
            [Answer("keep", "k", "leave it as it is"), Answer("begin", "b", "begin at step 0")],
        )
        self.app.push_screen(question, answered)

    def _begin(self) -> None:
        self._starting = True
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

            now, pace = self._reader.history.step, self._reader.history.seconds_per_step
            soon = round(SOON_SECONDS / pace) if pace and self._going else 0
            try:
                scheme = change_scheme(self.folder, step, text, now=now, ahead_steps=soon)
            except UserError as error:
                self._say(str(error), wrong=True)
                return
            self._say(f"The rates ahead are changed: {scheme.total_steps} steps in all.")
            self._tick()

        self.app.push_screen(SchemeChange(self._scheme, step), changed)

    def action_install(self) -> None:
        known = self._install_to or settings.remembered_choice("embeddings_folder") or _guess()
        self._ask_where(known, "")

    def _ask_where(self, text: str, wrong: str) -> None:
        from ti_tui.screens.dialogs import Typed

        chosen = self._chosen()
        step = chosen.step if chosen is not None else None
        if step is None and not self.folder.embedding(self._token, None).exists():
            self._say("There is no embedding yet.")
            return

        def given(answer: str | None) -> None:
            if answer is not None and answer.strip():
                self._install(step, answer.strip(), force=False)

        title = f"Install step {step} as {self._token}" if step is not None else f"Install {self._token}"
        words = "The embeddings folder, or the folder of A1111, Forge or ComfyUI itself."
        self.app.push_screen(Typed(title, wrong or words, text, path=True), given)

    @work(thread=True, exclusive=True, group="install", exit_on_error=False)
    def _install(self, step: int | None, into: str, *, force: bool) -> None:
        from ti_tui.embeddings.install import AlreadyThere
        from ti_tui.paths import user_path
        from ti_tui.setup.steer import install_checkpoint

        try:
            target = install_checkpoint(self.folder, step, user_path(into), self._token, force=force)
        except AlreadyThere as error:
            self.post_message(NotInstalled(step, into, error.message, replaces=True))
            return
        except UserError as error:
            self.post_message(NotInstalled(step, into, f"{error.message}. {error.remedy}".strip()))
            return
        settings.remember_choice("embeddings_folder", into)
        self.post_message(Told(f"Installed {location(target)}. In a prompt: {self._token}"))

    def on_not_installed(self, message: NotInstalled) -> None:
        from ti_tui.screens.dialogs import Answer, Question

        if not message.replaces:
            self._ask_where(message.into, message.wrong)
            return

        def answered(answer: str | None) -> None:
            if answer == "replace":
                self._install(message.step, message.into, force=True)

        answers = [Answer("keep", "k", "keep the file that is there"), Answer("replace", "r", "replace it")]
        self.app.push_screen(Question("Replace it?", message.wrong, answers), answered)

    def on_told(self, message: Told) -> None:
        self._starting = False
        self._say(message.text, wrong=message.wrong)
        self._tick()
        self.refresh_bindings()

    def action_copy(self) -> None:
        from ti_tui.setup.steer import embedding_at

        chosen = self._chosen()
        newest = chosen is None or chosen is self._rows[0]
        ended = self._status is not None and self._status.phase == "done"
        try:
            # Of a run that is done the newest is the file that the last line names.
            path = embedding_at(self.folder, None) if newest and ended else None
            path = path or embedding_at(self.folder, chosen.step if chosen else None)
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
            self._say("There is no checkpoint to delete.")
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
        self._show_chart(now=True)

    def action_overlay(self) -> None:
        self._overlay = not self._overlay
        self._show_chart(now=True)

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
            self._say("No trainer runs here. t starts it.")
            return
        if self._status is None or self._status.phase not in {"training", "sampling", "saving"}:
            self._say("The trainer is not at its steps yet.")
            return
        try:
            requests.submit(self.folder, kind)
        except UserError as error:
            self._say(str(error), wrong=True)
            return
        self._say(said)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        # One at a time: a second key's answer takes the place of the first's.
        self.app.clear_notifications()
        self.notify(text, severity="error" if wrong else "information", markup=False, timeout=10 if wrong else 4)


def _guess() -> str:
    from ti_tui.setup.places import embeddings_folders

    found = embeddings_folders()
    return location(found[0]) if found else ""
