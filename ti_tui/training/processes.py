"""The processes that train one run together: sums over all of them, and what they agree on. Alone, none of it costs."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor


class Processes:
    """This process among those of the run, as `accelerate` started them; `device` is where their sums are taken.

    Each method is a meeting: all processes of the run have to call it, in the same order.
    """

    def __init__(self, accelerator: Accelerator, device: torch.device) -> None:
        self._accelerator = accelerator
        self._device = device

    @property
    def count(self) -> int:
        return self._accelerator.num_processes

    @property
    def index(self) -> int:
        return self._accelerator.process_index

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and events."""
        return self._accelerator.is_main_process

    def wait(self) -> None:
        """Go on when all of them are here."""
        self._accelerator.wait_for_everyone()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of everyone's `tensor`, on the device of this one's."""
        if self.count == 1:
            return tensor
        # They meet on their cards, also where a tensor lies beside them.
        return self._accelerator.reduce(tensor.to(self._device), "sum").to(tensor.device)

    def any(self, here: bool) -> bool:
        """Whether something holds in any of them."""
        return here if self.count == 1 else bool(self.sum(torch.tensor(float(here), device=self._device)) > 0)

    def from_main(self, value: Any) -> Any:
        """What the main process has as `value`."""
        if self.count == 1:
            return value
        shared = [value]
        broadcast_object_list(shared)
        return shared[0]

    def end(self) -> None:
        """Part in order; without it their connections break at exit."""
        if self.count > 1:
            self._accelerator.end_training()
