"""Keys that a stalled connection delivers at once, or byte by byte, go where they would go one by one: same draft."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from textual.events import Key

from tests.fixtures.terminal import KEYS, Terminal, ti_tui
from ti_tui.screens import key_parser
from ti_tui.screens.key_parser import KeyParser
from ti_tui.setup.draft import Draft, draft_path, save_draft

ALT_3, ALT_4, ALT_5 = "\x1b3", "\x1b4", "\x1b5"
CLEAR, TAB, ENTER = "\x15", "\t", "\r"
SCRIPTS: dict[str, tuple[str, list[str]]] = {
    # What stands on the screen before, and the keys.
    "directories": (
        "Photographs",
        [ALT_3, *"abc", CLEAR, *"zkz", TAB, *"person", TAB, *"/tmp/a run", TAB, *"7", TAB, *"/tmp/out", TAB],
    ),
    "directories by enter": (
        "Photographs",
        [ALT_3, *"zk", ENTER, *"man", ENTER, ENTER, *"3", ENTER],
    ),
    "parameters": (
        "Photographs",
        [ALT_4, KEYS["ctrl+f"], *"seed", ENTER, *"77", TAB, KEYS["ctrl+f"], *"noise off", ENTER, *"0.05", TAB],
    ),
    "scheme": (
        "Photographs",
        [ALT_5, ENTER, CLEAR, *"0.01:300, 0.005:20", TAB, KEYS["right"], TAB],
    ),
    "from captions on": (
        "Photographs",
        ["\x1b2", ENTER, *"zkz", TAB, *"mug", TAB],
    ),
}
WAYS = ("at once", "bytes", "stalls", "stalls under load")


def typed(terminal: Terminal, keys: list[str], way: str) -> None:
    """Deliver the keys: one by one with time in between ("slowly"), or as a bad connection does."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    if way == "slowly":
        for key in keys:
            terminal.type(key)
            terminal.read(0.35)
    elif way == "at once":
        terminal.type("".join(keys))
    elif way == "bytes":
        for byte in "".join(keys):
            os.write(terminal._master, byte.encode())
    else:
        left = list(keys)
        while left:
            count = chance.randint(1, 12)
            terminal.type("".join(left[:count]))
            del left[:count]
            terminal.read(chance.choice([0, 0, 0.02, 0.3]))
    # Everything is handled, and the draft is saved.
    terminal.read(3.0 if way == "stalls under load" else 1.5)


@contextmanager
def load(way: str) -> Iterator[None]:
    """Four busy processes beside the program, if the way says so."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * ("load" in way))]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def draft_after(way: str, script: str, photographs: Path, state: Path) -> str:
    """The draft that the keys leave, without its time."""
    before, keys = SCRIPTS[script]
    os.environ["TI_TUI_STATE"] = str(state)
    save_draft(Draft(photographs=str(photographs)))
    names = ("TI_TUI_CONFIG", "TI_TUI_CACHE", "TI_TUI_STATE")
    environment = {"OMP_NUM_THREADS": "1", **{name: os.environ[name] for name in names}}
    with load(way), Terminal(ti_tui(), environment=environment) as terminal:
        terminal.wait_for(before)
        terminal.wait_for(lambda text: "3 images" in text or "continue" in text.lower())
        terminal.press("enter")
        terminal.wait_for("3 images")
        typed(terminal, keys, way)
        terminal.press("ctrl+q")
        terminal.wait_for_end()
    lines = draft_path().read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith(("saved", "step")))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "abc":
        Image.effect_noise((600, 600), 60).convert("RGB").save(folder / f"{name}.jpg")
    return folder


@pytest.mark.sampled(2)
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("way", WAYS)
def test_the_draft_is_the_same_however_the_keys_arrive(
    way: str, script: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TI_TUI_STATE", os.environ["TI_TUI_STATE"])
    slow = draft_after("slowly", script, photographs, tmp_path / "slowly")
    print(slow)
    assert draft_after(way, script, photographs, tmp_path / "otherwise") == slow


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("\x1b3abc", ["alt+3", "a", "b", "c"]),
        ("\x1bcd", ["escape", "c", "d"]),
        ("\x1b\x1b[Ax", ["escape", "up", "x"]),
        ("\x1b[Bx\x1b1y", ["down", "x", "alt+1", "y"]),
        ("\x1bb", ["ctrl+left"]),
    ],
)
def test_an_esc_and_what_came_with_it_are_told_apart(typed: str, keys: list[str]) -> None:
    key_parser.install()
    parser = KeyParser()
    events = [*parser.feed(typed), *parser.feed("")]
    assert [event.key for event in events if isinstance(event, Key)] == keys
