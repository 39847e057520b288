"""What the evaluator makes of losses, with answers that are given instead of computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ti_tui.run.evaluations import Evaluation
from ti_tui.run.verdicts import Verdict
from ti_tui.training.evaluation import EvalItem, Evaluator, eval_items, items_hash
from ti_tui.training.latents import Latents

TIMESTEPS = (100, 300, 600, 100)
"""In the first, second and third quarter; the last item is held out."""


def item(timestep: int, *, held: bool = False, prompt: str = "a", value: float = 0.0) -> EvalItem:
    return EvalItem(torch.full((4, 2, 2), value), torch.zeros(4, 2, 2), timestep, prompt, held=held)


class Model:
    """Answers as it is told: losses with the prompts of the set and with an empty one, and effects of scenes."""

    def __init__(self) -> None:
        self.now, self.empty, self.effects = [0.1, 0.2, 0.4, 0.8], [0.2, 0.4, 0.4, 1.6], [1.0, 2.0]
        self.asked: list[Any] = []

    def ask(self, prompt: str | None, batch_size: int) -> list[float]:
        self.asked.append((prompt, batch_size))
        return list(self.now if prompt is None else self.empty)

    def scenes(self, batch_size: int) -> list[float]:
        self.asked.append(("scenes", batch_size))
        return list(self.effects)


def evaluator(model: Model, starts: Sequence[Tensor] | None = None) -> Evaluator:
    items = [item(timestep, held=place == 3) for place, timestep in enumerate(TIMESTEPS)]
    return Evaluator(items, model.ask, model.scenes, 4, list(starts or [rows()]), (2.0,))


def rows(scale: float = 1.0) -> Tensor:
    return scale * torch.tensor([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0]])


def test_the_start_gains_nothing_and_is_asked_once() -> None:
    model = Model()
    first = evaluator(model).evaluate(0, [rows()])
    assert (first.step, first.loss, first.gain, first.held_gain, first.moved) == (0, 0.233333, 0.0, 0.0, 0.0)
    assert first.follows == 1.0
    # Norms of 5, 1 and 10, beside a median word of 2.
    assert (first.length, first.longest) == (2.5, 5.0)
    assert model.asked == [(None, 4), ("", 4), ("scenes", 4)]


def test_gains_are_geometric_means_over_the_trained_and_the_held_out_images() -> None:
    model = Model()
    made = evaluator(model)
    made.evaluate(0, [rows()])
    model.now = [0.05, 0.2, 0.4, 0.6]
    found = made.evaluate(20, [rows()])
    # One of three items halved.
    mean = 0.5 ** (1 / 3)
    assert found.loss == pytest.approx((0.05 + 0.2 + 0.4) / 3, rel=1e-5)
    assert found.gain == pytest.approx(1 - mean, rel=1e-5) and found.held_gain == pytest.approx(0.25)
    spread = math.log(2) / math.sqrt(3)
    assert found.gain_error == pytest.approx(mean * spread / math.sqrt(3), rel=1e-5)
    assert found.held_gain_error is None, "of one item there is no error"


def test_bands_compare_with_an_empty_prompt() -> None:
    model = Model()
    found = evaluator(model).evaluate(0, [rows()])
    # Two items in the first quarter, none in the last.
    assert found.bands == (0.5, 0.5, 1.0, None)


def test_vectors_are_measured_against_those_they_started_from() -> None:
    made = evaluator(Model())
    made.evaluate(0, [rows()])
    found = made.evaluate(20, [rows(1.5)])
    assert (found.length, found.longest, found.moved) == (3.75, 7.5, 0.5)
    assert found.rank == pytest.approx(1.0, abs=0.3)


def test_two_encoders_are_measured_together() -> None:
    model = Model()
    items = [item(timestep) for timestep in TIMESTEPS]
    made = Evaluator(items, model.ask, model.scenes, 4, [torch.ones(1, 4), 2 * torch.ones(1, 4)], (1.0, 2.0))
    made.evaluate(0, [torch.ones(1, 4), 2 * torch.ones(1, 4)])
    found = made.evaluate(20, [torch.ones(1, 4), 3 * torch.ones(1, 4)])
    # Lengths of 2 and 6, beside median words of 1 and 2; one of the two has moved.
    assert found.longest == 3.0 and found.moved == pytest.approx(math.sqrt(4 / 20), rel=1e-5)


def test_prompt_following_is_asked_at_every_fifth_evaluation() -> None:
    model = Model()
    made = evaluator(model)
    made.evaluate(0, [rows()])
    model.effects = [0.5, 0.5]
    follows = [made.evaluate(20 * place, [rows()]).follows for place in range(1, 11)]
    # The mean of 0.5 and 0.25 of the start.
    assert follows == [None] * 4 + [0.375] + [None] * 4 + [0.375]


def test_losses_that_are_not_finite_give_no_gain() -> None:
    model = Model()
    made = evaluator(model)
    made.evaluate(0, [rows()])
    model.now = [math.nan, 0.2, 0.4, 0.8]
    found = made.evaluate(20, [rows()])
    assert found.gain is None and found.gain_error is None and found.held_gain == 0.0
    model.now = [0.0, 0.2, 0.4, 0.8]
    assert made.evaluate(40, [rows()]).gain is not None, "a loss of 0 is taken for a very small one"


def test_an_evaluation_of_an_undone_step_is_forgotten() -> None:
    made = evaluator(Model())
    for step in (0, 20, 40):
        made.evaluate(step, [rows()])
    made.verdict = Verdict(40, "learning", "")
    made.forget_from(41)
    assert [one.step for one in made.history] == [0, 20, 40] and made.verdict is not None
    made.forget_from(40)
    assert [one.step for one in made.history] == [0, 20] and made.verdict is None
    made.evaluate(20, [rows()])
    assert [one.step for one in made.history] == [0, 20], "a step that comes again replaces what was found"


def test_a_verdict_of_the_history_is_kept() -> None:
    model = Model()
    made = evaluator(model)
    made.evaluate(0, [rows()])
    assert made.judge('"woman"') is None
    model.now = [value / 2 for value in model.now]
    made.evaluate(20, [rows()])
    verdict = made.judge('"woman"')
    assert verdict is not None and verdict.name == "learning" and made.verdict is verdict


def test_a_verdict_that_holds_is_the_one_from_before() -> None:
    model = Model()
    made = evaluator(model)
    made.evaluate(0, [rows()])
    model.now = [value / 2 for value in model.now]
    for step in (20, 40):
        # The longest has 55 times the median norm: too long, for the same reason twice.
        made.evaluate(step, [rows(11.0)])
        verdict = made.judge('"woman"')
        assert verdict is not None and (verdict.name, verdict.step) == ("overtraining", 20)


def test_a_resumed_evaluator_goes_on_with_the_same_history_and_start() -> None:
    model = Model()
    made = evaluator(model)
    made.evaluate(0, [rows()])
    made.evaluate(20, [rows(1.5)])
    made.verdict, made.ended_for = Verdict(20, "learning", "r"), ["learned"]
    again = evaluator(other := Model())
    again.restore(made.state())
    assert (again.history, again.verdict, again.ended_for) == (made.history, made.verdict, ["learned"])
    other.now = [value / 2 for value in other.now]
    assert again.evaluate(40, [rows()]).gain == pytest.approx(0.5)
    assert [asked for asked, _ in other.asked] == [None], "the start is not asked again"
    assert isinstance(again.history[0], Evaluation)


def test_answers_about_another_set_are_not_taken_over() -> None:
    made = evaluator(Model())
    made.evaluate(0, [rows()])
    state = made.state()
    for odd in ({}, {**state, "questions": "others"}):
        other = evaluator(Model())
        other.restore(odd)
        assert other.history == []
    without = evaluator(Model())
    without.restore(made.state())
    assert without.verdict is None and len(without.history) == 1


def test_a_start_that_is_asked_late_is_that_of_the_start_vectors() -> None:
    asked_with: list[Tensor] = []
    mine = [rows(3.0)]
    model = Model()

    def ask(prompt: str | None, _batch_size: int) -> list[float]:
        asked_with.append(mine[0].clone())
        return list(model.now)

    made = evaluator(model)
    made.losses_of = ask
    made.evaluate(20, mine)
    # The start and the empty prompt with the start vectors, then the vectors as they are.
    assert [torch.equal(one, rows()) for one in asked_with] == [True, True, False]
    assert torch.equal(mine[0], rows(3.0))


def test_after_out_of_memory_one_item_is_asked_at_a_time() -> None:
    model = Model()
    made = evaluator(model)
    made.use_less_memory()
    made.evaluate(0, [rows()])
    assert {batch_size for _, batch_size in model.asked} == {1}


def test_sets_are_told_apart_by_all_that_is_asked() -> None:
    sets = [
        [item(100)], [item(101)], [item(100, held=True)], [item(100, prompt="b")], [item(100, value=0.5)],
        [item(100), item(100)], [EvalItem(torch.zeros(4, 2, 4), torch.zeros(4, 2, 4), 100, "a")],
    ]  # fmt: skip
    assert len({items_hash(each) for each in sets}) == len(sets)
    assert len(items_hash(sets[0])) == 16 and items_hash(sets[0]) == items_hash([item(100)])


def test_a_set_is_spread_over_the_trained_timesteps_with_a_part_held_out() -> None:
    def image(value: float) -> Any:
        return Latents(torch.full((4, 2, 2), value), torch.zeros(4, 2, 2)), f"prompt {value:g}", torch.ones(1, 2, 2)

    made = eval_items([image(1), image(2)], [image(3)], 7, count=12, timesteps=(200, 300))
    held = sum(one.held for one in made)
    assert 0 < held < 12 and [one.held for one in made] == [False] * (12 - held) + [True] * held
    own = [one for one in made if not one.held]
    assert {one.prompt for one in own} == {"prompt 1", "prompt 2"}
    assert {one.prompt for one in made if one.held} == {"prompt 3"}
    assert all(200 <= one.timestep < 300 and one.weights is not None for one in made)
    assert not torch.equal(own[0].noise, own[1].noise)
    other = eval_items([image(1), image(2)], [image(3)], 8, count=12, timesteps=(200, 300))
    assert not torch.equal(other[0].noise, made[0].noise)
