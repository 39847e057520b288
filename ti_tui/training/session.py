"""A run in training: its model, its data and its progress. `opening.open_session` makes one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ti_tui.embeddings.files import RUN_ID, Embedding
from ti_tui.run.plan import Plan
from ti_tui.run.recipe import SchemeTable
from ti_tui.run.verdicts import RUNAWAY, VerdictName
from ti_tui.setup.check import Checked
from ti_tui.training.checkpoints import CheckpointState
from ti_tui.training.data import Data
from ti_tui.training.evaluation import Evaluator
from ti_tui.training.norms import Norms
from ti_tui.training.objective import NoiseSchedule
from ti_tui.training.optimizers import LossScale, restore_optimizer
from ti_tui.training.placeholder import set_rows
from ti_tui.training.processes import Processes
from ti_tui.training.sample_images import SampleRenderer, conditions_for
from ti_tui.training.text import Context, TextSide


@dataclass
class Model:
    """The frozen networks on their device, with the learned rows spliced into the text encoder(s).

    channels_last: whether the U-Net uses torch's channels_last memory format.
    """

    unet: Any
    text: TextSide
    schedule: NoiseSchedule
    norms: Norms
    device: torch.device
    channels_last: bool = False

    @property
    def rows(self) -> list[nn.Parameter]:
        """The learned vectors of each text encoder [n, width], float32."""
        return self.text.rows

    def predict(self, noisy: Tensor, timesteps: Tensor, context: Context, sizes: list[tuple[int, int]]) -> Tensor:
        """The U-Net's prediction for noisy latents [b, 4, h, w]; sizes: (width, height) of each image in pixels."""
        noisy = noisy.to(self.unet.dtype)
        if self.channels_last:
            noisy = noisy.contiguous(memory_format=torch.channels_last)
        prediction: Tensor = self.unet(noisy, timesteps, **conditions_for(context, sizes, self.unet)).sample
        return prediction


@dataclass
class Progress:
    """How far a run is, and what its next step needs besides the rows.

    step:      optimizer steps done.
    loss:      train loss of the last step.
    tries:     how often in a row a step was not finite.
    failed_at: the last step that was not finite.
    """

    optimizer: torch.optim.Optimizer
    loss_scale: LossScale
    step: int = 0
    loss: float | None = None
    tries: int = 0
    failed_at: int = -1

    @property
    def attempt(self) -> int:
        """The number of the next step's try (0: the first): a failed step is tried again with different noise."""
        return self.tries if self.step <= self.failed_at else 0


@dataclass
class Session:
    """Everything that a trainer or a probe works with.

    plan:      what every `auto` became; its scheme is replaced when the rates are changed.
    renderer:  draws the samples.
    evaluator: measures the eval loss; None if evaluations are off.
    recipe:    the settings that must be unchanged for a resumed run to be exact.
    metadata:  written into the embedding file.
    """

    checked: Checked
    plan: Plan
    processes: Processes
    model: Model
    data: Data
    progress: Progress
    renderer: SampleRenderer
    evaluator: Evaluator | None
    recipe: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[nn.Parameter]:
        return self.model.rows

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def diverged(self) -> bool:
        """Whether the vectors are useless: a norm that no useful vector has, or a verdict that says so."""
        verdict = self.evaluator.verdict if self.evaluator is not None else None
        if verdict is not None and verdict.name == VerdictName.DIVERGING:
            return True
        norms = [float(row.detach().norm(dim=1).max()) for row in self.rows]
        return any(norm > RUNAWAY * median for norm, median in zip(norms, self.model.norms.median_norms, strict=True))

    def embedding(self) -> Embedding:
        """The current vectors, with their metadata."""
        rows = [row.detach().float().cpu().numpy() for row in self.rows]
        metadata = {**self.metadata, "step": str(self.step)}
        return Embedding.from_rows(rows, token=self.checked.run.embedding.token, step=self.step, metadata=metadata)

    def state(self) -> CheckpointState:
        """The exact state after `step` steps."""
        progress = self.progress
        return CheckpointState(
            progress.step,
            [row.detach().cpu().clone() for row in self.rows],
            progress.optimizer.state_dict(),
            progress.loss_scale.state(),
            progress.loss,
            self.recipe,
            {"tries": progress.tries, "failed_at": progress.failed_at},
            {} if self.evaluator is None else self.evaluator.state(),
            self.metadata,
            SchemeTable.from_scheme(self.plan.scheme).model_dump(),
        )

    def restore(self, state: CheckpointState) -> bool:
        """Continue from `state`; returns whether the optimizer's moments could be restored.

        The learning rate in the optimizer's state is not used: the scheme sets it.
        """
        progress = self.progress
        set_rows(self.rows, state.rows)
        restored = restore_optimizer(progress.optimizer, state.optimizer)
        progress.loss_scale.restore(state.loss_scale)
        if self.evaluator is not None:
            self.evaluator.restore(state.evaluation)
        progress.step, progress.loss = state.step, state.loss
        # Settings may have changed since; it is the same run all the same.
        self.metadata[RUN_ID] = state.metadata.get(RUN_ID, self.metadata[RUN_ID])
        progress.tries, progress.failed_at = state.retry.get("tries", 0), state.retry.get("failed_at", -1)
        return restored
