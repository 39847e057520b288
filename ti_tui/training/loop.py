"""One optimizer step of textual inversion (Gal et al. 2022, arXiv 2208.01618), top to bottom.

The trainer, the probe and the GPU benchmark take their steps here. `recovery` wraps it and handles what can go wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ti_tui.run.memory import ComputeMode
from ti_tui.run.recipe import TrainingTable
from ti_tui.training.data import Inputs
from ti_tui.training.objective import losses
from ti_tui.training.optimizers import clip_gradients, gradient_norm, set_rate
from ti_tui.training.processes import Processes
from ti_tui.training.session import Model, Progress
from ti_tui.training.text import TextGradients


@dataclass(frozen=True)
class StepResult:
    """The loss of a completed step, and the norm of its gradient before clipping."""

    loss: float
    gradient_norm: float


class NotFinite(Exception):
    """The loss or the gradient is not finite; vectors and optimizer are unchanged. what: "the loss", "the gradient"."""

    def __init__(self, what: str, *, overflow: bool) -> None:
        super().__init__(f"{what} is not a number")
        self.what, self.overflow = what, overflow


def train_step(
    model: Model,
    progress: Progress,
    training: TrainingTable,
    inputs: Inputs,
    *,
    rate: float,
    mode: ComputeMode,
    processes: Processes | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    gradients_complete: Callable[[], None] = lambda: None,
    while_computing: Callable[[], None] = lambda: None,
) -> StepResult | None:
    """Take the step that `inputs` were prepared for, at learning rate `rate`; None if a stop was requested first.

    gradients_complete: called when this process's gradients are complete, before anything is changed.
    while_computing: called when everything is queued on the device, before waiting for the result.
    Raises NotFinite, and whatever the device raises.
    """
    rows, schedule, scale = model.rows, model.schedule, progress.loss_scale

    # Forward and backward, in as many micro-batches as fit. The text encoder runs once for all of them.
    for row in rows:
        row.grad = torch.zeros_like(row)
    total = torch.zeros((), device=model.device)
    text = TextGradients(model.text, inputs.ids, mode, model.device)
    for batch in inputs.micro_batches:
        if stop_requested():
            return None
        noisy = schedule.noisy(batch.latents, batch.noise, batch.timesteps)
        target = schedule.target(batch.latents, batch.noise, batch.timesteps)
        prediction = model.predict(noisy, batch.timesteps, text.context.rows(batch.prompts), batch.sizes)
        weights = batch.weights
        if training.min_snr_gamma:
            weights = weights * schedule.min_snr_weight(batch.timesteps, training.min_snr_gamma)
        loss = (losses(prediction, target, training, batch.masks) * weights).sum()
        (loss * scale.factor).backward()
        total += loss.detach()
    text.backward()
    gradients_complete()

    # Sum over all processes of the run.
    if processes is not None:
        total = processes.sum(total)
        for row in rows:
            row.grad = processes.sum(_gradient(row))
    for row in rows:
        _gradient(row).div_(scale.factor)
    norm = gradient_norm(rows)
    while_computing()
    # Fetched together: each fetch waits for the device.
    found = StepResult(*torch.stack([total.float(), norm.float().to(total.device)]).tolist())
    if not math.isfinite(found.loss):
        raise NotFinite("the loss", overflow=False)
    if not math.isfinite(found.gradient_norm):
        raise NotFinite("the gradient", overflow=True)

    # Clip and step. Only the rows are trained: nothing else has a gradient.
    model.norms.before_step(rows)
    clip_gradients(rows, found.gradient_norm, training.max_gradient_norm)
    set_rate(progress.optimizer, rate)
    progress.optimizer.step()
    model.norms.rescale(rows)
    progress.step += 1
    progress.loss = found.loss
    scale.succeeded()
    return found


def _gradient(row: Tensor) -> Tensor:
    assert row.grad is not None
    return row.grad
