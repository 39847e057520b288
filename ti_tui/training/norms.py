"""Controls the norm of the vectors during training: the policies of `embedding.norm`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Policy = Literal["free", "match", "direction"]

KAPPA = 1e-4
"""Pull towards the initial direction under `direction`; the value of its paper."""


@dataclass(frozen=True)
class Norms:
    """Applies a norm policy to the rows of each text encoder.

    free:      does nothing.
    match:     rescales every vector to the vocabulary's median norm after each step (OneTrainer offers the same).
    direction: as `match`; it also removes the part of the gradient that would only change the norm, and adds a pull
               towards the vector's initial direction (Directional Textual Inversion, arXiv 2512.13672).

    median_norms:       the vocabulary's median norm for each encoder.
    initial_directions: [n, width] for each encoder.
    """

    policy: Policy
    median_norms: tuple[float, ...]
    initial_directions: tuple[Tensor, ...]

    @classmethod
    def of(cls, policy: Policy, tables: Sequence[Tensor], rows: Sequence[nn.Parameter]) -> Norms:
        """For token tables [vocabulary, width] and the initial vectors, which are rescaled at once."""
        median_norms = tuple(float(table.detach().float().norm(dim=1).median()) for table in tables)
        directions = tuple(_direction(row.detach().clone()) for row in rows)
        norms = cls(policy, median_norms, directions)
        norms.rescale(rows)
        return norms

    @torch.no_grad()
    def before_step(self, rows: Sequence[nn.Parameter]) -> None:
        """Under `direction`: project the gradients onto the sphere's tangent, with a pull to the initial direction."""
        if self.policy != "direction":
            return
        for row, initial in zip(rows, self.initial_directions, strict=True):
            assert row.grad is not None
            direction = _direction(row)
            pulled = row.grad - KAPPA * initial
            row.grad.copy_(pulled - (pulled * direction).sum(dim=1, keepdim=True) * direction)

    @torch.no_grad()
    def rescale(self, rows: Sequence[nn.Parameter]) -> None:
        """Rescale the rows to the median norm, unless the policy is `free`."""
        if self.policy == "free":
            return
        for row, norm in zip(rows, self.median_norms, strict=True):
            row.copy_(_direction(row) * norm)


def _direction(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
