"""The eval loss: a fixed set of (image, noise, timestep), so that its value can be compared from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ti_tui.run.beside import EVALUATED
from ti_tui.training.latents import Latents
from ti_tui.training.objective import NoiseSchedule, draw
from ti_tui.training.previews import conditions_for
from ti_tui.training.randomness import seed_for
from ti_tui.training.text import TextSide

TIMESTEPS = 1000


@dataclass(frozen=True)
class Question:
    """One fixed item: a picture's mean latent and its noise [4, h, w], a timestep, a prompt, weights [1, h, w]."""

    latent: Tensor
    noise: Tensor
    timestep: int
    prompt: str
    weights: Tensor | None = None


def fixed_set(
    pictures: Sequence[tuple[Latents, str, Tensor | None]], seed: int, *, count: int = EVALUATED
) -> list[Question]:
    """`count` questions over the pictures in turn, their timesteps spread evenly over the whole range.

    pictures: (latents, prompt, weights of the loss) of each picture. The same seed gives the same set, whatever the
    run does.
    """
    questions = []
    for index in range(count):
        latents, prompt, weights = pictures[index % len(pictures)]
        noise = draw(seed_for(seed, "evaluation", index), tuple(latents.mean.shape), 0.0).noise
        # The stride is coprime to the count, so each picture meets low and high timesteps.
        place = index * 7 % count
        timestep = int((place + 0.5) / count * TIMESTEPS)
        questions.append(Question(latents.mean, noise.to(latents.mean.device), timestep, prompt, weights))
    return questions


@torch.no_grad()
def eval_loss(questions: Sequence[Question], unet: Any, text: TextSide, schedule: NoiseSchedule, scale: int) -> float:
    """Mean squared error over the fixed set, weighted by masks only, one question at a time to spare memory."""
    total = 0.0
    dtype = unet.dtype
    for question in questions:
        timestep = torch.tensor([question.timestep], device=question.latent.device)
        latent, noise = question.latent.unsqueeze(0), question.noise.unsqueeze(0)
        size = (latent.shape[3] * scale, latent.shape[2] * scale)
        conditions = conditions_for(text.encode(text.ids([question.prompt])), [size], unet)
        answer = unet(schedule.noisy(latent, noise, timestep).to(dtype), timestep, **conditions).sample
        error = (answer.float() - schedule.target(latent, noise, timestep)).square()
        total += float((error if question.weights is None else error * question.weights).mean())
    return total / len(questions)
