"""OneTrainer's training settings, its concepts and its samples: what their fields are here."""

from __future__ import annotations

from typing import Any

from ti_tui.exchange.mapping import UNSET, Counterpart, NoCounterpart, always, changed, joins, lacks, same
from ti_tui.exchange.optimizer_names import optimizer
from ti_tui.exchange.reasons import (
    ALWAYS_CACHED,
    AUGMENTATION,
    CAPTION_CHANGES,
    CAPTIONS,
    DRAWING,
    DROPOUT,
    HUB,
    LAUNCHER,
    LOG_PLACE,
    LOGGING,
    MEMORY,
    NOISE,
    OF_XFORMERS,
    ONLY_VECTORS,
    OTHER_MODELS,
    SAMPLER,
    SPEED,
    STATES,
    TOLD_BY_MODEL,
)
from ti_tui.exchange.values import (
    attention,
    boolean,
    count,
    flag,
    is_off,
    number,
    one_of,
    positive,
    shown,
    side,
    text,
    when_on,
    whole,
)

FORMATS = one_of({"safetensors": ["safetensors"], "ckpt": ["a1111-pt"], "internal": UNSET})
PRECISION = one_of(
    {"float_16": "fp16", "bfloat_16": "bf16", "float_32": "fp32", "tfloat_32": "fp32", "float_8": UNSET,
     "int_8": UNSET, "nfloat_4": UNSET, "none": UNSET}
)  # fmt: skip
TIMESTEPS = 1000


def _resolution(value: Any) -> int:
    """The first of several resolutions; "1024x768" is one that is not square."""
    return side(str(value).partition(",")[0])


def _scheduler(value: Any) -> str:
    word = text(value).lower()
    return {"cosine_with_hard_restarts": "cosine_with_restarts", "adafactor": "constant"}.get(word, word)


def _family(value: Any) -> Any:
    word = text(value).upper()
    if "STABLE_DIFFUSION" not in word or "_3" in word:
        raise NoCounterpart(f"{shown(value)} is none of SD 1, SD 2 and SDXL, for which this program trains")
    return "sdxl" if "XL" in word else "sd2" if "_2" in word else "sd1"


def _kernel(value: Any) -> Any:
    word = text(value).lower()
    return attention({"sdp": "sdpa", "default": "none", "flash": "sdpa", "cudnn": "sdpa"}.get(word, word))


_PARTS = ("unet", "text_encoder", "text_encoder_2", "vae")
_OTHER_PARTS = (
    "prior", "transformer", "unconditional_transformer", "text_encoder_3", "text_encoder_4", "effnet_encoder",
    "decoder", "decoder_text_encoder", "decoder_vqgan",
)  # fmt: skip

FIELDS: tuple[Counterpart, ...] = (
    *lacks("training_method", "only embeddings are trained here, so the settings are read for that", "embedding"),
    joins("base_model_name", "model", "model.base", text),
    joins("vae.model_name", "vae", "model.vae", text),
    joins("model_type", "family", "model.base", _family, note=TOLD_BY_MODEL),
    joins("text_encoder_layer_skip", "clip skip", "model.clip_skip", lambda value: whole(value) + 1),
    changed("force_v_prediction", "model.prediction", when_on("v_prediction"), "auto reads it from the model"),
    changed("force_epsilon_prediction", "model.prediction", when_on("epsilon"), "auto reads it from the model"),
    joins("concepts.*.path", "photographs", "photographs", text),
    joins("concepts.*.balancing", "repeats", "repeats", count),
    joins("concepts.*.repeats", "repeats", "repeats", count),
    changed("concepts.*.image.enable_random_flip", "dataset.flip", boolean, "of the first concept"),
    joins("resolution", "resolution", "dataset.resolution", _resolution, default="512"),
    changed("aspect_ratio_bucketing", "dataset.buckets", boolean, "", default=True),
    same("masked_training", "dataset.masks"),
    same("unmasked_weight", "dataset.mask_outside"),
    joins("embedding.placeholder", "token", "embedding.token", text),
    joins("embeddings.*.placeholder", "token", "embedding.token", text),
    joins("output_model_destination", "output name", "embedding.token", text),
    same("embedding.token_count", "embedding.vectors", default=1),
    same("embeddings.*.token_count", "embedding.vectors"),
    same("token_count", "embedding.vectors"),
    joins("embedding.initial_embedding_text", "words", "embedding.init", text),
    joins("embeddings.*.initial_embedding_text", "words", "embedding.init", text),
    joins("initial_embedding_text", "words", "embedding.init", text),
    joins("embedding.model_name", "initial file", "embedding.init", text),
    joins("embeddings.*.model_name", "initial file", "embedding.init", text),
    joins("embedding_model_name", "initial file", "embedding.init", text),
    changed("preserve_embedding_norm", "embedding.norm", when_on("match"), "match keeps the vocabulary's norm"),
    joins("embedding_learning_rate", "rate", "scheme.segments", positive, prior=True),
    joins("learning_rate", "rate", "scheme.segments", positive, default=3e-6),
    joins("epochs", "epochs", "scheme.segments", count, default=100),
    joins("learning_rate_scheduler", "scheduler", "scheme.shape", _scheduler),
    joins("learning_rate_warmup_steps", "warm-up", "scheme.warmup_steps", positive, default=200),
    joins("learning_rate_cycles", "cycles", "scheme.segments", positive),
    joins("learning_rate_min_factor", "lowest share", "scheme.segments", positive),
    joins("batch_size", "batch", "training.batch_size", count, default=1),
    joins("gradient_accumulation_steps", "accumulation", "training.accumulation", count, default=1),
    joins("optimizer", "optimizer", "training.optimizer", optimizer),
    joins("optimizer.optimizer", "optimizer", "training.optimizer", optimizer),
    same("weight_decay", "training.weight_decay"),
    same("optimizer.weight_decay", "training.weight_decay"),
    same("clip_grad_norm", "training.max_gradient_norm"),
    same("seed", "training.seed"),
    joins("train_dtype", "precision", "training.precision", PRECISION),
    joins("weight_dtype", "precision", "training.precision", PRECISION),
    *(joins(f"{part}.weight_dtype", "precision", "training.precision", PRECISION) for part in _PARTS[:3]),
    *(joins(f"{part}_weight_dtype", "precision", "training.precision", PRECISION) for part in _PARTS[:3]),
    changed("attention_mechanism", "training.attention", _kernel, OF_XFORMERS),
    changed("gradient_checkpointing", "training.recompute",
            lambda value: UNSET if is_off(value) or str(value).upper() == "OFF" else "on",
            "auto uses it only where nothing else fits"),
    *lacks("train_device", "training.device says it; auto finds the card", "cuda"),
    joins("mse_strength", "mse", "training.loss", number),
    joins("mae_strength", "mae", "training.loss", number),
    joins("huber_strength", "huber", "training.loss", number),
    joins("huber_delta", "huber delta", "training.huber_delta", number),
    joins("loss_function", "loss", "training.loss", text),
    joins("loss_weight_fn", "min-SNR", "training.min_snr_gamma", text),
    joins("loss_weight_strength", "min-SNR gamma", "training.min_snr_gamma", number),
    changed("min_snr_gamma", "training.min_snr_gamma", number, ""),
    same("offset_noise_weight", "training.noise_offset"),
    changed("min_noising_strength", "training.min_timestep", lambda value: round(number(value) * TIMESTEPS),
            "a timestep of 1000"),
    changed("max_noising_strength", "training.max_timestep", lambda value: round(number(value) * TIMESTEPS),
            "a timestep of 1000"),
    changed("output_model_format", "save.formats", FORMATS, "a list of forms"),
    joins("save_every", "save every", "save.every_epochs", whole),
    joins("save_after", "save every", "save.every_epochs", whole),
    joins("save_every_unit", "save unit", "save.every_epochs", text),
    joins("save_after_unit", "save unit", "save.every_epochs", text),
    joins("backup_after", "backup every", "save.every_epochs", whole),
    joins("backup_after_unit", "backup unit", "save.every_epochs", text),
    joins("sample_after", "sample every", "sample.every_epochs", whole),
    joins("sample_after_unit", "sample unit", "sample.every_epochs", text),
    changed("tensorboard", "save.log_to", when_on(["tensorboard"]), LOG_PLACE),
    changed("rolling_backup_count", "save.keep", count, "every checkpoint is a backup"),
    joins("samples.*.prompt", "prompts", "sample.prompts"),
    joins("samples.*.negative_prompt", "negative", "sample.prompts"),
    joins("samples.*.width", "width", "sample.prompts"),
    joins("samples.*.height", "height", "sample.prompts"),
    joins("samples.*.seed", "seed", "sample.prompts"),
    joins("samples.*.random_seed", "random seed", "sample.prompts", flag),
    joins("samples.*.diffusion_steps", "drawing steps", "sample.prompts"),
    joins("samples.*.cfg_scale", "guidance", "sample.prompts"),
    Counterpart("workspace_dir", "run_folder", note="the run folder is named by RUN"),
    *lacks("samples.*.noise_scheduler sample_noise_scheduler", SAMPLER),
    *always("samples.*.enabled", "every prompt is drawn"),
    *lacks("samples.*.**", DRAWING, "1", "10.0"),
    *lacks("concepts.*.text.prompt_source", CAPTIONS, "sample"),
    *lacks("concepts.*.text.**", CAPTION_CHANGES, ",", "1", "full", "capslock, title, first, random"),
    *lacks("concepts.*.image.**", AUGMENTATION, "512"),
    *always("concepts.*.enabled", "photographs are left out in the run"),
    *lacks(
        "concepts.*.name concepts.*.seed concepts.*.balancing_strategy concepts.*.loss_weight concepts.*.type",
        "photographs are used alike, repeats times in an epoch", "repeats", "1", "1.0", "standard",
    ),
    *lacks("concepts.*.image_variations concepts.*.text_variations", "one crop and one caption for each image", "1"),
    *lacks("concepts.*.include_subdirectories", "give each folder the name <repeats>_<name>, or use init --subfolders"),
    *lacks("concepts.*.validation_concept", "images are held out by evaluation.hold_out"),
    *lacks("random_rotate_and_crop circular_mask_generation", AUGMENTATION),
    *lacks(
        "unmasked_probability normalize_masked_area_loss masked_prior_preservation_weight "
        "custom_conditioning_image",
        "with masks on, what they leave out has the weight mask_outside",
    ),
    *always("image_caching latent_caching text_caching", ALWAYS_CACHED),
    *lacks("latent_caching_epochs cache_dir clear_cache_before_training only_cache", ALWAYS_CACHED, "1", "true"),
    *lacks(
        "tensorboard_expose tensorboard_always_on tensorboard_port validation validate_after "
        "validate_after_unit",
        LOGGING,
    ),
    *lacks("debug_mode debug_dir", LOGGING, "debug"),
    *lacks("include_train_config", "the embedding's metadata holds the run's own facts"),
    *lacks(
        "continue_last_backup prevent_overwrites rolling_backup backup_before_save backup_dir "
        "samples_to_tensorboard non_ema_sampling save_skip_first sample_skip_first save_filename_prefix",
        STATES, "true",
    ),
    *lacks(
        "output_dtype embedding_weight_dtype",
        "vectors are trained and saved in fp32, which every program reads", "float_32",
    ),
    *lacks("vae.weight_dtype vae_weight_dtype", "the VAE encodes in fp32, once", "float_32"),
    *lacks("fallback_train_dtype enable_autocast_cache", "the plan takes another format where one is not possible"),
    *lacks("extra_model_name decoder_model_name prior_model_name", OTHER_MODELS),
    *lacks(
        "train_text_encoder train_text_encoder_epochs text_encoder_learning_rate train_text_encoder_2 "
        "train_text_encoder_2_epochs text_encoder_2_learning_rate train_unet train_unet_epochs "
        "unet_learning_rate train_prior train_prior_epochs prior_learning_rate additional_embeddings "
        "lora_rank lora_alpha lora_model_name lora_decompose lora_weight_dtype peft_type layer_filter "
        "layer_filter_preset layer_filter_regex",
        ONLY_VECTORS,
    ),
    *lacks("unet.** text_encoder.** text_encoder_2.** vae.**", ONLY_VECTORS, "true", "1.0", "never"),
    *lacks(" ".join(f"{part}.**" for part in _OTHER_PARTS), OTHER_MODELS, "true", "float_32", "1.0", "never"),
    *lacks(
        "text_encoder_2_layer_skip text_encoder_3_layer_skip text_encoder_4_layer_skip "
        "text_encoder_sequence_length text_encoder_2_sequence_length",
        "SDXL always reads the layer before the last",
    ),
    *lacks("rescale_noise_scheduler_to_zero_terminal_snr", TOLD_BY_MODEL),
    *lacks("generalized_offset_noise perturbation_noise_weight cep_gamma", NOISE),
    *lacks(
        "timestep_distribution noising_weight noising_bias timestep_shift dynamic_timestep_shifting",
        "timesteps are spread evenly between min_timestep and max_timestep", "uniform", "1", "1.0",
    ),
    *lacks("log_cosh_strength vb_loss_strength loss_scaler", "the loss is l2, l1 or huber", "1", "1.0"),
    *lacks("learning_rate_scaler", "the rate stands as it is; multiply it yourself"),
    *lacks("custom_learning_rate_scheduler scheduler_params", "the schedulers of the list are read"),
    *lacks("dropout_probability", DROPOUT),
    *lacks("ema ema_decay ema_update_step_interval", "the best checkpoint is kept instead of an average", "0.999", "5"),
    *lacks(
        "caching_threads dataloader_threads prefetch_next_batch temp_device async_offloading "
        "layer_offload_fraction enable_activation_offloading compile",
        MEMORY, "cpu", "true",
    ),
    *lacks(
        "multi_gpu device_indexes gradient_reduce_precision fused_gradient_reduce async_gradient_reduce "
        "async_gradient_reduce_buffer",
        LAUNCHER, "float_32_stochastic", "true", "100",
    ),
    *lacks("force_circular_padding frames quantization.**", OTHER_MODELS, "25", "full", "none"),
    *lacks(
        "embedding.** embeddings.*.**",
        "one embedding of input vectors is trained over the whole run", "true", "never",
    ),
    *lacks("concept_file_name sample_definition_file_name", "read where the file is here"),
    *lacks("__version optimizer.__version", "the form of the file", *map(str, range(20))),
    *lacks("secrets.** cloud.**", HUB),
    joins("optimizer.**", "optimizer argument", "training.optimizer_arguments"),
    *lacks(
        "optimizer.fused optimizer.foreach optimizer.capturable optimizer.differentiable "
        "optimizer.stochastic_rounding optimizer.fused_back_pass optimizer.fsdp_in_use optimizer.is_paged "
        "optimizer.optim_bits",
        SPEED, "true",
    ),
)  # fmt: skip
