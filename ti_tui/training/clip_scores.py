"""Judging pictures with a CLIP model: how alike they are to the training pictures, and how well they follow a prompt.

`ti-tui compare --clip` uses it, and whoever wants to rank checkpoints by what they draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ti_tui.dataset.tokens import PromptTokenizer, TokenizerError
from ti_tui.jobs.clip_model import JudgeError, JudgeModel, Scores, check_judge
from ti_tui.pretrained import load_pretrained, loading_errors, quiet_transformers
from ti_tui.run.model_folder import COPY_AGAIN

AT_ONCE = 8
"""Pictures that go through the model together."""


class ImageJudge:
    """A CLIP model from a folder, on a device. Embeddings come out in float32 on the CPU, each of length 1."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """Load it. Raises JudgeError for a folder that is no CLIP model, and the device's own error without memory."""
        facts = check_judge(folder)
        self.device = torch.device(device)
        # Half precision moves a cosine by 0.0005; a CPU is slower with it.
        self._dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        with loading_errors(f"the CLIP model in {folder}", JudgeError, COPY_AGAIN):
            self._processor = _processor(facts)
            self._tokenizer = _tokenizer(facts)
            self._model = _model(facts, self._dtype).to(self.device)
        # Published configs name a wrong end mark, with which the text is read at the highest id instead.
        self._model.text_model.eos_token_id = self._tokenizer.end
        self._vocabulary = int(self._model.config.text_config.vocab_size)
        if self._tokenizer.size > self._vocabulary:
            raise JudgeError(f"the tokenizer in {folder} has more words than the model knows", remedy=COPY_AGAIN)

    def scores(
        self, images: Sequence[Image.Image], prompts: Sequence[str], references: Sequence[Image.Image] | Tensor
    ) -> list[Scores]:
        """Scores of each picture with its prompt, which is without the token: CLIP does not know that word.

        references: the training pictures, or what `embed` made of them.
        """
        seen = self.embed(images)
        known = references if isinstance(references, Tensor) else self.embed(references)
        likeness = seen @ known.mean(dim=0)
        worded = sorted({prompt for prompt in prompts if prompt.strip()})
        read = dict(zip(worded, self.read(worded), strict=True))
        return [
            Scores(float(like), float(picture @ read[prompt]) if prompt in read else None)
            for like, picture, prompt in zip(likeness, seen, prompts, strict=True)
        ]

    @torch.inference_mode()
    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Embeddings [n, width] of RGB pictures of any size."""
        parts = []
        for start in range(0, len(images), AT_ONCE):
            together = [image.convert("RGB") for image in images[start : start + AT_ONCE]]
            pixels = self._processor(images=together, return_tensors="pt")["pixel_values"]
            parts.append(self._model.get_image_features(pixel_values=pixels.to(self.device, self._dtype)).pooler_output)
        return _of_length_1(parts, self._model.config.projection_dim)

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings [n, width] of texts; what is longer than the model reads is cut."""
        parts = []
        for start in range(0, len(prompts), AT_ONCE):
            some = prompts[start : start + AT_ONCE]
            ids = [self._tokenizer.encode(prompt, 0, self._vocabulary).ids for prompt in some]
            # What stands behind the end mark is not seen by it: no mask is needed.
            parts.append(self._model.get_text_features(torch.tensor(ids, device=self.device)).pooler_output)
        return _of_length_1(parts, self._model.config.projection_dim)


def among_themselves(embeddings: Tensor) -> float | None:
    """Mean cosine of different pictures [n, width] with each other: the likeness that real ones have. None for one."""
    count = len(embeddings)
    if count < 2:
        return None
    every = float((embeddings @ embeddings.T).sum())
    return (every - count) / (count * (count - 1))


def _of_length_1(parts: list[Tensor], width: int) -> Tensor:
    if not parts:
        return torch.zeros((0, width))
    return torch.nn.functional.normalize(torch.cat(parts).float().cpu(), dim=1)


def _processor(facts: JudgeModel) -> Any:
    # The one that needs Pillow and numpy only: the other needs torchvision.
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil.from_pretrained(facts.path, local_files_only=True)


def _tokenizer(facts: JudgeModel) -> PromptTokenizer:
    try:
        return PromptTokenizer.from_folder(facts.path, length=facts.positions)
    except TokenizerError as error:
        raise JudgeError(error.message, remedy=error.remedy) from None


def _model(facts: JudgeModel, dtype: torch.dtype) -> Any:
    quiet_transformers()
    model, missing = load_pretrained("CLIPModel", facts.path, dtype, safetensors=facts.safetensors)
    if missing:
        raise JudgeError(
            f"the weights in {facts.path} lack {len(missing)} tensors ({missing[0]}, ...)", remedy=COPY_AGAIN
        )
    return model.requires_grad_(False)
