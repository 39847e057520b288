"""Which protocol is chosen, and that asking the terminal leaves nothing behind. The terminals are real ptys."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from ti_tui.widgets.graphics import (
    Capabilities,
    GraphicsKind,
    GraphicsSetting,
    Protocol,
    choose_protocol,
    extra_installed,
    load_widget,
    probe_terminal,
)

LOCAL = {"TERM": "xterm-256color"}
BOTH = Capabilities(sixel=True, kitty=True, cell_width=9, cell_height=18)
SIXEL_ANSWER = b"\x1b[6;18;9t\x1b[?62;4;22c"
KITTY_ANSWER = b"\x1b_Gi=31;OK\x1b\\\x1b[6;18;9t\x1b[?62;22c"

pty = pytest.importorskip("pty", reason="no pseudo-terminals here")


def never() -> Capabilities:
    raise AssertionError("the terminal was asked")


@pytest.mark.parametrize(
    "environment",
    [
        LOCAL | {"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"},
        LOCAL | {"SSH_TTY": "/dev/pts/1"},
        LOCAL | {"TMUX": "/tmp/tmux-0/default,1,0"},
        LOCAL | {"STY": "1.pts"},
        {"TERM": "screen-256color"},
        {"TERM": "tmux-256color"},
        {"TERM": "linux"},
        {"TERM": "dumb"},
        LOCAL | {"TERM_PROGRAM": "Apple_Terminal"},
    ],
)
def test_auto_draws_half_cells_without_asking_where_graphics_do_not_get_through(environment: Mapping[str, str]) -> None:
    chosen = choose_protocol("auto", environment, never, installed=True)
    assert chosen.kind == "half"
    assert chosen.reason


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (Capabilities(sixel=True), "sixel"),
        (Capabilities(kitty=True), "kitty"),
        (BOTH, "sixel"),
        (Capabilities(), "half"),
    ],
)
def test_auto_goes_by_what_a_local_terminal_says(found: Capabilities, kind: GraphicsKind) -> None:
    assert choose_protocol("auto", LOCAL, lambda: found, installed=True).kind == kind


@pytest.mark.parametrize("setting", ["sixel", "kitty"])
@pytest.mark.parametrize("extra", [{}, {"SSH_TTY": "/dev/pts/1"}, {"TMUX": "x"}])
def test_what_is_asked_for_by_name_is_used_anywhere(setting: GraphicsSetting, extra: dict[str, str]) -> None:
    chosen = choose_protocol(setting, LOCAL | extra, Capabilities, installed=True)
    assert chosen == Protocol(setting, "as set", 10, 20)


def test_the_size_of_a_cell_comes_from_the_terminal() -> None:
    chosen = choose_protocol("sixel", LOCAL, lambda: BOTH, installed=True)
    assert (chosen.cell_width, chosen.cell_height) == (9, 18)


@pytest.mark.parametrize("setting", ["auto", "half", "sixel", "kitty"])
def test_without_the_extra_it_is_always_half_cells_and_says_why(setting: GraphicsSetting) -> None:
    chosen = choose_protocol(setting, LOCAL, never, installed=False)
    assert chosen.kind == "half"
    assert setting == "half" or "textual-image is not installed" in chosen.reason


def test_off_is_off() -> None:
    assert choose_protocol("off", LOCAL, never, installed=False).kind == "off"


class Terminal:
    """The other side of a pty: hears all that is written and gives `answer` to the query, `after` seconds later."""

    def __init__(self, answer: bytes, after: float) -> None:
        self.master, self.slave = pty.openpty()
        self.heard = b""
        self._answer, self._after = answer, after
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def _play(self) -> None:
        due: float | None = None
        answered = False
        while not self._stop.is_set():
            if select.select([self.master], [], [], 0.02)[0]:
                self.heard += os.read(self.master, 65536)
            if due is None and b"\x1b[c" in self.heard:
                due = time.monotonic() + self._after
            if due is not None and not answered and time.monotonic() >= due:
                os.write(self.master, self._answer)
                answered = True

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self.master)
        os.close(self.slave)


@contextmanager
def terminal(answer: bytes, *, after: float = 0.0) -> Iterator[Terminal]:
    played = Terminal(answer, after)
    try:
        yield played
    finally:
        played.close()


def waiting_bytes(slave: int) -> bytes:
    """What a program that reads this terminal without echo and line editing would read now."""
    attributes = termios.tcgetattr(slave)
    attributes[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    return os.read(slave, 1024) if select.select([slave], [], [], 0.3)[0] else b""


def test_a_terminal_that_answers_at_once_is_understood() -> None:
    with terminal(SIXEL_ANSWER) as played:
        slave = played.slave
        before = termios.tcgetattr(slave)
        assert probe_terminal(slave, slave, 20) == Capabilities(True, False, 9, 18)
        assert termios.tcgetattr(slave) == before
        assert waiting_bytes(slave) == b""


def test_kitty_is_told_from_sixel() -> None:
    with terminal(KITTY_ANSWER) as played:
        slave = played.slave
        assert probe_terminal(slave, slave, 20) == Capabilities(False, True, 9, 18)


def test_a_plain_terminal_has_no_graphics_and_its_cells_are_known_from_the_driver() -> None:
    with terminal(b"\x1b[?1;2c") as played:
        slave = played.slave
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 800, 480))
        assert probe_terminal(slave, slave, 20) == Capabilities(False, False, 10, 20)


def test_an_answer_that_comes_late_is_waited_for_and_leaves_nothing_in_the_input() -> None:
    with terminal(SIXEL_ANSWER, after=0.4) as played:
        slave = played.slave
        assert probe_terminal(slave, slave, 20).sixel
        assert waiting_bytes(slave) == b""


def test_an_answer_in_pieces_is_put_together() -> None:
    with terminal(SIXEL_ANSWER[:7]) as played:
        slave = played.slave
        threading.Timer(0.3, os.write, (played.master, SIXEL_ANSWER[7:])).start()
        assert probe_terminal(slave, slave, 20) == Capabilities(True, False, 9, 18)
        assert waiting_bytes(slave) == b""


@pytest.mark.parametrize("answer", [b"", b"\x1b_Gi=31;OK\x1b\\\x1b[6;1"])
def test_a_terminal_that_never_answers_in_full_costs_no_more_than_the_limit(answer: bytes) -> None:
    with terminal(answer) as played:
        slave = played.slave
        before = termios.tcgetattr(slave)
        start = time.monotonic()
        assert probe_terminal(slave, slave, 0.5) == Capabilities()
        assert time.monotonic() - start < 10
        assert termios.tcgetattr(slave) == before
        assert waiting_bytes(slave) == b""


def test_what_is_no_terminal_is_not_asked(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        assert probe_terminal(file.fileno(), file.fileno()) == Capabilities()
        assert file.tell() == 0


APP = """
import os, sys
from pathlib import Path
from textual.app import App
from textual.widgets import Input
from ti_tui.widgets.graphics import probe_terminal

found = probe_terminal(0, 1, 30)

class Small(App):
    def compose(self):
        yield Input()

    def on_mount(self):
        self.query_one(Input).focus()
        self.set_timer(1.0, self.leave)

    def leave(self):
        Path(sys.argv[1]).write_text(repr((found.sixel, self.focused is not None, self.query_one(Input).value)))
        self.exit()

Small().run()
"""


def run_in(played: Terminal, script: str, result: Path) -> str:
    """What `script` wrote to `result`, run with the terminal as its own."""
    fcntl.ioctl(played.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run(
        [sys.executable, "-c", script, str(result)],
        stdin=played.slave,
        stdout=played.slave,
        stderr=played.slave,
        env=os.environ | {"TERM": "xterm-256color"},
        timeout=120,
        check=False,
    )
    assert result.exists(), played.heard.decode(errors="replace")
    return result.read_text()


def test_a_late_answer_is_not_typed_into_the_first_field_of_the_app(tmp_path: Path) -> None:
    with terminal(SIXEL_ANSWER, after=0.4) as played:
        assert run_in(played, APP, tmp_path / "result") == repr((True, True, ""))


IMPORT = """
import sys
from pathlib import Path
from ti_tui.widgets.graphics import Protocol, load_widget

names = [load_widget(Protocol(kind, "", 9, 18)).__module__ for kind in ("sixel", "kitty")]
from textual_image._terminal import get_cell_size
Path(sys.argv[1]).write_text(repr((names, tuple(get_cell_size()))))
"""


@pytest.mark.skipif(not extra_installed(), reason="textual-image is not installed")
def test_the_widgets_of_the_extra_are_imported_without_asking_the_terminal(tmp_path: Path) -> None:
    with terminal(b"") as played:
        result = run_in(played, IMPORT, tmp_path / "result")
    assert result == repr((["textual_image.widget.sixel", "textual_image.widget"], (9, 18)))
    assert played.heard == b""


def test_half_cells_need_no_widget_of_the_extra() -> None:
    assert load_widget(Protocol("half")) is None
