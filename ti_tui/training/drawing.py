"""Drawing with a run's checkpoints: its model and its previewer, without pictures, latents or an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ti_tui.errors import UserError
from ti_tui.out_of_memory import is_out_of_memory
from ti_tui.run.plan import make_plan
from ti_tui.run.sample_prompts import parse_sample_prompt
from ti_tui.setup.check import Checked
from ti_tui.training.checkpoints import load_rows
from ti_tui.training.device import choose_device, free_memory, hardware_of, make_accelerator
from ti_tui.training.frozen_parts import frozen_parts, open_previewer
from ti_tui.training.models import ModelSource
from ti_tui.training.reporter import Reporter


class NoRoom(UserError):
    """A picture does not fit into memory, however it is drawn."""


class Drawer:
    """Draws what the run's own previewer would draw: same precision, same seeds. Nothing of the run is written."""

    def __init__(self, checked: Checked, wanted: str, stop_asked: Callable[[], bool]) -> None:
        """Load the model onto the device that `wanted` names, as in training.device. Raises UserError."""
        run, facts, folder = checked.run, checked.facts, checked.folder
        assert facts is not None
        self._folder = folder
        self.device = choose_device(make_accelerator(wanted), wanted)
        hardware = hardware_of(self.device)
        # The plan of an empty card: what the run chose, also while its trainer fills the card.
        plan = make_plan(run, facts, max(checked.images, 1), replace(hardware, free_bytes=hardware.total_bytes))
        vae = folder.path(run.model.vae) if run.model.vae else None
        source = ModelSource(facts, vae, checked.tokenizers[0].end)
        self._text, unet = frozen_parts(checked, source, plan, self.device, Reporter(folder, main=False))
        self._start = [row.detach().clone() for row in self._text.rows]
        self._previewer = open_previewer(
            checked, source, plan, self._text, unet, source.ask_prediction(unet), stop_asked
        )

    def take(self, step: int) -> None:
        """Draw with the vectors of the checkpoint at `step` from now on; 0: with those that the run started from.

        Raises CheckpointError if it is gone or damaged.
        """
        rows: list[Tensor] = self._start if step == 0 else load_rows(self._folder, step)
        with torch.no_grad():
            for row, new in zip(self._text.rows, rows, strict=True):
                row.copy_(new)

    def draw(self, prompt: str, path: Path, step: int) -> bool:
        """Draw a prompt's line into `path`; False if a stop was asked before. Raises NoRoom or CannotWrite."""
        parsed = parse_sample_prompt(prompt)
        for _ in range(2):
            try:
                return self._previewer.draw_one(parsed, path, step)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the block above: the error holds on to what did not fit.
            free_memory(self.device)
            self._previewer.spare_memory()
        raise NoRoom(
            "the picture does not fit into memory",
            remedy="Name a smaller --w and --h in the prompt, end what else uses the card, or give --device cpu.",
        )
