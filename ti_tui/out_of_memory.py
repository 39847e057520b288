"""Whether an error of torch says that memory ran out; the captioner and the trainer ask this."""

from __future__ import annotations

import torch

_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
"""How torch's allocators, CUDA, cuBLAS and cuDNN say it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device (or, on a CPU, the machine) has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
