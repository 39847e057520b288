"""Writes a run for kohya's sd-scripts: a config file, a dataset file and a file of prompts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import tomli_w

from ti_tui.exchange.export_source import ExportSource, picture_folders
from ti_tui.exchange.foreign_file import ForeignField, flat
from ti_tui.exchange.prompts import prompt_lines
from ti_tui.exchange.written import WrittenSettings
from ti_tui.formatting import printable
from ti_tui.run.optimizers import OPTIMIZERS
from ti_tui.run.scheme import SchemeError, step_rules

CONFIG, DATASET, PROMPTS = "kohya.toml", "kohya-dataset.toml", "kohya-prompts.txt"


def to_kohya(source: ExportSource, place: Path) -> WrittenSettings:
    """The files that `train_textual_inversion.py` trains the same from."""
    script = "sdxl_train_textual_inversion.py" if source.family == "sdxl" else "train_textual_inversion.py"
    command = f"accelerate launch {script} --config_file {shlex.quote(str(place / CONFIG))}"
    dataset = _dataset(source)
    config = {
        "model": _model(source),
        "dataset": {"dataset_config": str(place / DATASET)},
        "embedding": _embedding(source, place),
        "training": _training(source) | _scheduler(source),
        "saving": _saving(source, place),
        "samples": _samples(source, place),
    }
    # What import finds in these files; the others are named, and read after them.
    listed = {name: dict(table) for name, table in config.items() if name != "dataset"}
    listed["samples"].pop("sample_prompts", None)
    fields = [*flat(listed, place), *flat(dataset, place)]
    if source.run.sample.prompts:
        fields.append(ForeignField("sample_prompts", "sample_prompts", prompt_lines("\n".join(source.prompts))))
    head = f"# Written by ti_tui. {printable(command)}\n\n"
    files = {CONFIG: head + tomli_w.dumps(config), DATASET: tomli_w.dumps(dataset)}
    if source.run.sample.prompts:
        files[PROMPTS] = "".join(f"{line}\n" for line in source.prompts)
    return WrittenSettings(files, tuple(fields), command, CONFIG)


def _model(source: ExportSource) -> dict[str, Any]:
    values: dict[str, Any] = {"pretrained_model_name_or_path": source.value("model.base")}
    if source.run.model.vae:
        values["vae"] = source.value("model.vae")
    if source.family == "sd2":
        values["v2"] = True
    if source.predicts_v:
        values["v_parameterization"] = True
    if source.run.model.clip_skip > 1 and source.family != "sdxl":
        values["clip_skip"] = source.run.model.clip_skip
    return values


def _dataset(source: ExportSource) -> dict[str, Any]:
    run = source.run
    captions = run.dataset.template == "captions"
    subsets: list[dict[str, Any]] = []
    for subset in source.subsets:
        values: dict[str, Any] = {"image_dir": str(subset.folder), "num_repeats": subset.repeats}
        if captions:
            # sd-scripts puts a space between them.
            values |= {"caption_extension": ".txt", "caption_prefix": f"a photo of {run.embedding.token},"}
        subsets.append(values | {"flip_aug": run.dataset.flip})
    if run.dataset.regularisation:
        subsets += [
            {"image_dir": str(each.folder), "num_repeats": each.repeats, "is_reg": True}
            for each, _ in picture_folders(Path(str(source.value("dataset.regularisation"))))
        ]
    return {
        "datasets": [
            {
                "resolution": run.dataset.resolution,
                "batch_size": source.batch_size,
                "enable_bucket": run.dataset.buckets,
                "subsets": subsets,
            }
        ]
    }


def _embedding(source: ExportSource, place: Path) -> dict[str, Any]:
    run = source.run
    values: dict[str, Any] = {
        "token_string": run.embedding.token,
        "num_vectors_per_token": run.embedding.vectors,
        "output_dir": str(place / "output"),
        "output_name": run.embedding.token,
    }
    if source.init_file:
        values["weights"] = source.init_file
    elif run.embedding.init:
        values["init_word"] = run.embedding.init
    if run.dataset.template in ("object", "style"):
        values[f"use_{run.dataset.template}_template"] = True
    return values


def _training(source: ExportSource) -> dict[str, Any]:
    training = source.run.training
    name = training.optimizer.lower()
    arguments = {"weight_decay": training.weight_decay, **training.optimizer_arguments}
    values: dict[str, Any] = {
        "optimizer_type": "AdaFactor" if name == "adafactor" else OPTIMIZERS[name].name if name in OPTIMIZERS else name,
        "optimizer_args": [f"{key}={_argument(value)}" for key, value in arguments.items()],
        "gradient_accumulation_steps": source.accumulation,
        "max_grad_norm": training.max_gradient_norm,
        "seed": training.seed,
        "mixed_precision": "no" if source.precision == "fp32" else source.precision,
        "cache_latents": True,
        "loss_type": training.loss,
    }
    if training.cache_latents == "disk":
        values["cache_latents_to_disk"] = True
    if training.attention != "plain":
        values["xformers" if training.attention == "xformers" else "sdpa"] = True
    if training.recompute == "on":
        values["gradient_checkpointing"] = True
    if training.loss == "huber":
        values |= {"huber_c": training.huber_delta, "huber_schedule": "constant"}
    for ours, theirs, usual in _NUMBERS:
        if (value := getattr(training, ours)) != usual:
            values[theirs] = value
    return values


def _argument(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


_NUMBERS: tuple[tuple[str, str, float], ...] = (
    ("min_snr_gamma", "min_snr_gamma", 0.0),
    ("noise_offset", "noise_offset", 0.0),
    ("min_timestep", "min_timestep", 0),
    ("max_timestep", "max_timestep", 1000),
    ("prior_loss_weight", "prior_loss_weight", 1.0),
)


def _scheduler(source: ExportSource) -> dict[str, Any]:
    scheme = source.scheme
    first, last = scheme.segments[0].learning_rate, scheme.segments[-1].learning_rate
    values: dict[str, Any] = {"learning_rate": first, "max_train_steps": scheme.total_steps}
    if scheme.warmup_steps:
        values["lr_warmup_steps"] = scheme.warmup_steps
    several = len(scheme.segments) > 1
    match scheme.shape:
        case "cosine" if several and last < first:
            values |= {"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": last / first}
        case "cosine" | "linear":
            values["lr_scheduler"] = scheme.shape
        case "segments" if several:
            try:
                values |= {
                    "lr_scheduler": "piecewise_constant",
                    "lr_scheduler_args": [f"step_rules='{step_rules(scheme)}'"],
                }
            except SchemeError:
                values["lr_scheduler"] = "constant_with_warmup"
        case _:
            values["lr_scheduler"] = "constant_with_warmup" if scheme.warmup_steps else "constant"
    return values


def _saving(source: ExportSource, place: Path) -> dict[str, Any]:
    save = source.run.save
    values: dict[str, Any] = {"save_model_as": "pt" if save.formats[0] == "a1111-pt" else "safetensors"}
    if save.every_steps:
        values["save_every_n_steps"] = save.every_steps
    if save.every_epochs:
        values["save_every_n_epochs"] = save.every_epochs
    if save.log_to:
        values |= {"log_with": "all" if len(save.log_to) > 1 else save.log_to[0], "logging_dir": str(place / "logs")}
    if save.keep and save.every_steps:
        values["save_last_n_steps"] = save.keep * save.every_steps
    elif save.keep and save.every_epochs:
        values["save_last_n_epochs"] = save.keep
    return values


def _samples(source: ExportSource, place: Path) -> dict[str, Any]:
    sample = source.run.sample
    values: dict[str, Any] = {}
    if sample.every_steps:
        values["sample_every_n_steps"] = sample.every_steps
    if sample.every_epochs:
        values["sample_every_n_epochs"] = sample.every_epochs
    if sample.prompts:
        values |= {"sample_prompts": str(place / PROMPTS), "sample_sampler": "dpmsolver++"}
    return values
