"""The optimizer of the rows, clipping and loss scale. The scheme sets the learning rate before every step."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ti_tui.errors import first_line
from ti_tui.run.optimizers import OPTIMIZERS
from ti_tui.run.problems import Problem, ProblemsError
from ti_tui.run.recipe import TrainingTable


def make_optimizer(
    rows: Sequence[nn.Parameter], training: TrainingTable, learning_rate: float
) -> torch.optim.Optimizer:
    """The run file's optimizer, for the learned rows only. Raises ProblemsError for arguments it does not take."""
    arguments: dict[str, Any] = {"lr": learning_rate}
    row = OPTIMIZERS[training.optimizer.lower()]
    try:
        kind = getattr(importlib.import_module(row.module), row.name)
    except ImportError as error:
        raise ProblemsError([Problem("error", str(error), "training.optimizer")]) from None
    if "weight_decay" in inspect.signature(kind).parameters:
        arguments["weight_decay"] = training.weight_decay
    arguments |= training.optimizer_arguments
    for key in ("betas", "eps"):
        if isinstance(arguments.get(key), list):
            arguments[key] = tuple(arguments[key])
    try:
        # Some mistakes only show in the first step, so a test optimizer takes one.
        _state_after_a_step(kind, arguments, rows[0].device)
        optimizer: torch.optim.Optimizer = kind(list(rows), **arguments)
        return optimizer
    except Exception as error:
        problem = Problem(
            "error",
            f"{training.optimizer} does not take these arguments, {training.optimizer_arguments}: {first_line(error)}",
            "training.optimizer_arguments",
        )
        raise ProblemsError([problem]) from None


def _state_after_a_step(kind: Any, arguments: dict[str, Any], device: torch.device) -> set[str]:
    """Names of the state that an optimizer of this kind keeps for a parameter. Raises what the optimizer raises."""
    parameter = nn.Parameter(torch.ones(2, 2, device=device))
    parameter.grad = torch.ones(2, 2, device=device)
    optimizer = kind([parameter], **arguments)
    optimizer.step()
    return set(optimizer.state[parameter])


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> bool:
    """Restore the moments and other state, but keep the settings (weight decay, betas, ...) of the run file.

    torch's load_state_dict would restore the old settings as well. Returns False, and restores nothing, if the saved
    state is of another kind of optimizer.
    """
    settings = inspect.signature(type(optimizer)).parameters
    group = optimizer.param_groups[0]
    arguments = {key: value for key, value in group.items() if key in settings and key != "params"}
    kept = [set(values) for values in state["state"].values()]
    try:
        if kept and kept[0] != _state_after_a_step(type(optimizer), arguments, group["params"][0].device):
            return False
    except Exception:
        return False
    fresh = [{key: value for key, value in group.items() if key in settings} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, values in zip(optimizer.param_groups, fresh, strict=True):
        group.update({key: value for key, value in values.items() if key != "params"})
    return True


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step. It always comes from the scheme, never from a restored optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(rows: Sequence[nn.Parameter]) -> Tensor:
    """L2 norm of the gradient of all rows together; not finite if any number in it is not."""
    gradients = [row.grad for row in rows if row.grad is not None]
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))


def clip_gradients(rows: Sequence[nn.Parameter], norm: float, max_norm: float) -> None:
    """Clip the gradient of all rows together, whose norm is `norm`, to `max_norm` (0: no clipping)."""
    if max_norm <= 0:
        return
    factor = min(1.0, max_norm / (norm + 1e-6))
    for row in rows:
        if row.grad is not None:
            row.grad.mul_(factor)


class LossScale:
    """A factor on the loss that keeps fp16 gradients from underflowing; constant 1 for the other number formats.

    It is halved after an overflow, and doubled after `growth_steps` steps without one. At 512x512 the mean is over so
    many values that unscaled fp16 gradients underflow (measured: first component off by 27 % at batch 1).
    """

    growth_steps = 500
    largest = 2.0**20

    def __init__(self, *, active: bool) -> None:
        self.active = active
        self.factor = 2.0**14 if active else 1.0
        self.good_steps = 0

    def overflowed(self) -> bool:
        """Note an overflow and halve the factor; False if that cannot help."""
        self.good_steps = 0
        if not self.active or self.factor <= 1.0:
            return False
        self.factor /= 2
        return True

    def succeeded(self) -> None:
        """Note a step whose gradients were finite."""
        if not self.active:
            return
        self.good_steps += 1
        if self.good_steps >= self.growth_steps and self.factor < self.largest:
            self.factor *= 2
            self.good_steps = 0

    def state(self) -> dict[str, float]:
        return {"active": self.active, "factor": self.factor, "good_steps": self.good_steps}

    def restore(self, state: dict[str, float]) -> None:
        """Restore a saved factor, unless it was saved without a loss scale (bf16, fp32)."""
        if self.active and state.get("active"):
            self.factor, self.good_steps = float(state["factor"]), int(state["good_steps"])
