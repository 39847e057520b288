"""The processes that train one run together (data parallel): sums, broadcasts, waiting. With one process, no-ops."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor


class Processes:
    """This process among those of the run, as `accelerate` started them; sums are computed on `device`.

    Each method is a collective operation: all processes of the run have to call it, in the same order.
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
        """Whether this is the process that writes files and events."""
        return self._accelerator.is_main_process

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self._accelerator.wait_for_everyone()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes, on the device of this process's `tensor`."""
        if self.count == 1:
            return tensor
        # The sum is taken on the cards, even if the tensor is on the CPU.
        return self._accelerator.reduce(tensor.to(self._device), "sum").to(tensor.device)

    def any(self, here: bool) -> bool:
        """Whether `here` is true in any process."""
        return here if self.count == 1 else bool(self.sum(torch.tensor(float(here), device=self._device)) > 0)

    def from_main(self, value: Any) -> Any:
        """The main process's `value`."""
        if self.count == 1:
            return value
        shared = [value]
        broadcast_object_list(shared)
        return shared[0]

    def end(self) -> None:
        """Disconnect; without this, connections break with errors at exit."""
        if self.count > 1:
            self._accelerator.end_training()
