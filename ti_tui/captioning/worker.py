"""Does a job: reads its images, captions them and answers for each. One per process."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from ti_tui.captioning.models import Cancelled, LoadedModel
from ti_tui.captions.models import CaptionerModel
from ti_tui.dataset.crop import load_reduced
from ti_tui.dataset.picture_file import DatasetError
from ti_tui.errors import UserError
from ti_tui.jobs.captioning import Device

LONG_SIDE = 1024
"""Pixels that an image is reduced to before the captioner's own processor, which wants 224 to 768, gets it."""


class Worker:
    """A loaded captioner that answers the parent.

    answer:    `loaded` (device, seconds), `said` (text); of a job `captioned` (name, text, seconds), `failed` (name,
               reason) and at its end `finished` (cancelled).
    cancelled: whether the current job has been cancelled.
    """

    def __init__(
        self, model: CaptionerModel, device: Device, answer: Callable[..., None], cancelled: Callable[[], bool]
    ) -> None:
        began = time.monotonic()
        self._answer = answer
        self._cancelled = cancelled
        self._model = LoadedModel(model, device, lambda text: answer("said", text=text))
        answer("loaded", device=self._model.place, seconds=time.monotonic() - began)

    def run(self, job: int, files: Sequence[tuple[str, Path]], first_words: str) -> None:
        """Caption the images in turn. Raises CaptionerError if the captioner cannot continue at all."""
        left = list(files)
        while left and not self._cancelled():
            together = left[: self._model.batch]
            left = left[len(together) :]
            try:
                self._caption(job, together, first_words)
            except Cancelled:
                break
        self._answer("finished", job=job, cancelled=self._cancelled())

    def _caption(self, job: int, files: Sequence[tuple[str, Path]], first_words: str) -> None:
        began = time.monotonic()
        images: dict[str, Image.Image] = {}
        for name, path in files:
            try:
                images[name] = load_image(path)
            except DatasetError as error:
                self._answer("failed", job=job, name=name, reason=error.message)
        if not images:
            return
        try:
            texts = self._model.captions(list(images.values()), first_words, self._cancelled)
        except (Cancelled, UserError):
            raise
        except Exception as error:
            # The libraries raise all kinds of errors; the next image may work.
            traceback.print_exc()
            for name in images:
                self._answer("failed", job=job, name=name, reason=f"the captioner failed on it: {error}"[:300])
            return
        seconds = (time.monotonic() - began) / len(images)
        for name, text in zip(images, texts, strict=True):
            self._answer("captioned", job=job, name=name, text=text, seconds=seconds)


def load_image(path: Path) -> Image.Image:
    """The whole image, upright, RGB, at most LONG_SIDE pixels long. Raises DatasetError with the reason in words."""
    # A pipe or a device would block forever.
    if not path.is_file():
        raise DatasetError("is not a regular file" if path.exists() else "no longer exists")
    return load_reduced(path, LONG_SIDE)
