"""Embedding health: the norms of the vectors, how far they moved, how much they differ. Needs no model run.

The trainer measures it at each checkpoint, `ti-tui embeddings inspect` for any file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ti_tui.embeddings.files import Vectors
from ti_tui.embeddings.vocabulary import PERCENTILES, Vocabulary, directions_of, norms_of

LONG = 5.0
"""Long vectors: above this multiple of the median word's norm. The text encoder adds the position embedding, and in
each layer what it takes from other words, to the vector, and normalises the sum: at k times the norm, that counts 1/k.
Kim et al. (arXiv 2512.13672) see prompts ignored at norms above 20, 50 times CLIP-L's 0.4; at 3 times the norm our demo
model follows prompts (docs/quality.md). Where between the two it begins is not known; 5 is a choice."""

FAINT = 0.2
"""Faint vectors: below this multiple of the median word's norm. For the same reason the encoder sees little but the
position."""

SAME_WAY = 0.98
"""Cosine from which two vectors count as the same: the sine of their angle is below a fifth."""

FEW = 0.5
"""Effective rank per vector; below this, half as many vectors might do."""

NAMED = 4
"""At most this many vectors are listed in a sentence; the rest is a count."""

_LISTS = ("percentiles", "word_norms", "start_cosines")


@dataclass(frozen=True)
class Health:
    """Measurements of the vectors of one text encoder, in order. A vector that is not finite has NaN, and is left out
    of comparisons. Vectors are numbered from 0 here, and from 1 in sentences.

    norms:          of the vectors.
    mean_cosine:    mean over all pairs; None for a single vector.
    closest:        the pair with the highest cosine, and that cosine; None for a single vector.
    effective_rank: how many orthogonal vectors of equal norm would be as varied (see the function).
    percentiles:    for each norm, the percentage of words with a smaller norm; None without a vocabulary.
    word_norms:     the words' norms at PERCENTILES; None without a vocabulary.
    start_cosines:  of each vector to its initial vector; None if that is not known.
    effective_rank_of_change: of the change from the initial vectors, which are often all the same; None likewise.
    """

    norms: tuple[float, ...]
    mean_cosine: float | None
    closest: tuple[int, int, float] | None
    effective_rank: float
    percentiles: tuple[float, ...] | None = None
    word_norms: tuple[float, ...] | None = None
    start_cosines: tuple[float, ...] | None = None
    effective_rank_of_change: float | None = None

    @classmethod
    def of(cls, rows: Vectors, *, starts: Vectors | None = None, vocabulary: Vocabulary | None = None) -> Health:
        """Measure the vectors `rows` [n, width]; `starts` [n, width] are the initial vectors."""
        finite = np.isfinite(rows).all(axis=1)
        norms = tuple(float(norm) for norm in np.where(finite, norms_of(rows), np.nan))
        mean_cosine, closest = _between(rows[finite], np.flatnonzero(finite).tolist())
        start_cosines = rank_of_change = None
        if starts is not None:
            cosines = np.einsum("ij,ij->i", directions_of(rows), directions_of(starts))
            start_cosines = tuple(float(cosine) for cosine in np.where(finite, cosines, np.nan))
            # In float64, where the difference of two float32 cannot overflow.
            rank_of_change = effective_rank(rows[finite].astype(np.float64) - starts[finite])
        return cls(
            norms=norms,
            mean_cosine=mean_cosine,
            closest=closest,
            effective_rank=effective_rank(rows[finite]),
            percentiles=None if vocabulary is None else tuple(map(vocabulary.percentile_of, norms)),
            word_norms=None if vocabulary is None else vocabulary.norms,
            start_cosines=start_cosines,
            effective_rank_of_change=rank_of_change,
        )

    @property
    def times_a_word(self) -> tuple[float, ...]:
        """Each norm as a multiple of the median word's; empty without a vocabulary."""
        median = self.word_norms[PERCENTILES.index(50)] if self.word_norms else 0.0
        return tuple(norm / median for norm in self.norms) if median > 0 else ()

    @property
    def has_turned(self) -> bool:
        """Whether any vector has changed its direction; True if that is not known. Initial vectors may all be equal."""
        return self.start_cosines is None or not all(cosine >= SAME_WAY for cosine in self.start_cosines)

    @property
    def rank_of_learned(self) -> float:
        """The effective rank of the change from the initial vectors; of the vectors themselves if that is not known."""
        return self.effective_rank if self.effective_rank_of_change is None else self.effective_rank_of_change

    @property
    def fewer_might_do(self) -> bool:
        """Whether the vectors vary so little that fewer of them might do."""
        finite = sum(not math.isnan(norm) for norm in self.norms)
        return self.has_turned and self.rank_of_learned < FEW * finite

    def findings(self) -> tuple[str, ...]:
        """Problems with the vectors, a sentence each, the worst first; empty if all is well."""
        found = []
        if spoiled := [index for index, norm in enumerate(self.norms) if math.isnan(norm)]:
            found.append(f"{_vectors(spoiled, 'has', 'have')} numbers that are not finite: the embedding is unusable")
        times = self.times_a_word
        for odd, effect in (
            ([index for index, ratio in enumerate(times) if ratio > LONG], "other words may drown"),
            ([index for index, ratio in enumerate(times) if ratio < FAINT], "too little to have an effect"),
        ):
            if odd:
                norms = _times([times[index] for index in odd])
                found.append(f"{_vectors(odd, 'has', 'have')} {norms} the norm of the median word: {effect}")
        if self.has_turned and self.closest is not None and self.closest[2] >= SAME_WAY:
            *two, cosine = self.closest
            found.append(
                f"{_vectors(two, '', 'point')} in the same direction (cosine {cosine:.2f}): one of them adds nothing"
            )
        if self.fewer_might_do:
            finite = len(self.norms) - len(spoiled)
            found.append(f"the effective rank of {finite} vectors is {self.rank_of_learned:.1f}: fewer might do")
        return tuple(found)

    def as_values(self) -> dict[str, Any]:
        """As plain values for an event: numbers with three digits, None for NaN; 400 bytes of JSON for 12 vectors."""
        values = {field.name: _short(getattr(self, field.name)) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_values(cls, values: Any) -> Health | None:
        """The inverse of `as_values`; None if the values are invalid."""
        try:
            first, second, cosine = values.get("closest") or (0, 0, None)
            if len(values.get("word_norms", PERCENTILES)) != len(PERCENTILES):
                return None
            return cls(
                norms=_numbers(values["norms"]),
                mean_cosine=_number(values.get("mean_cosine")),
                closest=None if cosine is None else (int(first), int(second), float(cosine)),
                effective_rank=float(values["effective_rank"]),
                **{name: _numbers(values[name]) for name in _LISTS if name in values},
                effective_rank_of_change=_number(values.get("effective_rank_of_change")),
            )
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            return None


def effective_rank(rows: NDArray[np.floating]) -> float:
    """How many dimensions the rows [n, width] use, from 1 to n; 0 if all are zero.

    exp of the entropy of the singular values as shares of their sum (Roy and Vetterli, EUSIPCO 2007).
    """
    singular = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    singular = singular[singular > 0]
    if not len(singular):
        return 0.0
    shares = singular / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _between(rows: Vectors, places: Sequence[int]) -> tuple[float | None, tuple[int, int, float] | None]:
    """Mean cosine of all pairs of `rows`, and the closest pair, named by its `places`."""
    if len(rows) < 2:
        return None, None
    directions = directions_of(rows)
    first, second = np.triu_indices(len(rows), k=1)
    cosines = np.clip((directions @ directions.T)[first, second], -1, 1)
    top = int(cosines.argmax())
    return float(cosines.mean()), (int(places[first[top]]), int(places[second[top]]), float(cosines[top]))


def _vectors(which: Sequence[int], one: str, several: str) -> str:
    """`vector 3 is`, `vectors 2 and 5 are`, `vectors 1, 2, 3, 4 and 8 more are`."""
    names = [str(index + 1) for index in which[:NAMED]]
    if len(which) > NAMED:
        names.append(f"{len(which) - NAMED} more")
    if len(names) == 1:
        return f"vector {names[0]} {one}"
    return f"vectors {', '.join(names[:-1])} and {names[-1]} {several}"


def _times(ratios: Sequence[float]) -> str:
    low, high = (f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}" for ratio in (min(ratios), max(ratios)))
    return f"{low if low == high else f'{low} to {high}'} times"


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_short(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.3g}") if math.isfinite(value) else None
    return value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(math.nan if value is None else float(value) for value in values)
