"""Recognises torch's out-of-memory errors, for the captioner and the trainer."""

from __future__ import annotations

import torch

_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
"""In the messages of torch's allocators, CUDA, cuBLAS and cuDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device (or, on a CPU, the machine) is out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
