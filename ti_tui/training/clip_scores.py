"""CLIP scores of samples: how similar they are to the training images, and how well they follow their prompt.

`ti-tui compare --clip` uses it through `compare`.
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

BATCH_SIZE = 8
"""Images or texts that go through the model together."""


class ImageJudge:
    """A CLIP model from a folder, on a device. It returns embeddings of norm 1, float32, on the CPU."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """Load it. Raises JudgeError if the folder is not a CLIP model, and torch's error if out of memory."""
        facts = check_judge(folder)
        self.device = torch.device(device)
        # Half precision changes a cosine by 0.0005; on a CPU it is slower.
        self._dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        with loading_errors(f"the CLIP model in {folder}", JudgeError, COPY_AGAIN):
            self._processor = _processor(facts)
            self._tokenizer = _tokenizer(facts)
            self._model = _model(facts, self._dtype).to(self.device)
        # Published configs have a wrong end-of-text id, with which the text is pooled at the highest id instead.
        self._model.text_model.eos_token_id = self._tokenizer.end
        self._vocabulary = int(self._model.config.text_config.vocab_size)
        if self._tokenizer.size > self._vocabulary:
            raise JudgeError(f"the tokenizer in {folder} has more tokens than the model", remedy=COPY_AGAIN)

    def scores(
        self, images: Sequence[Image.Image], prompts: Sequence[str], references: Sequence[Image.Image] | Tensor
    ) -> list[Scores]:
        """Scores of each image with its prompt, which must not contain the token: CLIP does not know that word.

        references: the training images, or their embeddings from `embed`.
        """
        seen = self.embed(images)
        known = references if isinstance(references, Tensor) else self.embed(references)
        likeness = seen @ known.mean(dim=0)
        worded = sorted({prompt for prompt in prompts if prompt.strip()})
        read = dict(zip(worded, self.read(worded), strict=True))
        return [
            Scores(float(like), float(image @ read[prompt]) if prompt in read else None)
            for like, image, prompt in zip(likeness, seen, prompts, strict=True)
        ]

    @torch.inference_mode()
    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Embeddings [n, width] of images of any size."""
        parts = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = [image.convert("RGB") for image in images[start : start + BATCH_SIZE]]
            pixels = self._processor(images=batch, return_tensors="pt")["pixel_values"]
            parts.append(self._model.get_image_features(pixel_values=pixels.to(self.device, self._dtype)).pooler_output)
        return _unit_vectors(parts, self._model.config.projection_dim)

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings [n, width] of texts; a text that is too long for the model is truncated."""
        parts = []
        for start in range(0, len(prompts), BATCH_SIZE):
            some = prompts[start : start + BATCH_SIZE]
            ids = [self._tokenizer.encode(prompt, 0, self._vocabulary).ids for prompt in some]
            # The end-of-text token does not attend to what follows it: no mask is needed.
            parts.append(self._model.get_text_features(torch.tensor(ids, device=self.device)).pooler_output)
        return _unit_vectors(parts, self._model.config.projection_dim)


def mutual_likeness(embeddings: Tensor) -> float | None:
    """Mean cosine between different embeddings [n, width]; None for a single one."""
    count = len(embeddings)
    if count < 2:
        return None
    every = float((embeddings @ embeddings.T).sum())
    return (every - count) / (count * (count - 1))


def _unit_vectors(parts: list[Tensor], width: int) -> Tensor:
    if not parts:
        return torch.zeros((0, width))
    return torch.nn.functional.normalize(torch.cat(parts).float().cpu(), dim=1)


def _processor(facts: JudgeModel) -> Any:
    # This one needs only Pillow and numpy: the other needs torchvision.
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
