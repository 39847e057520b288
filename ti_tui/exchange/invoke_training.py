"""invoke-training's pipeline settings: what their fields are here."""

from __future__ import annotations

from typing import Any

from ti_tui.exchange.mapping import UNSET, Counterpart, always, changed, joins, lacks, same
from ti_tui.exchange.optimizer_names import optimizer
from ti_tui.exchange.reasons import (
    ALWAYS_CACHED,
    AUGMENTATION,
    BUCKETS,
    CAPTION_CHANGES,
    CAPTIONS,
    HUB,
    LOG_PLACE,
    MEMORY,
    OF_XFORMERS,
    ONLY_VECTORS,
    SPEED,
    STATES,
    TOLD_BY_MODEL,
)
from ti_tui.exchange.values import (
    attention,
    count,
    first_text,
    number,
    one_of,
    positive,
    side,
    text,
    trackers,
    when_on,
    whole,
)

PRECISION = one_of(
    {"no": "fp32", "fp16": "fp16", "bf16": "bf16", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16",
     "fp32": "fp32", "fp8": UNSET}
)  # fmt: skip


def _family(value: Any) -> str:
    return "sdxl" if "SDXL" in text(value).upper() else "sd1"


FIELDS: tuple[Counterpart, ...] = (
    joins("type", "family", "model.base", _family, note=TOLD_BY_MODEL),
    joins("model", "model", "model.base", text),
    joins("vae_model", "vae", "model.vae", text),
    same("prediction_type", "model.prediction"),
    Counterpart("base_output_dir", "run_folder", note="the run folder is named by RUN"),
    Counterpart("output.base_output_dir", "run_folder", note="the run folder is named by RUN"),
    same("seed", "training.seed"),
    joins("optimizer.optimizer_type", "optimizer", "training.optimizer", optimizer),
    joins("optimizer.learning_rate", "rate", "scheme.segments", positive, default=1e-4),
    same("optimizer.weight_decay", "training.weight_decay"),
    *lacks("optimizer.use_8bit", "name the optimizer adamw8bit: --set training.optimizer=adamw8bit"),
    joins("optimizer.**", "optimizer argument", "training.optimizer_arguments"),
    joins("learning_rate", "rate", "scheme.segments", positive),
    joins("lr_scheduler", "scheduler", "scheme.shape", text),
    joins("lr_warmup_steps", "warm-up", "scheme.warmup_steps", positive),
    joins("max_train_steps", "steps", "scheme.segments", count),
    joins("max_train_epochs", "epochs before steps", "scheme.segments", count),
    joins("data_loader.dataset.dataset_dir", "photographs", "photographs", text),
    joins("data_loader.image_transforms.resolution", "resolution", "dataset.resolution", side),
    joins("data_loader.resolution", "resolution", "dataset.resolution", side, default=512),
    joins("data_loader.caption_preset", "template", "dataset.template", text),
    changed("data_loader.random_flip", "dataset.flip", when_on("true"), ""),
    same("data_loader.image_transforms.random_flip", "dataset.flip"),
    changed("data_loader.aspect_ratio_buckets.target_resolution", "dataset.buckets", lambda value: True,
            "the area is that of dataset.resolution"),
    same("use_masks", "dataset.masks"),
    joins("placeholder_token", "token", "embedding.token", text),
    joins("initial_embedding_file", "initial file", "embedding.init", text),
    joins("initial_phrase", "words", "embedding.init", text),
    joins("initializer_token", "words", "embedding.init", text),
    same("num_vectors", "embedding.vectors", default=1),
    joins("train_batch_size", "batch", "training.batch_size", count, default=4),
    joins("gradient_accumulation_steps", "accumulation", "training.accumulation", count, default=1),
    joins("mixed_precision", "precision", "training.precision", PRECISION),
    joins("weight_dtype", "precision", "training.precision", PRECISION),
    changed("xformers", "training.attention", attention, OF_XFORMERS),
    changed("gradient_checkpointing", "training.recompute", when_on("on"), "auto uses it only where nothing else fits"),
    changed("min_snr_gamma", "training.min_snr_gamma", number, "", default=5.0),
    same("max_grad_norm", "training.max_gradient_norm", default=0.0),
    same("save_every_n_steps", "save.every_steps"),
    same("save_every_n_epochs", "save.every_epochs"),
    changed("max_checkpoints", "save.keep", count, ""),
    same("validate_every_n_steps", "sample.every_steps"),
    same("validate_every_n_epochs", "sample.every_epochs"),
    joins("validation_prompts", "prompts", "sample.prompts"),
    joins("negative_validation_prompts", "negative", "sample.prompts", first_text),
    joins("num_validation_images_per_prompt", "samples of a prompt", "sample.prompts", whole),
    changed("report_to", "save.log_to", trackers, LOG_PLACE),
    changed("output.report_to", "save.log_to", trackers, LOG_PLACE),
    *always("cache_vae_outputs", ALWAYS_CACHED),
    *always("data_loader.center_crop data_loader.image_transforms.center_crop",
            "a crop lies around a face, else around the detail, and is not drawn at random"),
    *lacks("data_loader.aspect_ratio_buckets.**", BUCKETS),
    *lacks("data_loader.caption_templates", "write them into a file, a line each: --set dataset.template=FILE"),
    *lacks("data_loader.keep_original_captions", 'the template "captions" uses captions'),
    *lacks("data_loader.shuffle_caption_delimiter data_loader.caption_prefix", CAPTION_CHANGES),
    *lacks("data_loader.type data_loader.dataset.type", "a folder of photographs is read",
           "textual_inversion_sd_data_loader", "image_dir_dataset", "image_caption_dir_dataset",
           "image_caption_jsonl_dataset"),
    *lacks("data_loader.dataset.keep_in_memory data_loader.dataloader_num_workers", MEMORY),
    *lacks("data_loader.dataset.jsonl_path", "give the folder of its photographs: --images FOLDER"),
    *lacks("data_loader.dataset.**", CAPTIONS),
    *lacks("data_loader.image_transforms.**", AUGMENTATION),
    *lacks("hf_variant hf_hub_token", HUB, "fp16"),
    *lacks("enable_cpu_offload_during_validation allow_mixed_precision_training", SPEED),
    *lacks("output.** resume_from_checkpoint", STATES),
    *lacks("train_unet train_text_encoder", ONLY_VECTORS),
)  # fmt: skip
