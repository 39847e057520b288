"""Which images a step uses, with which prompt, timestep and noise: a pure function of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from ti_tui.run.recipe import TrainingTable
from ti_tui.training.randomness import numpy_stream, seed_for

LatentSize = tuple[int, int]


@dataclass(frozen=True)
class StepImage:
    """One image of a step, with everything that is drawn at random for it.

    index:    of the image in the training set, or in the regularisation set.
    template: index of the prompt template.
    timestep: 0..999.
    seed:     for this image's noise and latent draw.
    weight:   of its loss in the step's loss.
    """

    index: int
    template: int
    timestep: int
    seed: int
    flipped: bool
    regularisation: bool
    weight: float


class ImageOrder:
    """Chooses each step's images: all of them once per epoch (times their repeats), shuffled anew in every epoch.

    The choice depends on the step only: with an effective batch of E, step s has the images at places s*E to
    s*E + E - 1 of the endless sequence of epochs. So there is no position to save, and resuming is exact.
    """

    def __init__(
        self,
        *,
        repeats: Sequence[int],
        regularisation: int,
        templates: int,
        flip: bool,
        effective_batch: int,
        training: TrainingTable,
    ) -> None:
        self._items = [index for index, count in enumerate(repeats) for _ in range(count)]
        self._regularisation = regularisation
        self._templates = templates
        self._flip = flip
        self._effective_batch = effective_batch
        self._training = training
        # A cache for each instance, freed with it: a step usually needs two epochs at most.
        self._epoch = lru_cache(maxsize=4)(self._shuffled)

    def step(self, step: int, attempt: int = 0) -> list[StepImage]:
        """The images of optimizer step `step` (0-based). `attempt` > 0 draws different noise for the same images."""
        training, size = self._training, self._effective_batch
        choices = numpy_stream(training.seed, "samples", step, attempt)
        timesteps = self._timesteps(choices, size)
        images = []
        for position in range(size):
            images.append(
                StepImage(
                    index=self._at("train", self._items, step * size + position),
                    template=int(choices.integers(self._templates)),
                    timestep=int(timesteps[position]),
                    seed=seed_for(training.seed, "noise", step, position, attempt),
                    flipped=self._flip and bool(choices.integers(2)),
                    regularisation=False,
                    weight=1.0 / size,
                )
            )
        if self._regularisation and training.prior_loss_weight:
            images += self._regularising(step, attempt, size)
        return images

    def _regularising(self, step: int, attempt: int, size: int) -> list[StepImage]:
        choices = numpy_stream(self._training.seed, "regularisation", step, attempt)
        timesteps = self._timesteps(choices, size)
        items = list(range(self._regularisation))
        return [
            StepImage(
                index=self._at("regularisation order", items, step * size + position),
                template=int(choices.integers(self._templates)),
                timestep=int(timesteps[position]),
                seed=seed_for(self._training.seed, "regularisation noise", step, position, attempt),
                flipped=False,
                regularisation=True,
                weight=self._training.prior_loss_weight / size,
            )
            for position in range(size)
        ]

    def _timesteps(self, choices: np.random.Generator, size: int) -> np.ndarray:
        """`size` timesteps in [min, max). Stratified: one from each of `size` equal parts, in random order."""
        low, high = self._training.min_timestep, self._training.max_timestep
        if self._training.timesteps == "uniform":
            return choices.integers(low, high, size=size)
        parts = (choices.permutation(size) + choices.random(size)) / size
        return np.minimum(low + np.floor(parts * (high - low)), high - 1).astype(np.int64)

    def _at(self, name: str, items: list[int], place: int) -> int:
        epoch, position = divmod(place, len(items))
        return items[self._epoch(name, len(items), epoch)[position]]

    def _shuffled(self, name: str, count: int, epoch: int) -> np.ndarray:
        return numpy_stream(self._training.seed, f"{name} epoch", epoch).permutation(count)


_Item = TypeVar("_Item")


def micro_batches(images: Sequence[tuple[LatentSize, _Item]], batch_size: int) -> list[list[_Item]]:
    """Split images into micro-batches of at most `batch_size`, each with images of one size.

    Sizes come in order of first appearance; the micro-batches of one size differ by at most one image, the larger
    ones first.
    """
    batches: list[list[_Item]] = []
    for items in _by_size(images).values():
        parts = -(-len(items) // batch_size)
        batches += _evenly([item for _, item in items], parts)
    return batches


def share(images: Sequence[tuple[LatentSize, _Item]], process: int, processes: int) -> list[tuple[LatentSize, _Item]]:
    """The part of a step's images that one of several processes computes.

    Images are sorted by size before they are dealt out, so that each process gets about as many of each size.
    """
    in_order = [pair for items in _by_size(images).values() for pair in items]
    return in_order[process::processes]


def _by_size(images: Sequence[tuple[LatentSize, _Item]]) -> dict[LatentSize, list[tuple[LatentSize, _Item]]]:
    by_size: dict[LatentSize, list[tuple[LatentSize, _Item]]] = {}
    for size, item in images:
        by_size.setdefault(size, []).append((size, item))
    return by_size


def _evenly(items: list[_Item], parts: int) -> list[list[_Item]]:
    short, long = divmod(len(items), parts)
    cut, pieces = 0, []
    for part in range(parts):
        size = short + (part < long)
        pieces.append(items[cut : cut + size])
        cut += size
    return pieces
