"""The user's commands for what happens in a run: `on_end`, `on_verdict` and `on_error` in config.toml.

They are settings of the user, never of a run file: a run folder from elsewhere must not start programs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ti_tui import terminal
from ti_tui.formatting import printable
from ti_tui.run.events import Event
from ti_tui.run.folder import RunFolder
from ti_tui.settings import Settings

Occasion = Literal["end", "verdict", "error"]
SECONDS = 60.0
"""A command that takes longer is ended."""
LONGEST = 2_000


@dataclass(frozen=True)
class Hooks:
    """The commands by occasion, and the token of the run."""

    commands: Mapping[Occasion, str]
    token: str

    @classmethod
    def of(cls, settings: Settings, token: str) -> Hooks:
        """Those in the settings that are not empty."""
        found: dict[Occasion, str] = {
            "end": settings.on_end,
            "verdict": settings.on_verdict,
            "error": settings.on_error,
        }
        return cls({occasion: command for occasion, command in found.items() if command.strip()}, token)

    def tell(self, folder: RunFolder, event: Event, step: int | None) -> None:
        """Run the command for an event, if there is one, and wait for it."""
        occasion = occasion_of(event)
        if occasion is not None and (command := self.commands.get(occasion)):
            _run(command, {**os.environ, **facts(folder, self.token, occasion, event, step)}, occasion)


def occasion_of(event: Event) -> Occasion | None:
    """What an event is for the user's commands; None for those that nobody is told."""
    if event.kind == "verdict":
        return "verdict"
    if event.kind == "end":
        return "error" if event.get("outcome") == "failed" else "end"
    return None


def facts(folder: RunFolder, token: str, occasion: Occasion, event: Event, step: int | None) -> dict[str, str]:
    """The environment variables of a command. Nothing of them becomes part of its text, so nothing needs quoting."""
    embedding = folder.embedding(token, None)
    values = {
        "EVENT": occasion,
        "RUN": str(folder.root),
        "NAME": folder.name,
        "TOKEN": token,
        "STEP": "" if step is None else step,
        "OUTCOME": event.get("outcome", ""),
        "VERDICT": event.get("verdict", ""),
        "MESSAGE": event.get("reason") or event.get("message", ""),
        "EMBEDDING": embedding if embedding.is_file() else "",
    }
    return {f"TI_TUI_{name}": printable(str(value))[:LONGEST] for name, value in values.items()}


def neutral() -> Path:
    """A folder for processes to begin in: programs read settings and modules there, so it is not the run folder."""
    home = Path.home()
    return home if home.is_dir() else Path(tempfile.gettempdir())


def _run(command: str, environment: Mapping[str, str], occasion: str) -> None:
    own_session = os.name != "nt"
    try:
        process = subprocess.Popen(
            command,
            shell=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=own_session,
            cwd=neutral(),
        )
    except OSError as error:
        terminal.error(f"on_{occasion} could not be started: {error.strerror or error}")
        return
    try:
        status = process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL) if own_session else process.kill()
        process.wait()
        terminal.error(f"on_{occasion} took longer than {SECONDS:g} s and was ended")
        return
    if status:
        terminal.error(f"on_{occasion} ended with status {status}")
