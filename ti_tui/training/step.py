"""One step's forward and backward: loss and gradients of the rows, in as many micro-batches as fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ti_tui.run.memory import ComputeMode
from ti_tui.training.batches import Sample, micro_batches, share
from ti_tui.training.objective import draw, losses
from ti_tui.training.previews import conditions_for
from ti_tui.training.session import Session
from ti_tui.training.text import Context, TextGradients


@dataclass(frozen=True)
class MicroBatch:
    """What goes through the U-Net at once, on its device.

    noisy:     noisy latents [b, 4, h, w] in the U-Net's dtype; target: what it should answer, float32.
    timesteps: [b]; weights [b]: of each image in the step's loss.
    prompts:   [b], each image's place in the step's prompts.
    masks:     [b, 1, h, w], or None.
    sizes:     (width, height) of each image in pixels.
    """

    noisy: Tensor
    target: Tensor
    timesteps: Tensor
    weights: Tensor
    prompts: Tensor
    masks: Tensor | None
    sizes: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.timesteps)


@dataclass(frozen=True)
class PreparedStep:
    """This process's share of a step, ready to be computed; `ids` of each of its prompts for each encoder."""

    number: int
    attempt: int
    batch_size: int
    micro_batches: list[MicroBatch]
    ids: list[list[Tensor]]


def prepare(session: Session, number: int, attempt: int, batch_size: int) -> PreparedStep:
    """Draw everything random of step `number` (0-based) and bring it to the device; `attempt` > 0 draws other noise.

    Nothing here waits for the device, so that the next step is made ready while this one is computed. All of it
    follows from the seed and the step: noise is drawn on the CPU, which is the same on every machine.
    """
    accelerator = session.accelerator
    samples = session.sampler.step(number, attempt)
    sized = [(session.latents_of(sample).size, sample) for sample in samples]
    mine = share(sized, accelerator.process_index, accelerator.num_processes)
    batches = micro_batches(mine, batch_size)
    prompts = list(dict.fromkeys(session.prompt_of(sample) for batch in batches for sample in batch))
    place = {prompt: index for index, prompt in enumerate(prompts)}
    made = [_micro_batch(session, batch, [place[session.prompt_of(sample)] for sample in batch]) for batch in batches]
    return PreparedStep(number, attempt, batch_size, made, [session.ids_of(prompt) for prompt in prompts])


def accumulate(session: Session, step: PreparedStep, way: ComputeMode, stop_now: Callable[[], bool]) -> Tensor | None:
    """Forward and backward of a step's micro-batches, the text side once for all of them.

    Returns this process's share of the loss, on the device, or None if a stop was asked.
    """
    for row in session.rows:
        row.grad = torch.zeros_like(row)
    total = torch.zeros((), device=session.device)
    text = TextGradients(session.text, step.ids, way, session.device)
    for batch in step.micro_batches:
        if stop_now():
            return None
        loss = loss_of(session, batch, text.context.rows(batch.prompts))
        (loss * session.loss_scale.factor).backward()
        total += loss.detach()
    text.backward()
    return total


def sum_over_processes(session: Session, total: Tensor) -> Tensor:
    """Add up loss and gradients of all processes, and take the loss scale out of the gradients. Returns the loss."""
    accelerator = session.accelerator
    if accelerator.num_processes > 1:
        total = accelerator.reduce(total, "sum")
        for row in session.rows:
            assert row.grad is not None
            # Processes meet on their cards, also where the text side is beside them.
            row.grad = accelerator.reduce(row.grad.to(session.device), "sum").to(row.device)
    for row in session.rows:
        assert row.grad is not None
        row.grad.div_(session.loss_scale.factor)
    return total


def loss_of(session: Session, batch: MicroBatch, context: Context) -> Tensor:
    """The share of a micro-batch in the step's loss."""
    unet = session.unet
    prediction = unet(batch.noisy, batch.timesteps, **conditions_for(context, batch.sizes, unet)).sample
    each = losses(prediction, batch.target, session.checked.run.training, batch.masks)
    return (each * batch.weights).sum()


def _micro_batch(session: Session, batch: list[Sample], prompts: list[int]) -> MicroBatch:
    training, schedule = session.checked.run.training, session.schedule
    posteriors = [session.latents_of(sample) for sample in batch]
    drawn = [
        draw(sample.seed, tuple(one.mean.shape), training.noise_offset)
        for sample, one in zip(batch, posteriors, strict=True)
    ]
    units = _sent(torch.stack([one.latent for one in drawn]), session.device)
    noise = _sent(torch.stack([one.noise for one in drawn]), session.device)
    timesteps = _sent(torch.tensor([sample.timestep for sample in batch]), session.device)
    weights = _sent(torch.tensor([sample.weight for sample in batch]), session.device)
    latents = torch.stack([one.draw(unit) for one, unit in zip(posteriors, units, strict=True)])
    if training.min_snr_gamma:
        weights = weights * schedule.min_snr_weight(timesteps, training.min_snr_gamma)
    masks = [session.mask_of(sample) for sample in batch]
    noisy = schedule.noisy(latents, noise, timesteps).to(session.unet.dtype)
    scale = session.previewer.scale
    return MicroBatch(
        noisy=noisy.contiguous(memory_format=torch.channels_last) if session.channels_last else noisy,
        target=schedule.target(latents, noise, timesteps),
        timesteps=timesteps,
        weights=weights,
        prompts=_sent(torch.tensor(prompts), session.device),
        masks=None if masks[0] is None else torch.stack([mask for mask in masks if mask is not None]),
        sizes=[(one.size[0] * scale, one.size[1] * scale) for one in posteriors],
    )


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`, without waiting for what the device is doing."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
