"""ai-toolkit's jobs: what their fields are here."""

from __future__ import annotations

from typing import Any

from ti_tui.exchange.mapping import Counterpart, changed, joins, lacks, same
from ti_tui.exchange.optimizer_names import optimizer
from ti_tui.exchange.reasons import (
    ALWAYS_CACHED,
    AUGMENTATION,
    CAPTION_CHANGES,
    CAPTIONS,
    DROPOUT,
    HUB,
    LOG_PLACE,
    LOGGING,
    NOISE,
    OF_XFORMERS,
    ONLY_VECTORS,
    SAMPLER,
    STATES,
    TOLD_BY_MODEL,
)
from ti_tui.exchange.values import attention, count, number, one_of, positive, side, text, when_on

FORMATS = one_of({"safetensors": ["safetensors"], "pt": ["a1111-pt"], "diffusers": ["diffusers"]})
PRECISION = one_of(
    {"bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16", "fp32": "fp32", "float32": "fp32",
     "float": "fp32"}
)  # fmt: skip
P = "config.process.*."
"""Where the fields of a process stand."""


def _template(value: Any) -> str:
    return "object" if text(value) in ("[trigger]", "[name]") else "captions"


def _inside(prefix: str, names: str) -> str:
    return " ".join(f"{P}{prefix}{name}" for name in names.split())


FIELDS: tuple[Counterpart, ...] = (
    joins(f"{P}embedding.trigger", "token", "embedding.token", text),
    joins(f"{P}trigger_word", "token", "embedding.token", text),
    joins("config.name", "output name", "embedding.token", text),
    same(f"{P}embedding.tokens", "embedding.vectors", default=4),
    joins(f"{P}embedding.init_words", "words", "embedding.init", text),
    changed(f"{P}embedding.save_format", "save.formats", FORMATS, "a list of forms"),
    same(f"{P}save.save_every", "save.every_steps"),
    same(f"{P}save.max_step_saves_to_keep", "save.keep"),
    joins(f"{P}datasets.*.folder_path", "photographs", "photographs", text),
    joins(f"{P}datasets.*.dataset_path", "photographs", "photographs", text),
    joins(f"{P}datasets.*.num_repeats", "repeats", "repeats", count),
    joins(f"{P}datasets.*.default_caption", "template", "dataset.template", _template),
    same(f"{P}datasets.*.buckets", "dataset.buckets"),
    joins(f"{P}datasets.*.resolution", "resolution", "dataset.resolution", side),
    same(f"{P}datasets.*.flip_x", "dataset.flip"),
    joins(f"{P}train.steps", "steps", "scheme.segments", count, default=1000),
    joins(f"{P}train.lr", "rate", "scheme.segments", positive, default=1e-6),
    joins(f"{P}train.embedding_lr", "rate", "scheme.segments", positive, prior=True),
    joins(f"{P}train.lr_scheduler", "scheduler", "scheme.shape", text),
    joins(f"{P}train.lr_scheduler_params.num_cycles", "cycles", "scheme.segments", positive),
    joins(f"{P}train.lr_scheduler_params.eta_min", "lowest rate", "scheme.segments", positive),
    joins(f"{P}train.lr_scheduler_params.num_warmup_steps", "warm-up", "scheme.warmup_steps", positive),
    joins(f"{P}train.lr_scheduler_params.warmup_steps", "warm-up", "scheme.warmup_steps", positive),
    joins(f"{P}train.lr_warmup_steps", "warm-up", "scheme.warmup_steps", positive),
    joins(f"{P}train.batch_size", "batch", "training.batch_size", count, default=1),
    joins(f"{P}train.gradient_accumulation_steps", "accumulation", "training.accumulation", count, default=1),
    joins(f"{P}train.gradient_accumulation", "accumulation", "training.accumulation", count),
    joins(f"{P}train.optimizer", "optimizer", "training.optimizer", optimizer),
    same(f"{P}train.optimizer_params.weight_decay", "training.weight_decay"),
    joins(f"{P}train.optimizer_params.**", "optimizer argument", "training.optimizer_arguments"),
    same(f"{P}train.max_grad_norm", "training.max_gradient_norm"),
    changed(f"{P}train.gradient_checkpointing", "training.recompute", when_on("on"),
            "auto uses it only where nothing else fits"),
    joins(f"{P}train.dtype", "precision", "training.precision", PRECISION),
    joins(f"{P}model.dtype", "precision", "training.precision", PRECISION),
    changed(f"{P}train.xformers", "training.attention", attention, OF_XFORMERS),
    changed(f"{P}train.sdp", "training.attention", when_on("sdpa"), ""),
    changed(f"{P}train.min_snr_gamma", "training.min_snr_gamma", number, ""),
    same(f"{P}train.noise_offset", "training.noise_offset"),
    same(f"{P}train.min_denoising_steps", "training.min_timestep"),
    changed(f"{P}train.max_denoising_steps", "training.max_timestep", count, "timesteps below it"),
    joins(f"{P}train.loss_type", "loss", "training.loss", text),
    same(f"{P}train.seed", "training.seed"),
    same(f"{P}training_seed", "training.seed"),
    joins(f"{P}model.name_or_path", "model", "model.base", text),
    joins(f"{P}model.vae_path", "vae", "model.vae", text),
    joins(f"{P}model.is_v2", "family", "model.base", when_on("sd2"), note=TOLD_BY_MODEL),
    joins(f"{P}model.is_xl", "family", "model.base", when_on("sdxl"), note=TOLD_BY_MODEL),
    changed(f"{P}model.is_v_pred", "model.prediction", when_on("v_prediction"), "auto reads it from the model"),
    same(f"{P}device", "training.device"),
    same(f"{P}sample.sample_every", "sample.every_steps"),
    joins(f"{P}sample.prompts", "prompts", "sample.prompts"),
    joins(f"{P}sample.samples.*.prompt", "prompts", "sample.prompts"),
    joins(f"{P}sample.width", "width", "sample.prompts"),
    joins(f"{P}sample.height", "height", "sample.prompts"),
    joins(f"{P}sample.neg", "negative", "sample.prompts"),
    joins(f"{P}sample.seed", "seed", "sample.prompts"),
    joins(f"{P}sample.guidance_scale", "guidance", "sample.prompts"),
    joins(f"{P}sample.sample_steps", "drawing steps", "sample.prompts"),
    changed(f"{P}logging.use_wandb", "save.log_to", when_on(["wandb"]), LOG_PLACE),
    Counterpart(f"{P}training_folder", "run_folder", note="the run folder is named by RUN"),
    *lacks("job", "a textual inversion is trained", "extension", "train"),
    *lacks(f"{P}type", "a textual inversion is trained", "textual_inversion_trainer"),
    *lacks(_inside("datasets.*.", "caption_type caption_ext"), CAPTIONS,
           "txt", ".txt", "caption"),
    *lacks(_inside("datasets.*.", "caption_dropout_rate token_dropout_rate"), DROPOUT),
    *lacks(_inside("datasets.*.", "shuffle_tokens keep_tokens trigger_word"), CAPTION_CHANGES),
    *lacks(_inside("datasets.*.", "cache_latents cache_latents_to_disk"), ALWAYS_CACHED, "true"),
    *lacks(f"{P}datasets.*.is_reg", "name the folder: --set dataset.regularisation=FOLDER"),
    *lacks(f"{P}datasets.*.mask_path", "masks are read beside the photographs: a-mask.png for a.jpg"),
    *lacks(f"{P}datasets.*.**", AUGMENTATION, "1", "1.0"),
    *lacks(f"{P}save.dtype", "vectors are saved in fp32, which every program reads", "float32", "fp32"),
    *lacks(f"{P}save.push_to_hub", HUB),
    *lacks(f"{P}save.**", STATES),
    *lacks(f"{P}train.noise_scheduler", "noise is added by the model's own schedule", "ddpm"),
    *lacks(_inside("train.", "train_unet train_text_encoder unet_lr text_encoder_lr"), ONLY_VECTORS),
    *lacks(_inside("train.", "weight_jitter noise_multiplier random_noise_shift img_multiplier latent_multiplier"),
           NOISE, "1.0", "1"),
    *lacks(f"{P}train.lr_scheduler_params.total_iters", "the scheme is as long as the run"),
    *lacks(f"{P}train.ema_config.**", "the best checkpoint is kept instead of an average"),
    *lacks(_inside("train.", "skip_first_sample disable_sampling"), "samples are also drawn at the start"),
    *lacks(f"{P}train.content_or_style", "timesteps are spread evenly", "balanced"),
    *lacks(f"{P}sample.sampler", SAMPLER),
    *lacks(f"{P}sample.walk_seed", "every sample has the same seed at every step"),
    *lacks(f"{P}sample.**", "samples are drawn with the embedding at full strength", "1.0", "1", "png", "jpg"),
    *lacks(f"{P}model.**", TOLD_BY_MODEL),
    *lacks(f"{P}log_dir {P}logging.** {P}performance_log_every", LOGGING),
    *lacks("meta.**", "the embedding's metadata holds the run's own facts"),
)  # fmt: skip
