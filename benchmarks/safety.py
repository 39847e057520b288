"""What it costs that nothing is lost: hashes of checkpoints, the reserve, and making up what a kill left undone.

    python -m benchmarks.safety

The demo's run is trained in this process, and the time in each of these is added up: its share of the whole training
is printed. Then what it costs a dashboard to open the run, settled and with an embedding file to be made again.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ti_tui.embeddings import run_files
from ti_tui.run.file import load
from ti_tui.run.folder import RunFolder
from ti_tui.setup.create import create_run
from ti_tui.setup.demo import demo_values, pictures_of
from ti_tui.training import checkpoint_writer, checkpoints, disk_room
from ti_tui.training.__main__ import train
from ti_tui.training.reporter import Reporter

TIMES: dict[str, list[float]] = {}


def timed(owner: Any, name: str, shown: str) -> None:
    """Add up the seconds of each call of `owner.name` under `shown`."""
    real: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(real)
    def measured(*given: Any, **more: Any) -> Any:
        begun = time.perf_counter()
        try:
            return real(*given, **more)
        finally:
            TIMES.setdefault(shown, []).append(time.perf_counter() - begun)

    setattr(owner, name, measured)


def opened(folder: RunFolder, repeats: int = 20) -> float:
    """Median milliseconds of what a dashboard does when it opens this run."""
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run_files.reconcile_if_idle(folder)
        found.append(1000 * (time.perf_counter() - begun))
    return statistics.median(found)


def main() -> None:
    timed(checkpoints, "sums_of", "hashes of checkpoints")
    timed(checkpoints, "check_hashes", "hashes checked")
    timed(checkpoint_writer.run_files, "reconcile", "reconcile")
    timed(disk_room.DiskRoom, "_reserve", "reserve")
    timed(disk_room.DiskRoom, "_release", "reserve")
    with tempfile.TemporaryDirectory() as place:
        folder = create_run(Path(place) / "run", pictures_of("teal-ring"), demo_values()).folder
        begun = time.perf_counter()
        with folder.lock():
            folder.create()
            train(folder, Reporter(folder), threading.Event())
        whole = time.perf_counter() - begun
        for name, seconds in TIMES.items():
            print(f"{name:24}{len(seconds):4} times {1000 * sum(seconds):8.1f} ms  {sum(seconds) / whole:8.3%}")
        total = sum(map(sum, TIMES.values()))
        print(f"{'together':24}{'':10} {1000 * total:8.1f} ms  {total / whole:8.3%} of {whole:.1f} s")
        print(f"a dashboard opens: {opened(folder):.1f} ms, nothing to be done")
        token, step = load(folder.file).embedding.token, folder.checkpoints()[-1]
        once = []
        for _ in range(5):
            folder.embedding(token, step).unlink()
            once.append(opened(folder, 1))
        print(f"a dashboard opens: {statistics.median(once):.1f} ms, an embedding file made again")


if __name__ == "__main__":
    main()
