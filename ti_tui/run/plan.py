"""The plan: what each `auto` in the run file becomes for this device and these images, and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ti_tui.run.compiling import Compile, plan_compile
from ti_tui.run.hardware import Hardware
from ti_tui.run.memory import Attention, ComputeMode, MemoryPlan, Precision
from ti_tui.run.memory_fit import Fit, find_fit
from ti_tui.run.model import ModelFacts
from ti_tui.run.overhead import Overhead, plan_overhead
from ti_tui.run.recipe import RunFile
from ti_tui.run.scheme import Scheme

MAX_AUTO_EFFECTIVE = 40
"""With more images than this, auto splits an epoch into several steps."""


@dataclass(frozen=True)
class Plan:
    """Decisions of a run.

    effective_batch: images per step: batch_size x accumulation, or less if the last micro-batch is smaller.
    epoch_steps:     steps per epoch; a fraction if the effective batch is larger than an epoch.
    fit:             the compute mode, with the memory that it is predicted to need.
    reasons:         one line for each decision, in the order in which they are shown.
    """

    hardware: Hardware
    scheme: Scheme
    images: int
    precision: Precision
    attention: Attention
    fit: Fit
    compile: Compile
    accumulation: int
    effective_batch: int
    save_steps: int
    save_epochs: int
    sample_steps: int
    sample_epochs: int
    overhead: Overhead
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def mode(self) -> ComputeMode:
        return self.fit.mode

    @property
    def batch_size(self) -> int:
        return self.fit.mode.batch_size

    @property
    def memory(self) -> MemoryPlan | None:
        """Predicted memory on the device; None if it cannot be predicted."""
        return self.fit.memory

    @property
    def evaluation_steps(self) -> int:
        """Steps between evaluations; 0 for none."""
        return self.overhead.evaluation_steps

    @property
    def total_steps(self) -> int:
        return self.scheme.total_steps

    @property
    def epoch_steps(self) -> float:
        return self.images / self.effective_batch

    def epoch_at(self, step: int) -> int:
        """Number of whole epochs after `step` steps."""
        return step * self.effective_batch // self.images

    def save_due(self, step: int) -> bool:
        """Whether a checkpoint is due after `step` steps."""
        return step == self.total_steps or self._due(step, self.save_steps, self.save_epochs)

    def sample_due(self, step: int) -> bool:
        """Whether samples are due after `step` steps; unless they are off, they always are at the start and the end.

        Those of step 0 show what the model draws for the initial words, for comparison with the later ones.
        """
        if not self.sample_steps and not self.sample_epochs:
            return False
        return step in (0, self.total_steps) or self._due(step, self.sample_steps, self.sample_epochs)

    def evaluation_due(self, step: int) -> bool:
        """Whether an evaluation is due after `step` steps; unless it is off, it always is at the start and the end."""
        if not self.evaluation_steps:
            return False
        return step in (0, self.total_steps) or step % self.evaluation_steps == 0

    def saves(self) -> int:
        """Number of checkpoints of the whole run."""
        return self._count(self.save_due, self.save_steps, self.save_epochs)

    def samples(self) -> int:
        """How often samples are drawn in the whole run."""
        if not self.sample_due(0):
            return 0
        return 1 + self._count(self.sample_due, self.sample_steps, self.sample_epochs)

    def _count(self, due: Callable[[int], bool], every_steps: int, every_epochs: int) -> int:
        """How many of the steps from 1 on are due; the last one always is."""
        if every_epochs:
            return sum(due(step) for step in range(1, self.total_steps + 1))
        # Not step by step: a run may have a million steps, and the wizard recounts at every key.
        return math.ceil(self.total_steps / every_steps) if every_steps else 1

    def values(self) -> dict[str, Any]:
        """The decisions as plain values, for the event log."""
        return {
            "device": self.hardware.kind,
            "device_name": self.hardware.name,
            "precision": self.precision,
            "attention": self.attention,
            **asdict(self.mode),
            "compile": self.compile,
            "accumulation": self.accumulation,
            "effective_batch": self.effective_batch,
            "predicted_bytes": None if self.memory is None else self.memory.training,
        }

    def _due(self, step: int, every_steps: int, every_epochs: int) -> bool:
        if every_steps and step % every_steps == 0:
            return True
        if not every_epochs:
            return False
        return self.epoch_at(step) // every_epochs > self.epoch_at(step - 1) // every_epochs


def make_plan(run: RunFile, facts: ModelFacts, images: int, hardware: Hardware) -> Plan:
    """Decide everything that the run file leaves to `auto`. `images` counts repeats."""
    training = run.training
    reasons: dict[str, str] = {"device": hardware.describe()}
    precision = choose_precision(training.precision, hardware, reasons)
    effective = _effective_batch(run, images, reasons)
    attention: Attention = "sdpa" if training.attention == "auto" else training.attention
    fit = find_fit(run, facts, hardware, precision, attention, effective, reasons)
    batch_size = fit.mode.batch_size
    if training.accumulation != "auto":
        effective = batch_size * training.accumulation
    accumulation = math.ceil(effective / batch_size)
    reasons["step"] = _step_in_words(batch_size, accumulation, effective, images)
    overhead = plan_overhead(run, facts, effective, reasons)
    return Plan(
        hardware=hardware,
        scheme=run.scheme.scheme(),
        images=images,
        precision=precision,
        attention=attention,
        fit=fit,
        compile=plan_compile(run, facts, hardware, effective, reasons),
        accumulation=accumulation,
        effective_batch=effective,
        save_steps=run.save.every_steps,
        save_epochs=run.save.every_epochs,
        sample_steps=run.sample.every_steps if run.sample.prompts else 0,
        sample_epochs=run.sample.every_epochs if run.sample.prompts else 0,
        overhead=overhead,
        reasons=reasons,
    )


def choose_precision(wanted: str, hardware: Hardware, reasons: dict[str, str]) -> Precision:
    """The number format that `training.precision` means on this device; the reason is added to `reasons`."""
    if wanted in ("fp32", "bf16", "fp16"):
        reasons["precision"] = f"{wanted}, as the run file says"
        return wanted  # type: ignore[return-value]
    if hardware.kind == "cpu":
        reasons["precision"] = "fp32: the only number format that gives the same result on every CPU"
        return "fp32"
    if hardware.bf16:
        reasons["precision"] = "bf16: this card computes it at full speed, and it does not overflow"
        return "bf16"
    reasons["precision"] = "fp16 with loss scaling: this card has no fast bf16; the vectors stay fp32"
    return "fp16"


def _effective_batch(run: RunFile, images: int, reasons: dict[str, str]) -> int:
    if run.training.accumulation != "auto":
        return 0 if run.training.batch_size == "auto" else run.training.batch_size * run.training.accumulation
    if images <= MAX_AUTO_EFFECTIVE:
        return max(images, 1)
    return math.ceil(images / math.ceil(images / MAX_AUTO_EFFECTIVE))


def _step_in_words(batch_size: int, accumulation: int, effective: int, images: int) -> str:
    last = effective - batch_size * (accumulation - 1)
    split = f"one batch of {batch_size}" if accumulation == 1 else f"{accumulation} micro-batches of {batch_size}"
    if accumulation > 1 and last != batch_size:
        split += f" (the last of {last})"
    if effective == images:
        return f"{split}: one step uses each of the {images} images once"
    return f"{split}: {effective} images per step, {images} per epoch"
