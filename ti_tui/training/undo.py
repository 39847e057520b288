"""Undoes a step that spoiled the vectors, so that the next step's loss or gradient is not finite."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ti_tui.errors import TrainingError
from ti_tui.training import checkpoints
from ti_tui.training.checkpoint_writer import CheckpointWriter
from ti_tui.training.placeholder import set_rows
from ti_tui.training.session import Session

MAX_TRIES = 3
"""How often a step that is not finite is tried, each time with different noise."""


@dataclass(frozen=True)
class Snapshot:
    """The state before a step, to go back to if that step turns out to have spoiled the vectors."""

    step: int
    rows: list[Tensor]
    optimizer: dict[str, Any]


class Undo:
    """Remembers a session's state before its last step and can go back to it. `warn` is called for each undone step."""

    def __init__(self, session: Session, writer: CheckpointWriter, warn: Callable[[str], None]) -> None:
        self._session = session
        self._writer = writer
        self._warn = warn
        self._last: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """The session's state now."""
        return Snapshot(
            self._session.step,
            [row.detach().clone() for row in self._session.rows],
            copy.deepcopy(self._session.progress.optimizer.state_dict()),
        )

    def step_taken(self, before: Snapshot) -> None:
        """Note a step with finite numbers; `before` is the state before it."""
        progress = self._session.progress
        self._last = before
        if before.step > progress.failed_at:
            progress.tries = 0

    def undo_step(self, what: str, rate_at: Callable[[int], float]) -> None:
        """Go back to the last good rows for another try with different noise. Raises TrainingError after MAX_TRIES."""
        session, progress = self._session, self._session.progress
        progress.failed_at = max(progress.failed_at, progress.step)
        progress.tries += 1
        where = f"{what} is not a number at step {progress.step + 1}"
        rate = rate_at(max(progress.step - 1, 0))
        if self._last is not None:
            self._go_back(self._last)
            self._last = None
        elif progress.tries >= MAX_TRIES and self._go_back_a_checkpoint():
            self._warn(f"{where}, {MAX_TRIES} times in a row: went back to the checkpoint of step {session.step}")
            return
        if progress.tries >= MAX_TRIES:
            raise TrainingError(
                f"{where}, {MAX_TRIES} times in a row; the vectors are those of step {session.step}",
                remedy=f"Lower the learning rate (it was {rate:g}) or try precision fp32; "
                "then continue with `ti-tui train`.",
            )
        self._warn(f"{where}: went back to step {session.step}, and trying again with different noise")

    def _go_back(self, last: Snapshot) -> None:
        session, progress = self._session, self._session.progress
        set_rows(session.rows, last.rows)
        progress.optimizer.load_state_dict(last.optimizer)
        progress.step = last.step
        if session.evaluator is not None:
            session.evaluator.forget_from(last.step + 1)
        self._drop_later_checkpoints()

    def _drop_later_checkpoints(self) -> None:
        """Delete the checkpoints of undone steps, once the good state is on disk."""
        session = self._session
        spoiled = [saved for saved in session.checked.folder.checkpoints() if saved > session.step]
        if session.processes.is_main and spoiled:
            if session.step:
                self._writer.write()
            self._writer.drop_later()
        session.processes.wait()

    def _go_back_a_checkpoint(self) -> bool:
        """If the checkpoint that the run resumed from is itself spoiled: go back to the one before it, if any."""
        session, folder = self._session, self._session.checked.folder
        earlier = [saved for saved in folder.checkpoints() if saved < session.step]
        session.processes.wait()
        if not earlier:
            return False
        session.restore(checkpoints.load_state(folder, earlier[-1]))
        session.progress.tries, session.progress.failed_at = 0, -1
        session.processes.wait()
        if session.processes.is_main:
            self._writer.drop_later()
        session.processes.wait()
        return True
