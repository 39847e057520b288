"""Finds near-duplicate photographs by a 128-bit difference hash.

The hash is dHash (N. Krawetz, 2013), horizontal and vertical; 64 bits alone confuse different photographs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SAME, ALIKE = 8, 24
"""Differing bits of 128: up to SAME it is the same one, saved or resized differently; up to ALIKE a similar one."""
FEWEST_BITS = 6
"""If fewer bits are set, or fewer are not set, the photograph has too little in it to be compared."""

_SIDE = 8
_BYTES = 2 * _SIDE * _SIDE // 8
_POPULATION = np.array([number.bit_count() for number in range(256)], dtype=np.uint16)


@dataclass(frozen=True)
class Fingerprint:
    """Hash of a photograph and of its mirror image, 128 bits each."""

    bits: int
    mirrored: int

    def distance(self, other: Fingerprint) -> int:
        """Bits that differ from `other` or from its mirror image, whichever is nearer."""
        return min((self.bits ^ other.bits).bit_count(), (self.bits ^ other.mirrored).bit_count())

    @property
    def comparable(self) -> bool:
        """Whether it can be compared: the bits of an even surface are all the same."""
        return FEWEST_BITS <= self.bits.bit_count() <= 8 * _BYTES - FEWEST_BITS


def fingerprint(grey: Image.Image) -> Fingerprint:
    """Fingerprint of an upright grey photograph (mode L)."""
    across = np.asarray(grey.resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0), dtype=np.int16)
    down = np.asarray(grey.resize((_SIDE, _SIDE + 1), Image.Resampling.LANCZOS, reducing_gap=3.0), dtype=np.int16)
    return Fingerprint(_bits(across, down), _bits(across[:, ::-1], down[:, ::-1]))


@dataclass(frozen=True)
class Match:
    """An earlier photograph that looks like this one. bits: how many differ; mirrored: it is a mirror image."""

    path: Path
    bits: int
    mirrored: bool


class LookalikeFinder:
    """The photographs so far; finds the one that is most similar to a new one."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._known = np.zeros((64, _BYTES), dtype=np.uint8)

    def nearest(self, one: Fingerprint, *, within: int = ALIKE) -> Match | None:
        """The most similar photograph, if at most `within` bits differ; the first of equally similar ones."""
        count = len(self._paths)
        if not count or not one.comparable:
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
        if not one.comparable:
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
