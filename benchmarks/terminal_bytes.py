"""Bytes that the wizard sends to the terminal for a key, and the dashboard for a second of training.

    python -m benchmarks.terminal_bytes [--seconds 30] [--size 120x40] [--wizard]

The wizard is measured at 80x24, each key until nothing comes for two seconds: the first paint (goal: at most 15 KB), a
letter in the field Token (the median of five; 200 bytes), each change of the step (10 KB). --wizard: nothing else.

For the dashboard, a log grows by 10 steps a second, with an eval loss every 30 steps and a checkpoint every 100, as a
trainer on a small card writes it; a real dashboard in a real terminal shows it. Beside it, the same figures written
once a second to a bare Textual screen that repaints one full-size widget: what a dashboard without care costs. Goal: at
most 6 kB/s.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.fixtures.terminal import Terminal, ti_tui
from ti_tui.run.file import from_values, save
from ti_tui.run.folder import RunFolder, Status
from ti_tui.run.process import ProcessId

NAIVE = """
import random
from textual.app import App
from textual.widgets import Static
class Naive(App):
    def compose(self):
        yield Static("", markup=False)
    def on_mount(self):
        self.set_interval(1.0, self.show)
    def show(self):
        rows = ["".join(random.choice("⠁⠃⠇⡇⣇⣧⣷⣿") for _ in range(self.size.width)) for _ in range(self.size.height)]
        self.query_one(Static).update("\\n".join(rows))
Naive().run()
"""


QUIET_SECONDS = 2.0


class Trainer(threading.Thread):
    """Writes what a trainer writes, at a steady pace, as this very process."""

    def __init__(self, folder: RunFolder, steps_a_second: float) -> None:
        super().__init__(daemon=True)
        self._folder, self._pace = folder, steps_a_second
        self.done = threading.Event()

    def run(self) -> None:
        me, began = ProcessId.mine(), time.time()
        noise = random.Random(1)
        log = self._folder.events.open("a")

        def write(kind: str, **values: object) -> None:
            log.write(json.dumps({"t": round(time.time(), 3), "kind": kind, **values}) + "\n")

        plan = {"batch_size": 4, "accumulation": 6, "precision": "fp16", "device_name": "a card", "device": "cpu"}
        write("run", step=0, total_steps=3790, epoch_steps=1.0, images=23, family="sd1", plan=plan, reasons={})
        step = 0
        while not self.done.is_set():
            step += 1
            loss = 0.1 + 0.08 * math.exp(-step / 500) + noise.random() * 0.08
            write("step", step=step, loss=round(loss, 6), rate=0.002, gradient_norm=0.1, seconds=1 / self._pace)
            if step % 30 == 0:
                write("eval", step=step, loss=round(0.12 + 0.08 * math.exp(-step / 500), 6))
            if step % 100 == 0:
                file = self._folder.models / f"zkz-step{step:08d}.safetensors"
                file.write_bytes(b"x")
                name = f"model/{file.name}"
                write("checkpoint", step=step, state="", files=[name], loss=loss, eval_loss=0.1, norms=[[0.9]])
            log.flush()
            status = Status(me.pid, me.started, me.host, "training", step, 3790, began, time.time())
            if step % int(self._pace) == 0:
                self._folder.write_status(status)
            time.sleep(1 / self._pace)


def measure(command: list[str], size: tuple[int, int], seconds: float, environment: dict[str, str]) -> float:
    """Bytes a second after a start of 8 seconds."""
    with Terminal(command, columns=size[0], rows=size[1], environment=environment) as terminal:
        terminal.read(8.0)
        end = time.monotonic() + 8.0
        while time.monotonic() < end:
            terminal.read(0.5)
        before, begun = terminal.received, time.monotonic()
        while time.monotonic() < begun + seconds:
            terminal.read(0.5)
        return (terminal.received - before) / (time.monotonic() - begun)


def settled(terminal: Terminal) -> int:
    """Bytes so far, once nothing has come for QUIET_SECONDS."""
    before = -1
    while terminal.received != before:
        before = terminal.received
        end = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < end:
            terminal.read(0.2)
    return before


def measure_wizard(environment: dict[str, str]) -> list[tuple[str, float]]:
    """What was done at 80x24, and the bytes that it took."""
    figures: list[tuple[str, float]] = []
    with Terminal(ti_tui(), columns=80, rows=24, environment=environment) as terminal:
        terminal.wait_for("Photographs")
        figures.append(("first paint", settled(terminal)))

        def do(key: str, seen: str = "") -> int:
            before = terminal.received
            terminal.type(key)
            if seen:
                terminal.wait_for(seen)
            return settled(terminal) - before

        do("\x1b3", "Class word")
        figures.append(("a letter in Token", statistics.median(do(letter) for letter in "zkqvx")))
        for step, seen in ((4, "Batch size"), (5, "Preset"), (6, "to correct"), (2, "Template"), (1, "Photographs"),
                           (3, "Class word"), (4, "Batch size")):  # fmt: skip
            figures.append((f"to step {step}", do(f"\x1b{step}", seen)))
    return figures


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--wizard", action="store_true")
    arguments = parser.parse_args()
    columns, rows = (int(part) for part in arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as place:
        own = {f"TI_TUI_{name}": f"{place}/{name.lower()}" for name in ("CONFIG", "CACHE", "STATE")}
        os.environ.update(own)
        for name, count in measure_wizard(own):
            print(f"{name:34} {count:9.0f} bytes")
        if arguments.wizard:
            return
        folder = RunFolder(Path(place) / "zkz")
        folder.create()
        values = {"model": {"base": "a/b"}, "dataset": {"images": "img"}, "embedding": {"token": "zkz"}, "format": 1}
        save(from_values(values, folder.file), folder.file)
        trainer = Trainer(folder, 10)
        trainer.start()
        ours = measure(ti_tui("watch", str(folder.root)), (columns, rows), arguments.seconds, own)
        trainer.done.set()
        naive = Path(place) / "naive.py"
        naive.write_text(NAIVE)
        plain = measure([sys.executable, str(naive)], (columns, rows), arguments.seconds, own)
    print(f"{arguments.size}, {arguments.seconds:g} s of steady training at 10 steps a second")
    print(f"{'':34} {'bytes/s':>9} {'ratio':>7}")
    print(f"{'dashboard':34} {ours:9.0f} {ours / plain:7.3f}")
    print(f"{'whole screen once a second':34} {plain:9.0f} {1:7.3f}")


if __name__ == "__main__":
    main()
