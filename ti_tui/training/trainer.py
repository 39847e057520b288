"""The training loop of textual inversion (Gal et al. 2022, arXiv 2208.01618), top to bottom."""

from __future__ import annotations

import contextlib
import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ti_tui.errors import TrainingError
from ti_tui.formatting import start_in_words
from ti_tui.run.file import load
from ti_tui.run.hardware import GIB
from ti_tui.run.problems import ProblemsError
from ti_tui.run.sample_prompts import parse_sample_prompt
from ti_tui.run.scheme import format_scheme
from ti_tui.setup.check import Checked
from ti_tui.training import checkpoints, step
from ti_tui.training.device import is_out_of_memory, memory_used, watch_peak
from ti_tui.training.evaluation import Evaluator
from ti_tui.training.optimizers import clip_gradients, gradient_length, set_rate
from ti_tui.training.recovery import Passes
from ti_tui.training.reporter import Reporter
from ti_tui.training.saving import Saving
from ti_tui.training.session import open_session
from ti_tui.training.weights import ReadAhead

MAX_TRIES = 3
"""A step that gives no finite numbers is undone and tried so often, each time with other noise."""
MEMORY_STEPS = 200


@dataclass
class Undo:
    """The run before its last step: what to go back to when that step turns out to have spoiled the vectors."""

    step: int
    rows: list[Tensor]
    optimizer: dict[str, Any]


class Trainer:
    """Trains one run. `stop_asked` is looked at between micro-batches; a part of a step is never kept.

    message: why the run ended, where it ended by itself before its scheme.
    """

    def __init__(
        self,
        checked: Checked,
        accelerator: Accelerator,
        report: Reporter,
        stop_asked: Callable[[], bool],
        ahead: ReadAhead | None = None,
    ) -> None:
        self._report = report
        self._stop_signalled = stop_asked
        self._stopping = False
        self._save_asked = False
        self._sample_asked = False
        self._undo: Undo | None = None
        self.message = ""
        self._ended_early = False
        self._accelerator = accelerator
        self.session = open_session(checked, accelerator, report, self._stop_now, ahead)
        self._tries = self.session.retry.get("tries", 0)
        self._failed_at = self.session.retry.get("failed_at", -1)
        self._scheme = self.session.plan.scheme
        self._plan = self.session.plan
        self._passes = Passes(self.session, report.warn, self._stop_now)
        self._saving = Saving(self.session, report)
        self._memory_told = False
        self._prompts = [parse_sample_prompt(line) for line in checked.run.sample.prompts]

    def run(self) -> str:
        """Train until the scheme ends or a stop is asked; returns "done" or "stopped". Raises TrainingError."""
        session, report = self.session, self._report
        self._begin()
        try:
            if self._accelerator.is_main_process:
                self._saving.make_what_is_missing()
            if session.step == 0:
                self._evaluate()
            self._sample_if_missing()
            while True:
                self._answer_requests()
                if self._stopping or session.step >= self._scheme.total_steps or not self._train_step():
                    break
                self._evaluate()
                if self._ended_early:
                    break
                if self._save_asked or self._plan.save_due(session.step):
                    self._save()
                if self._sample_asked or self._plan.sample_due(session.step):
                    self._sample()
        except Exception:
            # Vectors and optimizer are those of the last whole step, whatever went wrong: keep them.
            with contextlib.suppress(Exception):
                self._save_what_is_new()
            raise
        self._save_what_is_new()
        self._accelerator.wait_for_everyone()
        if session.step < self._scheme.total_steps:
            if not self._ended_early or not self._verdict_is_a_result():
                return "stopped"
            if self._plan.sample_due(self._scheme.total_steps):
                self._sample()
        if self._accelerator.is_main_process:
            self._saving.finish()
        self._accelerator.wait_for_everyone()
        report.position(session.step, self._scheme.total_steps)
        return "done"

    def close(self) -> None:
        """Part from the other processes of the run in order; without it their connections break at exit."""
        if self._accelerator.num_processes > 1:
            self._accelerator.end_training()

    def _train_step(self) -> bool:
        """One optimizer step; False if a stop was asked before it was whole. Raises TrainingError."""
        session, started = self.session, time.perf_counter()
        found = self._gradients()
        if found is None:
            return False
        loss, length = found
        rate = self._scheme.rate_at(session.step)
        set_rate(session.optimizer, rate)
        session.norms.before_step(session.rows)
        clip_gradients(session.rows, length, session.checked.run.training.max_gradient_norm)
        self._undo = Undo(
            session.step,
            [row.detach().clone() for row in session.rows],
            copy.deepcopy(session.optimizer.state_dict()),
        )
        session.optimizer.step()
        session.norms.put_back(session.rows)
        session.step += 1
        session.loss = loss
        session.loss_scale.succeeded()
        self._report.event(
            "step", step=session.step, loss=round(loss, 6), rate=rate, gradient_norm=round(length, 6),
            seconds=round(time.perf_counter() - started, 4),
        )  # fmt: skip
        self._report.position(session.step, self._scheme.total_steps)
        if session.step % MEMORY_STEPS in (3, 0):
            self._report_memory()
        return True

    def _gradients(self) -> tuple[float, float] | None:
        """Put the gradient of the step's loss into the rows; returns loss and its length, or None if a stop was asked.

        Overflow of fp16 is mended by a smaller loss scale, lack of memory by smaller micro-batches, numbers
        that are not finite by undoing the last step. None of them uses up a step of the scheme.
        """
        session = self.session
        while True:
            attempt = self._tries if session.step <= self._failed_at else 0
            loss_here, shortage = None, ""
            try:
                loss_here = self._passes.accumulate(attempt)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # Its text only: the error itself would keep the step's tensors alive.
                shortage = str(error) or type(error).__name__
            # All processes of a run do the same: they make room together, and meet in the sums below.
            if self._any_process(bool(shortage)):
                self._passes.make_room(shortage)
                continue
            if loss_here is None:
                return None
            total = step.sum_over_processes(session, loss_here)
            self._passes.prepare_next()
            loss, length = _numbers(total, gradient_length(session.rows))
            if math.isfinite(loss) and math.isfinite(length):
                if session.step > self._failed_at:
                    self._tries = 0
                return loss, length
            if math.isfinite(loss) and session.loss_scale.overflowed():
                continue
            self._undo_step("the loss" if not math.isfinite(loss) else "the gradient")

    def _report_memory(self) -> None:
        """Used, most and predicted bytes; the first time also as a line of the log."""
        session = self.session
        used, peak = memory_used(session.device)
        predicted = None
        if (memory := session.plan.memory) is not None and self._passes.way == session.plan.way:
            # A card's own counter does not see the context.
            predicted = memory.training - (memory.context if session.device.type == "cuda" else 0)
        self._report.event("memory", used_bytes=used, peak_bytes=peak, predicted_bytes=predicted, step=session.step)
        if predicted and not self._memory_told:
            self._memory_told = True
            off = f"{peak / predicted - 1:+.0%}"
            print(f"memory: {peak / GIB:.2f} GiB at most, {predicted / GIB:.2f} predicted ({off})", file=sys.stderr)

    def _any_process(self, here: bool) -> bool:
        """Whether something holds in any process of the run."""
        if self._accelerator.num_processes == 1:
            return here
        flag = torch.tensor(float(here), device=self.session.device)
        return bool(self._accelerator.reduce(flag, "sum") > 0)

    def _undo_step(self, what: str) -> None:
        """Go back to the last good rows and try again with other noise. Raises TrainingError if it repeats."""
        session = self.session
        self._failed_at = max(self._failed_at, session.step)
        self._tries += 1
        where = f"{what} is not a number at step {session.step + 1}"
        rate = self._scheme.rate_at(max(session.step - 1, 0))
        if self._undo is not None:
            with torch.no_grad():
                for row, good in zip(session.rows, self._undo.rows, strict=True):
                    row.copy_(good)
            session.optimizer.load_state_dict(self._undo.optimizer)
            session.step, self._undo = self._undo.step, None
            if session.evaluator is not None:
                session.evaluator.forget_from(session.step + 1)
            self._forget_later_checkpoints()
        elif self._tries >= MAX_TRIES and self._go_back_a_checkpoint():
            self._report.warn(f"{where}, {MAX_TRIES} times over: back at the checkpoint of step {session.step}")
            return
        if self._tries >= MAX_TRIES:
            raise TrainingError(
                f"{where}, {MAX_TRIES} times over; the vectors are those of step {session.step}",
                remedy=f"Lower the learning rate (it was {rate:g}) or try precision fp32; `ti-tui train` goes on.",
            )
        self._report.warn(f"{where}: undone, back at step {session.step}, tried again with other noise")

    def _forget_later_checkpoints(self) -> None:
        """Drop checkpoints of what was undone, once the good state is on disk."""
        session = self.session
        spoiled = [saved for saved in session.checked.folder.checkpoints() if saved > session.step]
        if self._accelerator.is_main_process and spoiled:
            if session.step:
                self._saving.write(self._retry())
            self._saving.drop_later()
        self._accelerator.wait_for_everyone()

    def _go_back_a_checkpoint(self) -> bool:
        """Where the checkpoint that a run went on from is itself spoiled: take the one before it, if there is one."""
        session, folder = self.session, self.session.checked.folder
        earlier = [saved for saved in folder.checkpoints() if saved < session.step]
        self._accelerator.wait_for_everyone()
        if not earlier:
            return False
        session.restore(checkpoints.load_state(folder, earlier[-1]))
        self._tries, self._failed_at = 0, -1
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            self._saving.drop_later()
        self._accelerator.wait_for_everyone()
        return True

    def _answer_requests(self) -> None:
        """Take what was asked since the last step; all processes of a run do the same."""
        asked = [request.kind for request in self._report.take_requests()]
        if self._stop_signalled():
            asked.append("stop")
        if self._accelerator.num_processes > 1:
            shared = [asked]
            broadcast_object_list(shared)
            asked = shared[0]
        self._stopping = self._stopping or "stop" in asked
        self._save_asked = self._save_asked or "save" in asked
        self._sample_asked = self._sample_asked or "sample" in asked
        if "scheme" in asked:
            self._read_scheme_again()

    def _read_scheme_again(self) -> None:
        try:
            scheme = load(self.session.checked.folder.file).scheme.scheme()
        except ProblemsError as error:
            self._report.warn(f"the changed scheme is not used: {error.problems[0]}")
            return
        if scheme.total_steps <= self.session.step:
            self._report.warn(f"the changed scheme ends at step {scheme.total_steps}, which is past: the run ends here")
        self._scheme = scheme
        self._plan = replace(self._plan, scheme=scheme)
        self.session.metadata["scheme"] = format_scheme(scheme.segments)
        message = f"new scheme: {scheme.total_steps} steps in all"
        self._report.event(
            "request",
            request="scheme",
            message=message,
            step=self.session.step,
            total_steps=scheme.total_steps,
        )
        self._report.position(self.session.step, scheme.total_steps)

    def _stop_now(self) -> bool:
        # Several processes may only stop together, at the end of a step.
        return self._accelerator.num_processes == 1 and self._stop_signalled()

    def _begin(self) -> None:
        session, plan = self.session, self._plan
        assert session.checked.facts is not None
        self._report.event(
            "run",
            step=session.step,
            total_steps=self._scheme.total_steps,
            epoch_steps=plan.epoch_steps,
            images=plan.images,
            family=session.checked.facts.family,
            prediction=session.schedule.prediction,
            processes=self._accelerator.num_processes,
            plan=plan.values(),
            reasons=plan.reasons,
        )
        self._report.position(session.step, self._scheme.total_steps)
        watch_peak(session.device)
        self._report.phase("training")

    def _evaluate(self) -> None:
        """The eval loss, if it is due, and what it means; at step 0 it is that of the start vectors."""
        evaluator, session = self.session.evaluator, self.session
        if evaluator is None or not self._plan.evaluation_due(session.step):
            return
        ends = False
        if self._accelerator.is_main_process:
            found = self._passes.beside(
                lambda: evaluator.evaluate(session.step, session.rows), spare=evaluator.spare_memory
            )
            if found is None:
                self._report.warn("the eval loss did not fit into memory and was left out")
            else:
                self._report.event("eval", **found.values())
                ends = self._judge(evaluator)
        self._accelerator.wait_for_everyone()
        self._ended_early = self._any_process(ends)

    def _judge(self, evaluator: Evaluator) -> bool:
        """Say what the evaluations come to, if it is news; whether the run shall end by itself here."""
        run, before = self.session.checked.run, evaluator.verdict
        verdict = evaluator.judge(start_in_words(run.embedding.init, run.embedding.start))
        if verdict is None or run.evaluation.early_stop == "off":
            return False
        if before is None or verdict.name != before.name:
            self._report.event("verdict", step=verdict.step, verdict=verdict.name, reason=verdict.reason)
            print(f"step {verdict.step}: {verdict.name}: {verdict.reason}", file=sys.stderr, flush=True)
        # Who goes on with a run that ended for it wants more of it.
        if run.evaluation.early_stop != "stop" or not verdict.ends or verdict.name in evaluator.ended_for:
            return False
        evaluator.ended_for.append(verdict.name)
        self.message = f"{verdict.name}: {verdict.reason}"
        return True

    def _verdict_is_a_result(self) -> bool:
        """Whether a run that ended by itself has an embedding to show for it."""
        return not self.message.startswith(("diverging", "not learning"))

    def _save(self) -> None:
        """An exact checkpoint; of older ones only the last `keep` stay."""
        self._save_asked = False
        if self._accelerator.is_main_process:
            self._saving.write(self._retry())
            self._saving.drop_old()
        self._accelerator.wait_for_everyone()

    def _save_what_is_new(self) -> None:
        """A checkpoint of the last step, if there is none. Waits for no other process."""
        if self._accelerator.is_main_process:
            self._saving.write_if_new(self._retry())

    def _retry(self) -> dict[str, int]:
        return {"tries": self._tries, "failed_at": self._failed_at}

    def _sample_if_missing(self) -> None:
        """Previews that are due now, if they are not there from before a kill or a start that was broken off."""
        if not self._plan.sample_due(self.session.step):
            return
        folder = self.session.checked.folder.sample(self.session.step)
        # Only the first process looks: another could see the files that it is just drawing.
        if self._accelerator.is_main_process and not any(folder.glob("*.png")):
            self._draw_samples()
        self._accelerator.wait_for_everyone()

    def _sample(self) -> None:
        self._sample_asked = False
        if self._accelerator.is_main_process:
            self._draw_samples()
        self._accelerator.wait_for_everyone()

    def _draw_samples(self) -> None:
        session, folder = self.session, self.session.checked.folder
        if not self._prompts:
            return
        self._report.phase("sampling")
        place = folder.sample(session.step)
        paths = self._passes.beside(
            lambda: session.previewer.draw(self._prompts, place, session.step), spare=session.previewer.spare_memory
        )
        if paths is None:
            self._report.warn("the previews did not fit into memory and were left out; name a smaller --w and --h")
        elif paths:
            files = [path.relative_to(folder.root).as_posix() for path in paths]
            prompts = session.checked.run.sample.prompts[: len(files)]
            self._report.event("sample", step=session.step, files=files, prompts=prompts)
        self._report.phase("training")


def _numbers(*tensors: Tensor) -> list[float]:
    """Values of scalars, fetched at once: each fetch waits for the device."""
    first = tensors[0].device
    return [float(value) for value in torch.stack([tensor.float().to(first) for tensor in tensors]).tolist()]
