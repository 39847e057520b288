"""The YAML of the original textual inversion (and of latent diffusion): what its fields are here."""

from __future__ import annotations

from typing import Any

from ti_tui.exchange.mapping import UNSET, Counterpart, changed, joins, lacks, same
from ti_tui.exchange.reasons import AUGMENTATION, LAUNCHER, ONLY_VECTORS, SPEED, TOLD_BY_MODEL
from ti_tui.exchange.values import count, first_text, flag, number, positive, side, text

T = "model.params.personalization_config.params."


def _style(value: Any) -> Any:
    return "style" if "style" in text(value).lower() else UNSET


FIELDS: tuple[Counterpart, ...] = (
    joins("model.base_learning_rate", "rate", "scheme.segments", positive),
    joins("model.params.ckpt_path", "model", "model.base", text),
    joins(f"{T}placeholder_strings", "token", "embedding.token", first_text),
    joins(f"{T}placeholder_tokens", "token", "embedding.token", first_text),
    joins(f"{T}initializer_words", "words", "embedding.init", first_text),
    same(f"{T}num_vectors_per_token", "embedding.vectors", default=1),
    joins("model.params.embedding_manager_ckpt", "initial file", "embedding.init", text),
    joins("data.params.batch_size", "batch", "training.batch_size", count, default=1),
    joins("data.params.train.params.size", "resolution", "dataset.resolution", side, default=512),
    joins("data.params.train.params.repeats", "repeats of an epoch", "scheme.segments", count),
    joins("data.params.train.params.data_root", "photographs", "photographs", text),
    joins("data.params.train.target", "template", "dataset.template", _style),
    changed("data.params.train.params.flip_p", "dataset.flip",
            lambda value: True if number(value) > 0 else UNSET, "half of the time"),
    joins("lightning.trainer.max_steps", "steps", "scheme.segments", count),
    joins("lightning.trainer.max_epochs", "epochs", "scheme.segments", count),
    joins("lightning.trainer.accumulate_grad_batches", "accumulation", "training.accumulation", count, default=1),
    joins("rate times batch", "rate times batch", "scheme.segments", flag, default=True),
    same("lightning.callbacks.image_logger.params.batch_frequency", "sample.every_steps"),
    same("lightning.modelcheckpoint.params.every_n_train_steps", "save.every_steps"),
    changed("model.params.parameterization", "model.prediction", lambda value: {"v": "v_prediction"}.get(
        text(value), UNSET), "auto reads it from the model"),
    *lacks("model.params.embedding_reg_weight", "norm = match keeps the vectors' norm instead"),
    *lacks(f"{T}per_image_tokens data.params.train.params.per_image_tokens",
           "all images share one token"),
    *lacks(f"{T}progressive_words {T}progressive_counter", "all vectors are trained from the first step"),
    *lacks("model.params.linear_start model.params.linear_end model.params.timesteps model.params.beta_schedule",
           "the noise schedule is the model's own", "0.00085", "0.012", "1000"),
    *lacks("model.params.unfreeze_model model.params.model_lr model.params.cond_stage_trainable", ONLY_VECTORS, "true"),
    *lacks("model.params.** model.target", TOLD_BY_MODEL, "true"),
    *lacks("data.params.num_workers data.params.wrap lightning.trainer.benchmark", SPEED),
    *lacks("data.params.train.params.set", "all photographs are trained on but those of evaluation.hold_out", "train"),
    *lacks("data.params.validation.**", "images are held out by evaluation.hold_out", "val"),
    *lacks("data.**", AUGMENTATION),
    *lacks("lightning.callbacks.**", "a sample for each of sample.prompts"),
    *lacks("lightning.**", LAUNCHER),
)  # fmt: skip
