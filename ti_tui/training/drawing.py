"""Draws samples with a run's checkpoints, without loading its images, latents or optimizer. `compare` uses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ti_tui.errors import UserError
from ti_tui.out_of_memory import is_out_of_memory
from ti_tui.run.plan import make_plan
from ti_tui.run.sample_prompts import parse_sample_prompt
from ti_tui.setup.check import Checked
from ti_tui.training.checkpoints import load_rows
from ti_tui.training.device import choose_device, free_memory, hardware_of, make_accelerator
from ti_tui.training.models import ModelSource
from ti_tui.training.networks import load_networks, make_renderer
from ti_tui.training.placeholder import set_rows
from ti_tui.training.reporter import Reporter


class NoRoom(UserError):
    """A sample does not fit into memory, even in the mode that needs least."""


class Drawer:
    """Draws what the run's trainer would draw, with the same precision and seeds. Writes nothing into the run."""

    def __init__(self, checked: Checked, wanted: str, stop_requested: Callable[[], bool]) -> None:
        """Load the model onto the device `wanted`, in the notation of training.device. Raises UserError."""
        run, facts, folder = checked.run, checked.facts, checked.folder
        assert facts is not None
        self._folder = folder
        self.device = choose_device(make_accelerator(wanted), wanted)
        hardware = hardware_of(self.device)
        # Plan for an empty card: the same choices as the run's, even while its trainer fills the card.
        plan = make_plan(run, facts, max(checked.images, 1), replace(hardware, free_bytes=hardware.total_bytes))
        vae = folder.path(run.model.vae) if run.model.vae else None
        source = ModelSource(facts, vae, checked.tokenizers[0].end)
        self._text, unet = load_networks(checked, source, plan, self.device, Reporter(folder, main=False))
        self._initial = [row.detach().clone() for row in self._text.rows]
        self._renderer = make_renderer(
            checked, source, plan, self._text, unet, source.ask_prediction(unet), stop_requested
        )

    def use_checkpoint(self, step: int) -> None:
        """Draw with the vectors of the checkpoint at `step` from now on; 0: the initial vectors.

        Raises CheckpointError if the checkpoint is gone or damaged.
        """
        set_rows(self._text.rows, self._initial if step == 0 else load_rows(self._folder, step))

    def draw(self, prompt: str, path: Path, step: int) -> bool:
        """Draw a sample prompt into `path`; False if a stop was requested first. Raises NoRoom or CannotWrite."""
        parsed = parse_sample_prompt(prompt)
        for _ in range(2):
            try:
                return self._renderer.draw_one(parsed, path, step)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except block, where the error no longer keeps the tensors alive.
            free_memory(self.device)
            self._renderer.use_less_memory()
        raise NoRoom(
            "the sample does not fit into memory",
            remedy="Set a smaller --w and --h in the prompt, close other programs on the card, or use --device cpu.",
        )
