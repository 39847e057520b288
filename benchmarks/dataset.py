"""Time and memory of checking and preparing photographs, compared with a plain Pillow loop in the same run.

    python -m benchmarks.dataset [--count 30] [--rounds 1] [--folder DIR]

The photographs have 24 megapixels each and are made from scikit-image's: JPEGs of camera size, a third of them rotated
by EXIF, a third with a wide-gamut colour profile, as phones write them. Each stage is a separate process; its memory
includes that of its child processes. Goals: check at most 10 s, prepare at most 15 s, 600 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image, ImageOps

from tests.fixtures.bad_pictures import ORIENTATION, photo, wide_profile

SIZE = (6000, 4000)
RESOLUTION = 512
NAMES = ("astronaut", "coffee", "rocket", "chelsea", "motorcycle", "retina")
GOALS = {"check": 10.0, "prepare": 15.0}
GOAL_MB = 600


def make_photographs(folder: Path, count: int) -> None:
    """Fill `folder` with `count` different photographs."""
    rng = np.random.default_rng(0)
    profile = wide_profile()
    for number in range(count):
        scale = 1 + number // len(NAMES) / 4
        image = photo(NAMES[number % len(NAMES)], (int(1500 * scale), int(1000 * scale)))
        left, top = (image.width - 1500) // 2, (image.height - 1000) // 2
        image = image.crop((left, top, left + 1500, top + 1000)).resize(SIZE, Image.Resampling.BICUBIC)
        # What a sensor adds, and what makes the files as large as a camera's.
        grain = rng.integers(-9, 10, (SIZE[1] // 8, SIZE[0], 1), dtype=np.int16)
        pixels = np.asarray(image).astype(np.int16) + np.tile(grain, (8, 1, 1))
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        exif = Image.Exif()
        exif[ORIENTATION] = 6 if number % 3 == 1 else 1
        options = {"icc_profile": profile} if number % 3 == 2 else {}
        image.save(folder / f"{number:02d}.jpg", quality=92, exif=exif, **options)


def check(source: Path, _: Path) -> None:
    from ti_tui.dataset.survey import survey

    found = survey(source, person=True)
    assert found.complete and len(found.scan.pictures) == len(list(source.iterdir())), list(map(str, found.problems))


def prepare(source: Path, target: Path) -> None:
    from ti_tui.dataset.prepare import prepare as prepare_pictures

    prepare_pictures(source, target / "img", name="zkz", resolution=RESOLUTION, record=target)


def pillow(source: Path, target: Path) -> None:
    """What a script of ten lines does: no colour conversion, no faces, no check for damage."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir()):
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            cut = ImageOps.fit(upright.convert("RGB"), (RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS)
            cut.save(target / f"{path.stem}.png")


STAGES = {"pillow": pillow, "check": check, "prepare": prepare, "again": prepare}
NAMED = {
    "pillow": "plain Pillow loop",
    "check": "check, with faces",
    "prepare": "prepare",
    "again": "prepare, nothing changed",
}


def measure(stage: str, source: Path, target: Path) -> tuple[float, float, float]:
    """(wall seconds, CPU seconds, peak MB) of one stage, its children included."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.dataset",
        "--stage",
        stage,
        "--folder",
        str(source),
        "--out",
        str(target),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
                peak = max(peak, sum(one.memory_info().rss for one in tree))
            except psutil.Error:
                pass
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{stage} failed")
    told = json.loads(output.splitlines()[-1])
    return told["wall"], told["cpu"], max(peak, told["peak"]) / 1e6


def run_stage(stage: str, source: Path, target: Path) -> None:
    """Run one stage in this process, and print its time and memory."""
    begun = time.monotonic()
    STAGES[stage](source, target)
    wall = time.monotonic() - begun
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": _peak_bytes()}))


def _peak_bytes() -> int:
    """Peak memory of this process; getrusage would include that of its parent at the start."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return psutil.Process().memory_info().rss


def main() -> None:
    """Make the photographs, measure each stage, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="photographs to use instead; made there if it is not there yet")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        run_stage(given.stage, given.folder, given.out)
        return
    with tempfile.TemporaryDirectory() as temporary:
        source = given.folder or Path(temporary) / "photographs"
        if not source.exists():
            source.mkdir(parents=True)
            make_photographs(source, given.count)
        found: dict[str, list[tuple[float, float, float]]] = {stage: [] for stage in STAGES}
        for number in range(given.rounds):
            target = Path(temporary) / f"run{number}"
            for stage in STAGES:
                found[stage].append(measure(stage, source, Path(temporary) / "loop" if stage == "pillow" else target))
            shutil.rmtree(target)
        sizes = [path.stat().st_size for path in source.iterdir()]
        print(f"{len(sizes)} photographs of {SIZE[0]}x{SIZE[1]}, {sum(sizes) / len(sizes) / 1e6:.1f} MB each")
        print(f"{'':26} {'wall':>8} {'each':>8} {'ratio':>6} {'CPU':>8} {'peak':>8}  goal")
        base = None
        for stage, values in found.items():
            wall, cpu, peak = (statistics.median(column) for column in zip(*values, strict=True))
            base = base or wall
            goal = f"{GOALS[stage]:.0f} s, {GOAL_MB} MB" if stage in GOALS else ""
            print(
                f"{NAMED[stage]:26} {wall:6.1f} s {wall / len(sizes) * 1000:5.0f} ms {wall / base:6.2f} {cpu:6.1f} s"
                f" {peak:5.0f} MB  {goal}"
            )


if __name__ == "__main__":
    main()
