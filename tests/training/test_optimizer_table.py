"""The table of optimizers: another one is one row, and all that is said of them follows from it."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.conftest import MakeRun, edit, result
from tests.training.running import Train, events
from ti_tui.run.optimizers import OPTIMIZERS, OptimizerClass
from ti_tui.run.recipe import TrainingTable
from ti_tui.setup.check import check_run


class SignDescent(torch.optim.Optimizer):
    """Moves each component by the rate against the sign of its gradient; knows no weight decay."""

    def __init__(self, params: object, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})  # type: ignore[arg-type]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad.sign(), alpha=group["lr"])


def test_adding_an_optimizer_is_one_row(make_run: MakeRun, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(scheme="0.01:2, 0.001:1", **{"save.every_steps": 1})
    edit(folder, 'optimizer = "adamw"', 'optimizer = "SignDescent"')
    (problem,) = check_run(folder).problems.errors
    assert problem.message == "there is no optimizer 'SignDescent'"

    monkeypatch.setitem(OPTIMIZERS, "signdescent", OptimizerClass(__name__, "SignDescent"))
    assert not check_run(folder).problems.errors
    assert train(folder) == 0
    assert [event["rate"] for event in events(folder, "step")] == [0.01, 0.01, 0.001]
    moved = result(folder).in_order()[0] - result(folder, 2).in_order()[0]
    np.testing.assert_allclose(np.abs(moved), 0.001, rtol=0.01)


def test_an_unknown_optimizer_is_told_with_the_nearest_and_all_that_there_are(make_run: MakeRun) -> None:
    folder = make_run()
    edit(folder, 'optimizer = "adamw"', 'optimizer = "prodigi"')
    (problem,) = check_run(folder).problems.errors
    assert problem.remedy.startswith("Did you mean prodigy? Known optimizers: adamw, ")
    assert all(name in problem.remedy for name in OPTIMIZERS)


def test_the_help_of_the_field_says_what_is_allowed() -> None:
    says = TrainingTable.model_fields["optimizer"].description or ""
    assert set(says.rstrip(".").split(", ")) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_row_names_a_class_that_is_there_if_its_package_is(name: str) -> None:
    row = OPTIMIZERS[name]
    assert name == row.name.lower()
    if not row.installed:
        pytest.skip(f"{row.package} is not installed")
    assert issubclass(getattr(importlib.import_module(row.module), row.name), torch.optim.Optimizer)
