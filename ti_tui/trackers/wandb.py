"""Writes a run for Weights & Biases, offline, below RUN/log/wandb; `wandb sync` uploads it."""

from __future__ import annotations

import io
import os
from typing import Any

from PIL import Image

from ti_tui.errors import UserError
from ti_tui.run.events import Event, step_of
from ti_tui.run.folder import RunFolder
from ti_tui.trackers.values import images_of, scalars_of, texts_of


class WeightsAndBiases:
    """A tracker that writes an offline run. Nothing leaves this machine. Raises UserError if the package is missing."""

    name = "wandb"

    def __init__(self, folder: RunFolder) -> None:
        os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
        try:
            import wandb
        except ImportError:
            raise UserError(
                "the package wandb is not installed", remedy="Install it with `pip install wandb`."
            ) from None
        self._wandb: Any = wandb
        self._folder = folder
        place = folder.events.parent
        self._run: Any = wandb.init(project="ti_tui", name=folder.name, dir=str(place), mode="offline")
        self._last = 0

    def back_to(self, step: int) -> None:
        # Steps only grow there: those that are taken again are passed over.
        pass

    def add(self, event: Event) -> None:
        step = step_of(event) or self._last
        if step < self._last:
            return
        values: dict[str, Any] = {**scalars_of(event), **texts_of(event)}
        for tag, content, _size in images_of(self._folder, event):
            values[tag] = self._wandb.Image(Image.open(io.BytesIO(content)))
        if values:
            self._run.log(values, step=step)
            self._last = step

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._run.finish()
