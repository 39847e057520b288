"""The text side: prompts to what the U-Net attends to, with the learned rows in the place of the token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ti_tui.dataset.templates import name_token
from ti_tui.dataset.tokens import PromptTokenizer
from ti_tui.run.memory import TEXT_CHUNK, Way, keeps_text
from ti_tui.run.recipe import Family
from ti_tui.training.placeholder import PlaceholderEmbedding


@dataclass(frozen=True)
class Context:
    """What the U-Net gets of a prompt: hidden [b, 77, width], and for SDXL the pooled text [b, width]."""

    hidden: Tensor
    pooled: Tensor | None = None

    def detached(self, device: torch.device) -> Context:
        """The same numbers as leaves in float32 on the U-Net's device: gradients gather there over micro-batches."""
        pooled = None if self.pooled is None else self.pooled.detach().to(device, torch.float32).requires_grad_()
        return Context(self.hidden.detach().to(device, torch.float32).requires_grad_(), pooled)

    def rows(self, index: Tensor) -> Context:
        return Context(self.hidden[index], None if self.pooled is None else self.pooled[index])


class TextSide:
    """The frozen text encoder(s) of a model with the learned rows spliced in.

    rows: for each encoder the learned vectors [n, width], float32.
    """

    def __init__(
        self,
        encoders: Sequence[Any],
        tokenizers: Sequence[PromptTokenizer],
        rows: Sequence[nn.Parameter],
        *,
        family: Family,
        token: str,
        clip_skip: int,
    ) -> None:
        self.encoders = list(encoders)
        self.rows = list(rows)
        self._tokenizers = list(tokenizers)
        self._family = family
        self._token = token
        self._clip_skip = clip_skip
        self._vocabulary = [encoder.get_input_embeddings().num_embeddings for encoder in encoders]
        for encoder, row in zip(self.encoders, self.rows, strict=True):
            encoder.set_input_embeddings(PlaceholderEmbedding(encoder.get_input_embeddings(), row))

    @property
    def device(self) -> torch.device:
        return self.rows[0].device

    def ids(self, prompts: Sequence[str]) -> list[Tensor]:
        """Ids [b, 77] of prompts for each encoder; [name], or the token as a word, becomes the learned rows."""
        named = [name_token(prompt, self._token) for prompt in prompts]
        count = self.rows[0].shape[0]
        return [
            torch.tensor([tokenizer.encode(prompt, count, vocabulary).ids for prompt in named])
            for tokenizer, vocabulary in zip(self._tokenizers, self._vocabulary, strict=True)
        ]

    def encode(self, ids: Sequence[Tensor]) -> Context:
        """Run the encoder(s) on ids [b, 77] each."""
        ids = [one.to(self.device) for one in ids]
        if self._family == "sdxl":
            first = self.encoders[0](ids[0], output_hidden_states=True)
            second = self.encoders[1](ids[1], output_hidden_states=True)
            # SDXL reads the layer before the last of both, without the final norm (its paper's code).
            hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
            return Context(hidden, second.text_embeds)
        if self._clip_skip == 1:
            return Context(self.encoders[0](ids[0]).last_hidden_state)
        output = self.encoders[0](ids[0], output_hidden_states=True)
        return Context(_final_norm(self.encoders[0])(output.hidden_states[-self._clip_skip]))


class TextGradients:
    """Each prompt of a step encoded once: gradients gather on `context`, one backward carries them to the rows.

    Where the plan has the memory the graph is kept. Otherwise prompts are encoded without it first and again, chunk
    by chunk, for the backward: one more text forward (1 % of a step) instead of the memory of all.

    ids:    for each prompt, its ids [1, 77] for each encoder.
    device: the U-Net's; the encoder(s) may be on another.
    """

    def __init__(self, text: TextSide, ids: Sequence[list[Tensor]], way: Way, device: torch.device) -> None:
        self._text = text
        chunk = max(way.batch_size, TEXT_CHUNK)
        self._chunks = [ids[start : start + chunk] for start in range(0, len(ids), chunk)]
        self._kept: Context | None = None
        if keeps_text(len(ids), way):
            self._kept = self._encode(ids)
            self.context = self._kept.detached(device)
        else:
            with torch.no_grad():
                self.context = _joined([self._encode(part) for part in self._chunks]).detached(device)

    def backward(self) -> None:
        """Carry the gathered gradients on to the rows."""
        start = 0
        for part in self._chunks:
            context = self._kept or self._encode(part)
            end = start + len(part)
            outputs, gradients = [], []
            pairs = ((context.hidden, self.context.hidden), (context.pooled, self.context.pooled))
            for output, leaf in pairs:
                if output is not None and leaf is not None and leaf.grad is not None:
                    outputs.append(output)
                    gradients.append(leaf.grad[start:end].to(output.device, output.dtype))
            if outputs:
                torch.autograd.backward(outputs, gradients)
            start = end

    def _encode(self, part: Sequence[list[Tensor]]) -> Context:
        return self._text.encode([torch.cat([ids[index] for ids in part]) for index in range(len(self._text.rows))])


def _joined(parts: Sequence[Context]) -> Context:
    if not parts:
        return Context(torch.zeros(0))
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Context(torch.cat([part.hidden for part in parts]), torch.cat(pooled) if pooled else None)


def spread(words: Tensor, count: int) -> Tensor:
    """Spread the embeddings [k, width] of k words over `count` vectors as A1111 does: vector i gets word i*k//count."""
    index = torch.arange(count) * words.shape[0] // count
    return words[index]


def initial_rows(table: Tensor, ids: Sequence[int], count: int, generator: torch.Generator) -> Tensor:
    """Start vectors [count, width] float32: of the words `ids`, or random like the table's own where there are none."""
    if ids:
        return spread(table[torch.tensor(list(ids), device=table.device)].float().cpu(), count).clone()
    sample = table.float().cpu()
    return sample.mean(dim=0) + sample.std(dim=0) * torch.randn((count, table.shape[1]), generator=generator)


def _final_norm(encoder: Any) -> nn.Module:
    return encoder.final_layer_norm if hasattr(encoder, "final_layer_norm") else encoder.text_model.final_layer_norm
