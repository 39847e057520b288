"""The plan: what every `auto` of the run file becomes on this device for these pictures, and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ti_tui.run.hardware import GIB, Hardware
from ti_tui.run.memory import predict_bytes
from ti_tui.run.model import ModelFacts
from ti_tui.run.recipe import RunFile
from ti_tui.run.scheme import Scheme

Precision = Literal["fp32", "bf16", "fp16"]
Attention = Literal["sdpa", "xformers", "plain"]

MAX_AUTO_BATCH = 8
MAX_AUTO_EFFECTIVE = 40
"""Above so many images a step is split: an epoch is then several steps."""
EVALUATED = 16
"""Items of the fixed set that the eval loss is taken on."""
EVALUATION_SHARE = 0.05
FORWARD_SHARE = 0.46
"""Work of a forward pass in that of a training step (SD 1.5: 0.803 of 1.749 TFLOP)."""
SAFE_SHARE = 0.95
"""Share of the free memory that a plan may fill."""


@dataclass(frozen=True)
class Plan:
    """Decisions of a run.

    effective_batch: images of one step; batch_size x accumulation, or less where the last micro-batch is short.
    epoch_steps:     steps in which every image is used once; a fraction if the effective batch is larger.
    memory_bytes:    predicted peak on the device, None where it is not known.
    reasons:         one line for each decision, in the order in which they are shown.
    """

    hardware: Hardware
    scheme: Scheme
    images: int
    precision: Precision
    attention: Attention
    recompute: bool
    batch_size: int
    accumulation: int
    effective_batch: int
    memory_bytes: int | None
    save_steps: int
    save_epochs: int
    sample_steps: int
    sample_epochs: int
    evaluation_steps: int
    reasons: dict[str, str] = field(default_factory=dict)

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
        """Whether previews are due after `step` steps; at the start and the end they always are, unless they are off.

        Those of step 0 show what the model makes of the init words: what the others are to be compared with.
        """
        if not self.sample_steps and not self.sample_epochs:
            return False
        return step in (0, self.total_steps) or self._due(step, self.sample_steps, self.sample_epochs)

    def evaluation_due(self, step: int) -> bool:
        """Whether the eval loss is due after `step` steps; at the start and the end it always is, unless it is off."""
        if not self.evaluation_steps:
            return False
        return step in (0, self.total_steps) or step % self.evaluation_steps == 0

    def saves(self) -> int:
        """Number of checkpoints of the whole run."""
        return self._count(self.save_due, self.save_steps, self.save_epochs)

    def samples(self) -> int:
        """How often previews are drawn in the whole run."""
        if not self.sample_due(0):
            return 0
        return 1 + self._count(self.sample_due, self.sample_steps, self.sample_epochs)

    def _count(self, due: Callable[[int], bool], every_steps: int, every_epochs: int) -> int:
        """How many of the steps from 1 on are due; the last one is."""
        if every_epochs:
            return sum(due(step) for step in range(1, self.total_steps + 1))
        # Counted in one stroke: a run may have a million steps, and the wizard asks with every letter.
        return math.ceil(self.total_steps / every_steps) if every_steps else 1

    def values(self) -> dict[str, Any]:
        """The decisions as plain values, for the event log."""
        return {
            "device": self.hardware.kind,
            "device_name": self.hardware.name,
            "precision": self.precision,
            "attention": self.attention,
            "recompute": self.recompute,
            "batch_size": self.batch_size,
            "accumulation": self.accumulation,
            "effective_batch": self.effective_batch,
            "predicted_bytes": self.memory_bytes,
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
    precision = _precision(training.precision, hardware, reasons)
    effective = _effective_batch(run, images, reasons)
    recompute, batch_size, memory = _fit(run, facts, hardware, precision, effective, reasons)
    if training.accumulation != "auto":
        effective = batch_size * training.accumulation
    accumulation = math.ceil(effective / batch_size)
    reasons["step"] = _step_in_words(batch_size, accumulation, effective, images)
    attention: Attention = "sdpa" if training.attention == "auto" else training.attention
    return Plan(
        hardware=hardware,
        scheme=run.scheme.scheme(),
        images=images,
        precision=precision,
        attention=attention,
        recompute=recompute,
        batch_size=batch_size,
        accumulation=accumulation,
        effective_batch=effective,
        memory_bytes=memory,
        save_steps=run.save.every_steps,
        save_epochs=run.save.every_epochs,
        sample_steps=run.sample.every_steps if run.sample.prompts else 0,
        sample_epochs=run.sample.every_epochs if run.sample.prompts else 0,
        evaluation_steps=_evaluation_steps(run, effective, reasons),
        reasons=reasons,
    )


def _evaluation_steps(run: RunFile, effective: int, reasons: dict[str, str]) -> int:
    if run.evaluation.every_steps != "auto":
        return run.evaluation.every_steps
    steps = math.ceil(EVALUATED * FORWARD_SHARE / (EVALUATION_SHARE * effective))
    reasons["eval loss"] = f"every {steps} steps on a fixed set of {EVALUATED}: less than 5 % of the time"
    return steps


def _precision(wanted: str, hardware: Hardware, reasons: dict[str, str]) -> Precision:
    if wanted in ("fp32", "bf16", "fp16"):
        reasons["precision"] = f"{wanted}, as the run file says"
        return wanted  # type: ignore[return-value]
    if hardware.kind == "cpu":
        reasons["precision"] = "fp32: exact, and the only one that a CPU trains the same everywhere"
        return "fp32"
    if hardware.bf16:
        reasons["precision"] = "bf16: this card computes it at full speed, and it cannot overflow"
        return "bf16"
    reasons["precision"] = "fp16 with loss scaling: this card has no fast bf16; the vectors stay fp32"
    return "fp16"


def _effective_batch(run: RunFile, images: int, reasons: dict[str, str]) -> int:
    if run.training.accumulation != "auto":
        return 0 if run.training.batch_size == "auto" else run.training.batch_size * run.training.accumulation
    if images <= MAX_AUTO_EFFECTIVE:
        return max(images, 1)
    return math.ceil(images / math.ceil(images / MAX_AUTO_EFFECTIVE))


def _fit(
    run: RunFile,
    facts: ModelFacts,
    hardware: Hardware,
    precision: Precision,
    effective: int,
    reasons: dict[str, str],
) -> tuple[bool, int, int | None]:
    training = run.training
    limit = int(training.vram_limit_gib * GIB) or int(hardware.free_bytes * SAFE_SHARE)

    def predicted(batch_size: int, recompute: bool) -> int | None:
        return predict_bytes(
            facts.family, facts.widths, run.dataset.resolution, batch_size,
            half=precision != "fp32", recompute=recompute, cuda=hardware.kind == "cuda",
        )  # fmt: skip

    most = min(effective, MAX_AUTO_BATCH) if effective else MAX_AUTO_BATCH
    sizes = list(range(most, 0, -1)) if training.batch_size == "auto" else [training.batch_size]
    ways = [training.recompute == "on"] if training.recompute != "auto" else [False, True]
    if predicted(1, False) is None:
        recompute = training.recompute == "on"
        reasons["memory"] = "not predicted: this model is not of a published size"
        return recompute, _even(sizes[0], effective, training.batch_size), None
    for recompute in ways:
        for size in sizes:
            need = predicted(size, recompute)
            if need is not None and need <= limit:
                size = _even(size, effective, training.batch_size)
                need = predicted(size, recompute)
                how = "activations computed twice" if recompute else "nothing recomputed"
                reasons["memory"] = f"{(need or 0) / GIB:.1f} of {limit / GIB:.1f} GiB (predicted), {how}"
                return recompute, size, need
    smallest = predicted(sizes[-1], ways[-1])
    reasons["memory"] = (
        f"{(smallest or 0) / GIB:.1f} GiB are predicted and {limit / GIB:.1f} are free: this may run out of memory"
    )
    return ways[-1], sizes[-1], smallest


def _even(size: int, effective: int, wanted: Any) -> int:
    """The smallest batch size with as few micro-batches: 5 images in two are 3 + 2, not 4 + 1."""
    if wanted != "auto" or not effective:
        return size
    return math.ceil(effective / math.ceil(effective / size))


def _step_in_words(batch_size: int, accumulation: int, effective: int, images: int) -> str:
    last = effective - batch_size * (accumulation - 1)
    split = f"{batch_size} at once" if accumulation == 1 else f"{accumulation} micro-batches of {batch_size}"
    if accumulation > 1 and last != batch_size:
        split += f" (the last of {last})"
    if effective == images:
        return f"{split}: one step uses each of the {images} images once"
    return f"{split}: {effective} images a step, {images} in an epoch"
