"""Takes back a step that spoiled the vectors: the numbers of the step after it are not finite."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ti_tui.errors import TrainingError
from ti_tui.training import checkpoints
from ti_tui.training.saving import Saving
from ti_tui.training.session import Session

MAX_TRIES = 3
"""A step that gives no finite numbers is undone and tried so often, each time with other noise."""


@dataclass(frozen=True)
class Snapshot:
    """A run before a step: what to go back to when that step turns out to have spoiled the vectors."""

    step: int
    rows: list[Tensor]
    optimizer: dict[str, Any]


class Undo:
    """Remembers a session before its last step, and goes back there. `warn` is told of every step that is undone."""

    def __init__(self, session: Session, saving: Saving, warn: Callable[[str], None]) -> None:
        self._session = session
        self._saving = saving
        self._warn = warn
        self._last: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """The session as it is now."""
        return Snapshot(
            self._session.step,
            [row.detach().clone() for row in self._session.rows],
            copy.deepcopy(self._session.progress.optimizer.state_dict()),
        )

    def taken(self, before: Snapshot) -> None:
        """A step was taken, with finite numbers; `before` is from before it."""
        progress = self._session.progress
        self._last = before
        if before.step > progress.failed_at:
            progress.tries = 0

    def take_back(self, what: str, rate_at: Callable[[int], float]) -> None:
        """Go back to the last good rows, for another try with other noise. Raises TrainingError if it repeats."""
        session, progress = self._session, self._session.progress
        progress.failed_at = max(progress.failed_at, progress.step)
        progress.tries += 1
        where = f"{what} is not a number at step {progress.step + 1}"
        rate = rate_at(max(progress.step - 1, 0))
        if self._last is not None:
            self._go_back(self._last)
            self._last = None
        elif progress.tries >= MAX_TRIES and self._go_back_a_checkpoint():
            self._warn(f"{where}, {MAX_TRIES} times over: back at the checkpoint of step {session.step}")
            return
        if progress.tries >= MAX_TRIES:
            raise TrainingError(
                f"{where}, {MAX_TRIES} times over; the vectors are those of step {session.step}",
                remedy=f"Lower the learning rate (it was {rate:g}) or try precision fp32; `ti-tui train` goes on.",
            )
        self._warn(f"{where}: undone, back at step {session.step}, tried again with other noise")

    def _go_back(self, last: Snapshot) -> None:
        session, progress = self._session, self._session.progress
        with torch.no_grad():
            for row, good in zip(session.rows, last.rows, strict=True):
                row.copy_(good)
        progress.optimizer.load_state_dict(last.optimizer)
        progress.step = last.step
        if session.evaluator is not None:
            session.evaluator.forget_from(last.step + 1)
        self._drop_later_checkpoints()

    def _drop_later_checkpoints(self) -> None:
        """Drop checkpoints of what was undone, once the good state is on disk."""
        session = self._session
        spoiled = [saved for saved in session.checked.folder.checkpoints() if saved > session.step]
        if session.processes.is_main and spoiled:
            if session.step:
                self._saving.write()
            self._saving.drop_later()
        session.processes.wait()

    def _go_back_a_checkpoint(self) -> bool:
        """Where the checkpoint that a run resumed from is itself spoiled: take the one before it, if there is one."""
        session, folder = self._session, self._session.checked.folder
        earlier = [saved for saved in folder.checkpoints() if saved < session.step]
        session.processes.wait()
        if not earlier:
            return False
        session.restore(checkpoints.load_state(folder, earlier[-1]))
        session.progress.tries, session.progress.failed_at = 0, -1
        session.processes.wait()
        if session.processes.is_main:
            self._saving.drop_later()
        session.processes.wait()
        return True
