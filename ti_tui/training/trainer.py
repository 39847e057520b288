"""Trains a run: takes optimizer steps and, between them, evaluates, saves, draws samples and handles requests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import Accelerator

from ti_tui import terminal
from ti_tui.embeddings.run_files import is_reported
from ti_tui.formatting import start_in_words
from ti_tui.run.hardware import GIB
from ti_tui.run.sample_prompts import parse_sample_prompt
from ti_tui.run.verdicts import Verdict
from ti_tui.setup.check import Checked
from ti_tui.training import rate_changes
from ti_tui.training.checkpoint_writer import CheckpointWriter
from ti_tui.training.device import memory_used, watch_peak
from ti_tui.training.disk_room import RETRY_SECONDS, DiskRoom
from ti_tui.training.evaluation import Evaluator
from ti_tui.training.loop import StepResult
from ti_tui.training.opening import open_session
from ti_tui.training.recovery import Recovery
from ti_tui.training.reporter import Reporter
from ti_tui.training.sample_images import sample_paths
from ti_tui.training.undo import Undo
from ti_tui.training.weights import ReadAhead

MEMORY_STEPS = 200


class Trainer:
    """Trains one run. `stop_requested` is checked between micro-batches; an unfinished step is discarded.

    message: why the run ended, if a verdict ended it before the end of its scheme.
    """

    def __init__(
        self,
        checked: Checked,
        accelerator: Accelerator,
        report: Reporter,
        stop_requested: Callable[[], bool],
        ahead: ReadAhead | None = None,
    ) -> None:
        self.message = ""
        self._report = report
        self._alone = accelerator.num_processes == 1
        self._stop_signalled = stop_requested
        self._stopping = False
        self._paused = False
        self._extra_save: int | None = None
        self._save_requested = False
        self._sample_requested = False
        self._ended_by: Verdict | None = None
        self._room = DiskRoom(checked.folder, checked.run.embedding.vectors, report, stop_requested)
        with self._room.kept():
            self.session = open_session(checked, accelerator, report, self._stop_now, ahead)
        self._writer = CheckpointWriter(self.session, report)
        self._undo = Undo(self.session, self._writer, report.warn)
        self._recovery = Recovery(self.session, report.warn, self._stop_now, self._undo)
        self._memory_logged = False
        self._prompts = [parse_sample_prompt(line) for line in checked.run.sample.prompts]

    def run(self) -> str:
        """Train until the scheme ends or a stop is requested; returns "done" or "stopped". Raises TrainingError."""
        with self._room.kept():
            try:
                self._begin()
                self._take_steps()
            except Exception:
                # Whatever went wrong, vectors and optimizer are those of the last complete step: save them.
                with contextlib.suppress(Exception):
                    self._save_if_new()
                raise
            return self._finish()

    def _take_steps(self) -> None:
        """Train until the scheme ends, a stop is requested or a verdict ends the run."""
        session = self.session
        if session.processes.is_main:
            self._writer.reconcile()
        if session.step == 0:
            self._evaluate()
        self._sample_if_missing()
        while True:
            self._answer_requests()
            while self._paused and not self._stopping:
                self._wait_for_room()
                self._answer_requests()
            if self._stopping or session.step >= session.plan.total_steps:
                return
            started = time.perf_counter()
            taken = self._recovery.step(session.plan.scheme.rate_at)
            if taken is None:
                return
            self._report_step(taken, time.perf_counter() - started)
            self._evaluate()
            if self._ended_by is not None:
                return
            if self._save_requested or session.plan.save_due(session.step):
                self._save()
            if self._sample_requested or session.plan.sample_due(session.step):
                self._sample()

    def _finish(self) -> str:
        """Save what is not saved yet and, if the run has a result, write it."""
        session, processes = self.session, self.session.processes
        self._save_if_new()
        processes.wait()
        if session.step < session.plan.total_steps:
            if self._ended_by is None or not self._ended_by.has_result:
                return "stopped"
            if session.plan.sample_due(session.plan.total_steps):
                self._sample()
        if processes.is_main:
            self._writer.finish()
        processes.wait()
        self._report.position(session.step, session.plan.total_steps)
        return "done"

    def _wait_for_room(self) -> None:
        """See whether the disk has room again; if not, save while the reserve's room is free."""
        if self.session.processes.is_main:
            if self._room.resume():
                self._report.phase("training")
                self._report.warn("the disk has room again: training goes on")
                return
            if self.session.step not in (0, *self.session.checked.folder.checkpoints()):
                self._writer.write()
                self._extra_save = self.session.step
        time.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Disconnect from the run's other processes."""
        self.session.processes.end()

    def _report_step(self, taken: StepResult, seconds: float) -> None:
        session = self.session
        self._report.event(
            "step",
            step=session.step,
            loss=round(taken.loss, 6),
            rate=session.plan.scheme.rate_at(session.step - 1),
            gradient_norm=round(taken.gradient_norm, 6),
            seconds=round(seconds, 4),
        )
        self._report.position(session.step, session.plan.total_steps)
        if session.step % MEMORY_STEPS in (3, 0):
            self._report_memory()

    def _report_memory(self) -> None:
        """Report used, peak and predicted bytes as an event; the first time also in trainer.log."""
        session, device = self.session, self.session.model.device
        used, peak = memory_used(device)
        predicted = None
        if (memory := session.plan.memory) is not None and self._recovery.mode == session.plan.mode:
            # torch's counters do not include the CUDA context.
            predicted = memory.training - (memory.context if device.type == "cuda" else 0)
        self._report.event("memory", used_bytes=used, peak_bytes=peak, predicted_bytes=predicted, step=session.step)
        if predicted and not self._memory_logged:
            self._memory_logged = True
            off = f"{peak / predicted - 1:+.0%}"
            terminal.error(f"memory: {peak / GIB:.2f} GiB at most, {predicted / GIB:.2f} predicted ({off})")

    def _answer_requests(self) -> None:
        """Handle what was requested since the last step, in the same way in all processes of the run."""
        taken = self._report.take_requests()
        # Each in its turn: the second of two changes is one of the first.
        requested: list[str] = [
            request.kind
            for request in taken
            if request.kind != "scheme" or rate_changes.take_change(self.session, request, self._report)
        ]
        if self._stop_signalled():
            requested.append("stop")
        if self._room.paused:
            requested.append("pause")
        requested = self.session.processes.from_main(requested)
        self._stopping = self._stopping or "stop" in requested
        self._paused = "pause" in requested
        self._save_requested = self._save_requested or "save" in requested
        self._sample_requested = self._sample_requested or "sample" in requested
        if "scheme" in requested:
            rate_changes.read_again(self.session)

    def _stop_now(self) -> bool:
        # Several processes can only stop together, at the end of a step.
        return self._alone and self._stop_signalled()

    def _begin(self) -> None:
        session, plan = self.session, self.session.plan
        assert session.checked.facts is not None
        self._report.event(
            "run",
            step=session.step,
            total_steps=plan.total_steps,
            epoch_steps=plan.epoch_steps,
            images=plan.images,
            family=session.checked.facts.family,
            prediction=session.model.schedule.prediction,
            prediction_by=session.checked.facts.truth.decided_by,
            processes=session.processes.count,
            plan=plan.values(),
            reasons=plan.reasons,
        )
        self._report.position(session.step, plan.total_steps)
        watch_peak(session.model.device)
        self._report.phase("training")

    def _evaluate(self) -> None:
        """Measure the eval loss if it is due, and report it and the verdict; at step 0, that of the initial vectors."""
        evaluator, session = self.session.evaluator, self.session
        if evaluator is None or not session.plan.evaluation_due(session.step):
            return
        ended_by = None
        if session.processes.is_main:
            found = self._recovery.extra(
                lambda: evaluator.evaluate(session.step, session.rows), use_less_memory=evaluator.use_less_memory
            )
            if found is None:
                self._report.warn("the evaluation did not fit into memory and was skipped")
            else:
                self._report.event("eval", **found.values())
                ended_by = self._judge(evaluator)
        session.processes.wait()
        self._ended_by = session.processes.from_main(ended_by)

    def _judge(self, evaluator: Evaluator) -> Verdict | None:
        """Report the verdict if it is a new one; returns it if the run is to end because of it."""
        run, before = self.session.checked.run, evaluator.verdict
        verdict = evaluator.judge(start_in_words(run.embedding.init, run.embedding.start))
        if verdict is None or run.evaluation.early_stop == "off":
            return None
        if before is None or verdict.name != before.name:
            self._report.event("verdict", **verdict.values())
            terminal.error(f"step {verdict.step}: {verdict.name}: {verdict.reason}")
        # A run that was resumed after this verdict had ended it is not ended by it again.
        if run.evaluation.early_stop != "stop" or not verdict.ends or verdict.name in evaluator.ended_for:
            return None
        evaluator.ended_for.append(verdict.name)
        self.message = f"{verdict.name}: {verdict.reason}"
        return verdict

    def _save(self) -> None:
        """Write an exact checkpoint and delete old ones, as `save.keep` says."""
        self._save_requested = False
        if self.session.processes.is_main:
            self._writer.write()
            if self._extra_save is not None and self._extra_save != self.session.step:
                # It was due to a full disk only.
                self._writer.drop(self._extra_save)
            self._extra_save = None
            self._writer.drop_old()
        self.session.processes.wait()

    def _save_if_new(self) -> None:
        """Write a checkpoint of the last step if there is none. Does not wait for other processes."""
        if self.session.processes.is_main:
            self._writer.write_if_new()

    def _sample_if_missing(self) -> None:
        """Draw the samples that are due now, unless all were drawn before a kill or an interrupted start."""
        session, folder = self.session, self.session.checked.folder
        if not session.plan.sample_due(session.step):
            return
        # Only the main process checks: others might see the files that it is writing.
        if session.processes.is_main:
            paths = sample_paths(folder.sample(session.step), len(self._prompts))
            if not all(path.exists() for path in paths):
                self._draw_samples()
            elif paths and not is_reported(folder, "sample", session.step):
                self._report_samples(paths)
        session.processes.wait()

    def _sample(self) -> None:
        self._sample_requested = False
        if self.session.processes.is_main:
            self._draw_samples()
        self.session.processes.wait()

    def _draw_samples(self) -> None:
        session, folder = self.session, self.session.checked.folder
        if not self._prompts:
            return
        self._report.phase("sampling")
        place = folder.sample(session.step)
        paths = self._recovery.extra(
            lambda: session.renderer.draw(self._prompts, place, session.step),
            use_less_memory=session.renderer.use_less_memory,
        )
        if paths is None:
            self._report.warn(
                "the samples did not fit into memory and were skipped; set a smaller --w and --h in the sample prompts"
            )
        elif paths:
            self._report_samples(paths)
        self._report.phase("training")

    def _report_samples(self, paths: Sequence[Path]) -> None:
        session = self.session
        files = [path.relative_to(session.checked.folder.root).as_posix() for path in paths]
        prompts = session.checked.run.sample.prompts[: len(files)]
        self._report.event("sample", step=session.step, files=files, prompts=prompts)
