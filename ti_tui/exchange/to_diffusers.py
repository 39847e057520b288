"""Writes a run as the command of diffusers' textual_inversion.py, in a shell script."""

from __future__ import annotations

import shlex
from pathlib import Path

from ti_tui.exchange import command_line
from ti_tui.exchange.export_source import ExportSource
from ti_tui.exchange.foreign_file import ForeignField
from ti_tui.exchange.written import WrittenSettings
from ti_tui.run.sample_prompts import SamplePromptError, parse_sample_prompt

SCRIPT = "diffusers.sh"


def to_diffusers(source: ExportSource, place: Path) -> WrittenSettings:
    """A shell script with the command."""
    script = "textual_inversion_sdxl.py" if source.family == "sdxl" else "textual_inversion.py"
    options = [f"--{name}" + (f"={shlex.quote(value)}" if value else "") for name, value in _options(source, place)]
    command = " \\\n  ".join([f"accelerate launch {script}", *options])
    text = f"#!/bin/sh\n# Written by ti_tui; {script} lies in diffusers' examples/textual_inversion.\n{command}\n"
    found = command_line.parse(text).options
    fields = tuple(ForeignField(f"--{option.name}", option.name, option.value) for option in found)
    return WrittenSettings({SCRIPT: text}, fields, f"sh {shlex.quote(str(place / SCRIPT))}")


def _options(source: ExportSource, place: Path) -> list[tuple[str, str]]:
    """Options with their values; "" for flags."""
    run, training, scheme = source.run, source.run.training, source.scheme
    smooth = scheme.shape in ("cosine", "linear")
    ramp = "constant_with_warmup" if scheme.warmup_steps else "constant"
    rate = scheme.segments[0].learning_rate if smooth else source.longest.learning_rate
    folder = source.subsets[0].folder if len(source.subsets) == 1 else source.folder.path(run.dataset.images).absolute()
    values: list[tuple[str, str]] = [
        ("pretrained_model_name_or_path", str(source.value("model.base"))),
        ("train_data_dir", str(folder)),
        ("output_dir", str(place / "output")),
        ("placeholder_token", run.embedding.token),
        ("initializer_token", next(iter(run.embedding.init.split()), "*") if not source.init_file else "*"),
        ("num_vectors", str(run.embedding.vectors)),
        ("learnable_property", "style" if run.dataset.template == "style" else "object"),
        ("resolution", str(run.dataset.resolution)),
        ("repeats", "1"),
        ("train_batch_size", str(source.batch_size)),
        ("gradient_accumulation_steps", str(source.accumulation)),
        ("learning_rate", repr(rate)),
        ("max_train_steps", str(scheme.total_steps)),
        ("lr_scheduler", scheme.shape if smooth else ramp),
        ("lr_warmup_steps", str(scheme.warmup_steps)),
        ("adam_weight_decay", repr(training.weight_decay)),
        ("seed", str(training.seed)),
        ("mixed_precision", "no" if source.precision == "fp32" else source.precision),
    ]
    betas = training.optimizer_arguments.get("betas")
    if isinstance(betas, list) and len(betas) == 2:
        values += [("adam_beta1", repr(betas[0])), ("adam_beta2", repr(betas[1]))]
    if "eps" in training.optimizer_arguments:
        values.append(("adam_epsilon", repr(training.optimizer_arguments["eps"])))
    if run.model.tokenizer:
        values.append(("tokenizer_name", str(source.value("model.tokenizer"))))
    if training.recompute == "on":
        values.append(("gradient_checkpointing", ""))
    if training.attention == "xformers":
        values.append(("enable_xformers_memory_efficient_attention", ""))
    every = run.save.every_steps or scheme.total_steps
    values += [("save_steps", str(every)), ("checkpointing_steps", str(every))]
    if run.save.log_to:
        values.append(("report_to", "all" if len(run.save.log_to) > 1 else run.save.log_to[0]))
    if run.save.keep:
        values.append(("checkpoints_total_limit", str(run.save.keep)))
    if run.sample.prompts and run.sample.every_steps:
        values += [
            ("validation_prompt", _text(source.prompts[0])), ("num_validation_images", "1"),
            ("validation_steps", str(run.sample.every_steps)),
        ]  # fmt: skip
    return values


def _text(line: str) -> str:
    try:
        return parse_sample_prompt(line).text
    except SamplePromptError:
        return line
