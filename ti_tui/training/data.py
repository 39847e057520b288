"""The training data (latents, masks, prompts), and the inputs of a step made from it, with its random numbers drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ti_tui.dataset.scan import Scan
from ti_tui.dataset.templates import fill
from ti_tui.training.batches import ImageOrder, StepImage, micro_batches, share
from ti_tui.training.latents import Latents
from ti_tui.training.objective import draw
from ti_tui.training.text import TextSide

LatentsByImage = Mapping[tuple[int, bool], Latents]
"""By (index of the image, whether it is mirrored)."""


@dataclass(frozen=True)
class MicroBatch:
    """Images that go through the U-Net together, on its device.

    latents:   [b, 4, h, w] float32, drawn from the VAE's posterior of each image; noise: the same shape.
    timesteps: [b].
    weights:   [b], of each image in the step's loss.
    prompts:   [b], the index of each image's prompt in the step's `ids`.
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
    """This process's share of step `number` (0-based). ids: for each prompt, its token ids for each text encoder."""

    number: int
    attempt: int
    batch_size: int
    micro_batches: list[MicroBatch]
    ids: Sequence[list[Tensor]]


@dataclass
class Data:
    """The training set as steps use it.

    images, regularisation: the two image sets; latents, regularisation_latents: their latents.
    order:   chooses the images of each step.
    masks:   weights of the loss [1, h, w] for the training set; empty if masks are off.
    process: this process's (index, count) among those of the run.
    scale:   pixels of an image per latent pixel, along each side.
    """

    images: Scan
    regularisation: Scan | None
    templates: Sequence[str]
    order: ImageOrder
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
        """Draw all random numbers of step `number` and send the inputs to the device; `attempt` > 0 draws other noise.

        Nothing here waits for the device, so a step can be prepared while the one before it is computed. Everything
        follows from the seed and the step; noise is drawn on the CPU, so that it is the same on every machine.
        """
        images = self.order.step(number, attempt)
        mine = share([(self.latents_of(image).size, image) for image in images], *self.process)
        batches = micro_batches(mine, batch_size)
        prompts = list(dict.fromkeys(self.prompt_of(image) for batch in batches for image in batch))
        place = {prompt: index for index, prompt in enumerate(prompts)}
        made = [self._micro_batch(batch, [place[self.prompt_of(image)] for image in batch]) for batch in batches]
        return Inputs(number, attempt, batch_size, made, [self.ids_of(prompt) for prompt in prompts])

    def latents_of(self, image: StepImage) -> Latents:
        return (self.regularisation_latents if image.regularisation else self.latents)[image.index, image.flipped]

    def mask_of(self, image: StepImage) -> Tensor | None:
        """Weights of an image's loss [1, h, w]; all 1 for a regularisation image; None if masks are off."""
        if not self.masks:
            return None
        if image.regularisation:
            return torch.ones_like(self.latents_of(image).mean[:1])
        return self.masks[image.index, image.flipped]

    def prompt_of(self, image: StepImage) -> str:
        """The prompt of an image: its template, with its caption filled in."""
        scan = self.regularisation if image.regularisation else self.images
        assert scan is not None
        return fill(self.templates[image.template], scan.pictures[image.index].caption)

    def ids_of(self, prompt: str) -> list[Tensor]:
        """Token ids of a prompt for each text encoder, cached."""
        if prompt not in self._ids:
            self._ids[prompt] = [ids.to(self.text.device) for ids in self.text.ids([prompt])]
        return self._ids[prompt]

    def _micro_batch(self, batch: list[StepImage], prompts: list[int]) -> MicroBatch:
        posteriors = [self.latents_of(image) for image in batch]
        drawn = [
            draw(image.seed, tuple(one.mean.shape), self.noise_offset)
            for image, one in zip(batch, posteriors, strict=True)
        ]
        units = self._send(torch.stack([one.latent for one in drawn]))
        masks = [self.mask_of(image) for image in batch]
        return MicroBatch(
            latents=torch.stack([one.draw(unit) for one, unit in zip(posteriors, units, strict=True)]),
            noise=self._send(torch.stack([one.noise for one in drawn])),
            timesteps=self._send(torch.tensor([image.timestep for image in batch])),
            weights=self._send(torch.tensor([image.weight for image in batch])),
            prompts=self._send(torch.tensor(prompts)),
            masks=None if masks[0] is None else torch.stack([mask for mask in masks if mask is not None]),
            sizes=[(one.size[0] * self.scale, one.size[1] * self.scale) for one in posteriors],
        )

    def _send(self, tensor: Tensor) -> Tensor:
        """Copy `tensor` to the device without waiting for the work that is queued there."""
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)
