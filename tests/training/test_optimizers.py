"""Clipping, the loss scale, and what a restored optimizer keeps and gives up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ti_tui.run.problems import ProblemsError
from ti_tui.run.recipe import TrainingTable
from ti_tui.training.optimizers import (
    LossScale,
    clip_gradients,
    gradient_norm,
    make_optimizer,
    restore_optimizer,
    set_rate,
)


def rows_with_gradients(*gradients: list[list[float]] | None) -> list[nn.Parameter]:
    rows = []
    for gradient in gradients:
        row = nn.Parameter(torch.zeros(1, 2))
        row.grad = None if gradient is None else torch.tensor(gradient)
        rows.append(row)
    return rows


def gradients(rows: list[nn.Parameter]) -> Tensor:
    return torch.cat([row.grad.flatten() for row in rows if row.grad is not None])


def test_the_gradient_norm_is_that_of_all_rows_together() -> None:
    rows = rows_with_gradients([[3.0, 4.0]], [[0.0, 12.0]], None)
    assert float(gradient_norm(rows)) == pytest.approx(13.0)
    rows = rows_with_gradients([[3.0, 4.0]], [[0.0, float("nan")]])
    assert not torch.isfinite(gradient_norm(rows))


def test_a_long_gradient_is_clipped_to_the_limit_in_its_direction() -> None:
    rows = rows_with_gradients([[3.0, 4.0]], [[0.0, 12.0]], None)
    before = gradients(rows).clone()
    clip_gradients(rows, 13.0, 1.0)
    assert float(gradient_norm(rows)) == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(gradients(rows), before / 13, rtol=1e-5, atol=0)


@pytest.mark.parametrize("longest", [5.1, 100.0, 0.0])
def test_a_gradient_below_the_limit_or_without_one_stays_as_it_is(longest: float) -> None:
    rows = rows_with_gradients([[3.0, 4.0]])
    clip_gradients(rows, 5.0, longest)
    assert gradients(rows).tolist() == [3.0, 4.0]


def test_a_gradient_of_zero_is_clipped_without_an_error() -> None:
    rows = rows_with_gradients([[0.0, 0.0]])
    clip_gradients(rows, 0.0, 1.0)
    assert gradients(rows).tolist() == [0.0, 0.0]


def test_the_loss_scale_halves_at_an_overflow_down_to_1() -> None:
    scale = LossScale(active=True)
    assert scale.factor == 2.0**14
    factors = []
    while scale.overflowed():
        factors.append(scale.factor)
    assert factors == [2.0**power for power in range(13, -1, -1)]
    assert scale.factor == 1.0


def test_the_loss_scale_doubles_after_500_good_steps_in_a_row() -> None:
    scale = LossScale(active=True)
    for _ in range(499):
        scale.succeeded()
    assert scale.factor == 2.0**14
    scale.succeeded()
    assert (scale.factor, scale.good_steps) == (2.0**15, 0)
    for _ in range(499):
        scale.succeeded()
    scale.overflowed()
    assert (scale.factor, scale.good_steps) == (2.0**14, 0)
    scale.succeeded()
    assert scale.factor == 2.0**14, "counting begins anew after an overflow"
    for _ in range(500 * 10):
        scale.succeeded()
    assert scale.factor == 2.0**20, "which is the largest"


def test_without_fp16_the_loss_scale_is_1_and_idle() -> None:
    scale = LossScale(active=False)
    for _ in range(600):
        scale.succeeded()
    assert scale.factor == 1.0 and not scale.overflowed() and scale.factor == 1.0


def test_a_saved_loss_scale_is_taken_over_by_a_run_that_has_one() -> None:
    saved = LossScale(active=True)
    saved.overflowed()
    saved.succeeded()
    scale = LossScale(active=True)
    scale.restore(saved.state())
    assert (scale.factor, scale.good_steps) == (2.0**13, 1)
    for active, state in [(False, saved.state()), (True, LossScale(active=False).state()), (True, {})]:
        scale = LossScale(active=active)
        fresh = scale.state()
        scale.restore(state)
        assert scale.state() == fresh


def optimizer_of(rows: list[nn.Parameter], **training: Any) -> torch.optim.Optimizer:
    return make_optimizer(rows, TrainingTable(**training), 0.01)


def step(optimizer: torch.optim.Optimizer) -> None:
    for row in optimizer.param_groups[0]["params"]:
        row.grad = torch.ones_like(row)
    optimizer.step()


def test_an_optimizer_is_made_as_the_run_file_says() -> None:
    rows = rows_with_gradients(None)
    optimizer = optimizer_of(rows, weight_decay=0.25, optimizer_arguments={"betas": [0.5, 0.75], "eps": 1e-6})
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.AdamW)
    assert group["params"] == rows and group["lr"] == 0.01
    assert (group["weight_decay"], group["betas"], group["eps"]) == (0.25, (0.5, 0.75), 1e-6)
    assert isinstance(optimizer_of(rows, optimizer="SGD"), torch.optim.SGD)
    # One that knows no weight decay is given none.
    assert "weight_decay" not in optimizer_of(rows, optimizer="Rprop").param_groups[0]


def test_a_list_of_eps_is_a_pair_for_adafactor() -> None:
    optimizer = optimizer_of(
        rows_with_gradients(None), optimizer="Adafactor", optimizer_arguments={"eps": [1e-30, 1e-3]}
    )
    assert optimizer.param_groups[0]["eps"] == (1e-30, 1e-3)


@pytest.mark.parametrize("arguments", [{"momentumm": 0.9}, {"betas": "high"}, {"betas": [0.9]}])
def test_arguments_that_are_wrong_are_a_problem_of_their_field(arguments: dict[str, Any]) -> None:
    with pytest.raises(ProblemsError) as caught:
        optimizer_of(rows_with_gradients(None), optimizer_arguments=arguments)
    (problem,) = caught.value.problems
    assert problem.severity == "error" and problem.field == "training.optimizer_arguments"
    assert problem.message.startswith("adamw") and "\n" not in problem.message


def test_making_an_optimizer_changes_nothing() -> None:
    rows = rows_with_gradients(None)
    optimizer = optimizer_of(rows)
    assert rows[0].tolist() == [[0.0, 0.0]] and rows[0].grad is None and not optimizer.state


def test_an_optimizer_whose_package_is_missing_is_a_problem_of_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules makes an import of that name fail, also where the package is installed.
    for module in ("bitsandbytes", "bitsandbytes.optim", "prodigyopt"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    for name, package in (("adamw8bit", "bitsandbytes"), ("prodigy", "prodigyopt")):
        with pytest.raises(ProblemsError) as caught:
            optimizer_of(rows_with_gradients(None), optimizer=name)
        (problem,) = caught.value.problems
        assert (problem.severity, problem.field) == ("error", "training.optimizer") and package in problem.message


def test_a_restored_optimizer_has_its_moments_and_the_settings_of_the_run_file() -> None:
    saved = optimizer_of(rows_with_gradients(None), weight_decay=0.1)
    step(saved)
    set_rate(saved, 0.5)
    now = optimizer_of(rows_with_gradients(None), weight_decay=0.3)
    assert restore_optimizer(now, saved.state_dict())
    (group,) = now.param_groups
    assert (group["weight_decay"], group["lr"]) == (0.3, 0.01)
    moments, theirs = now.state[group["params"][0]], saved.state[saved.param_groups[0]["params"][0]]
    assert moments.keys() == theirs.keys()
    assert all(torch.equal(moments[key], theirs[key]) for key in moments)


def test_moments_of_another_optimizer_are_left_and_that_is_said() -> None:
    saved = optimizer_of(rows_with_gradients(None), optimizer="RMSprop")
    step(saved)
    now = optimizer_of(rows_with_gradients(None))
    assert not restore_optimizer(now, saved.state_dict())
    assert not now.state


def test_an_optimizer_saved_before_its_first_step_can_be_restored() -> None:
    fresh = optimizer_of(rows_with_gradients(None), optimizer="RMSprop").state_dict()
    now = optimizer_of(rows_with_gradients(None), optimizer="RMSprop")
    assert restore_optimizer(now, fresh) and not now.state


def test_the_rate_is_set_for_every_group() -> None:
    optimizer = torch.optim.SGD([{"params": rows_with_gradients(None)}, {"params": rows_with_gradients(None)}], lr=1.0)
    set_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
