"""The names of optimizers in other programs, and the arguments that ours take."""

from __future__ import annotations

import re
from typing import Any

from ti_tui.exchange.mapping import NoCounterpart
from ti_tui.exchange.values import shown
from ti_tui.run.optimizers import OPTIMIZERS

NAMES = {
    "adamw8bit": "adamw8bit", "adam8bit": "adamw8bit", "pagedadamw8bit": "adamw8bit", "sgdnesterov": "sgd",
    "pagedadamw": "adamw", "prodigyplus": "prodigy", "adamwadv": "adamw", "prodigyplusschedulefree": "prodigy",
}  # fmt: skip
"""Those that are not ours without - and _; without what stands before the last dot."""
_ADAM = {"betas", "eps", "amsgrad"}
TAKEN: dict[str, set[str]] = {
    "adamw": _ADAM, "adam": _ADAM, "adamax": {"betas", "eps"}, "nadam": {"betas", "eps", "momentum_decay"},
    "radam": {"betas", "eps"}, "adamw8bit": {"betas", "eps", "min_8bit_size", "percentile_clipping", "block_wise"},
    "prodigy": {"betas", "beta3", "eps", "d0", "d_coef", "growth_rate", "decouple", "use_bias_correction",
                "safeguard_warmup", "slice_p"},
    "sgd": {"momentum", "dampening", "nesterov"}, "rmsprop": {"alpha", "eps", "momentum", "centered"},
    "adagrad": {"lr_decay", "eps", "initial_accumulator_value"}, "adadelta": {"rho", "eps"},
    "adafactor": {"beta2_decay", "d"},
}  # fmt: skip
"""The arguments of each of our optimizers that other programs name alike."""
DECAY_OF_ADAMW = 0.01
"""What AdamW takes in torch and bitsandbytes if nothing is said; ours takes 0."""


def optimizer(value: Any) -> str:
    """Our name of an optimizer. Raises NoCounterpart."""
    word = re.sub(r"[-_\s]", "", str(value).lower().rpartition(".")[2])
    word = NAMES.get(word, word)
    if word not in OPTIMIZERS:
        raise NoCounterpart(f"there is no optimizer {shown(value)} here; adamw is used")
    return word


def is_exact(value: Any, ours: str) -> bool:
    """Whether an optimizer of another program is the very same as ours."""
    return re.sub(r"[-_\s]", "", str(value).lower().rpartition(".")[2]) == ours
