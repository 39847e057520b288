"""Handles what can go wrong in a step: out of memory, a failing compiler, numbers that are not finite.

It wraps `loop.train_step`. Nothing that it does changes what is learned or uses up a step of the scheme.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ti_tui.errors import TrainingError, first_line
from ti_tui.out_of_memory import is_out_of_memory
from ti_tui.run.memory_fit import recompute_in_words, smaller
from ti_tui.training.compute_mode import is_compiled, set_compute_mode, stop_compiling
from ti_tui.training.data import Inputs
from ti_tui.training.device import free_memory
from ti_tui.training.loop import NotFinite, StepResult, train_step
from ti_tui.training.session import Session
from ti_tui.training.undo import Undo

_Result = TypeVar("_Result")


class _OutOfMemoryElsewhere(Exception):
    """Another process of the run ran out of memory in this step."""


class Recovery:
    """Takes a session's steps and recovers from failures. `mode` is the plan's until memory runs out.

    warn: called for every change. undo: undoes a step that spoiled the vectors; without it NotFinite is raised.
    """

    def __init__(
        self,
        session: Session,
        warn: Callable[[str], None],
        stop_requested: Callable[[], bool],
        undo: Undo | None = None,
    ) -> None:
        self.mode = session.plan.mode
        self._session = session
        self._warn = warn
        self._stop_requested = stop_requested
        self._undo = undo
        self._ahead: Inputs | None = None
        self._complete = False

    def step(self, rate_at: Callable[[int], float]) -> StepResult | None:
        """Take one optimizer step at its rate; None if a stop was requested before the gradients were complete.

        After an fp16 overflow the loss scale is halved, after out of memory the micro-batches become smaller, after a
        compiler error the U-Net runs uncompiled, and after numbers that are not finite the step before is undone.
        Raises TrainingError.
        """
        session, progress = self._session, self._session.progress
        while True:
            self._complete = False
            before = self._undo.snapshot() if self._undo is not None else None
            number = progress.step
            try:
                taken = train_step(
                    session.model,
                    progress,
                    session.checked.run.training,
                    self._inputs(),
                    rate=rate_at(number),
                    mode=self.mode,
                    processes=session.processes,
                    stop_requested=self._stop_requested,
                    gradients_complete=self._gradients_complete,
                    while_computing=self._prepare_next,
                )
            except NotFinite as error:
                if not (error.overflow and progress.loss_scale.overflowed()):
                    if self._undo is None:
                        raise
                    self._undo.undo_step(error.what, rate_at)
                continue
            except Exception as error:
                if self._complete:
                    raise
                recover = self._recovery_from(error)
            else:
                if taken is not None and self._undo is not None and before is not None:
                    self._undo.step_taken(before)
                return taken
            # Outside the except block, where the error no longer keeps the step's tensors alive.
            recover()

    def extra(
        self, work: Callable[[], _Result], *, use_less_memory: Callable[[], None] = lambda: None
    ) -> _Result | None:
        """Run `work` that is not part of a step, such as samples; None if it does not fit into memory.

        If it does not fit, unused memory is freed, `use_less_memory` is called, and it is tried a second time.
        """
        for _ in range(2):
            try:
                return self._run_uncompiled_after_error(work)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            free_memory(self._session.model.device)
            use_less_memory()
        return None

    def _inputs(self) -> Inputs:
        """The inputs of the next step: those prepared ahead, if they still match."""
        progress = self._session.progress
        wanted = (progress.step, progress.attempt, self.mode.batch_size)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (ahead.number, ahead.attempt, ahead.batch_size) == wanted:
            return ahead
        return self._session.data.inputs(*wanted)

    def _prepare_next(self) -> None:
        """Prepare the next step while the GPU is still computing this one; on a CPU this gains nothing."""
        if self._session.model.device.type == "cpu":
            return
        try:
            self._ahead = self._session.data.inputs(self._session.step + 1, 0, self.mode.batch_size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise

    def _gradients_complete(self) -> None:
        """If any process ran out of memory, all of them retry the step; otherwise all go on to sum their gradients."""
        if self._session.processes.any(False):
            raise _OutOfMemoryElsewhere
        self._complete = True

    def _recovery_from(self, error: Exception) -> Callable[[], None]:
        """The action that recovers from `error`. Raises `error` if there is none."""
        # Keep only the text: the error itself would keep the step's tensors alive.
        first = first_line(error)
        if isinstance(error, _OutOfMemoryElsewhere):
            return lambda: self._make_room("in another process of the run")
        if is_out_of_memory(error):
            return lambda: self._make_room_together(first)
        if is_compiled(self._session.model.unet):
            return lambda: self._do_without_compiler(first)
        raise error

    def _make_room_together(self, reason: str) -> None:
        # The other processes wait for this in `_gradients_complete`.
        self._session.processes.any(True)
        self._make_room(reason)

    def _make_room(self, reason: str) -> None:
        """Change to the next smaller compute mode, with the same result. Raises TrainingError if there is none."""
        unet, mode = self._session.model.unet, smaller(self.mode)
        self._ahead = None
        free_memory(self._session.model.device)
        if mode is None:
            raise TrainingError(
                f"out of memory with the smallest micro-batches: {reason}",
                remedy='Set training.quantise = "8bit", lower dataset.resolution, or close other programs on the card; '
                "then continue with `ti-tui train`.",
            )
        if mode.batch_size < self.mode.batch_size:
            how = f"micro-batches of {mode.batch_size}"
        elif mode.backward != self.mode.backward:
            how = "lean backward"
        else:
            how = recompute_in_words(mode)
        if is_compiled(unet):
            # The compiled code was for the previous mode.
            stop_compiling(unet)
            how += ", not compiled"
        set_compute_mode(unet, mode)
        self.mode = mode
        self._warn(f"out of memory: {how} from now on; the result is the same")

    def _do_without_compiler(self, first: str) -> None:
        stop_compiling(self._session.model.unet)
        self._warn(f"compiling failed; the run continues without it: {first}")

    def _run_uncompiled_after_error(self, work: Callable[[], _Result]) -> _Result:
        """Run `work`; if it fails while the U-Net is compiled, run it again without the compiler."""
        try:
            return work()
        except Exception as error:
            if not is_compiled(self._session.model.unet) or is_out_of_memory(error):
                raise
            first = first_line(error)
        self._do_without_compiler(first)
        return work()
