"""Random numbers as a function of (seed, purpose, step, ...): no random state to save, and resuming is exact."""

from __future__ import annotations

import zlib

import numpy as np
import torch

_WORD = 2**32


def seed_for(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for one purpose at one point of the run. The same arguments always give the same seed."""
    words = [seed % _WORD, seed // _WORD % _WORD, zlib.crc32(purpose.encode()), *counters]
    low, high = np.random.SeedSequence(words).generate_state(2, np.uint32)
    # torch.manual_seed takes 64 bits; with 63 it is a positive number everywhere.
    return (int(high) << 32 | int(low)) & (2**63 - 1)


def numpy_stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A random generator for choices, for one purpose at one point of the run."""
    return np.random.default_rng(seed_for(seed, purpose, *counters))


def torch_stream(seed: int) -> torch.Generator:
    """A random generator for noise, on the CPU so that the numbers are the same whatever the card."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(seed)
    return generator
