"""The options of diffusers' textual_inversion.py and textual_inversion_sdxl.py: what they are here."""

from __future__ import annotations

from ti_tui.exchange.mapping import UNSET, Counterpart, always, changed, joins, lacks, same
from ti_tui.exchange.reasons import (
    AUGMENTATION,
    HUB,
    LAUNCHER,
    LOGGING,
    OF_XFORMERS,
    SPEED,
    STATES,
    TOLD_BY_MODEL,
)
from ti_tui.exchange.values import attention, count, flag, one_of, positive, side, text, when_on, whole

PRECISION = one_of({"no": "fp32", "fp16": "fp16", "bf16": "bf16", "fp32": "fp32", "fp8": UNSET})

FIELDS: tuple[Counterpart, ...] = (
    joins("sdxl", "family", "model.base", when_on("sdxl"), note=TOLD_BY_MODEL),
    joins("pretrained_model_name_or_path", "model", "model.base", text),
    joins("pretrained_vae_model_name_or_path", "vae", "model.vae", text),
    same("tokenizer_name", "model.tokenizer"),
    joins("train_data_dir", "photographs", "photographs", text),
    joins("placeholder_token", "token", "embedding.token", text),
    joins("initializer_token", "words", "embedding.init", text),
    same("num_vectors", "embedding.vectors", default=1),
    joins("learnable_property", "template", "dataset.template", text),
    joins("resolution", "resolution", "dataset.resolution", side, default=512),
    joins("repeats", "repeats of an epoch", "scheme.segments", count, default=100),
    joins("learning_rate", "rate", "scheme.segments", positive, default=1e-4),
    joins("scale_lr", "rate times batch", "scheme.segments", flag),
    joins("max_train_steps", "steps", "scheme.segments", count, default=5000),
    joins("num_train_epochs", "epochs", "scheme.segments", count),
    joins("lr_scheduler", "scheduler", "scheme.shape", text),
    joins("lr_num_cycles", "cycles", "scheme.segments", positive),
    joins("lr_warmup_steps", "warm-up", "scheme.warmup_steps", positive, default=500),
    joins("train_batch_size", "batch", "training.batch_size", count, default=16),
    joins("gradient_accumulation_steps", "accumulation", "training.accumulation", count, default=1),
    joins("accelerate.num_processes", "processes", "training.accumulation", count),
    same("adam_weight_decay", "training.weight_decay"),
    joins("adam_beta1", "optimizer argument", "training.optimizer_arguments"),
    joins("adam_beta2", "optimizer argument", "training.optimizer_arguments"),
    joins("adam_epsilon", "optimizer argument", "training.optimizer_arguments"),
    changed("use_8bit_adam", "training.optimizer", when_on("adamw8bit"), "an optimizer by name"),
    same("seed", "training.seed"),
    joins("mixed_precision", "precision", "training.precision", PRECISION),
    joins("accelerate.mixed_precision", "precision", "training.precision", PRECISION),
    changed("gradient_checkpointing", "training.recompute", when_on("on"), "auto: only where nothing else fits"),
    changed("enable_xformers_memory_efficient_attention", "training.attention", attention, OF_XFORMERS),
    same("save_steps", "save.every_steps"),
    joins("checkpointing_steps", "save every", "save.every_steps", whole),
    changed("checkpoints_total_limit", "save.keep", count, "a checkpoint has the embedding and the state"),
    joins("validation_prompt", "prompts", "sample.prompts"),
    joins("num_validation_images", "samples of a prompt", "sample.prompts", whole),
    same("validation_steps", "sample.every_steps"),
    same("validation_epochs", "sample.every_epochs"),
    Counterpart("output_dir", "run_folder", note="the run folder is named by RUN"),
    *always("center_crop", "a crop lies around a face, else around the detail, and is not drawn at random"),
    *lacks("only_save_embeds", "nothing but the embedding is saved", "true"),
    *lacks("save_as_full_pipeline no_safe_serialization", "the embedding alone is saved, in the forms of save.formats"),
    *lacks("resume_from_checkpoint", STATES),
    *lacks("revision variant push_to_hub hub_token hub_model_id", HUB),
    *lacks("logging_dir report_to", LOGGING),
    *lacks("dataloader_num_workers allow_tf32 local_rank", SPEED, "-1"),
    *lacks("random_flip random_crop", AUGMENTATION),
    *lacks("accelerate.**", LAUNCHER, "1", "true"),
)  # fmt: skip
