"""The optimizers that a run file may name. One row here is all that another one needs. No torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

TORCH = "torch.optim"


@dataclass(frozen=True)
class OptimizerClass:
    """Where an optimizer is found.

    module:        what it is imported from; the first part of it is also what pip installs.
    steps_by_rate: it moves each component by about the rate at each step, whatever the gradient's size, so that rates
                   found for one such optimizer mean the same for the others.
    """

    module: str
    name: str
    steps_by_rate: bool = False

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    @property
    def optional(self) -> bool:
        """Whether its package does not come with this program."""
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
"""By the name in the run file, in small letters. The usual ones come first, as the help lists them."""


def find_optimizer(name: str) -> OptimizerClass | None:
    """The optimizer that a run file names, in whatever case; None if there is no such."""
    return OPTIMIZERS.get(name.lower())
