"""The program on the screen: its modes (wizard, dashboard), themes, keys, and what happens when something breaks."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import SystemCommand
from textual.binding import Binding
from textual.screen import Screen

from ti_tui import settings
from ti_tui.crash import write_crash
from ti_tui.formatting import location, printable
from ti_tui.run.folder import RunFolder
from ti_tui.screens.base import NARROW, BaseApp
from ti_tui.themes import shipped_and_own, variable_defaults
from ti_tui.widgets.graphics import Protocol, choose_protocol, extra_installed, probe_terminal
from ti_tui.widgets.picture import PictureCache

if TYPE_CHECKING:
    from ti_tui.setup.draft import Draft

FALLBACK_THEME = "quiet"
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
        # Some terminals keep ctrl+p for themselves.
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
        chosen = settings.chosen_theme(config)
        by_name = {theme.name: theme for theme in themes.themes}
        # Textual chooses how to do without colour from the theme that is set while it begins.
        plain = bool(os.environ.get("NO_COLOR")) and chosen in by_name and by_name[chosen].ansi
        # The first mode and its styles from the beginning: a switch later parses all styles three times more.
        self.DEFAULT_MODE = _mode_of(run) if run else "wizard"  # type: ignore[misc]
        super().__init__(css_path=["app.tcss", *([] if run else ["wizard/wizard.tcss"])], ansi_color=plain or None)
        self.add_mode("wizard", partial(_wizard, draft))
        if run:
            self.add_mode(_mode_of(run), partial(_dashboard, run))
        self.config = config
        self.draft = draft
        self.crash: Path | None = None
        self.images = images or Protocol("half")
        self.pictures = PictureCache()
        for theme in themes.themes:
            self.register_theme(theme)
        if chosen not in self.available_themes:
            found.insert(0, f"there is no theme {chosen!r}; {FALLBACK_THEME} is used")
            chosen = FALLBACK_THEME
        self.theme = chosen
        # Over SSH every frame of an animation is bytes, and it says nothing.
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

    def _key_problems(self) -> list[str]:
        if not self.config.keys:
            return []
        # Imports every screen: for those alone who bind keys.
        from ti_tui.screens.key_check import key_problems

        return key_problems(self.config.keys, type(self))

    def open_run(self, run: RunFolder) -> None:
        if _mode_of(run) not in self._modes:
            self.add_mode(_mode_of(run), partial(_dashboard, run))
        self.switch_mode(_mode_of(run))

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
        for root in settings.known_runs()[:12]:
            run = RunFolder(root)
            # The palette reads its texts as markup, whatever they are.
            name, place = (printable(text).translate(PLAIN) for text in (run.name, location(root)))
            yield SystemCommand(f"Watch {name}", place, lambda run=run: self.open_run(run))
        yield SystemCommand("Screenshot", "Keep this screen as an SVG", self.deliver_screenshot)
        yield SystemCommand("Quit", "Leave; what runs goes on", self.action_quit)

    async def action_quit(self) -> None:
        """Leave; a screen that has something to ask asks it."""
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
        """What this screen is for, and its keys."""
        from ti_tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_copy_or_hint(self) -> None:
        """Copy what is selected; else say how to leave, which is what ctrl+c usually wants."""
        if text := self.screen.get_selected_text():
            self.copy(text, "the selection")
        else:
            self.notify("ctrl+q leaves; a run that is going goes on.", timeout=3)

    def _handle_exception(self, error: Exception) -> None:
        """Keep the details in a file and leave; `run_app` then says what happened in words."""
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
        settings.remember_choice("theme", theme.name)


def run_app(*, run: RunFolder | None = None, draft: Draft | None = None, mouse: bool = True) -> int:
    """Run the program on this terminal until it is left; returns the exit status.

    run: whose dashboard it opens; else the wizard, with `draft` where one is given.
    """
    _let_alt_digits_be_keys()
    if hasattr(signal, "SIGHUP"):
        # Under nohup a lost terminal would leave a program behind that nobody can see; the trainer has its own session.
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
            print(f"The details are in {app.crash}", file=sys.stderr)
            return 1


def _let_alt_digits_be_keys() -> None:
    """Textual turns alt and a digit into what WezTerm on a Mac types by it; here they jump to a step."""
    from textual._ansi_sequences import ANSI_SEQUENCES_KEYS

    for digit in range(1, 7):
        ANSI_SEQUENCES_KEYS.pop(f"\x1b{digit}", None)  # type: ignore[attr-defined]


def protocol() -> Protocol:
    """How pictures are drawn on this terminal. Asks it, if that is needed, before the first screen is drawn."""
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
