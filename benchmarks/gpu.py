"""Speed and memory of training steps on a card: SD 1.5 at 512x512 and SDXL at 1024x1024, full size, random weights.

    python -m benchmarks.gpu                        # everything; about an hour on a fast card
    python -m benchmarks.gpu --short                # the most informative rows; eight minutes
    python -m benchmarks.gpu --tiny --device cpu    # small modules: whether this benchmark works

No network and no files: the modules are made in memory from their published configurations. Each measurement is a
separate process. It is compared with "reference", the common method: the whole token table trained with AdamW and its
rows copied back, autocast, float32 text encoders, the VAE resident; latents cached, or encoded at every step.

cap       as if the card had this many GiB; the CUDA context is subtracted from the allocator's limit
TFLOP/s   of a step's matrix products; those of forward count twice if all of it is recomputed
held      GiB taken on the card: the allocator's peak, and the CUDA context
live      GiB, the peak that tensors took
predicted GiB, by the program's memory plan
first     seconds until the first step is done, the compiler's included
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if not __package__:
    # As a plain script this folder comes first on the path, and its modules have common names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# All of it up here: the processes are forked from this one, and need not import it again, seconds each time.
import torch

from benchmarks.gpu_steps import Job, Terms, look_at_card, measure
from ti_tui.out_of_memory import is_out_of_memory
from ti_tui.run.hardware import GIB
from ti_tui.run.memory import Precision, predict
from ti_tui.run.recipe import Family

CAPS = (6, 4, 3, 2)
LONGEST_SECONDS = 420.0
"""For one measurement, including the compiler."""
USUAL_CONTEXT = GIB // 2
"""Until one was measured."""
TFLOP = {"sd1": (1.75, 2.34), "sdxl": (14.89, 20.10)}
"""Of a step with one image: as it is, and with all of forward done twice."""

REFERENCE, CHECKPOINTED = Job(reference=True), Job(reference=True, recompute="all")
ENCODING = [replace(REFERENCE, encode=True), replace(CHECKPOINTED, encode=True)]
PLAIN, LEAN = Job(), Job(backward="lean")
SOME, ALL = replace(LEAN, recompute="some"), replace(LEAN, recompute="all")
INT8, INT8_SOME, INT8_ALL = (replace(job, bits=8) for job in (LEAN, SOME, ALL))
LEAST = replace(INT8_ALL, text_on_cpu=True)
LAST = replace(LEAN, channels_last=True)
BLOCKS = [replace(job, compile="blocks") for job in (LEAN, SOME, PLAIN, ALL, INT8, LAST)]
FULL = [replace(job, compile="full") for job in (LEAN, ALL, INT8, PLAIN)]


def all_jobs(families: Sequence[Family], batches: Sequence[int], *, short: bool) -> Iterator[Job]:
    """All measurements, the most informative first. Those with a cap come after the same without one: see `known`."""
    first, rest = batches[:1], batches[1:]
    tight = [ALL, INT8_ALL, SOME, LEAST, LEAN, INT8, INT8_SOME, CHECKPOINTED, REFERENCE]
    stages: list[tuple[list[Job], Sequence[int], bool]] = [
        ([REFERENCE, LEAN, ALL, SOME, CHECKPOINTED, INT8_ALL, PLAIN, INT8, INT8_SOME, LEAST], first, False),
        (tight, first, True),
        ([*BLOCKS, LAST], first, False),
        ([REFERENCE, LEAN, ALL, SOME, INT8_ALL, INT8, CHECKPOINTED, BLOCKS[0], LAST], rest, False),
        ([ALL, INT8_ALL, SOME], rest, True),
        ([*ENCODING, *FULL], first, False),
        (BLOCKS[:2], first, True),
    ]
    if short:
        stages = [
            ([REFERENCE, LEAN, ALL, SOME, CHECKPOINTED, INT8_ALL, PLAIN, LEAST], first, False),
            (tight[:4], first, True),
            ([BLOCKS[0], LAST], first, False),
            ([REFERENCE, LEAN, ALL], [batch for batch in rest if batch in (2, 4)][-1:], False),
            ([ENCODING[0], FULL[0]], first, False),
        ]
    for ways, sizes, capped in stages:
        for family in families:
            for size in sizes:
                for job in ways:
                    for cap in CAPS if capped else (None,):
                        yield replace(job, family=family, batch=size, cap=cap)


# One measurement, in a separate process.


def answer(pipe: Any, function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    """Run `function` in this new process without output, and send its result."""
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    try:
        pipe.send(function(*arguments))
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        status = "does not fit" if is_out_of_memory(error) else f"error: {first}"
        pipe.send({"status": status, "detail": traceback.format_exc()})


def apart(start: str, function: Callable[..., dict[str, Any]], *arguments: Any, seconds: float) -> dict[str, Any]:
    """The result of `function` in a separate process; the status says what went wrong there."""
    context: Any = multiprocessing.get_context(start)
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(there, function, arguments))
    child.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv() if here.poll(seconds) else {"status": f"not done in {seconds:.0f} s"}
    except EOFError:
        child.join()
        found = {"status": f"error: its process ended with {child.exitcode}"}
    child.join(0 if found.get("status", "").startswith("not done") else 30)
    child.kill()
    child.join()
    return found


def known(job: Job, done: dict[Job, dict[str, Any]]) -> dict[str, Any] | None:
    """The result of a job with a cap, if it follows from others that were measured."""
    if job.cap is None:
        return None
    free = done.get(replace(job, cap=None))
    if free is None or free["status"] != "ok":
        return None if free is None else free
    if "reserved" not in free:
        return {**free, "note": "a CPU knows no cap"}
    cap = job.cap * GIB
    if free["reserved"] + free["context"] <= cap:
        return {**free, "note": "as without a cap"}
    worse = (
        replace(other, cap=job.cap, batch=job.batch) == job and (other.cap or 0) >= job.cap and other.batch <= job.batch
        for other, found in done.items()
        if found["status"] == "does not fit"
    )
    if free["weights"] + free["context"] > cap or any(worse):
        return {"status": "does not fit"}
    return None


def predicted(job: Job, terms: Terms) -> int | None:
    """Bytes by the program's memory plan."""
    if job.reference or terms.tiny or terms.device != "cuda":
        return None
    side = terms.side(job)
    plan = predict(job.family, job.mode, resolution=side, precision=terms.precision, cuda=True, prompts=job.batch)
    return plan.training


TITLES = (
    "family", "way", "batch", "cap", "steps/s", "images/s", "speed", "TFLOP/s",
    "held", "live", "memory", "predicted", "first", "note",
)  # fmt: skip


def cells(job: Job, terms: Terms, done: dict[Job, dict[str, Any]]) -> list[str]:
    """A row of the table; `speed` and `memory` are relative to the reference's step with latents cached."""
    found, bytes_planned = done[job], predicted(job, terms)
    # Capped rows as well are compared with what the reference does, and needs, without a cap.
    reference = done.get(replace(REFERENCE, family=job.family, batch=job.batch), {})
    plan = f"{bytes_planned / GIB:.2f}" if bytes_planned else ""
    row = [job.family, job.name, str(job.batch), str(job.cap or "")]
    if found["status"] != "ok":
        return [*row, *[""] * 7, plan, "", found["status"]]
    speed = 1 / found["seconds"]
    work = TFLOP[job.family][job.recompute == "all"] * job.batch * speed
    row += [f"{speed:.3f}", f"{speed * job.batch:.3f}"]
    row.append(f"{reference['seconds'] * speed:.2f}x" if "seconds" in reference else "")
    row.append("" if terms.tiny else f"{work:.1f}")
    if "reserved" not in found:
        return [*row, "", "", "", plan, f"{found['first']:.1f}", found["note"]]
    held = found["reserved"] + found["context"]
    row += [f"{held / GIB:.2f}", f"{found['live'] / GIB:.2f}"]
    row.append(f"{held / (reference['reserved'] + reference['context']):.2f}x" if "reserved" in reference else "")
    return [*row, plan, f"{found['first']:.1f}", found["note"]]


def line(row: Sequence[str], *, markdown: bool) -> str:
    if markdown:
        return f"| {' | '.join(row)} |"
    widths = (6, 44, 5, 3, 8, 8, 6, 7, 6, 6, 6, 9, 6, 0)
    texts = (
        cell.ljust(width) if index in (1, len(row) - 1) else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(texts).rstrip()


def run_all(given: argparse.Namespace) -> None:
    """Measure everything, and print each row as soon as it is known."""
    until = time.monotonic() + 60 * (given.minutes or (8 if given.short else 75))
    start = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    card = apart(start, look_at_card, seconds=120)
    if card.get("bad_fork"):
        # Some library asked for the card while it was imported: a fork of that cannot use it.
        start = "spawn"
        card = apart(start, look_at_card, seconds=120)
    cuda = given.device == "cuda"
    if cuda and not card.get("name"):
        sys.exit(f"torch {torch.__version__} finds no card here ({card.get('status', 'none')})")
    precision: Precision = given.precision or (("bf16" if card["bf16"] else "fp16") if cuda else "fp32")
    terms = Terms(given.device, precision, given.steps, given.tiny)
    about = "CPU, times only" if not cuda else (
        f"{card['name']} ({card['total'] / GIB:.1f} GiB), driver {card['driver']}, CUDA {card['cuda']}, "
        f"cuDNN {card['cudnn']}"
    )  # fmt: skip
    print(f"{about}; torch {torch.__version__}, {precision}, {'tiny' if given.tiny else 'full-size'} modules\n")
    print(line(TITLES, markdown=given.markdown))
    if given.markdown:
        print(line(["---"] * len(TITLES), markdown=True))
    done: dict[Job, dict[str, Any]] = {}
    skipped = 0
    for job in all_jobs(given.family, given.batches, short=given.short):
        found = known(job, done)
        left = until - time.monotonic()
        if found is None and left < 10:
            skipped += 1
            continue
        if found is None:
            free = done.get(replace(job, cap=None), {})
            limit = None if job.cap is None else job.cap * GIB - free.get("context", USUAL_CONTEXT)
            limited = replace(job, limit=limit)
            found = apart(start, measure, limited, terms, seconds=min(left, LONGEST_SECONDS))
        done[job] = found
        print(line(cells(job, terms, done), markdown=given.markdown), flush=True)
        if given.out:
            rows = [{**asdict(each), **values, "predicted": predicted(each, terms)} for each, values in done.items()]
            given.out.write_text(json.dumps({"card": card, "terms": asdict(terms), "rows": rows}, indent=1))
    if skipped:
        print(f"\n{skipped} more were skipped: the time given (--minutes) is over.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=["sd1", "sdxl"], default=["sd1", "sdxl"])
    parser.add_argument("--batches", nargs="+", type=int, help="1 2 4 8 (tiny: 1 2)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each method, after the warm-up")
    parser.add_argument("--short", action="store_true", help="only the most informative rows")
    parser.add_argument("--minutes", type=float, help="stop measuring after this time (75; short 8)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], help="bf16 where the card has it, else fp16")
    parser.add_argument("--tiny", action="store_true", help="small modules, to try this benchmark")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    parser.add_argument("--out", type=Path, help="also write everything that was measured to this file, as JSON")
    parser.add_argument("--measure", metavar="JSON", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.batches = given.batches or ([1, 2] if given.tiny else [1, 2, 4, 8])
    if given.measure:
        # One row of --out, here and with all that torch says.
        fields = Job.__dataclass_fields__
        job = Job(**{name: value for name, value in json.loads(given.measure).items() if name in fields})
        terms = Terms(given.device, given.precision or "fp32", given.steps, given.tiny)
        print(json.dumps(measure(job, terms)))
        return
    run_all(given)


if __name__ == "__main__":
    main()
