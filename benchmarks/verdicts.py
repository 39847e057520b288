"""Does the program say "learned" when it is learned, and does the eval loss tell good checkpoints from poor ones?

    python -m benchmarks.verdicts                       # easy concepts, three seeds, the whole default scheme: an hour
    python -m benchmarks.verdicts --folder DIR          # keeps the runs there; a second time they are only judged anew
    python -m benchmarks.verdicts --steps 400 --seeds 1 # a quick look

Each run is one of the program's own trainer with its defaults, on the demo model. Pictures drawn with its checkpoints
are judged as in benchmarks/quality.py: `quality` is the share of 36 pictures that show all of the concept on the
background, and in the frame, that the prompt asks for. Columns:
  learned at    the step of the first verdict "learned"; beside it, "overtraining"
  quality       at that step and at the end, and the one as a share of the other
  best          the best of the checkpoints every 100 steps, by the program's choice, and its quality
  rank          Spearman's correlation, over the checkpoints, of the quality with: the eval loss; the gain (of trained
                and held-out images); what the program ranks by (the gain, times how much of a prompt is followed);
                the train loss of the last step; the train loss, smoothed as on the dashboard. Losses count negative:
                1 is the same order.
The baseline is the train loss, which is what every other trainer shows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.quality import EASY, MODEL, PICTURES, Row, _one_thread, judge_vectors, run_values

STEPS = 3790
SAVED_EVERY = 5
JUDGED = (0, 5, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500, 800, 1250, 2000, 3000)
SMOOTHING = 0.1


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, judged: quality, and what is to be ranked by. `follows` is the share with the prompt's scene."""

    step: int
    quality: float
    follows: float
    eval_loss: float
    score: float
    prompt_following: float
    rank: float
    train_loss: float
    smooth_loss: float


@dataclass(frozen=True)
class Outcome:
    """One run: its verdicts as (step, name), and its judged checkpoints, ascending."""

    concept: str
    seed: int
    steps: int
    verdicts: list[tuple[int, str]]
    best: int | None
    checkpoints: list[Checkpoint]

    def first(self, name: str) -> int | None:
        return next((step for step, said in self.verdicts if said == name), None)

    def at(self, step: int) -> Checkpoint:
        return next(one for one in self.checkpoints if one.step == step)

    def correlation(self, of: str) -> float:
        """Spearman's correlation of the quality with a column, over the checkpoints that have both."""
        known = [one for one in self.checkpoints if not math.isnan(getattr(one, of))]
        sign = 1 if of in ("score", "rank") else -1
        return spearman([one.quality for one in known], [sign * getattr(one, of) for one in known])


def measure(concept: str, seed: int, steps: int, place: str) -> Outcome:
    """Train one run in `place`, unless it is there already, and judge it."""
    _one_thread()
    from ti_tui.run.folder import RunFolder
    from ti_tui.setup.check import check_run
    from ti_tui.setup.create import create_run
    from ti_tui.training.__main__ import train
    from ti_tui.training.reporter import Reporter

    root = Path(place) / f"{concept}-{seed}-{steps}"
    folder = RunFolder(root)
    if not folder.embedding("zkz", None).exists():
        values = run_values(Row("defaults", {}, steps), seed)
        values["save"]["every_steps"] = SAVED_EVERY
        del values["evaluation"]
        if not folder.file.exists():
            create_run(root, PICTURES / concept, values)
        # A checkpoint every few steps is the benchmark's wish; what the plan makes of the defaults is to stay.
        if train(folder, Reporter(folder), threading.Event()):
            raise RuntimeError(f"{concept}, seed {seed}: the training failed")
    return judged(check_run(folder, decode=False), concept, seed, steps)


def judged(checked: Any, concept: str, seed: int, steps: int) -> Outcome:
    """Verdicts and checkpoints of a run that is there."""
    import torch
    from accelerate import Accelerator

    from ti_tui.run.events import EventReader, as_one_run
    from ti_tui.run.history import RunHistory
    from ti_tui.run.verdicts import best_of, judge, ranks
    from ti_tui.training.checkpoints import load_state
    from ti_tui.training.opening import open_session
    from ti_tui.training.reporter import Reporter

    folder = checked.folder
    events = as_one_run(EventReader(folder.events).read_all())
    history = RunHistory()
    history.add(events)
    losses = {event["step"]: event["loss"] for event in events if event.kind == "step"}
    smooth, mean = {}, None
    for step in sorted(losses):
        mean = losses[step] if mean is None else mean + SMOOTHING * (losses[step] - mean)
        smooth[step] = mean
    # Said anew from the evaluations, so that a change of the rules needs no new training.
    verdicts: list[tuple[int, str]] = []
    verdict = None
    for count in range(1, len(history.evaluations) + 1):
        verdict = judge(history.evaluations[:count], '"thing"', verdict) or verdict
        if verdict is not None and (not verdicts or verdicts[-1][1] != verdict.name):
            verdicts.append((verdict.step, verdict.name))
    session = open_session(checked, Accelerator(cpu=True), Reporter(folder, main=False), lambda: False)
    evaluator = session.evaluator
    assert evaluator is not None
    # The first checkpoint after a verdict stands for it.
    verdicts = [(min(steps, -(-step // SAVED_EVERY) * SAVED_EVERY), name) for step, name in verdicts]
    wanted = {step for step in JUDGED if step < steps} | {
        steps,
        *(step for step, name in verdicts if name == "learned"),
    }
    best = best_of(history.evaluations, range(100, steps + 1, 100))
    checkpoints = []
    for step in sorted(wanted | ({best} if best else set())):
        rows = evaluator.initial if step == 0 else load_state(folder, step).rows
        with torch.no_grad():
            for row, saved in zip(session.rows, rows, strict=True):
                row.copy_(saved)
        # Asked a second time: the trainer asks every 20 steps, and these are checkpoints in between.
        evaluator.history = []
        found = evaluator.evaluate(step, session.rows)
        [rank] = ranks([found])
        rates = judge_vectors(None if step == 0 else rows[0].numpy(), concept, seed)
        nothing = math.nan
        checkpoints.append(
            Checkpoint(
                step,
                rates.all,
                rates.follows,
                found.loss,
                found.score or 0.0,
                found.follows or 0.0,
                rank.value,
                losses.get(step, nothing),
                smooth.get(step, nothing),
            )
        )
    return Outcome(concept, seed, steps, verdicts, best, checkpoints)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's correlation of the ranks; equal values share their mean rank. NaN where one does not vary."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return math.nan
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    return [sum(other < one for other in values) + (sum(other == one for other in values) - 1) / 2 for one in values]


def print_table(outcomes: Sequence[Outcome]) -> None:
    """One line per run, then the means, then how well the measured prompt-following predicts that of the samples."""
    ranked = ("eval_loss", "score", "rank", "train_loss", "smooth_loss")
    print(f"{'':<16}{'':>5}{'learned':>9}{'over-':>9}{'':^24}{'':^13}{'rank of checkpoints by':^42}")
    print(
        f"{'concept':<16}{'seed':>5}{'at':>9}{'training':>9}{'quality then, end, share':^24}{'best':^13}"
        f"{'eval':>8}{'gain':>9}{'both':>9}{'train':>9}{'smooth':>9}"
    )
    for one in outcomes:
        learned, spoiled, end = one.first("learned"), one.first("overtraining"), one.at(one.steps).quality
        then = one.at(learned).quality if learned is not None else math.nan
        share = f"{then:>7.2f}{end:>7.2f}{then / end:>8.0%}" if learned is not None and end else f"{'-':>7}{end:>7.2f}"
        best = f"{one.best:>6} {one.at(one.best).quality:.2f}" if one.best else ""
        ranks = "".join(f"{one.correlation(of):>8.2f} " for of in ranked)
        print(f"{one.concept:<16}{one.seed:>5}{learned or '-':>9}{spoiled or '-':>9}{share:<24}{best:<13}{ranks}")
    learned = [one for one in outcomes if one.first("learned") is not None]
    if learned:
        shares = [one.at(one.first("learned") or 0).quality / max(one.at(one.steps).quality, 1e-9) for one in learned]
        part = statistics.fmean((one.first("learned") or 0) / one.steps for one in learned)
        print(f"\n{len(learned)} of {len(outcomes)} learned, at {part:.0%} of the steps on average, the latest at "
              f"{max((one.first('learned') or 0) / one.steps for one in learned):.0%}; quality there "
              f"{statistics.fmean(shares):.0%} of that at the end on average, {min(shares):.0%} at worst")  # fmt: skip
    for of in ranked:
        values = [one.correlation(of) for one in outcomes if not math.isnan(one.correlation(of))]
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        print(f"rank by {of:<12} {statistics.fmean(values):+.2f} ± {error:.2f}")
    pairs = [(one.prompt_following, one.follows) for run in outcomes for one in run.checkpoints if one.step]
    if len(pairs) > 2:
        lost = [asked for asked, drawn in pairs if drawn < 0.8]
        kept = [asked for asked, drawn in pairs if drawn >= 0.9]
        rank = spearman([asked for asked, _ in pairs], [drawn for _, drawn in pairs])
        ranges = [f"{min(part):.2f} to {max(part):.2f} (n = {len(part)})" if part else "none" for part in (lost, kept)]
        print(f"prompt-following asked of the U-Net: where pictures lose the scene {ranges[0]}, where they keep it "
              f"{ranges[1]}; rank {rank:+.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the default scheme ({STEPS})")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each concept (3)")
    parser.add_argument("--concepts", nargs="+", default=list(EASY))
    parser.add_argument("--folder", type=Path, help="keep the runs here, and use those that are here already")
    parser.add_argument("--out", type=Path, help="also write every outcome as JSON")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    started, outcomes = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as temporary:
        place = str(given.folder or temporary)
        os.environ |= {f"TI_TUI_{name}": f"{temporary}/{name.lower()}" for name in ("CONFIG", "CACHE", "STATE")}
        with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
            jobs = [
                pool.submit(measure, concept, seed, given.steps, place)
                for seed in range(given.seeds)
                for concept in given.concepts
            ]
            for number, job in enumerate(as_completed(jobs), start=1):
                outcomes.append(job.result())
                if sys.stderr.isatty():
                    print(f"\r{number} of {len(jobs)} runs ", end="", file=sys.stderr, flush=True)
    outcomes.sort(key=lambda one: (given.concepts.index(one.concept), one.seed))
    print(f"{given.steps} steps of the default scheme on {MODEL.name}; {time.perf_counter() - started:.0f} s in all")
    print_table(outcomes)
    if given.out:
        given.out.write_text(json.dumps([asdict(one) for one in outcomes], indent=1))


if __name__ == "__main__":
    main()
