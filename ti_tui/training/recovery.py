"""Passes through the U-Net in the way that fits: what a run does when memory runs out or a compiler fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from ti_tui.errors import TrainingError
from ti_tui.run.memory_fit import recompute_in_words, smaller
from ti_tui.training import step
from ti_tui.training.compute_mode import is_compiled, set_compute_mode, stop_compiling
from ti_tui.training.device import free_memory, is_out_of_memory
from ti_tui.training.session import Session
from ti_tui.training.step import PreparedStep

_Result = TypeVar("_Result")


class Passes:
    """Computes a session's steps. `way` is the plan's, until memory runs out; `warn` is told of every change."""

    def __init__(self, session: Session, warn: Callable[[str], None], stop_now: Callable[[], bool]) -> None:
        self.way = session.plan.way
        self._session = session
        self._warn = warn
        self._stop_now = stop_now
        self._ahead: PreparedStep | None = None

    def accumulate(self, attempt: int) -> Tensor | None:
        """Forward and backward of the session's next step: this process's share of the loss; None if it was stopped.

        Raises what the device raises when it has no memory left; `make_room` is the answer.
        """
        return self._uncompiled_if_need_be(lambda: self._accumulate(attempt))

    def prepare_next(self) -> None:
        """Make the step after this one ready while a card is still at work on this one; a CPU gains nothing by it."""
        if self._session.device.type == "cpu":
            return
        try:
            self._ahead = step.prepare(self._session, self._session.step + 1, 0, self.way.batch_size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise

    def make_room(self, shortage: str) -> None:
        """After out-of-memory: the next smaller way, which computes the same. Raises TrainingError if none is left."""
        unet, way = self._session.unet, smaller(self.way)
        self._ahead = None
        free_memory(self._session.device)
        if way is None:
            said = shortage.splitlines()[0] if shortage else "in another process of the run"
            raise TrainingError(
                f"out of memory with the smallest micro-batches: {said}",
                remedy='Set training.quantise = "8bit", lower dataset.resolution, or close other programs on the card; '
                "`ti-tui train` goes on.",
            )
        if way.batch_size < self.way.batch_size:
            how = f"{way.batch_size} images at once" if way.batch_size > 1 else "1 image at once"
        elif way.backward != self.way.backward:
            how = "layers keep only what the gradient needs"
        else:
            how = recompute_in_words(way)
        if is_compiled(unet):
            # What was compiled was compiled for the way before.
            stop_compiling(unet)
            how += ", not compiled"
        set_compute_mode(unet, way)
        self.way = way
        self._warn(f"out of memory: {how} from now on; the result is the same")

    def beside(self, work: Callable[[], _Result], *, spare: Callable[[], None] = lambda: None) -> _Result | None:
        """What `work`, which is no part of a step, gives; None if it does not fit into memory: it must not end the run.

        Tried a second time with what nothing uses given back, and after `spare`.
        """
        for _ in range(2):
            try:
                return self._uncompiled_if_need_be(work)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the block above: the error holds on to what did not fit.
            free_memory(self._session.device)
            spare()
        return None

    def _accumulate(self, attempt: int) -> Tensor | None:
        session, wanted = self._session, (self._session.step, attempt, self.way.batch_size)
        ahead, self._ahead = self._ahead, None
        if ahead is None or (ahead.number, ahead.attempt, ahead.batch_size) != wanted:
            ahead = step.prepare(session, *wanted)
        return step.accumulate(session, ahead, self.way, self._stop_now)

    def _uncompiled_if_need_be(self, work: Callable[[], _Result]) -> _Result:
        """What `work` gives; once more without the compiler where that may be what failed."""
        unet = self._session.unet
        try:
            return work()
        except Exception as error:
            if not is_compiled(unet) or is_out_of_memory(error):
                raise
            first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        stop_compiling(unet)
        self._warn(f"compiling failed, and the run goes on without it: {first}")
        return work()
