"""The words of a model, to compare learned vectors with: its token tables, read in pieces and without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ti_tui.embeddings.files import NUMPY_TYPES, Vectors, as_float32
from ti_tui.run.model import TOKEN_TABLES, ModelFacts
from ti_tui.run.weight_files import find_weights
from ti_tui.run.weight_shapes import TensorLocation, WeightsError, read_places

PERCENTILES = (1, 5, 50, 95, 99)
"""The percentiles of the words' norms in `Vocabulary.norms`."""

PIECE_ROWS = 2048
"""Rows of a table in memory at a time: 6 MiB in float32 at CLIP-L's width."""

FOLDER_TABLE = "embeddings.token_embedding.weight"
"""End of the table's name in a diffusers folder; transformers before 5 puts `text_model.` before it."""

Numbers = NDArray[np.float64]
Pieces = Callable[[], Iterable[Vectors]]


class Near(NamedTuple):
    """A word near a vector, and the cosine between them."""

    word: str
    cosine: float


class Vocabulary:
    """The words of one text encoder: their norms, and which of them are near a vector.

    pieces: each call reads the token table again, in float32 parts [k, width] that are not all in memory together.
    norms:  the words' norms at PERCENTILES.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        parts = []
        for piece in pieces():
            parts.append(norms_of(piece))
            self.width = int(piece.shape[1])
        self._sorted = np.sort(np.concatenate(parts))
        self.norms: tuple[float, ...] = tuple(map(float, np.percentile(self._sorted, PERCENTILES)))

    @property
    def size(self) -> int:
        """Number of words (rows of the token table)."""
        return len(self._sorted)

    @property
    def chance(self) -> float:
        """Expected cosine between a random direction and its nearest word; smaller cosines mean nothing.

        The highest of `size` cosines, each about normally distributed with a standard deviation of 1/sqrt(width). Real
        words are not spread evenly, so it is a little less.
        """
        return NormalDist().inv_cdf(1 - 1 / max(self.size, 2)) / math.sqrt(self.width)

    def percentile_of(self, norm: float) -> float:
        """Percentage of words with a smaller norm; words with an equal norm count half. NaN for NaN."""
        if math.isnan(norm):
            return norm
        below, upto = (int(np.searchsorted(self._sorted, norm, side)) for side in ("left", "right"))
        return 50 * (below + upto) / self.size

    def nearest(self, rows: Vectors, words: Callable[[int], str], count: int = 3) -> list[list[Near]]:
        """For each of the vectors [n, width] the `count` words nearest in direction, nearest first.

        words: text of a row of the table. Only words with a positive cosine count, so a vector of zeros or with NaN
        has none.
        """
        ours = directions_of(rows)
        cosines, ids = np.zeros((len(rows), count)), np.zeros((len(rows), count), dtype=np.int64)
        first = 0
        for piece in self._pieces():
            here = np.broadcast_to(np.arange(first, first + len(piece)), (len(rows), len(piece)))
            with np.errstate(invalid="ignore"):
                cosines = np.hstack([cosines, ours @ directions_of(piece).T])
            best = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
            cosines = np.take_along_axis(cosines, best, axis=1)
            ids = np.take_along_axis(np.hstack([ids, here]), best, axis=1)
            first += len(piece)
        return [
            [Near(words(int(word)), min(1.0, float(cosine))) for word, cosine in zip(*row, strict=True) if cosine > 0]
            for row in zip(ids, cosines, strict=True)
        ]


def norms_of(rows: Vectors) -> Numbers:
    """Norms [n] of rows [n, width]; summed in float64, so that nothing overflows."""
    norms: Numbers = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return norms


def directions_of(rows: Vectors) -> Numbers:
    """Rows [n, width] scaled to norm 1; zeros stay zeros."""
    norms = norms_of(rows)[:, None]
    with np.errstate(invalid="ignore"):
        directions: Numbers = rows / np.where(norms == 0, 1, norms)
    return directions


def read_vocabularies(model: ModelFacts) -> tuple[Vocabulary, ...]:
    """The vocabulary of each text encoder of `model`: one for SD 1 and 2, two for SDXL.

    Raises WeightsError if a table is not there, or cannot be read without torch.
    """
    return tuple(Vocabulary(pieces_of(*_find_table(model, index))) for index in range(len(model.widths)))


def pieces_of(path: Path, name: str) -> Pieces:
    """The tensor `name` [n, width] of a .safetensors file, for `Vocabulary`. Raises WeightsError."""
    place = read_places(path)[name]
    if place.dtype not in NUMPY_TYPES:
        raise WeightsError(f"{path}: {name} has the number format {place.dtype}, which is not supported")
    whole = place.end - place.start == math.prod(place.shape) * np.dtype(NUMPY_TYPES[place.dtype]).itemsize
    if len(place.shape) != 2 or not whole or 0 in place.shape:
        raise WeightsError(f"{path}: {name} is not a token table", remedy="Copy or download the model again.")
    return partial(_read_pieces, path, place)


def _read_pieces(path: Path, place: TensorLocation) -> Iterator[Vectors]:
    count, width = place.shape
    with path.open("rb") as file:
        file.seek(place.start)
        for first in range(0, count, PIECE_ROWS):
            wanted = min(PIECE_ROWS, count - first) * width
            read = np.fromfile(file, NUMPY_TYPES[place.dtype], wanted)
            if len(read) < wanted:
                raise WeightsError(f"{path} became shorter while it was read", remedy="Copy or download it again.")
            yield as_float32(read, place.dtype).reshape(-1, width)


def _find_table(model: ModelFacts, index: int) -> tuple[Path, str]:
    """File and name of the token table of a text encoder, counted from 0."""
    if model.single_file:
        places = read_places(model.path)
        return model.path, next(name for name in TOKEN_TABLES[model.family][index] if name in places)
    folder = model.path / ("text_encoder_2" if index else "text_encoder")
    for file in (folder / name for name in find_weights(folder).files if name.endswith(".safetensors")):
        for name in read_places(file):
            if name.endswith(FOLDER_TABLE):
                return file, name
    raise WeightsError(
        f"{folder} has no .safetensors file with the token table",
        remedy="Give a model in .safetensors; PyTorch's own format cannot be read here.",
    )
