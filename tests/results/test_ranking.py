"""The star, its rank and the reason for it agree with each other."""

from __future__ import annotations

from ti_tui.results.ranking import checkpoint_ranks, why_best
from ti_tui.run.events import Event
from ti_tui.run.history import RunHistory
from ti_tui.run.verdicts import best_of

SAVES = (40, 80, 120)


def trained(gains: dict[int, float], *, best: int | None = None, **follows: float) -> RunHistory:
    """A run with a gain at each step, and a checkpoint after those in SAVES, each with the best so far."""
    history = RunHistory()
    for step, gain in gains.items():
        values = {"step": step, "loss": 0.1, "gain": gain, "follows": follows.get(f"at{step}", 1.0)}
        history.add([Event(float(step), "step", {"step": step}), Event(float(step), "eval", values)])
        if step in SAVES:
            found = best_of(history.evaluations, [save for save in SAVES if save <= step])
            history.add([Event(float(step), "checkpoint", {"step": step, "best": best or found})])
    return history


# The highest gain alone is at step 40, but its neighbours are lower.
GAINS = {30: 0.41, 40: 0.46, 50: 0.42, 70: 0.45, 80: 0.45, 90: 0.45, 110: 0.44, 120: 0.44}


def test_the_star_has_the_highest_rank_of_the_table_where_its_gain_is_not_the_highest() -> None:
    history = trained(GAINS)
    found = checkpoint_ranks(history)
    assert history.best_step == 80 and list(found) == [40, 80, 120]
    assert max(found.values(), key=lambda rank: rank.value).step == 80
    assert why_best(history) == "gain 45.0 % (mean of 3 evaluations) x prompts 1.00 = rank 45.0 %, the highest"
    assert why_best(history, brief=True) == "gain 45.0 % x prompts 1.00 = rank 45.0 %, the highest"


def test_evaluations_after_the_newest_checkpoint_do_not_contradict_the_star() -> None:
    history = trained(GAINS)
    before = checkpoint_ranks(history)
    history.add([Event(130.0, "eval", {"step": 130, "loss": 0.1, "gain": 0.9})])
    assert checkpoint_ranks(history) == before


def test_drowned_prompts_cost_rank() -> None:
    history = trained(GAINS, at70=0.6, at80=0.6, at90=0.6)
    assert history.best_step == 120
    assert checkpoint_ranks(history)[80].follows == 0.6 and round(checkpoint_ranks(history)[80].value, 3) == 0.36


def test_a_best_checkpoint_that_is_passed_by_later_evaluations_is_not_called_the_highest() -> None:
    assert why_best(trained(GAINS, best=40), brief=True).endswith("= rank 43.8 %")


def test_without_gains_or_checkpoints_there_is_no_reason() -> None:
    assert why_best(RunHistory()) == ""
    assert why_best(trained({40: -0.2, 80: -0.1}), brief=True) == "gain -13.3 %, the highest"
