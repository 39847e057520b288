"""Random numbers as a function of (seed, purpose, step, ...): nothing to save, so resuming is exact by design."""

from __future__ import annotations

import zlib

import numpy as np
import torch

_WORD = 2**32


def seed_for(seed: int, purpose: str, *counters: int) -> int:
    """A 64-bit seed for one purpose at one place of the run. The same arguments give the same seed, always."""
    words = [seed % _WORD, seed // _WORD % _WORD, zlib.crc32(purpose.encode()), *counters]
    low, high = np.random.SeedSequence(words).generate_state(2, np.uint32)
    # torch.manual_seed takes 64 bits; 63 keep it a positive number everywhere.
    return (int(high) << 32 | int(low)) & (2**63 - 1)


def numpy_stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A stream of choices for one purpose at one place of the run."""
    return np.random.default_rng(seed_for(seed, purpose, *counters))


def torch_stream(seed: int) -> torch.Generator:
    """A CPU stream of noise: drawn there so that every kind of card sees the same numbers."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(seed)
    return generator
