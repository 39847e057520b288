"""The learned rows, spliced into a frozen token table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def set_rows(rows: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Overwrite the learned rows of each text encoder with `values`."""
    for row, value in zip(rows, values, strict=True):
        row.copy_(value)


class PlaceholderEmbedding(nn.Module):
    """Replaces a text encoder's token embedding: ids from the vocabulary's size on are the learned rows.

    table: the frozen embedding [vocabulary, width], any dtype; it is neither copied nor changed.
    rows:  the learned vectors [n, width], float32; the only parameter with a gradient.

    Only the rows have a gradient and optimizer state. Every other trainer except A1111 and OneTrainer gives both to
    the whole table (0.9-1.1 GiB for SD 1).
    """

    def __init__(self, table: nn.Embedding, rows: nn.Parameter) -> None:
        super().__init__()
        if rows.ndim != 2 or rows.shape[1] != table.embedding_dim or rows.dtype != torch.float32:
            raise ValueError(f"rows must be float32 [n, {table.embedding_dim}], not {rows.dtype} {tuple(rows.shape)}")
        self.table = table.requires_grad_(False)
        self.rows = rows

    @property
    def weight(self) -> Tensor:
        """The frozen table, under the name that libraries expect."""
        return self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Embed ids [b, length] -> [b, length, width] in the table's dtype."""
        vocabulary = self.table.num_embeddings
        learned = ids >= vocabulary
        frozen = self.table(ids.masked_fill(learned, 0))
        spliced = self.rows[(ids - vocabulary).clamp_min(0)].to(frozen.dtype)
        return torch.where(learned.unsqueeze(-1), spliced, frozen)
