"""The settings that A1111 writes into a log folder at each training: what its fields are here."""

from __future__ import annotations

from typing import Any

from ti_tui.exchange.mapping import UNSET, Counterpart, NoCounterpart, changed, joins, lacks, same
from ti_tui.exchange.reasons import SAMPLER
from ti_tui.exchange.values import count, flag, is_off, number, positive, shown, side, text, whole


def _rate(value: Any) -> Any:
    """A number, or A1111's `rate:step` list as a text."""
    written = text(value)
    return written if ":" in written or "," in written else positive(value)


def _clipping(value: Any) -> Any:
    return UNSET if text(value).lower() in ("disabled", "") else _only_norm(value)


def _only_norm(value: Any) -> Any:
    if text(value).lower() != "norm":
        raise NoCounterpart(f"gradients are clipped by their norm, not by {shown(value)}")
    return UNSET


def _seed(value: Any) -> Any:
    return UNSET if is_off(value) or number(value) < 0 else whole(value)


FIELDS: tuple[Counterpart, ...] = (
    joins("embedding_name", "token", "embedding.token", text),
    same("num_vectors_per_token", "embedding.vectors"),
    joins("learn_rate", "rate", "scheme.segments", _rate),
    joins("steps", "steps", "scheme.segments", count),
    joins("batch_size", "batch", "training.batch_size", count, default=1),
    joins("gradient_step", "accumulation", "training.accumulation", count, default=1),
    joins("data_root", "photographs", "photographs", text),
    joins("template_file", "template", "dataset.template", text),
    joins("training_width", "resolution", "dataset.resolution", side, default=512),
    joins("training_height", "resolution", "dataset.resolution", side),
    changed("clip_grad_mode", "training.max_gradient_norm", _clipping, "its limit is clip_grad_value, if it is norm"),
    changed("clip_grad_value", "training.max_gradient_norm", number, ""),
    same("save_embedding_every", "save.every_steps"),
    same("create_image_every", "sample.every_steps"),
    joins("preview_prompt", "prompts", "sample.prompts"),
    joins("preview_negative_prompt", "negative", "sample.prompts"),
    joins("preview_width", "width", "sample.prompts"),
    joins("preview_height", "height", "sample.prompts"),
    joins("preview_seed", "seed", "sample.prompts", _seed),
    joins("preview_steps", "drawing steps", "sample.prompts"),
    joins("preview_cfg_scale", "guidance", "sample.prompts"),
    joins("model_name", "model", "model.base", text),
    same("varsize", "dataset.buckets"),
    changed("use_weight", "dataset.masks", flag, "transparency is a mask"),
    Counterpart("log_directory", "run_folder", note="the run folder is named by RUN"),
    *lacks("model_hash", "the model is found by its file"),
    *lacks("preview_sampler_index preview_sampler_name", SAMPLER),
    *lacks("initial_step", "a run begins at step 0; give the embedding that was trained as --set embedding.init=FILE"),
    *lacks("latent_sampling_method", "latents are drawn from the VAE's posterior at each step", "random"),
    *lacks("num_of_dataset_images", "the photographs are counted"),
    *lacks("save_image_with_stored_embedding", "ti-tui embeddings convert writes pictures with an embedding"),
    *lacks("shuffle_tags tag_drop_out", "captions are used as they are"),
    *lacks("datetime version hypernetwork_name layer_structure activation_func weight_init add_layer_norm use_dropout"
           " save_hypernetwork_every", "not a setting of an embedding"),
)  # fmt: skip
