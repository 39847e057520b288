"""What a run does when memory runs out, a compiler fails, or a step's numbers are not finite: around `loop`, not in it.

None of the answers changes what is learned, and none uses up a step of the scheme.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ti_tui.errors import TrainingError
from ti_tui.out_of_memory import is_out_of_memory
from ti_tui.run.memory_fit import recompute_in_words, smaller
from ti_tui.training.compute_mode import is_compiled, set_compute_mode, stop_compiling
from ti_tui.training.data import Inputs
from ti_tui.training.device import free_memory
from ti_tui.training.loop import NotFinite, StepResult, train_step
from ti_tui.training.session import Session
from ti_tui.training.undo import Undo

_Result = TypeVar("_Result")


class _MemoryElsewhere(Exception):
    """Another process of the run has no memory left for this step."""


class Recovery:
    """Takes a session's steps, whatever comes between. `mode` is the plan's, until memory runs out.

    warn: is told of every change. undo: takes back steps that spoiled the vectors; without it NotFinite is raised.
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
        self._whole = False

    def step(self, rate_at: Callable[[int], float]) -> StepResult | None:
        """Take one optimizer step at the rate for it; None if a stop was requested before its gradients were whole.

        Overflow of fp16 is answered by a smaller loss scale, lack of memory by smaller micro-batches, a compiler that
        fails by doing without it, numbers that are not finite by undoing the last step. Raises TrainingError.
        """
        session, progress = self._session, self._session.progress
        while True:
            self._whole = False
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
                    gradients_whole=self._gradients_whole,
                    while_computing=self._prepare_next,
                )
            except NotFinite as error:
                if not (error.overflow and progress.loss_scale.overflowed()):
                    if self._undo is None:
                        raise
                    self._undo.take_back(error.what, rate_at)
                continue
            except Exception as error:
                if self._whole:
                    raise
                problem = self._problem(error)
            else:
                if taken is not None and self._undo is not None and before is not None:
                    self._undo.taken(before)
                return taken
            # Outside of the block above: the error holds on to the step's tensors.
            problem()

    def extra(self, work: Callable[[], _Result], *, spare: Callable[[], None] = lambda: None) -> _Result | None:
        """What `work`, which is no part of a step, gives; None if it does not fit into memory: it must not end the run.

        Tried a second time with what nothing uses given back, and after `spare`.
        """
        for _ in range(2):
            try:
                return self._uncompiled_if_need_be(work)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            free_memory(self._session.model.device)
            spare()
        return None

    def _inputs(self) -> Inputs:
        """Of the next step: those that were prepared ahead, if they still are what is wanted."""
        progress = self._session.progress
        wanted = (progress.step, progress.attempt, self.mode.batch_size)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (ahead.number, ahead.attempt, ahead.batch_size) == wanted:
            return ahead
        return self._session.data.inputs(*wanted)

    def _prepare_next(self) -> None:
        """Prepare the step after this one while a card is still at work on this one; a CPU gains nothing by it."""
        if self._session.model.device.type == "cpu":
            return
        try:
            self._ahead = self._session.data.inputs(self._session.step + 1, 0, self.mode.batch_size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise

    def _gradients_whole(self) -> None:
        """All processes of a run do the same: they make room together, and meet in the sums that follow."""
        if self._session.processes.any(False):
            raise _MemoryElsewhere
        self._whole = True

    def _problem(self, error: Exception) -> Callable[[], None]:
        """What answers `error`. Raises it where there is no answer."""
        # Its text only: the error itself would keep the step's tensors alive.
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if isinstance(error, _MemoryElsewhere):
            return lambda: self._make_room("in another process of the run")
        if is_out_of_memory(error):
            return lambda: self._make_room_together(first)
        if is_compiled(self._session.model.unet):
            return lambda: self._do_without_compiler(first)
        raise error

    def _make_room_together(self, shortage: str) -> None:
        # The others wait for it where their gradients are whole.
        self._session.processes.any(True)
        self._make_room(shortage)

    def _make_room(self, shortage: str) -> None:
        """The next smaller compute mode, which gives the same result. Raises TrainingError if none is left."""
        unet, mode = self._session.model.unet, smaller(self.mode)
        self._ahead = None
        free_memory(self._session.model.device)
        if mode is None:
            raise TrainingError(
                f"out of memory with the smallest micro-batches: {shortage}",
                remedy='Set training.quantise = "8bit", lower dataset.resolution, or close other programs on the card; '
                "`ti-tui train` goes on.",
            )
        if mode.batch_size < self.mode.batch_size:
            how = f"{mode.batch_size} images at once" if mode.batch_size > 1 else "1 image at once"
        elif mode.backward != self.mode.backward:
            how = "layers keep only what the gradient needs"
        else:
            how = recompute_in_words(mode)
        if is_compiled(unet):
            # What was compiled was compiled for the mode before.
            stop_compiling(unet)
            how += ", not compiled"
        set_compute_mode(unet, mode)
        self.mode = mode
        self._warn(f"out of memory: {how} from now on; the result is the same")

    def _do_without_compiler(self, first: str) -> None:
        stop_compiling(self._session.model.unet)
        self._warn(f"compiling failed, and the run goes on without it: {first}")

    def _uncompiled_if_need_be(self, work: Callable[[], _Result]) -> _Result:
        """What `work` gives; once more without the compiler where that may be what failed."""
        try:
            return work()
        except Exception as error:
            if not is_compiled(self._session.model.unet) or is_out_of_memory(error):
                raise
            first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        self._do_without_compiler(first)
        return work()
