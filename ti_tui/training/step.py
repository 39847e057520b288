"""One step's forward and backward: loss and gradients of the rows, in as many micro-batches as fit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ti_tui.training.batches import Sample, micro_batches, share
from ti_tui.training.objective import draw, losses
from ti_tui.training.previews import conditions_for
from ti_tui.training.session import Session
from ti_tui.training.text import Context, TextGradients


def accumulate(session: Session, attempt: int, batch_size: int, stop_now: Callable[[], bool]) -> Tensor | None:
    """Forward and backward of this process's micro-batches, the text side once for all of them.

    Returns this process's share of the loss, or None if a stop was asked. `attempt` > 0 draws other noise.
    """
    accelerator = session.accelerator
    samples = session.sampler.step(session.step, attempt)
    sized = [(session.latents_of(sample).size, sample) for sample in samples]
    mine = share(sized, accelerator.process_index, accelerator.num_processes)
    batches = micro_batches(mine, batch_size)
    prompts = list(dict.fromkeys(session.prompt_of(sample) for batch in batches for sample in batch))
    place = {prompt: index for index, prompt in enumerate(prompts)}

    for row in session.rows:
        row.grad = torch.zeros_like(row)
    total = torch.zeros((), device=session.device)
    ids = [session.ids_of(prompt) for prompt in prompts]
    text = TextGradients(session.text, ids, chunk=max(batch_size, 4))
    for batch in batches:
        if stop_now():
            return None
        index = torch.tensor([place[session.prompt_of(sample)] for sample in batch], device=session.device)
        loss = loss_of(session, batch, text.context.rows(index))
        (loss * session.loss_scale.factor).backward()
        total += loss.detach()
    text.backward()
    return total


def sum_over_processes(session: Session, total: Tensor) -> float:
    """Add up loss and gradients of all processes, and take the loss scale out of the gradients."""
    accelerator = session.accelerator
    if accelerator.num_processes > 1:
        total = accelerator.reduce(total, "sum")
        for row in session.rows:
            row.grad = accelerator.reduce(row.grad, "sum")
    for row in session.rows:
        assert row.grad is not None
        row.grad.div_(session.loss_scale.factor)
    return float(total)


def loss_of(session: Session, batch: list[Sample], context: Context) -> Tensor:
    """The share of a micro-batch in the step's loss."""
    training = session.checked.run.training
    device, schedule = session.device, session.schedule
    posteriors = [session.latents_of(sample) for sample in batch]
    drawn = [
        draw(sample.seed, tuple(one.mean.shape), training.noise_offset)
        for sample, one in zip(batch, posteriors, strict=True)
    ]
    units = torch.stack([one.latent for one in drawn]).to(device)
    noise = torch.stack([one.noise for one in drawn]).to(device)
    latents = torch.stack([one.draw(unit) for one, unit in zip(posteriors, units, strict=True)])
    timesteps = torch.tensor([sample.timestep for sample in batch], device=device)

    dtype = session.unet.dtype
    noisy = schedule.noisy(latents, noise, timesteps)
    scale = session.previewer.scale
    sizes = [(one.size[0] * scale, one.size[1] * scale) for one in posteriors]
    prediction = session.unet(noisy.to(dtype), timesteps, **conditions_for(context, sizes, dtype)).sample

    masks = [session.mask_of(sample) for sample in batch]
    places = None if masks[0] is None else torch.stack([mask for mask in masks if mask is not None])
    each = losses(prediction, schedule.target(latents, noise, timesteps), training, places)
    if training.min_snr_gamma:
        each = each * schedule.min_snr_weight(timesteps, training.min_snr_gamma)
    weights = torch.tensor([sample.weight for sample in batch], device=device)
    return (each * weights).sum()
