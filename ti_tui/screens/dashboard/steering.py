"""The commands of the dashboard: save, sample, stop, change rates, install, delete. The dashboard's base."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

from textual import work
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen

from ti_tui import settings
from ti_tui.errors import UserError
from ti_tui.formatting import location
from ti_tui.monitoring.followed_run import FollowedRun
from ti_tui.run import requests
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import CheckpointRow
from ti_tui.screens.base import AppAccess, WorkerErrors
from ti_tui.screens.dashboard.samples import step_for
from ti_tui.screens.dialogs import Answer, TextDialog, ask

SOON_SECONDS = 3.0
"""The trainer takes a request within this time."""


class CommandDone(Message):
    """A command succeeded or failed: show `text`, and read the run again. of_start: the command was to start it."""

    def __init__(self, text: str, *, failed: bool = False, of_start: bool = False) -> None:
        super().__init__()
        self.text, self.failed, self.of_start = text, failed, of_start


class NotInstalled(Message):
    """The embedding could not be installed. replaces: because a different file exists."""

    def __init__(self, step: int | None, into: str, reason: str, *, replaces: bool = False) -> None:
        super().__init__()
        self.step, self.into, self.reason, self.replaces = step, into, reason, replaces


class SteeringScreen(AppAccess, WorkerErrors, Screen[None]):
    """The keys that control a run. All requests go through the run folder."""

    BINDINGS = [
        Binding("s", "save", "Save", id="dashboard.save", tooltip="Save a checkpoint after this step"),
        Binding("p", "sample", "Sample", id="dashboard.sample", tooltip="Draw samples after this step"),
        Binding("e", "scheme", "Rate", id="dashboard.scheme", tooltip="Change the rates from here on"),
        Binding("x", "stop", "Stop", id="dashboard.stop", tooltip="Save an exact checkpoint and stop"),
        Binding("t", "train", "Train", id="dashboard.train", tooltip="Start or resume training"),
        Binding("i", "install", "Install", id="dashboard.install",
                tooltip="Copy the embedding into a program's folder"),
        Binding("g", "compare", "Compare", id="dashboard.compare", tooltip="Samples side by side"),
        Binding("l", "log", "Log", id="dashboard.log", tooltip="Follow the log"),
        Binding("c", "copy", "Copy path", show=False, id="dashboard.copy", tooltip="Copy the embedding's path"),
        Binding("d,delete", "delete", "Delete", show=False, id="dashboard.delete", tooltip="Delete the checkpoint"),
    ]  # fmt: skip

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.followed = FollowedRun(folder)
        self._starting = False

    def chosen(self) -> CheckpointRow | None:
        """The checkpoint that install, copy and delete act on; the newest if none is chosen."""
        return self.followed.rows[0] if self.followed.rows else None

    def look_again(self) -> None:
        """Read the run again after a change."""
        self.followed.look()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in {"save", "sample", "stop"}:
            return self.followed.going
        if action == "train":
            return not self.followed.going
        return True

    def worker_failed(self, error: Exception, details: str) -> None:
        self._starting = False
        self._say(f"The command failed: {error}\n{details}", failed=True)

    def action_save(self) -> None:
        self._request("save", "A checkpoint will be saved after this step.")

    def action_sample(self) -> None:
        self._request("sample", "Samples will be drawn after this step.")

    def action_stop(self) -> None:
        trainer = self.followed.folder.trainer()
        if trainer is None:
            self.notify("No trainer is running.", timeout=3)
            return
        with self._errors_shown():
            requests.ask_to_stop(self.followed.folder, trainer)
            self._say("Stop requested: it saves an exact checkpoint first; t resumes from there.")

    def action_train(self) -> None:
        if self._starting:
            return
        steps = self.followed.folder.checkpoints()
        total = self.followed.scheme.total_steps if self.followed.scheme else 0
        done = self.followed.status is not None and self.followed.status.phase == "done"
        if done and steps and total and steps[-1] >= total:
            self._say(f"All {total} steps are done. e adds more.")
            return
        if steps or not self.followed.history.step:
            self._begin()
            return
        ask(
            self.app,
            "Train from the beginning?",
            "There is no checkpoint to resume from. Everything trained and exported so far will be replaced.",
            [Answer("k", "keep it"), Answer("b", "start at step 0", self._begin)],
        )

    def _begin(self) -> None:
        self._starting = True
        self._say("Starting the trainer ...")
        self._start()

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _start(self) -> None:
        from ti_tui.setup.start import start_trainer

        try:
            start_trainer(self.followed.folder)
        except UserError as error:
            self.post_message(CommandDone(str(error), failed=True, of_start=True))
            return
        self.post_message(CommandDone("The trainer is running.", of_start=True))

    def action_scheme(self) -> None:
        from ti_tui.screens.dashboard.scheme_change import SchemeChange

        if self.followed.scheme is None:
            self.notify("The run file cannot be read now.", timeout=3)
            return
        step = self.followed.history.step

        def changed(text: str | None) -> None:
            if text is None:
                return
            from ti_tui.monitoring.steering import change_scheme

            now, pace = self.followed.history.step, self.followed.history.seconds_per_step
            soon = round(SOON_SECONDS / pace) if pace and self.followed.going else 0
            with self._errors_shown():
                scheme = change_scheme(self.followed.folder, step, text, now=now, ahead_steps=soon)
                when = "after this step" if self.followed.going else "now"
                self._say(f"The rates change {when}: {scheme.total_steps} steps in all.")
                self.look_again()

        self.app.push_screen(SchemeChange(self.followed.scheme, step), changed)

    def action_install(self) -> None:
        self._ask_folder(self.followed.embeddings_folder(), "")

    def _ask_folder(self, text: str, problem: str) -> None:
        chosen = self.chosen()
        step = chosen.step if chosen is not None else None
        if step is None and not self.followed.folder.embedding(self.followed.name, None).exists():
            self._say("There is no embedding yet.")
            return

        def given(answer: str | None) -> None:
            if answer is not None and answer.strip():
                self._install(step, answer.strip(), force=False)

        title = f"Install step {step} as {self.followed.name}" if step is not None else f"Install {self.followed.name}"
        words = "The embeddings folder, or the main folder of A1111, Forge or ComfyUI."
        self.app.push_screen(TextDialog(title, problem or words, text, path=True), given)

    @work(thread=True, exclusive=True, group="install", exit_on_error=False)
    def _install(self, step: int | None, into: str, *, force: bool) -> None:
        from ti_tui.embeddings.install import AlreadyThere
        from ti_tui.monitoring.steering import install_checkpoint
        from ti_tui.paths import user_path

        try:
            target = install_checkpoint(self.followed.folder, step, user_path(into), self.followed.name, force=force)
        except AlreadyThere as error:
            self.post_message(NotInstalled(step, into, error.message, replaces=True))
            return
        except UserError as error:
            self.post_message(NotInstalled(step, into, error.sentence))
            return
        settings.remember_choice("embeddings_folder", into)
        self.post_message(CommandDone(f"Installed {location(target)}. In a prompt: {self.followed.name}"))

    def on_not_installed(self, message: NotInstalled) -> None:
        if not message.replaces:
            self._ask_folder(message.into, message.reason)
            return
        replace = partial(self._install, message.step, message.into, force=True)
        answers = [Answer("k", "keep the existing file"), Answer("r", "replace it", replace)]
        ask(self.app, "Replace it?", message.reason, answers)

    def on_command_done(self, message: CommandDone) -> None:
        self._starting = self._starting and not message.of_start
        self._say(message.text, failed=message.failed)
        self.look_again()
        self.refresh_bindings()

    def action_copy(self) -> None:
        from ti_tui.monitoring.steering import embedding_at

        chosen = self.chosen()
        newest = chosen is None or chosen is self.followed.rows[0]
        ended = self.followed.status is not None and self.followed.status.phase == "done"
        with self._errors_shown():
            # The newest file of a finished run is the final embedding.
            path = embedding_at(self.followed.folder, None) if newest and ended else None
            path = path or embedding_at(self.followed.folder, chosen.step if chosen else None)
            if path is None:
                self.notify("There is no embedding yet.", timeout=3)
            else:
                self.ti_tui.copy(str(path), "the path")

    def action_delete(self) -> None:
        chosen = self.chosen()
        if chosen is None:
            self._say("There is no checkpoint to delete.")
            return

        def delete() -> None:
            from ti_tui.monitoring.steering import delete_checkpoint

            with self._errors_shown():
                delete_checkpoint(self.followed.folder, chosen.step)
                self.look_again()

        ask(
            self.app,
            f"Delete the checkpoint of step {chosen.step}?",
            "Its embedding files and its exact state are deleted; the samples are kept.",
            [Answer("k", "keep it"), Answer("y", "delete it", delete)],
        )

    def action_compare(self) -> None:
        from ti_tui.screens.dashboard.samples import CompareScreen

        history = self.followed.history
        if not history.samples:
            self.notify("There are no samples yet. p draws some after this step.", timeout=4)
            return
        chosen = self.chosen()
        self.app.push_screen(
            CompareScreen(self.followed.folder, history, step_for(history, chosen.step) if chosen else None)
        )

    def action_log(self) -> None:
        from ti_tui.screens.dashboard.log import LogScreen

        self.app.push_screen(LogScreen(self.followed.folder))

    def ask_quit(self) -> None:
        """Leave; if the run is training, ask whether to stop it."""
        if self.followed.folder.trainer() is None:
            self.app.exit()
            return

        def stop() -> None:
            self.action_stop()
            self.app.exit()

        ask(
            self.app,
            f"{self.followed.folder.name} is training",
            f"`ti-tui watch {location(self.followed.folder.root)}` opens it again.",
            [Answer("l", "leave it running", self.app.exit), Answer("x", "save, stop and leave", stop)],
        )

    def _request(self, kind: requests.RequestKind, answer: str) -> None:
        if self.followed.folder.trainer() is None:
            self._say("No trainer is running. t starts it.")
            return
        if self.followed.status is None or self.followed.status.phase not in {"training", "sampling", "saving"}:
            self._say("The trainer has not started its steps yet.")
            return
        with self._errors_shown():
            requests.submit(self.followed.folder, kind)
            self._say(answer)

    @contextlib.contextmanager
    def _errors_shown(self) -> Iterator[None]:
        """Show errors as notifications."""
        try:
            yield
        except UserError as error:
            self._say(str(error), failed=True)

    def _say(self, text: str, *, failed: bool = False) -> None:
        # Only one notification at a time: a new answer replaces the previous one.
        self.app.clear_notifications()
        self.notify(text, severity="error" if failed else "information", markup=False, timeout=10 if failed else 4)
