"""The optimizers that a run file may name. To support another one, add a row to the table. No torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

TORCH = "torch.optim"


@dataclass(frozen=True)
class OptimizerClass:
    """Where an optimizer is imported from.

    module:        its module; the first part is also the name of its pip package.
    steps_by_rate: each step moves each component by about the learning rate, whatever the gradient's size, so that the
                   same rates suit all such optimizers.
    """

    module: str
    name: str
    steps_by_rate: bool = False

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    @property
    def optional(self) -> bool:
        """Whether its package is not installed with this program."""
        return self.package != "torch"

    @property
    def installed(self) -> bool:
        return not self.optional or importlib.util.find_spec(self.package) is not None


OPTIMIZERS: dict[str, OptimizerClass] = {
    "adamw": OptimizerClass(TORCH, "AdamW", steps_by_rate=True),
    "adamw8bit": OptimizerClass("bitsandbytes.optim", "AdamW8bit", steps_by_rate=True),
    "prodigy": OptimizerClass("prodigyopt", "Prodigy"),
    "adadelta": OptimizerClass(TORCH, "Adadelta"),
    "adafactor": OptimizerClass(TORCH, "Adafactor"),
    "adagrad": OptimizerClass(TORCH, "Adagrad"),
    "adam": OptimizerClass(TORCH, "Adam", steps_by_rate=True),
    "adamax": OptimizerClass(TORCH, "Adamax", steps_by_rate=True),
    "asgd": OptimizerClass(TORCH, "ASGD"),
    "nadam": OptimizerClass(TORCH, "NAdam", steps_by_rate=True),
    "radam": OptimizerClass(TORCH, "RAdam", steps_by_rate=True),
    "rmsprop": OptimizerClass(TORCH, "RMSprop"),
    "rprop": OptimizerClass(TORCH, "Rprop"),
    "sgd": OptimizerClass(TORCH, "SGD"),
}
"""By name in the run file, in lower case. The common ones come first, as in the help."""


def find_optimizer(name: str) -> OptimizerClass | None:
    """The optimizer that a run file names, whatever the case; None if there is none of that name."""
    return OPTIMIZERS.get(name.lower())
