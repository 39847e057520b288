"""Writes a run for OneTrainer: its training settings, its concepts and its samples."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

from ti_tui.dataset.templates import NAME, fill, load_templates
from ti_tui.exchange.export_source import ExportSource
from ti_tui.exchange.foreign_file import flat
from ti_tui.exchange.written import WrittenSettings
from ti_tui.run.sample_prompts import SamplePromptError, parse_sample_prompt

CONFIG, CONCEPTS, SAMPLES = "onetrainer.json", "onetrainer-concepts.json", "onetrainer-samples.json"
PROMPTS = "onetrainer-prompts.txt"
VERSION = 10
"""Of the form of OneTrainer's settings; newer ones are made from it there."""
MODEL_TYPES = {
    "sd1": "STABLE_DIFFUSION_15", "sd2": "STABLE_DIFFUSION_21", "sdxl": "STABLE_DIFFUSION_XL_10_BASE",
}  # fmt: skip
DTYPES = {"fp32": "FLOAT_32", "fp16": "FLOAT_16", "bf16": "BFLOAT_16"}
OPTIMIZERS = {"adamw8bit": "ADAMW_8BIT"}


def to_onetrainer(source: ExportSource, place: Path) -> WrittenSettings:
    """The files that OneTrainer's window and its `scripts/train.py` read."""
    prompts = str(place / PROMPTS)
    concepts = [_concept(source, str(subset.folder), subset.repeats, prompts) for subset in source.subsets]
    samples = [sample for line in source.prompts if (sample := _sample(source, line)) is not None]
    config = _config(source, place)
    named = {"concept_file_name": str(place / CONCEPTS), "sample_definition_file_name": str(place / SAMPLES)}
    fields = tuple(flat({**config, "concepts": concepts, "samples": samples}, place))
    files = {
        CONFIG: _text({**config, **named}),
        CONCEPTS: _text(concepts),
        SAMPLES: _text(samples),
        PROMPTS: _prompts(source),
    }
    return WrittenSettings(files, fields, f"python scripts/train.py --config-path {shlex.quote(str(place / CONFIG))}")


def _text(values: Any) -> str:
    return json.dumps(values, indent=4, ensure_ascii=False) + "\n"


def _config(source: ExportSource, place: Path) -> dict[str, Any]:
    run, training, scheme = source.run, source.run.training, source.scheme
    effective = source.batch_size * source.accumulation
    dtype = DTYPES[source.precision]
    smooth = scheme.shape in ("cosine", "linear")
    first, last = scheme.segments[0].learning_rate, scheme.segments[-1].learning_rate
    values: dict[str, Any] = {
        "__version": VERSION,
        "training_method": "EMBEDDING",
        "model_type": MODEL_TYPES[source.family],
        "base_model_name": source.value("model.base"),
        "workspace_dir": str(place / "workspace"),
        "output_model_destination": str(place / "output" / f"{run.embedding.token}.safetensors"),
        "output_model_format": "SAFETENSORS",
        "embedding": {
            "placeholder": run.embedding.token,
            "token_count": run.embedding.vectors,
            "initial_embedding_text": run.embedding.init if not source.init_file else "*",
            "model_name": source.init_file,
        },
        "preserve_embedding_norm": run.embedding.norm == "match",
        "resolution": str(run.dataset.resolution),
        "aspect_ratio_bucketing": run.dataset.buckets,
        "masked_training": run.dataset.masks,
        "unmasked_weight": run.dataset.mask_outside,
        "learning_rate": first if smooth else source.longest.learning_rate,
        "learning_rate_scheduler": scheme.shape.upper() if smooth else "CONSTANT",
        "learning_rate_warmup_steps": float(scheme.warmup_steps),
        "learning_rate_min_factor": last / first if smooth and len(scheme.segments) > 1 and last < first else 0.0,
        "epochs": max(1, math.ceil(scheme.total_steps * effective / max(1, source.images))),
        "batch_size": source.batch_size,
        "gradient_accumulation_steps": source.accumulation,
        "optimizer": _optimizer(source),
        "tensorboard": "tensorboard" in run.save.log_to,
        "clip_grad_norm": training.max_gradient_norm,
        "train_dtype": dtype,
        "unet": {"weight_dtype": dtype},
        "text_encoder": {"weight_dtype": dtype},
        "vae": {"weight_dtype": "FLOAT_32", "model_name": source.value("model.vae")},
        "mse_strength": float(training.loss == "l2"),
        "mae_strength": float(training.loss == "l1"),
        "huber_strength": float(training.loss == "huber"),
        "huber_delta": training.huber_delta,
        "loss_weight_fn": "MIN_SNR_GAMMA" if training.min_snr_gamma else "CONSTANT",
        "offset_noise_weight": training.noise_offset,
        "min_noising_strength": training.min_timestep / 1000,
        "max_noising_strength": training.max_timestep / 1000,
        "force_v_prediction": run.model.prediction == "v_prediction",
        "force_epsilon_prediction": run.model.prediction == "epsilon",
    }  # fmt: skip
    if training.min_snr_gamma:
        values["loss_weight_strength"] = training.min_snr_gamma
    if source.family != "sdxl":
        values["text_encoder_layer_skip"] = run.model.clip_skip - 1
    if training.attention != "plain":
        values["attention_mechanism"] = "XFORMERS" if training.attention == "xformers" else "SDP"
    if training.recompute in ("on", "off"):
        values["gradient_checkpointing"] = training.recompute.upper()
    return values | _intervals(source)


def _optimizer(source: ExportSource) -> dict[str, Any]:
    training = source.run.training
    name = training.optimizer.lower()
    values: dict[str, Any] = {
        "optimizer": OPTIMIZERS.get(name, name.upper()), "weight_decay": training.weight_decay,
    }  # fmt: skip
    for key, value in training.optimizer_arguments.items():
        if key == "betas" and isinstance(value, list) and len(value) == 2:
            values |= {"beta1": value[0], "beta2": value[1]}
        else:
            values[key] = value
    return values


def _intervals(source: ExportSource) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for theirs, table in (("save_every", source.run.save), ("sample_after", source.run.sample)):
        if table.every_steps:
            values |= {theirs: table.every_steps, f"{theirs}_unit": "STEP"}
        elif table.every_epochs:
            values |= {theirs: table.every_epochs, f"{theirs}_unit": "EPOCH"}
        else:
            values |= {theirs: 0, f"{theirs}_unit": "NEVER"}
    return values


def _prompts(source: ExportSource) -> str:
    """The templates with the token: captions beside the images do not hold it, and without it nothing is learned."""
    token = source.run.embedding.token
    templates = load_templates(source.run.dataset.template, source.folder.root)
    return "".join(f"{fill(template, '').replace(NAME, token)}\n" for template in templates)


def _concept(source: ExportSource, folder: str, repeats: int, prompts: str) -> dict[str, Any]:
    return {
        "name": source.run.embedding.token,
        "path": folder,
        "enabled": True,
        "balancing": float(repeats),
        "image": {"enable_random_flip": source.run.dataset.flip, "enable_crop_jitter": False},
        "text": {"prompt_source": "concept", "prompt_path": prompts},
    }


def _sample(source: ExportSource, line: str) -> dict[str, Any] | None:
    try:
        prompt = parse_sample_prompt(line)
    except SamplePromptError:
        return None
    return {
        "enabled": True,
        "prompt": prompt.text,
        "negative_prompt": prompt.negative,
        "width": prompt.width or source.run.dataset.resolution,
        "height": prompt.height or source.run.dataset.resolution,
        "seed": prompt.seed if prompt.seed is not None else source.run.training.seed,
        "diffusion_steps": prompt.steps,
        "cfg_scale": prompt.guidance,
        "noise_scheduler": "DPMPP",
    }
