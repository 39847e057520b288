"""CPU time to first paint and memory of `ti-tui`, compared with a bare Textual app in the same run.

    python -m benchmarks.startup [--rounds 7]

Each is a process in a terminal of 120x40. It has painted when its text is on the screen; a second later, when it is
idle, its CPU time (of all threads) and its resident memory are read from the system. Goal: at most 2.2 times the CPU
of the bare app, and at most 60 MB.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.fixtures.terminal import Terminal, ti_tui

BARE = """
from textual.app import App
from textual.widgets import Footer, Static
class Bare(App):
    BINDINGS = [("q", "quit", "Quit")]
    def compose(self):
        yield Static("a bare app")
        yield Footer()
Bare().run()
"""


def measure(command: list[str], words: str, environment: dict[str, str]) -> tuple[float, float, float, float]:
    """(CPU ms when painted, CPU ms a second later, wall ms when painted, RSS in MB) of one start."""
    begun = time.monotonic()
    with Terminal(command, columns=120, rows=40, environment=environment) as terminal:
        process = psutil.Process(terminal.process.pid)
        terminal.wait_for(words, seconds=30)
        painted, wall = _cpu(process), (time.monotonic() - begun) * 1000
        terminal.read(1.0)
        time.sleep(0.3)
        return painted, _cpu(process), wall, process.memory_info().rss / 1e6


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system) * 1000


def main() -> None:
    """Measure both in turns and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        own = {f"TI_TUI_{name}": f"{folder}/{name.lower()}" for name in ("CONFIG", "CACHE", "STATE")}
        ways = {
            "bare Textual app": ([sys.executable, str(bare)], "a bare app"),
            "ti-tui": (ti_tui(), "Photographs"),
        }
        found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in ways}
        for _ in range(rounds + 1):
            for name, (command, words) in ways.items():
                found[name].append(measure(command, words, own))
    base = None
    print(f"{'':18} {'CPU to paint':>13} {'ratio':>6} {'CPU at rest':>12} {'ratio':>6} {'wall':>8} {'RSS':>9}")
    for name, values in found.items():
        # The first round fills the file cache.
        painted, rest, wall, memory = (statistics.median(column) for column in zip(*values[1:], strict=True))
        base = base or (painted, rest)
        print(
            f"{name:18} {painted:10.0f} ms {painted / base[0]:6.2f} {rest:9.0f} ms {rest / base[1]:6.2f}"
            f" {wall:5.0f} ms {memory:6.1f} MB"
        )


if __name__ == "__main__":
    main()
