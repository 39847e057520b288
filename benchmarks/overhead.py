"""The overhead of a training: the log, an open dashboard, samples and the eval loss.

    python -m benchmarks.overhead [--steps 150] [--repeats 3]

The demo model is trained on its own images in separate processes: alone, and with `ti-tui watch` open in a terminal of
120x40, in turns. Times are the trainer's own wall time per step; they are only meaningful on a machine with two free
cores. The cost of the log is too small for that and is measured separately, in seconds per step. Then the shares are
shown that the plan predicts for full-size models at default settings.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fixtures.terminal import Terminal, ti_tui
from ti_tui.run.events import EventReader
from ti_tui.run.file import from_values
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import GIB, Hardware
from ti_tui.run.model import ModelFacts
from ti_tui.run.plan import make_plan
from ti_tui.run.prediction import PredictionTruth
from ti_tui.setup.create import create_run
from ti_tui.setup.demo import pictures_of
from ti_tui.training.reporter import Reporter

MODEL = Path(__file__).parent.parent / "ti_tui" / "data" / "demo" / "demo-model"
FULL_STEP_SECONDS = 0.2
"""A step of one image on a small card, about (SD 1.5, 512 pixels): what the log's cost is compared with."""


def make_run(place: Path, name: str, steps: int) -> RunFolder:
    """The demo's training with steps only, without overhead."""
    values = {
        "model": {"base": str(MODEL)},
        "dataset": {"resolution": 48},
        "embedding": {"token": "zkz", "init": "thing"},
        "scheme": {"segments": [{"learning_rate": 0.01, "steps": steps}]},
        "training": {"device": "cpu"},
        "save": {"every_steps": 0},
        "sample": {"every_steps": 0},
        "evaluation": {"every_steps": 10 * steps},
    }
    return create_run(place / name, pictures_of("teal-ring"), values).folder


def train(folder: RunFolder, watched: bool) -> float:
    """Train a run to its end; returns the median wall seconds of its steps, the first ten apart."""
    trainer = subprocess.Popen(
        [sys.executable, "-m", "ti_tui.training", str(folder.root)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    if watched:
        with Terminal(ti_tui("watch", str(folder.root)), columns=120, rows=40) as terminal:
            while trainer.poll() is None:
                terminal.read(0.2)
    trainer.wait()
    steps = [float(event["seconds"]) for event in EventReader(folder.events).read_all() if event.kind == "step"]
    return statistics.median(steps[10:])


def log_seconds(place: Path, count: int = 20_000) -> float:
    """Seconds that a step's event and status cost, flushes and the write of the status once a second with them."""
    folder = RunFolder(place / "log-only")
    folder.create()
    report = Reporter(folder)
    begun = time.perf_counter()
    for step in range(1, count + 1):
        report.event("step", step=step, loss=0.123456, rate=0.005, gradient_norm=0.0123, seconds=0.2)
        report.position(step, count)
    report.flush()
    return (time.perf_counter() - begun) / count


def print_shares() -> None:
    """Predicted shares of the time at default settings on a card of 6 GB."""
    facts = {
        "SD 1.5, 512": (ModelFacts(Path("m"), True, "sd1", PredictionTruth("epsilon"), (768,), 49408, True), 512),
        "SDXL, 1024": (ModelFacts(Path("m"), True, "sdxl", PredictionTruth("epsilon"), (768, 1280), 49408, True), 1024),
    }
    card = Hardware("cuda", "card", 6 * GIB, int(5.7 * GIB), bf16=False)
    print(f"\n{'predicted at default settings':<32}{'images':>8}{'samples':>10}{'eval loss':>11}{'together':>10}")
    for name, (one, resolution) in facts.items():
        values = {"format": 1, "model": {"base": "m"}, "embedding": {"token": "zkz"},
                  "dataset": {"images": "i", "resolution": resolution}}  # fmt: skip
        for images in (3, 5, 10, 20, 30):
            beside = make_plan(from_values(values, Path("run.toml")), one, images, card).overhead
            together = beside.samples + beside.evaluation
            print(f"{name:<32}{images:>8}{beside.samples:>10.1%}{beside.evaluation:>11.1%}{together:>10.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        place = Path(text)
        os.environ |= {f"TI_TUI_{name}": f"{place}/{name.lower()}" for name in ("CONFIG", "CACHE", "STATE")}
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(given.repeats):
            for watched in (False, True):
                folder = make_run(place, f"run-{turn}-{'watched' if watched else 'alone'}", given.steps)
                seconds[watched].append(train(folder, watched))
        alone, with_dashboard = (statistics.median(seconds[watched]) for watched in (False, True))
        log = log_seconds(place)
    print(f"demo model, {given.steps} steps of 12 pictures, {given.repeats} runs each, {os.cpu_count()} cores")
    print(f"{'':<32}{'ms a step':>10}{'ratio':>8}")
    print(f"{'alone':<32}{alone * 1000:>10.1f}{1:>8.3f}")
    print(f"{'with a dashboard':<32}{with_dashboard * 1000:>10.1f}{with_dashboard / alone:>8.3f}")
    print(f"{'the log, of that':<32}{log * 1000:>10.3f}{log / alone:>8.3f}")
    print(f"{'the log, of a full-size step':<32}{log * 1000:>10.3f}{log / FULL_STEP_SECONDS:>8.4f}")
    print_shares()


if __name__ == "__main__":
    main()
