"""Pictures that look the same: a 128-bit difference hash, and the nearest of those seen before.

The hash is dHash (N. Krawetz, 2013) across and down; 64 bits alone cannot tell a small crop from another picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SAME, ALIKE = 8, 24
"""Bits of 128 that differ: up to SAME it is the same picture, saved or sized another way; up to ALIKE a near one."""
FEWEST_BITS = 6
"""Fewer bits that are set, or not set, belong to a picture without anything to compare."""

_SIDE = 8
_BYTES = 2 * _SIDE * _SIDE // 8
_POPULATION = np.array([number.bit_count() for number in range(256)], dtype=np.uint16)


@dataclass(frozen=True)
class Fingerprint:
    """Hash of a picture and of its mirror image, 128 bits each."""

    bits: int
    mirrored: int

    def distance(self, other: Fingerprint) -> int:
        """Bits that differ from `other` or from its mirror image, whichever is nearer."""
        return min((self.bits ^ other.bits).bit_count(), (self.bits ^ other.mirrored).bit_count())

    @property
    def telling(self) -> bool:
        """Whether it says anything: of an even surface all bits are alike."""
        return FEWEST_BITS <= self.bits.bit_count() <= 8 * _BYTES - FEWEST_BITS


def fingerprint(grey: Image.Image) -> Fingerprint:
    """Fingerprint of an upright grey picture (mode L)."""
    across = np.asarray(grey.resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0), dtype=np.int16)
    down = np.asarray(grey.resize((_SIDE, _SIDE + 1), Image.Resampling.LANCZOS, reducing_gap=3.0), dtype=np.int16)
    return Fingerprint(_bits(across, down), _bits(across[:, ::-1], down[:, ::-1]))


@dataclass(frozen=True)
class Match:
    """A picture seen before that looks like this one. bits: how many differ; mirrored: the other way round."""

    path: Path
    bits: int
    mirrored: bool


class LookalikeFinder:
    """Pictures seen so far; finds the one that is most like a new one."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._known = np.zeros((64, _BYTES), dtype=np.uint8)

    def nearest(self, one: Fingerprint, *, within: int = ALIKE) -> Match | None:
        """The most similar picture, if no more than `within` bits differ; of equal ones the first."""
        count = len(self._paths)
        if not count or not one.telling:
            return None
        plain, mirrored = (
            _POPULATION[self._known[:count] ^ _as_bytes(bits)].sum(axis=1) for bits in (one.bits, one.mirrored)
        )
        distances = np.minimum(plain, mirrored)
        at = int(distances.argmin())
        if distances[at] > within:
            return None
        return Match(self._paths[at], int(distances[at]), bool(mirrored[at] < plain[at]))

    def add(self, path: Path, one: Fingerprint) -> None:
        """Remember a picture."""
        if not one.telling:
            return
        if len(self._paths) == len(self._known):
            self._known = np.concatenate([self._known, np.zeros_like(self._known)])
        self._known[len(self._paths)] = _as_bytes(one.bits)
        self._paths.append(path)


def _bits(across: np.ndarray, down: np.ndarray) -> int:
    brighter = np.concatenate([(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()])
    return int.from_bytes(np.packbits(brighter).tobytes(), "big")


def _as_bytes(bits: int) -> np.ndarray:
    return np.frombuffer(bits.to_bytes(_BYTES, "big"), dtype=np.uint8)
