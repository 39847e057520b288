"""What is done about the length of the vectors while they are learned: the policies of `embedding.norm`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Policy = Literal["free", "match", "direction"]

KAPPA = 1e-4
"""Pull towards the start's direction under `direction`; the value of its paper."""


@dataclass(frozen=True)
class Norms:
    """Keeps the rows of each text encoder to a policy.

    free:      does nothing.
    match:     after each step every vector is rescaled to the vocabulary's median norm (OneTrainer offers the same).
    direction: moreover the gradient loses what would only change the length, and gains a pull towards the direction
               that the vector started with (Directional Textual Inversion, arXiv 2512.13672).

    lengths: the vocabulary's median norm for each encoder; starts: directions [n, width] of its start vectors.
    """

    policy: Policy
    lengths: tuple[float, ...]
    starts: tuple[Tensor, ...]

    @classmethod
    def of(cls, policy: Policy, tables: Sequence[Tensor], rows: Sequence[nn.Parameter]) -> Norms:
        """For token tables [vocabulary, width] and the start vectors; these get the policy's length at once."""
        lengths = tuple(float(table.detach().float().norm(dim=1).median()) for table in tables)
        starts = tuple(_direction(row.detach().clone()) for row in rows)
        norms = cls(policy, lengths, starts)
        norms.put_back(rows)
        return norms

    @torch.no_grad()
    def before_step(self, rows: Sequence[nn.Parameter]) -> None:
        """Bend the gradients of the rows onto the sphere."""
        if self.policy != "direction":
            return
        for row, start in zip(rows, self.starts, strict=True):
            assert row.grad is not None
            direction = _direction(row)
            pulled = row.grad - KAPPA * start
            row.grad.copy_(pulled - (pulled * direction).sum(dim=1, keepdim=True) * direction)

    @torch.no_grad()
    def put_back(self, rows: Sequence[nn.Parameter]) -> None:
        """Give the rows the policy's length."""
        if self.policy == "free":
            return
        for row, length in zip(rows, self.lengths, strict=True):
            row.copy_(_direction(row) * length)


def _direction(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
