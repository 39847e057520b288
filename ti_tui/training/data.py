"""What steps are computed from: latents, masks, prompts; and the inputs of a step, everything random in it drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ti_tui.dataset.scan import Scan
from ti_tui.dataset.templates import fill
from ti_tui.training.batches import Sample, Sampler, micro_batches, share
from ti_tui.training.latents import Latents
from ti_tui.training.objective import draw
from ti_tui.training.text import TextSide

LatentsByImage = Mapping[tuple[int, bool], Latents]
"""By index of the image and whether it is mirrored."""


@dataclass(frozen=True)
class MicroBatch:
    """Images that go through the U-Net together, on its device.

    latents:   [b, 4, h, w] float32, drawn from what the VAE says of each image; noise: the same shape.
    timesteps: [b]; weights [b]: of each image in the step's loss.
    prompts:   [b], each image's place among the step's prompts.
    masks:     [b, 1, h, w], or None.
    sizes:     (width, height) of each image in pixels.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    weights: Tensor
    prompts: Tensor
    masks: Tensor | None
    sizes: list[tuple[int, int]]


@dataclass(frozen=True)
class Inputs:
    """This process's share of step `number` (0-based); `ids`: of each of its prompts, for each text encoder."""

    number: int
    attempt: int
    batch_size: int
    micro_batches: list[MicroBatch]
    ids: Sequence[list[Tensor]]


@dataclass
class Data:
    """The training set as steps use it.

    images, regularisation: the two sets; latents and regularisation_latents: theirs.
    masks:   weights of the loss [1, h, w] of the training set; empty where no masks are used.
    process: this process's (index, count) among those of the run.
    scale:   pixels of an image for each value of its latents.
    """

    images: Scan
    regularisation: Scan | None
    templates: Sequence[str]
    sampler: Sampler
    latents: LatentsByImage
    regularisation_latents: LatentsByImage
    masks: Mapping[tuple[int, bool], Tensor]
    text: TextSide
    device: torch.device
    scale: int
    noise_offset: float = 0.0
    process: tuple[int, int] = (0, 1)
    _ids: dict[str, list[Tensor]] = field(default_factory=dict)

    def inputs(self, number: int, attempt: int, batch_size: int) -> Inputs:
        """Draw everything random of step `number` and bring it to the device; `attempt` > 0 draws other noise.

        Nothing here waits for the device, so that a step can be prepared while the one before it is computed. All of
        it follows from the seed and the step: noise is drawn on the CPU, which is the same on every machine.
        """
        samples = self.sampler.step(number, attempt)
        mine = share([(self.latents_of(sample).size, sample) for sample in samples], *self.process)
        batches = micro_batches(mine, batch_size)
        prompts = list(dict.fromkeys(self.prompt_of(sample) for batch in batches for sample in batch))
        place = {prompt: index for index, prompt in enumerate(prompts)}
        made = [self._micro_batch(batch, [place[self.prompt_of(sample)] for sample in batch]) for batch in batches]
        return Inputs(number, attempt, batch_size, made, [self.ids_of(prompt) for prompt in prompts])

    def latents_of(self, sample: Sample) -> Latents:
        return (self.regularisation_latents if sample.regularisation else self.latents)[sample.picture, sample.flipped]

    def mask_of(self, sample: Sample) -> Tensor | None:
        """Weights of a sample's loss [1, h, w]; all 1 for a regularisation image; None where no masks are used."""
        if not self.masks:
            return None
        if sample.regularisation:
            return torch.ones_like(self.latents_of(sample).mean[:1])
        return self.masks[sample.picture, sample.flipped]

    def prompt_of(self, sample: Sample) -> str:
        """The prompt of a sample: its template, filled in with its image's caption."""
        scan = self.regularisation if sample.regularisation else self.images
        assert scan is not None
        return fill(self.templates[sample.template], scan.pictures[sample.picture].caption)

    def ids_of(self, prompt: str) -> list[Tensor]:
        """Ids of a prompt for each text encoder, remembered."""
        if prompt not in self._ids:
            self._ids[prompt] = [ids.to(self.text.device) for ids in self.text.ids([prompt])]
        return self._ids[prompt]

    def _micro_batch(self, batch: list[Sample], prompts: list[int]) -> MicroBatch:
        posteriors = [self.latents_of(sample) for sample in batch]
        drawn = [
            draw(sample.seed, tuple(one.mean.shape), self.noise_offset)
            for sample, one in zip(batch, posteriors, strict=True)
        ]
        units = self._sent(torch.stack([one.latent for one in drawn]))
        masks = [self.mask_of(sample) for sample in batch]
        return MicroBatch(
            latents=torch.stack([one.draw(unit) for one, unit in zip(posteriors, units, strict=True)]),
            noise=self._sent(torch.stack([one.noise for one in drawn])),
            timesteps=self._sent(torch.tensor([sample.timestep for sample in batch])),
            weights=self._sent(torch.tensor([sample.weight for sample in batch])),
            prompts=self._sent(torch.tensor(prompts)),
            masks=None if masks[0] is None else torch.stack([mask for mask in masks if mask is not None]),
            sizes=[(one.size[0] * self.scale, one.size[1] * self.scale) for one in posteriors],
        )

    def _sent(self, tensor: Tensor) -> Tensor:
        """`tensor` on the device, without waiting for what that is doing."""
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)
