"""Seconds and memory to open the log of a long run in the dashboard, compared with parsing every line of it.

    python -m benchmarks.open_log                      # a million steps: half a minute, 130 MB of disk
    python -m benchmarks.open_log --steps 100000

Two ways, each a process of its own on the same log, which has the values that the trainer writes:
  HistoryReader    what the dashboard does: turns of 50 ms, most step lines told apart but not parsed
  every line       EventReader.read_all and as_one_run, as a straight viewer would
Memory is the process's peak above what it had with its modules loaded. The longest turn is how long one call of
`read` keeps a worker busy.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from ti_tui.run.events import EventReader, EventWriter, as_one_run
from ti_tui.run.history_reader import HistoryReader
from ti_tui.run.scheme import parse

WAYS = {"reader": "HistoryReader", "all": "every line"}
EVAL_STEPS, SAVE_STEPS, MEMORY_STEPS = 250, 1000, 200


def write_log(path: Path, steps: int) -> None:
    """The log of one uninterrupted run."""
    now, chance = [1_795_403_584.0], random.Random(0)
    scheme = parse("0.05:10, 0.02:20, 0.01:60, 0.005:200, 0.002:500, 0.001", "for", total_steps=max(steps, 1000))
    writer = EventWriter(path, clock=lambda: now[0])
    writer.write("phase", phase="loading", message="")
    plan = {"device": "cuda", "device_name": "NVIDIA GeForce GTX 1060", "precision": "fp16", "batch_size": 2}
    writer.write("run", step=0, total_steps=steps, epoch_steps=12.0, images=24, family="sd1", plan=plan, reasons={})
    writer.write("phase", phase="training", message="")
    for step in range(1, steps + 1):
        now[0] += 0.6
        loss, length = round(chance.lognormvariate(-2.1, 0.4), 6), round(chance.lognormvariate(-3, 0.5), 6)
        seconds = round(0.6 + chance.gauss(0, 0.01), 4)
        writer.write("step", step=step, loss=loss, rate=scheme.rate_at(step - 1), gradient_norm=length, seconds=seconds)
        if step % MEMORY_STEPS in (3, 0):
            writer.write("memory", used_bytes=4_301_258_752, peak_bytes=4_607_442_944, step=step)
        if step % EVAL_STEPS == 0:
            writer.write("eval", step=step, loss=round(0.12 + chance.gauss(0, 0.002), 6))
        if step % SAVE_STEPS == 0:
            files = [f"model/zkz-step{step:08d}.safetensors", f"model/zkz-step{step:08d}.pt"]
            norms = [[round(0.4 + chance.gauss(0, 0.05), 4) for _ in range(12)]]
            state = f"state/step{step:08d}"
            writer.write("checkpoint", step=step, state=state, files=files, loss=loss, eval_loss=0.12, norms=norms)
            files = [f"sample/step{step:08d}/{number}.png" for number in range(2)]
            writer.write("sample", step=step, files=files, prompts=["a photo of [name] --d 1"] * 2)
    writer.write("end", outcome="done", step=steps, message="", seconds=round(now[0] - 1_795_403_584, 3))
    writer.close()


def measure(way: str, path: Path) -> dict[str, Any]:
    """Open the log one way in this process."""
    resident = psutil.Process().memory_info().rss
    started, longest = time.perf_counter(), 0.0
    if way == "reader":
        reader, more = HistoryReader(path), True
        while more:
            turn = time.perf_counter()
            more = reader.read()
            longest = max(longest, time.perf_counter() - turn)
        step = reader.history.step
    else:
        events = as_one_run(EventReader(path).read_all())
        step = max(event["step"] for event in events if event.kind == "step")
        longest = time.perf_counter() - started
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "growth": peak - resident, "longest": longest, "step": step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--measure", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.log)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        write_log(path, given.steps)
        size = path.stat().st_size
        print(f"{given.steps:,} steps, {size / 1e6:.0f} MB, {size / given.steps:.0f} bytes a step")
        print(f"{'way':<16}{'seconds':>9}{'ratio':>8}{'peak growth, MB':>18}{'ratio':>8}{'longest turn, ms':>19}")
        first: dict[str, Any] = {}
        for way, name in WAYS.items():
            command = [sys.executable, "-m", "benchmarks.open_log", "--measure", way, "--log", str(path)]
            outcome = subprocess.run(command, capture_output=True, text=True, check=False)
            if outcome.returncode:
                sys.exit(outcome.stderr)
            found = json.loads(outcome.stdout)
            assert found["step"] == given.steps, f"{name} ended at step {found['step']}"
            first = first or found
            ratios = found["seconds"] / first["seconds"], found["growth"] / max(1, first["growth"])
            print(
                f"{name:<16}{found['seconds']:>9.2f}{ratios[0]:>8.1f}{found['growth'] / 1e6:>18.1f}{ratios[1]:>8.1f}"
                f"{found['longest'] * 1000:>19.0f}"
            )


if __name__ == "__main__":
    main()
