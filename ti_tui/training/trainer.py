"""The training loop of textual inversion (Gal et al. 2022, arXiv 2208.01618), top to bottom."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ti_tui.dataset.sample_prompts import parse_sample_prompt
from ti_tui.embeddings.install import install
from ti_tui.errors import TrainingError, UserError
from ti_tui.run.file import load
from ti_tui.run.problems import ProblemsError
from ti_tui.setup.check import Checked
from ti_tui.training import checkpoints
from ti_tui.training.batches import Sample, micro_batches
from ti_tui.training.device import is_out_of_memory, memory_used
from ti_tui.training.evaluation import eval_loss
from ti_tui.training.objective import draw, losses
from ti_tui.training.optimizers import clip_gradients, set_rate
from ti_tui.training.previews import conditions_for
from ti_tui.training.reporter import Reporter
from ti_tui.training.session import open_session
from ti_tui.training.text import Context, TextGradients

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
    """Trains one run. `stop_asked` is looked at between micro-batches; a part of a step is never kept."""

    def __init__(
        self, checked: Checked, accelerator: Accelerator, report: Reporter, stop_asked: Callable[[], bool]
    ) -> None:
        self._report = report
        self._stop_signalled = stop_asked
        self._stopping = False
        self._save_asked = False
        self._sample_asked = False
        self._undo: Undo | None = None
        self._tries = 0
        self._failed_at = -1
        self._eval_loss: float | None = None
        self._accelerator = accelerator
        self.session = open_session(checked, accelerator, report, self._stop_now)
        self._scheme = self.session.plan.scheme
        self._plan = self.session.plan
        self._batch_size = self.session.plan.batch_size
        self._prompts = [parse_sample_prompt(line) for line in checked.run.sample.prompts]

    def run(self) -> str:
        """Train until the scheme ends or a stop is asked; returns "done" or "stopped". Raises TrainingError."""
        session, report = self.session, self._report
        self._begin()
        try:
            self._sample_if_missing()
            if session.step == 0:
                self._evaluate()
            while session.step < self._scheme.total_steps:
                self._answer_requests()
                if self._stopping or not self._train_step():
                    break
                self._evaluate()
                if self._save_asked or self._plan.save_due(session.step):
                    self._save()
                if self._sample_asked or self._plan.sample_due(session.step):
                    self._sample()
        except TrainingError:
            self._save_if_new()
            raise
        self._save_if_new()
        if session.step < self._scheme.total_steps:
            return "stopped"
        self._finish()
        report.position(session.step, self._scheme.total_steps)
        return "done"

    def _train_step(self) -> bool:
        """One optimizer step; False if a stop was asked before it was whole. Raises TrainingError."""
        session, started = self.session, time.perf_counter()
        loss = self._gradients()
        if loss is None:
            return False
        rate = self._scheme.rate_at(session.step)
        set_rate(session.optimizer, rate)
        length = clip_gradients(session.rows, session.checked.run.training.max_gradient_norm)
        self._undo = Undo(
            session.step,
            [row.detach().clone() for row in session.rows],
            copy.deepcopy(session.optimizer.state_dict()),
        )
        session.optimizer.step()
        session.step += 1
        session.loss = loss
        session.loss_scale.succeeded()
        self._report.event(
            "step", step=session.step, loss=round(loss, 6), rate=rate, gradient_norm=round(float(length), 6),
            seconds=round(time.perf_counter() - started, 4),
        )  # fmt: skip
        self._report.position(session.step, self._scheme.total_steps)
        if session.step % MEMORY_STEPS in (3, 0):
            used, peak = memory_used(session.device)
            self._report.event("memory", used_bytes=used, peak_bytes=peak, step=session.step)
        return True

    def _gradients(self) -> float | None:
        """Put the gradient of the step's loss into the rows; returns the loss, or None if a stop was asked.

        Overflow of fp16 is mended by a smaller loss scale, lack of memory by smaller micro-batches, numbers
        that are not finite by undoing the last step. None of them uses up a step of the scheme.
        """
        session = self.session
        while True:
            try:
                loss = self._accumulate(self._tries)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._make_room(error)
                continue
            if loss is None:
                return None
            gradients_finite = all(bool(torch.isfinite(row.grad).all()) for row in session.rows if row.grad is not None)
            if math.isfinite(loss) and gradients_finite:
                if session.step > self._failed_at:
                    self._tries = 0
                return loss
            if math.isfinite(loss) and session.loss_scale.overflowed():
                continue
            self._undo_step("the loss" if not math.isfinite(loss) else "the gradient")

    def _accumulate(self, attempt: int) -> float | None:
        """Forward and backward of every micro-batch of this step, the text side once for all of them."""
        session = self.session
        samples = session.sampler.step(session.step, attempt)
        sized = [(session.latents_of(sample).size, sample) for sample in samples]
        batches = micro_batches(sized, self._batch_size)
        mine = batches[self._accelerator.process_index :: self._accelerator.num_processes]
        prompts = list(dict.fromkeys(session.prompt_of(sample) for batch in mine for sample in batch))
        place = {prompt: index for index, prompt in enumerate(prompts)}

        for row in session.rows:
            row.grad = torch.zeros_like(row)
        total = torch.zeros((), device=session.device)
        ids = [session.ids_of(prompt) for prompt in prompts]
        text = TextGradients(session.text, ids, chunk=max(self._batch_size, 4))
        for batch in mine:
            if self._stop_now():
                return None
            index = torch.tensor([place[session.prompt_of(sample)] for sample in batch], device=session.device)
            loss = self._loss(batch, text.context.rows(index))
            (loss * session.loss_scale.factor).backward()
            total += loss.detach()
        text.backward()

        if self._accelerator.num_processes > 1:
            total = self._accelerator.reduce(total, "sum")
            for row in session.rows:
                row.grad = self._accelerator.reduce(row.grad, "sum")
        for row in session.rows:
            assert row.grad is not None
            row.grad.div_(session.loss_scale.factor)
        return float(total)

    def _loss(self, batch: list[Sample], context: Context) -> Tensor:
        """The share of a micro-batch in the step's loss."""
        session, training = self.session, self.session.checked.run.training
        device, schedule = session.device, session.schedule
        posteriors = [session.latents_of(sample) for sample in batch]
        drawn = [
            draw(sample.seed, tuple(one.mean.shape), training.noise_offset)
            for sample, one in zip(batch, posteriors, strict=True)
        ]
        units = torch.stack([one.latent for one in drawn]).to(device)
        noise = torch.stack([one.noise for one in drawn]).to(device)
        latents = torch.stack([one.draw(unit) for one, unit in zip(posteriors, units, strict=True)])
        timesteps = torch.tensor([sample.timestep for sample in batch], device=device)

        dtype = session.unet.dtype
        noisy = schedule.noisy(latents, noise, timesteps)
        scale = session.previewer.scale
        sizes = [(one.size[0] * scale, one.size[1] * scale) for one in posteriors]
        prediction = session.unet(noisy.to(dtype), timesteps, **conditions_for(context, sizes, dtype)).sample

        each = losses(prediction, schedule.target(latents, noise, timesteps), training)
        if training.min_snr_gamma:
            each = each * schedule.min_snr_weight(timesteps, training.min_snr_gamma)
        weights = torch.tensor([sample.weight for sample in batch], device=device)
        return (each * weights).sum()

    def _undo_step(self, what: str) -> None:
        """Go back to the last good rows and try again with other noise. Raises TrainingError if it repeats."""
        session = self.session
        self._failed_at = max(self._failed_at, session.step)
        self._tries += 1
        rate = self._scheme.rate_at(max(session.step - 1, 0))
        where = f"{what} is not a number at step {session.step + 1}"
        if self._undo is not None:
            with torch.no_grad():
                for row, good in zip(session.rows, self._undo.rows, strict=True):
                    row.copy_(good)
            session.optimizer.load_state_dict(self._undo.optimizer)
            session.step, self._undo = self._undo.step, None
            if self._accelerator.is_main_process:
                checkpoints.drop_after(session.checked.folder, session.step)
        if self._tries >= MAX_TRIES:
            raise TrainingError(
                f"{where}, {MAX_TRIES} times over; the vectors are those of step {session.step}",
                remedy=f"Lower the learning rate (it was {rate:g}) or try precision fp32; `ti-tui train` goes on.",
            )
        self._report.warn(f"{where}: undone, back at step {session.step}, tried again with other noise")

    def _make_room(self, error: BaseException) -> None:
        """After out-of-memory: smaller micro-batches, then recomputation. Raises TrainingError if neither is left."""
        session = self.session
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._accelerator.num_processes == 1 and self._batch_size > 1:
            self._batch_size = (self._batch_size + 1) // 2
            self._report.warn(f"out of memory: {self._batch_size} images at once from now on; the result is the same")
        elif self._accelerator.num_processes == 1 and not session.unet.is_gradient_checkpointing:
            session.unet.enable_gradient_checkpointing()
            self._report.warn("out of memory: activations are computed twice from now on; the result is the same")
        else:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TrainingError(
                f"out of memory with the smallest micro-batches: {first}",
                remedy="Lower dataset.resolution, or close other programs on the card; `ti-tui train` goes on.",
            ) from None

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
            epoch_steps=plan.images / session.effective_batch,
            images=plan.images,
            family=session.checked.facts.family,
            prediction=session.schedule.prediction,
            processes=self._accelerator.num_processes,
            plan={**plan.values(), "effective_batch": session.effective_batch},
            reasons=plan.reasons,
        )
        self._report.position(session.step, self._scheme.total_steps)
        self._report.phase("training")

    def _evaluate(self) -> None:
        """The eval loss, if it is due; at step 0 it is that of the init word."""
        session = self.session
        if not self._plan.evaluation_due(session.step) or not session.questions:
            return
        if self._accelerator.is_main_process:
            loss = eval_loss(session.questions, session.unet, session.text, session.schedule, session.previewer.scale)
            self._eval_loss = loss
            self._report.event("eval", step=session.step, loss=round(loss, 6))
        self._accelerator.wait_for_everyone()

    def _save_if_new(self) -> None:
        if self.session.step and self.session.step not in self.session.checked.folder.checkpoints():
            self._save()

    def _save(self) -> None:
        """An exact checkpoint and the embedding exported from it."""
        session, run, folder = self.session, self.session.checked.run, self.session.checked.folder
        self._save_asked = False
        if self._accelerator.is_main_process:
            embedding = session.embedding()
            paths = checkpoints.export(folder, embedding, session.step, run.save.formats)
            state = checkpoints.save_state(folder, session.state())
            norms = [[round(float(norm), 4) for norm in row.detach().float().norm(dim=1)] for row in session.rows]
            files = [path.relative_to(folder.root).as_posix() for path in paths]
            self._report.event(
                "checkpoint", step=session.step, state=state.relative_to(folder.root).as_posix(), files=files,
                loss=session.loss,
                eval_loss=self._eval_loss, norms=norms,
            )  # fmt: skip
            checkpoints.drop_old(folder, run.save.keep, run.embedding.token, run.save.formats)
        self._accelerator.wait_for_everyone()

    def _sample_if_missing(self) -> None:
        """After a kill between a checkpoint and its previews, draw them first."""
        step = self.session.step
        if step and self._plan.sample_due(step) and not any(self.session.checked.folder.sample(step).glob("*.png")):
            self._sample()

    def _sample(self) -> None:
        session, folder = self.session, self.session.checked.folder
        self._sample_asked = False
        if self._accelerator.is_main_process and self._prompts:
            self._report.phase("sampling")
            try:
                paths = session.previewer.draw(self._prompts, folder.sample(session.step), session.step)
                files = [path.relative_to(folder.root).as_posix() for path in paths]
                self._report.event(
                    "sample",
                    step=session.step,
                    files=files,
                    prompts=session.checked.run.sample.prompts[: len(files)],
                )
            except Exception as error:
                # Previews are a service: a picture too large for the card must not end the run.
                if not is_out_of_memory(error):
                    raise
                if session.device.type == "cuda":
                    torch.cuda.empty_cache()
                self._report.warn("the previews did not fit into memory and were left out; name a smaller --w and --h")
            self._report.phase("training")
        self._accelerator.wait_for_everyone()

    def _finish(self) -> None:
        """The final files, and the copy in the embeddings folder of the program that uses them."""
        session, run, folder = self.session, self.session.checked.run, self.session.checked.folder
        if not self._accelerator.is_main_process:
            return
        paths = checkpoints.export(folder, session.embedding(), None, run.save.formats)
        if run.save.install_to:
            try:
                target = install(paths[0], folder.path(run.save.install_to), name=run.embedding.token)
                self._report.event(
                    "checkpoint",
                    step=session.step,
                    files=[],
                    installed=str(target),
                    loss=session.loss,
                    norms=[],
                )
            except UserError as error:
                self._report.warn(f"not installed: {error}")
