"""Ends or fails each change that a process makes to files, one at a time, and looks at what is left.

`python -m tools.crash_points [WORKLOAD ...] [--every N] [--sample N] [--seed N] [--jobs N]`

For each workload (init, prepare, train, captions, settings), each operation (a file opened for writing, a write, sync,
rename, deletion ...) and each fault, the workload is run until the fault, then run again without one. The result must
be that of an undisturbed run. Needs Linux and a C compiler. All of train takes hours; --every 10 takes each tenth
operation, --sample 20 takes twenty cases of each workload by chance.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tools.crash_points.workloads import LONG, Workload, all_workloads

OFF, COUNT, KILL, HALF, FAIL = range(5)
SECONDS = 120
"""For one run of a workload; then it hangs."""
PRELOADED = "TI_TUI_CRASH_POINTS"


@dataclass(frozen=True)
class Fault:
    """What happens at an operation. lasting: also at those after it."""

    name: str
    mode: int
    number: int = 0
    lasting: bool = False


FAULTS = (
    Fault("kill", KILL),
    Fault("half", HALF),
    Fault("ENOSPC", FAIL, errno.ENOSPC),
    Fault("EIO", FAIL, errno.EIO),
    Fault("lasting ENOSPC", FAIL, errno.ENOSPC, lasting=True),
)


@dataclass(frozen=True)
class Case:
    """One operation of one workload, and what happens there."""

    workload: Workload
    operation: int
    fault: Fault

    def __str__(self) -> str:
        return f"{self.workload.name}, operation {self.operation}, {self.fault.name}"


def build(folder: Path) -> Path:
    """Compile the shim. Raises FileNotFoundError without a compiler."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None or sys.platform != "linux":
        raise FileNotFoundError("a C compiler on Linux")
    source, target = Path(__file__).with_name("shim.c"), folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(source), "-ldl"], check=True)
    return target


def start_preloaded(arguments: list[str]) -> int:
    """Run this module again with the shim in it; its exit status."""
    with tempfile.TemporaryDirectory(prefix="crash-points-") as folder:
        shim = build(Path(folder))
        environment = {**os.environ, "LD_PRELOAD": str(shim), PRELOADED: "1", "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-m", "tools.crash_points", *arguments], env=environment).returncode


def run_child(work: Callable[[], int], place: Path, arm: Callable[[Any], None]) -> tuple[int, int]:
    """Fork, arm the shim, work; (exit status or -signal, operations). A child that hangs counts as status 124."""
    counted, report = os.pipe()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            os.close(counted)
            output = os.open(place / "output.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            shim = _shim()
            arm(shim)
            status = work()
            count = shim.faults_count()
            shim.faults_arm(b"/", OFF, 0, 0, 0, 0, -1)
            os.write(report, str(count).encode())
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(report)
    end = time.monotonic() + SECONDS
    while True:
        finished, ended = os.waitpid(child, os.WNOHANG)
        if finished:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(counted)
            return 124, 0
        time.sleep(0.01)
    with os.fdopen(counted, "rb") as file:
        count = int(file.read() or b"0")
    return os.waitstatus_to_exitcode(ended), count


def _shim() -> Any:
    shim = ctypes.CDLL(None)
    shim.faults_arm.argtypes = [
        ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int,
    ]  # fmt: skip
    shim.faults_count.restype = ctypes.c_long
    return shim


def undisturbed(workload: Workload, scratch: Path) -> tuple[int, Any]:
    """(number of operations, result) of a run without faults. Raises RuntimeError if it does not end well."""
    place = scratch / f"{workload.name}-whole"
    place.mkdir()
    workload.setup(place)
    root = str(place / "work").encode()
    status, count = run_child(
        lambda: workload.run(place), place, lambda shim: shim.faults_arm(root, COUNT, 0, 0, 0, 0, -1)
    )
    if status:
        raise RuntimeError(f"{workload.name} ends with {status}: {(place / 'output.txt').read_text()[-2000:]}")
    result = workload.result(place)
    shutil.rmtree(place)
    return count, result


def try_case(case: Case, whole: Any, scratch: Path) -> str:
    """What is wrong after the fault and a second run; "" if nothing is."""
    workload, fault = case.workload, case.fault
    place = Path(tempfile.mkdtemp(dir=scratch))
    try:
        workload.setup(place)
        root, last = str(place / "work").encode(), case.operation
        if fault.lasting:
            last += LONG if workload.waits else 1_000_000

        def arm(shim: Any) -> None:
            # A full disk does not keep anybody from deleting, and a sick one hits any operation.
            growing = int(fault.number == errno.ENOSPC)
            shim.faults_arm(root, fault.mode, case.operation, last, fault.number, growing, -1)

        status, _ = run_child(lambda: workload.run(place), place, arm)
        said = (place / "output.txt").read_text(errors="replace")
        if status not in {0, 2, 3, -signal.SIGKILL} or "Traceback" in said:
            return f"ends with {status}: {said[-3000:]}"
        if lost := workload.lost(place):
            return f"lost: {lost}"
        if status != 0 or workload.repeatable:
            status, _ = run_child(lambda: workload.run(place), place, lambda shim: None)
            if status:
                return f"the second run ends with {status}: {(place / 'output.txt').read_text()[-3000:]}"
        found, expected = workload.result(place), whole
        if fault.lasting and workload.waits:
            found, expected = (workload.without_extra_saves(one) for one in (found, expected))
        return differences(found, expected)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def differences(found: Any, whole: Any) -> str:
    """In words; "" if they are equal."""
    if found == whole:
        return ""
    if not (isinstance(found, dict) and isinstance(whole, dict)):
        return f"{found!r:.500} instead of {whole!r:.500}"
    lines = [f"missing: {name}" for name in whole if name not in found]
    lines += [f"left over: {name}" for name in found if name not in whole]
    for name in whole:
        if name in found and found[name] != whole[name]:
            ours, theirs = found[name], whole[name]
            if isinstance(ours, list):
                ours, theirs = (list((Counter(map(str, a)) - Counter(map(str, b))).elements())
                                for a, b in ((ours, theirs), (theirs, ours)))  # fmt: skip
            lines.append(f"differs: {name}: {str(ours)[:1000]} instead of {str(theirs)[:1000]}")
    return "\n".join(lines)


def cases(workload: Workload, count: int, every: int, sample: int, chance: random.Random) -> list[Case]:
    found = [Case(workload, operation, fault) for operation in range(1, count + 1) for fault in FAULTS]
    if every > 1:
        found = [case for place, case in enumerate(found) if place // len(FAULTS) % every == 0]
    return chance.sample(found, min(sample, len(found))) if sample else found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.crash_points", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("workloads", nargs="*", help="init, prepare, train, captions, settings; all by default")
    parser.add_argument("--every", type=int, default=1, help="take each N-th operation")
    parser.add_argument("--first", type=int, default=1, help="begin with this operation")
    parser.add_argument("--only", type=int, default=0, help="take one operation")
    parser.add_argument("--sample", type=int, default=0, help="take so many cases of each workload by chance")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    if PRELOADED not in os.environ:
        return start_preloaded(arguments)
    # The children are not to have the shim's name in what they start themselves.
    os.environ.pop("LD_PRELOAD", None)
    seed = given.seed if given.seed is not None else random.randrange(10**6)
    chance = random.Random(seed)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="crash-points-", dir=_memory_disk()) as folder:
        base, scratch = Path(folder) / "base", Path(folder) / "scratch"
        scratch.mkdir()
        _import_all()
        os.environ["TI_TUI_STATE"] = os.environ["TI_TUI_CONFIG"] = os.environ["TI_TUI_CACHE"] = str(scratch / "own")
        for workload in all_workloads(base):
            if given.workloads and workload.name not in given.workloads:
                continue
            count, whole = undisturbed(workload, scratch)
            chosen = cases(workload, count, given.every, given.sample, chance)
            chosen = [case for case in chosen if case.operation >= given.first]
            if given.only:
                chosen = [case for case in chosen if case.operation == given.only]
            began, failed = time.monotonic(), 0
            for case, said in _tried(chosen, whole, scratch, given.jobs):
                if said:
                    failed += 1
                    print(f"{case} (seed {seed}):\n{said}", flush=True)
            wrong += failed
            took = time.monotonic() - began
            print(json.dumps({"workload": workload.name, "operations": count, "cases": len(chosen), "wrong": failed,
                              "seconds": round(took)}), flush=True)  # fmt: skip
    return 1 if wrong else 0


def _tried(chosen: list[Case], whole: Any, scratch: Path, jobs: int) -> Iterator[tuple[Case, str]]:
    """Each case with what is wrong, tried in processes beside each other."""
    # A workload cannot be pickled; the forked processes have it from here.
    _chosen[:] = [partial(try_case, case, whole, scratch) for case in chosen]
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from zip(chosen, pool.imap(_try_one, range(len(chosen))), strict=True)


_chosen: list[Callable[[], str]] = []


def _try_one(place: int) -> str:
    return _chosen[place]()


def _memory_disk() -> str | None:
    place = Path("/dev/shm")
    return str(place) if os.access(place, os.W_OK) else None


def _import_all() -> None:
    from tests.fixtures import forked

    forked._import()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
