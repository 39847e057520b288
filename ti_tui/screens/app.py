"""The Textual app: its modes (wizard, dashboard), themes, keys and crash handling."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import SystemCommand
from textual.binding import Binding
from textual.driver import Driver
from textual.screen import Screen

from ti_tui import settings, terminal
from ti_tui.crash import write_crash
from ti_tui.formatting import location, printable
from ti_tui.run.folder import RunFolder
from ti_tui.screens import key_parser
from ti_tui.screens.base import NARROW, BaseApp
from ti_tui.screens.lean_output import lean
from ti_tui.themes import few_colours, shipped_and_own, variable_defaults
from ti_tui.widgets.graphics import Protocol, choose_protocol, extra_installed, probe_terminal
from ti_tui.widgets.picture import PictureCache

if TYPE_CHECKING:
    from ti_tui.setup.draft import Draft

MOST_SHOWN = 6
PLAIN = str.maketrans("[]", "()")


class TiTuiApp(BaseApp, inherit_bindings=False):
    """Opens the wizard, or the dashboard of a run."""

    TITLE = "ti_tui"
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (NARROW, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]
    BINDINGS = [
        Binding("ctrl+q", "quit", "Quit", show=False, id="app.quit"),
        Binding("ctrl+c", "copy_or_hint", "Copy", show=False, id="app.copy", system=True),
        Binding("f1", "help", "Help", id="app.help", priority=True),
        Binding("question_mark", "help", "Help", show=False, id="app.help-letter"),
        Binding("ctrl+l", "redraw", "Draw again", show=False, id="app.redraw", tooltip="Draw the screen again"),
        # Some terminals use ctrl+p themselves.
        Binding("ctrl+p,f2", "command_palette", "Commands", show=False, id="app.commands"),
    ]

    def __init__(
        self,
        *,
        run: RunFolder | None = None,
        config: settings.Settings | None = None,
        images: Protocol | None = None,
        draft: Draft | None = None,
    ) -> None:
        found: list[str] = []
        if config is None:
            config, found = settings.load_settings()
        themes = shipped_and_own()
        self._few_colours = few_colours(os.environ)
        chosen = settings.chosen_theme(config, few_colours=self._few_colours)
        by_name = {theme.name: theme for theme in themes.themes}
        # Textual decides at its start, from the theme set then, how to draw without colour.
        plain = bool(os.environ.get("NO_COLOR")) and chosen in by_name and by_name[chosen].ansi
        self.images = images or Protocol("half")
        # Set the first mode and its styles now: switching later would parse all styles three more times.
        self.DEFAULT_MODE = _mode_of(run) if run else "wizard"  # type: ignore[misc]
        super().__init__(css_path=["app.tcss", *([] if run else ["wizard/wizard.tcss"])], ansi_color=plain or None)
        self.add_mode("wizard", partial(_wizard, draft))
        if run:
            self.add_mode(_mode_of(run), partial(_dashboard, run))
        self.config = config
        self.draft = draft
        self.crash: Path | None = None
        self.pictures = PictureCache()
        for theme in themes.themes:
            self.register_theme(theme)
        if chosen not in self.available_themes:
            instead = settings.FEW_COLOURS_THEME if self._few_colours else settings.DEFAULT_THEME
            found.insert(0, f"there is no theme {chosen!r}; {instead} is used instead")
            chosen = instead
        self.theme = chosen
        # Animations cost bytes over SSH and carry no information.
        self.animation_level = "none"
        self._config_problems = (*found, *themes.problems)

    def on_mount(self) -> None:
        self.set_keymap(self.config.keys)
        self.theme_changed_signal.subscribe(self, self._remember_theme)
        problems = [*self._config_problems, *self._key_problems()]
        if problems:
            more = [f"and {len(problems) - MOST_SHOWN} more"] if len(problems) > MOST_SHOWN else []
            shown = "\n".join([*problems[:MOST_SHOWN], *more])
            self.notify(shown, title="Settings", severity="warning", timeout=15, markup=False)

    def get_driver_class(self) -> type[Driver]:
        driver = super().get_driver_class()
        # Pictures in pixels are not made of cells, and Windows gets its output in pieces.
        return lean(driver) if self.images.kind in {"half", "off"} and os.name != "nt" else driver

    def action_redraw(self) -> None:
        """Paint everything again: a message from elsewhere stands on the terminal."""
        self._forget_cells()
        self.screen.refresh(layout=True)

    def _forget_cells(self) -> None:
        if forget := getattr(self._driver, "forget", None):
            forget()

    def on_resize(self, event: events.Resize) -> None:
        # The terminal has moved what it showed.
        self._forget_cells()
        # Later: the screens learn of the new size first.
        self.call_later(self._show_if_too_small)

    def _show_if_too_small(self) -> None:
        from ti_tui.screens.too_small import TooSmall, is_enough

        if self.is_running and not is_enough(self.size) and not isinstance(self.screen, TooSmall):
            self.push_screen(TooSmall())

    def _key_problems(self) -> list[str]:
        if not self.config.keys:
            return []
        # This imports every screen, so only for users who bind keys.
        from ti_tui.screens.key_check import key_problems

        return key_problems(self.config.keys, type(self))

    def open_run(self, run: RunFolder) -> None:
        if _mode_of(run) not in self._modes:
            self.add_mode(_mode_of(run), partial(_dashboard, run))
        self.switch_mode(_mode_of(run))
        self.call_after_refresh(self._show_if_too_small)

    def made_run(self, run: RunFolder) -> None:
        self.open_run(run)
        self.draft = None
        self.remove_mode("wizard")
        self.add_mode("wizard", _wizard)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return variable_defaults(self.current_theme)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)
        yield SystemCommand("Keys and help", "What this screen is for, and its keys", self.action_help)
        yield SystemCommand("New embedding", "The wizard", lambda: self.call_later(self.switch_mode, "wizard"))
        if (offer := getattr(screen, "import_settings", None)) is not None:
            yield SystemCommand("Import settings", "Of kohya, OneTrainer, diffusers, ..., into the draft", offer)
        for root in settings.known_runs()[:12]:
            run = RunFolder(root)
            # The palette always reads its texts as markup.
            name, place = (printable(text).translate(PLAIN) for text in (run.name, location(root)))
            yield SystemCommand(f"Watch {name}", place, lambda run=run: self.open_run(run))
        yield SystemCommand("Screenshot", "Save this screen as an SVG", self.deliver_screenshot)
        yield SystemCommand("Quit", "Leave; running trainings continue", self.action_quit)

    async def action_quit(self) -> None:
        """Leave; a screen may ask a question first."""
        from ti_tui.screens.dialogs import QuestionDialog

        for screen in reversed(self.screen_stack):
            ask = getattr(screen, "ask_quit", None)
            if ask is not None:
                if screen is not self.screen and not isinstance(self.screen, QuestionDialog):
                    await self.screen.dismiss()
                ask()
                return
        self.exit()

    def action_help(self) -> None:
        from ti_tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_copy_or_hint(self) -> None:
        """Copy the selection; without one, say how to leave, since people press ctrl+c for that."""
        if text := self.screen.get_selected_text():
            self.copy(text, "the selection")
        else:
            self.notify("ctrl+q leaves; a running training continues.", timeout=3)

    def _handle_exception(self, error: Exception) -> None:
        """Write the details to a file and leave; `run_app` then explains what happened."""
        keep = getattr(self.screen_stack[0] if self.screen_stack else None, "keep_draft", None)
        if keep is not None:
            with contextlib.suppress(Exception):
                keep()
        self.crash = self.crash or write_crash(error) or Path("(it could not be written)")
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._close_messages_no_wait()

    def _remember_theme(self, theme: Any) -> None:
        settings.remember_theme(theme.name, few_colours=self._few_colours)


def run_app(*, run: RunFolder | None = None, draft: Draft | None = None, mouse: bool = True) -> int:
    """Run the app on this terminal; returns the exit status.

    run: the run whose dashboard is opened; without one the wizard opens, with `draft` if it is given.
    """
    key_parser.install(settings.load_settings()[0].keys.values())
    if hasattr(signal, "SIGHUP"):
        # Under nohup the app would go on invisibly after its terminal is lost. The trainer has its own session.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    while True:
        app = TiTuiApp(run=run, images=protocol(), draft=draft)
        app.run(mouse=mouse and app.config.mouse)
        if app.crash is None:
            return 0
        draft = app.draft
        from ti_tui.screens.crash import CrashApp

        crash = CrashApp(app.crash)
        crash.run(mouse=False)
        if not crash.again:
            terminal.error(f"The details are in {app.crash}")
            return 1


def protocol() -> Protocol:
    """How images are drawn on this terminal. Queries it if needed, so call it before the first screen is drawn."""
    config, _ = settings.load_settings()
    return choose_protocol(config.images, os.environ, lambda: probe_terminal(0, 1), extra_installed())


def _mode_of(run: RunFolder) -> str:
    return f"dashboard:{run.root}"


def _dashboard(run: RunFolder) -> Screen[Any]:
    from ti_tui.screens.dashboard.screen import DashboardScreen

    return DashboardScreen(run)


def _wizard(draft: Draft | None = None) -> Screen[Any]:
    from ti_tui.screens.wizard.screen import WizardScreen

    return WizardScreen(draft)
