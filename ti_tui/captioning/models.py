"""A loaded captioning model: images in, texts out; with smaller batches when memory runs out."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Sequence
from typing import Any, Literal

import psutil
import torch
import transformers
from PIL import Image

from ti_tui.captions.endpoint import CaptionerError
from ti_tui.captions.models import CaptionerModel, how_to_get
from ti_tui.jobs.captioning import Device
from ti_tui.out_of_memory import is_out_of_memory
from ti_tui.pretrained import load_pretrained, loading_errors, quiet_transformers
from ti_tui.run.hardware import find_hardware
from ti_tui.run.model_folder import COPY_AGAIN

MOST_TOKENS = 40
BEAMS = 3
CARD_BATCH = 4
"""Images in a batch on a card. On a CPU one: batches of four gain 8 % (BLIP base, measured), and report progress less
often."""
LARGE_PARAMETERS = 1_000_000_000
"""From this size on, a card takes one image at a time."""
LEAST_CARD_BYTES = 1_500_000_000
CONTEXT_BYTES = 800_000_000
"""CUDA's own context and what a small batch needs beside the weights."""
LOADED_TO_WEIGHTS = 1.15
LIBRARIES_BYTES = 500_000_000
"""On a CPU: 1.54 GB at most for BLIP base, whose weights are 0.9 GB in single precision (measured)."""


class Cancelled(Exception):
    """The job was cancelled within an image."""


class LoadedModel:
    """A model on its device. beams and batch shrink, and the device changes, when memory runs out."""

    def __init__(self, model: CaptionerModel, wanted: Device, say: Callable[[str], None]) -> None:
        """Load it. Raises CaptionerError."""
        self._facts = model
        self._say = say
        self.device = device_with_room(model, wanted, say)
        self.beams = BEAMS
        self.batch = CARD_BATCH if self.device == "cuda" and model.parameters < LARGE_PARAMETERS else 1
        quiet_transformers()
        try:
            self._processor = _processor(model)
            self._model = _weights(model, self._dtype)
            try:
                self._model.to(self.device)
            except Exception as error:
                if self.device == "cpu" or not is_out_of_memory(error):
                    raise
                self._model.to("cpu")
                say("the card's memory is too small for the captioner: it works on the CPU")
                self._to_cpu()
        except Exception as error:
            if is_out_of_memory(error):
                raise _no_memory(model) from None
            raise

    @property
    def place(self) -> str:
        """The device in words."""
        return "the CPU" if self.device == "cpu" else torch.cuda.get_device_name()

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float16 if self.device == "cuda" else torch.float32

    def captions(self, images: Sequence[Image.Image], first_words: str, cancelled: Callable[[], bool]) -> list[str]:
        """The model's unedited text for each RGB image, beginning with `first_words` if there are any.

        Raises Cancelled, or CaptionerError if no memory is left for the smallest step.
        """
        while True:
            try:
                texts: list[str] = []
                for start in range(0, len(images), self.batch):
                    texts += self._captions(images[start : start + self.batch], first_words, cancelled)
                return texts
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the except block: the error keeps its frames alive, and they the memory.
            self._shrink()

    def _captions(self, images: Sequence[Image.Image], first_words: str, cancelled: Callable[[], bool]) -> list[str]:
        def stop(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
            return torch.full((ids.shape[0],), cancelled(), dtype=torch.bool, device=ids.device)

        with torch.inference_mode():
            inputs = self._inputs(list(images), first_words)
            ids = self._model.generate(
                **inputs,
                max_new_tokens=MOST_TOKENS,
                num_beams=self.beams,
                do_sample=False,
                stopping_criteria=transformers.StoppingCriteriaList([stop]),
            )
        if cancelled():
            raise Cancelled
        texts = [str(text).strip() for text in self._processor.batch_decode(ids, skip_special_tokens=True)]
        return [_begun(text, first_words) for text in texts]

    def _inputs(self, images: list[Image.Image], first_words: str) -> Any:
        """What the model's `generate` takes, on its device."""
        count, kind = len(images), self._facts.model_type
        if kind == "florence2":
            inputs = self._processor(images=images, text=["<CAPTION>"] * count, return_tensors="pt")
            if first_words:
                text = self._model.config.text_config
                begin = [text.decoder_start_token_id, text.bos_token_id]
                inputs["decoder_input_ids"] = self._started(begin, first_words, count)
        elif kind == "git":
            inputs = self._processor(images=images, return_tensors="pt")
            if first_words:
                begin = [self._processor.tokenizer.cls_token_id]
                inputs["input_ids"] = self._started(begin, first_words, count)
        else:
            text = [first_words] * count if first_words else None
            inputs = self._processor(images=images, text=text, return_tensors="pt")
        return inputs.to(self.device, self._dtype)

    def _started(self, begin: list[int], first_words: str, count: int) -> torch.Tensor:
        words = self._processor.tokenizer(first_words, add_special_tokens=False).input_ids
        return torch.tensor([begin + words] * count)

    def _shrink(self) -> None:
        """Use less memory from now on. Raises CaptionerError if that is not possible."""
        if self.batch > 1:
            self.batch = 1
            self._say("memory ran out: the captioner takes one image at a time")
        elif self.beams > 1:
            self.beams = 1
            self._say("memory ran out: the captioner looks for one wording instead of the best of three")
        elif self.device == "cuda":
            self._say("the card's memory ran out: the captioner continues on the CPU")
            self._model.to("cpu")
            self._to_cpu()
        else:
            raise _no_memory(self._facts)
        _free_memory()

    def _to_cpu(self) -> None:
        if _cpu_bytes(self._facts) > psutil.virtual_memory().available:
            raise _no_memory(self._facts)
        self._model.float()
        self.device, self.beams, self.batch = "cpu", BEAMS, 1
        _free_memory()


def device_with_room(model: CaptionerModel, wanted: Device, say: Callable[[str], None]) -> Literal["cuda", "cpu"]:
    """Where the model is loaded: a card with room for it, else the CPU. Raises CaptionerError if neither has it."""
    if wanted != "cpu":
        card = find_hardware("auto")
        usable = card.kind == "cuda" and torch.cuda.is_available()
        if wanted == "cuda" and not usable:
            raise CaptionerError("there is no NVIDIA card that can be used", remedy="See `ti-tui doctor`, or use cpu.")
        needed = max(LEAST_CARD_BYTES, 2 * model.parameters + CONTEXT_BYTES)
        if usable and card.free_bytes >= needed:
            return "cuda"
        if usable:
            room = f"{card.name} has {card.free_bytes / 1e9:.1f} GB free, and the captioner needs {needed / 1e9:.1f} GB"
            if wanted == "cuda":
                raise CaptionerError(room, remedy="Close other programs that use the card, or use cpu.")
            say(f"{room}: it works on the CPU")
    if _cpu_bytes(model) > psutil.virtual_memory().available:
        raise _no_memory(model)
    return "cpu"


def _processor(model: CaptionerModel) -> Any:
    with _errors_in_words(model):
        # Without an explicit trust_remote_code transformers asks on the terminal. backend: no torchvision.
        return getattr(transformers, model.kind.processor_class).from_pretrained(
            model.path, local_files_only=True, trust_remote_code=False, backend="pil"
        )


def _weights(model: CaptionerModel, dtype: torch.dtype) -> Any:
    with _errors_in_words(model):
        loaded, lacking = load_pretrained(model.kind.model_class, model.path, dtype, safetensors=model.safetensors)
    # Biases and scales that old files leave out are made up harmlessly; a whole matrix is not.
    parameters = dict(loaded.named_parameters())
    missing = [name for name in lacking if name in parameters and parameters[name].dim() > 1]
    if missing:
        raise CaptionerError(
            f"the weights in {model.path} lack {len(missing)} tensors ({missing[0]}, ...)", remedy=COPY_AGAIN
        )
    return loaded


def _errors_in_words(model: CaptionerModel) -> contextlib.AbstractContextManager[None]:
    return loading_errors(
        f"the captioner in {model.path}",
        CaptionerError,
        "Copy the whole folder again: its files may be damaged, or of two models.",
    )


def _cpu_bytes(model: CaptionerModel) -> float:
    return LOADED_TO_WEIGHTS * 4 * model.parameters + LIBRARIES_BYTES


def _no_memory(model: CaptionerModel) -> CaptionerError:
    free = psutil.virtual_memory().available
    return CaptionerError(
        f"there is not enough memory for {model.describe()}: it needs about {_cpu_bytes(model) / 1e9:.1f} GB, "
        f"{free / 1e9:.1f} GB are free",
        remedy=f"Close other programs, or use a smaller one. {how_to_get()}",
    )


def _begun(text: str, first_words: str) -> str:
    """`text` with the first words in front: some models leave them out."""
    return text if text.lower().startswith(first_words.lower()) else f"{first_words} {text}"


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
