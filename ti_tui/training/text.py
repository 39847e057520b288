"""The text encoder(s): from prompts to what the U-Net attends to, with the learned rows in place of the token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ti_tui.dataset.templates import name_token
from ti_tui.dataset.tokens import PromptTokenizer
from ti_tui.run.memory import TEXT_CHUNK, ComputeMode, keeps_text
from ti_tui.run.recipe import Family
from ti_tui.training.placeholder import PlaceholderEmbedding

Start = Literal["words", "mean", "cross"]


@dataclass(frozen=True)
class Context:
    """What the U-Net gets from the text encoder(s): hidden [b, 77, width], and for SDXL the pooled text [b, width]."""

    hidden: Tensor
    pooled: Tensor | None = None

    def detached(self, device: torch.device) -> Context:
        """The same values as float32 leaves on the U-Net's device, which accumulate the micro-batches' gradients."""
        pooled = None if self.pooled is None else self.pooled.detach().to(device, torch.float32).requires_grad_()
        return Context(self.hidden.detach().to(device, torch.float32).requires_grad_(), pooled)

    def rows(self, index: Tensor) -> Context:
        return Context(self.hidden[index], None if self.pooled is None else self.pooled[index])

    @staticmethod
    def joined(parts: Sequence[Context]) -> Context:
        """Several contexts as one batch, in order."""
        if not parts:
            return Context(torch.zeros(0))
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Context(torch.cat([part.hidden for part in parts]), torch.cat(pooled) if pooled else None)


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
        """Token ids [b, 77] of prompts for each encoder; [name], or the token as a word, becomes the learned rows."""
        named = [name_token(prompt, self._token) for prompt in prompts]
        count = self.rows[0].shape[0]
        return [
            torch.tensor([tokenizer.encode(prompt, count, vocabulary).ids for prompt in named])
            for tokenizer, vocabulary in zip(self._tokenizers, self._vocabulary, strict=True)
        ]

    def encode(self, ids: Sequence[Tensor]) -> Context:
        """Run the encoder(s) on ids [b, 77] each."""
        read = [
            _read(encoder, one.to(self.device), self._family, self._clip_skip)
            for encoder, one in zip(self.encoders, ids, strict=True)
        ]
        if self._family == "sdxl":
            return Context(torch.cat([hidden for hidden, _ in read], dim=-1), read[1][1].text_embeds)
        return Context(read[0][0])


class TextGradients:
    """Encodes each prompt of a step once: gradients accumulate on `context`, and one backward carries them to the rows.

    If memory allows, the text encoder's graph is kept. Otherwise prompts are encoded without a graph first, and again,
    chunk by chunk, for the backward: one more text forward (1 % of a step) instead of the memory for all prompts.

    ids:    for each prompt, its token ids [1, 77] for each encoder.
    device: the U-Net's; the encoder(s) may be on another one.
    """

    def __init__(self, text: TextSide, ids: Sequence[list[Tensor]], mode: ComputeMode, device: torch.device) -> None:
        self._text = text
        chunk = max(mode.batch_size, TEXT_CHUNK)
        self._chunks = [ids[start : start + chunk] for start in range(0, len(ids), chunk)]
        self._kept: Context | None = None
        if keeps_text(len(ids), mode):
            self._kept = self._encode(ids)
            self.context = self._kept.detached(device)
        else:
            with torch.no_grad():
                self.context = Context.joined([self._encode(part) for part in self._chunks]).detached(device)

    def backward(self) -> None:
        """Backpropagate the accumulated gradients to the rows."""
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


def spread(words: Tensor, count: int) -> Tensor:
    """Spread the embeddings [k, width] of k words over `count` vectors as A1111 does: vector i gets word i*k//count."""
    index = torch.arange(count) * words.shape[0] // count
    return words[index]


def random_rows(encoder: Any, count: int, generator: torch.Generator) -> Tensor:
    """Random initial vectors [count, width] float32, distributed like the rows of the encoder's token table."""
    table = encoder.get_input_embeddings().weight.detach().float().cpu()
    return table.mean(dim=0) + table.std(dim=0) * torch.randn((count, table.shape[1]), generator=generator)


def rows_of_words(
    encoder: Any,
    tokenizer: PromptTokenizer,
    ids: Sequence[int],
    start: Start,
    *,
    family: Family,
    clip_skip: int,
) -> Tensor:
    """Rows [k, width] float32 for the initial words `ids` (at least one), to be spread over the vectors.

    start is embedding.start:
    words: the row of each word in the encoder's token table.
    mean:  one row, the mean of those.
    cross: the encoder's output for each word, in the layer that the U-Net reads, with the words as the whole prompt;
           its norm is kept (Cross Initialization, arXiv 2312.15905, and its authors' code).
    """
    if start == "cross":
        prompt = [tokenizer.start, *ids[: tokenizer.room], tokenizer.end]
        with torch.no_grad():
            # No padding is needed: each position attends only to those before it.
            hidden, _ = _read(encoder, torch.tensor([prompt], device=encoder.device), family, clip_skip)
        return hidden[0, 1:-1].float().cpu()
    table = encoder.get_input_embeddings().weight.detach()
    rows = table[torch.tensor(list(ids), device=table.device)].float().cpu()
    return rows.mean(dim=0, keepdim=True) if start == "mean" else rows


def _read(encoder: Any, ids: Tensor, family: Family, clip_skip: int) -> tuple[Tensor, Any]:
    """(the layer of one encoder that the U-Net reads, [b, length, width]; the encoder's whole output) for `ids`."""
    output = encoder(ids, output_hidden_states=family == "sdxl" or clip_skip > 1)
    if family == "sdxl":
        # SDXL reads the last layer but one of both encoders, without the final norm (its paper's code).
        return output.hidden_states[-2], output
    if clip_skip == 1:
        return output.last_hidden_state, output
    return _final_norm(encoder)(output.hidden_states[-clip_skip]), output


def _final_norm(encoder: Any) -> nn.Module:
    return encoder.final_layer_norm if hasattr(encoder, "final_layer_norm") else encoder.text_model.final_layer_norm
