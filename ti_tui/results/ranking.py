"""Why a checkpoint is the best one (★), in numbers and words, for the dashboard, the report and `compare`."""

from __future__ import annotations

from collections.abc import Mapping

from ti_tui.formatting import percent
from ti_tui.run.history import RunHistory
from ti_tui.run.verdicts import Rank, ranks


def checkpoint_ranks(history: RunHistory) -> dict[int, Rank]:
    """By step, the rank of each checkpoint that was evaluated, as ★ was given at the newest one.

    Later evaluations count only from the next checkpoint on: until then they would contradict ★.
    """
    if not history.checkpoints:
        return {}
    newest = history.checkpoints[-1].step
    found = ranks([one for one in history.evaluations if one.step <= newest])
    steps = {row.step for row in history.checkpoints}
    return {rank.step: rank for rank in found if rank.step in steps}


def why_best(history: RunHistory, found: Mapping[int, Rank] | None = None, *, brief: bool = False) -> str:
    """`gain 34.1 % (mean of 3 evaluations) x prompts 1.00 = rank 34.1 %, the highest`; "" without a ranked best.

    found: the `checkpoint_ranks` of `history`, where they are known already.
    """
    found = checkpoint_ranks(history) if found is None else found
    best = found.get(history.best_step) if history.best_step is not None else None
    if best is None:
        return ""
    held = any(one.held_gain is not None for one in history.evaluations)
    over = f" ({'with held-out images, ' * held}mean of {best.evaluations} evaluations)"
    gain = f"gain {percent(best.gain, digits=1)}{'' if brief else over}"
    if best.gain > 0:
        gain += f" x prompts {best.factor:.2f} = rank {percent(best.value, digits=1)}"
    if max(rank.value for rank in found.values()) > best.value:
        # A checkpoint that ranks higher by later evaluations has been deleted since.
        return gain
    return f"{gain}, the highest"
