"""The diffusion objective: noise schedule, noisy latents, target, weighting, distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ti_tui.run.prediction import Prediction
from ti_tui.run.recipe import TrainingTable
from ti_tui.training.randomness import torch_stream


@dataclass(frozen=True)
class NoiseSchedule:
    """alphas_cumprod [1000] float32, and what the U-Net predicts."""

    alphas_cumprod: Tensor
    prediction: Prediction

    def to(self, device: torch.device) -> NoiseSchedule:
        return NoiseSchedule(self.alphas_cumprod.to(device), self.prediction)

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise (DDPM, equation 4)."""
        signal, spread = self._parts(timesteps)
        return signal * latents + spread * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noise, or v = sqrt(a_t) noise - sqrt(1 - a_t) x_0 (Salimans and Ho 2022)."""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self._parts(timesteps)
        return signal * noise - spread * latents

    def min_snr_weight(self, timesteps: Tensor, gamma: float) -> Tensor:
        """min(snr, gamma) / snr for epsilon, min(snr, gamma) / (snr + 1) for v (Hang et al. 2023)."""
        alphas = self.alphas_cumprod[timesteps]
        snr = alphas / (1 - alphas).clamp_min(1e-12)
        return snr.clamp_max(gamma) / (snr.clamp_min(1e-12) if self.prediction == "epsilon" else snr + 1)

    def _parts(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()


@dataclass(frozen=True)
class NoiseDraw:
    """The random numbers of one image in a step, [4, h, w] float32 on the CPU: for its latent, and the noise."""

    latent: Tensor
    noise: Tensor


def draw(seed: int, shape: tuple[int, ...], noise_offset: float) -> NoiseDraw:
    """The random numbers of one image, from its own seed, so that they do not depend on how a step is split."""
    stream = torch_stream(seed)
    latent = torch.randn(shape, generator=stream)
    noise = torch.randn(shape, generator=stream)
    if noise_offset:
        # One number per channel (Guttenberg 2023): without it the mean brightness gets hardly any noise.
        noise = noise + noise_offset * torch.randn((shape[0], 1, 1), generator=stream)
    return NoiseDraw(latent, noise)


def losses(prediction: Tensor, target: Tensor, training: TrainingTable, weights: Tensor | None = None) -> Tensor:
    """Mean loss of each image [b], in float32. weights [b, 1, h, w]: of each latent pixel, with a mean of 1."""
    prediction, target = prediction.float(), target.float()
    match training.loss:
        case "l1":
            each = functional.l1_loss(prediction, target, reduction="none")
        case "huber":
            each = functional.huber_loss(prediction, target, reduction="none", delta=training.huber_delta)
        case _:
            each = functional.mse_loss(prediction, target, reduction="none")
    return (each if weights is None else each * weights).mean(dim=(1, 2, 3))
