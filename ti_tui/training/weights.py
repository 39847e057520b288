"""The tensors of a weights file by name, each read only when it is loaded into a model.

Files are read, not memory-mapped: mapped pages count as this process's memory until the whole file is closed, and the
weights would change during training if the file were overwritten. Tensors that are cast are read in pieces, so that
weights of 3 GiB never take 6 GiB.
"""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ti_tui.run.weight_shapes import HARMLESS, Inert, Shapes, WeightsError, read_places, read_shapes

PIECE = 4_000_000
"""Elements read and cast at a time."""
BLOCK_BYTES = 256 * 1024**2
"""Largest block of tensors that is read ahead in one call."""

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""By the names of the safetensors format."""


@dataclass(frozen=True)
class Stored:
    """A tensor that is still in its file: its shape is known from the header, its content is read on demand.

    read: returns the content as a new tensor, in the given dtype unless it holds integers.
    """

    shape: tuple[int, ...]
    read: Callable[[torch.dtype], Tensor]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def then(self, change: Callable[[Tensor], Tensor]) -> Stored:
        """This tensor with `change` applied when it is read; the new shape must not depend on the content."""
        shape = tuple(change(torch.empty(self.shape, device="meta")).shape)
        return Stored(shape, lambda dtype: change(self.read(dtype)))

    def __getitem__(self, index: Any) -> Stored:
        # diffusers' conversion turns 1x1 convolutions into matrices by indexing.
        return self.then(lambda tensor: tensor[index])


Tensors = dict[str, Stored]


class Checkpoint(Mapping[str, Stored]):
    """The tensors of a weights file by name. Raises WeightsError for a file that is damaged or unsafe.

    ahead: reads some of the tensors in another thread.
    """

    def __init__(self, path: Path, ahead: ReadAhead | None = None) -> None:
        self._path = path
        self._ahead = ahead
        self._places: dict[str, _Place] = {}
        self._loaded: dict[str, Tensor] = {}
        if zipfile.is_zipfile(path):
            self._shapes = read_shapes(path)
            self._loaded = _load_pickle(path)
        else:
            self._places = _places(path)
            self._shapes = {name: place.shape for name, place in self._places.items()}

    def __getitem__(self, name: str) -> Stored:
        return Stored(self._shapes[name], partial(self._read, name))

    def _read(self, name: str, dtype: torch.dtype) -> Tensor:
        if name not in self._places:
            # torch maps .ckpt files: without a copy the model would depend on the file.
            return self._loaded[name].to(_wanted(self._loaded[name].dtype, dtype), copy=True)
        place = self._places[name]
        if self._ahead is not None and (found := self._ahead.take(self._path, name, dtype)) is not None:
            return found
        with self._path.open("rb", buffering=0) as file:
            file.seek(place.start)
            return _read(file, place.count, place.dtype, dtype).view(place.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    @property
    def shapes(self) -> Shapes:
        """The shape of each tensor, by name."""
        return self._shapes

    def part(self, *prefixes: str) -> Tensors:
        """The tensors whose names begin with one of `prefixes`, names unchanged."""
        return {name: self[name] for name in self if name.startswith(prefixes)}


class ReadAhead:
    """Reads tensors in a thread while this process does something else, such as importing libraries.

    They are read in blocks, with one allocation and few calls for each, since every call has to wait for the
    interpreter lock, which the imports hold. Errors are ignored: `Checkpoint` then reads the tensor and reports them.

    wanted: files, each with a function that chooses tensors by name; only .safetensors files are read.
    """

    def __init__(self, wanted: Iterable[tuple[Path, Callable[[str], bool]]], dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._files = [(path, choose) for path, choose in wanted if path.suffix == ".safetensors"]
        self._found: dict[tuple[Path, str], Tensor] = {}
        self._news = threading.Condition()
        self._expected: set[tuple[Path, str]] = set()
        self._listed = self._ended = False
        threading.Thread(target=self._run, name="reads weights ahead", daemon=True).start()

    def take(self, path: Path, name: str, dtype: torch.dtype) -> Tensor | None:
        """The tensor, after waiting for it if necessary; None if it is not read here. Each is returned only once."""
        key = path, name
        with self._news:
            self._news.wait_for(lambda: self._listed or self._ended)
            if dtype != self._dtype or key not in self._expected:
                return None
            self._news.wait_for(lambda: key in self._found or self._ended)
            return self._found.pop(key, None)

    def close(self) -> None:
        """Free the tensors that were not taken, and stop reading."""
        with self._news:
            self._ended = True
            self._found.clear()

    def _run(self) -> None:
        threads = torch.get_num_threads()
        # The setting of this thread: casts on several threads would have to wait for the importing thread.
        torch.set_num_threads(1)
        try:
            with contextlib.suppress(Exception):
                self._read_all()
        finally:
            torch.set_num_threads(threads)
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _read_all(self) -> None:
        blocks = [(path, block) for path, choose in self._files for block in _blocks(path, choose)]
        with self._news:
            self._expected = {(path, place.name) for path, block in blocks for place in block}
            self._listed = True
            self._news.notify_all()
        for path, block in blocks:
            if self._ended:
                return
            with path.open("rb", buffering=0) as file:
                file.seek(block[0].start)
                flat = _read(file, sum(place.count for place in block), block[0].dtype, self._dtype)
            parts = flat.split([place.count for place in block])
            with self._news:
                for place, part in zip(block, parts, strict=True):
                    self._found[path, place.name] = part.view(place.shape)
                self._news.notify_all()


@dataclass(frozen=True)
class _Place:
    """Where a tensor is in a .safetensors file: its first byte, and the one after its last."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def _blocks(path: Path, choose: Callable[[str], bool]) -> list[list[_Place]]:
    """The chosen tensors of a file in order of their position, adjacent ones in one block."""
    ordered = sorted((place for place in _places(path).values() if choose(place.name)), key=lambda place: place.start)
    blocks: list[list[_Place]] = []
    for place in ordered:
        last = blocks[-1] if blocks else []
        joins = last and last[-1].end == place.start and last[-1].dtype == place.dtype
        if joins and place.end - last[0].start <= BLOCK_BYTES:
            last.append(place)
        else:
            blocks.append([place])
    return blocks


def _wanted(stored: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    return dtype if stored.is_floating_point else stored


def _places(path: Path) -> dict[str, _Place]:
    """The tensors of a .safetensors file by name. Raises WeightsError, also for a dtype that torch does not have."""
    found: dict[str, _Place] = {}
    for name, place in read_places(path).items():
        dtype = _DTYPES.get(place.dtype)
        if dtype is None:
            raise WeightsError(f"{path}: {name} is of type {place.dtype}, which is not supported")
        found[name] = _Place(name, dtype, place.shape, place.start, place.end)
        if place.end - place.start != found[name].count * dtype.itemsize:
            raise WeightsError(f"{path} is not a valid safetensors file", remedy="Copy or download it again.")
    return found


def _read(file: io.RawIOBase, count: int, stored: torch.dtype, dtype: torch.dtype) -> Tensor:
    """The next `count` elements of an open file as `dtype` (integers keep their type)."""
    flat = torch.empty(count, dtype=_wanted(stored, dtype))
    if stored == flat.dtype:
        _fill(file, flat)
        return flat
    piece = torch.empty(min(PIECE, count), dtype=stored)
    for first in range(0, count, PIECE):
        into = flat[first : first + PIECE]
        _fill(file, piece[: len(into)])
        into.copy_(piece[: len(into)])
    return flat


def _fill(file: io.RawIOBase, tensor: Tensor) -> None:
    view: memoryview = memoryview(tensor.view(torch.uint8).numpy())  # type: ignore[arg-type]
    while view:
        count = file.readinto(view)
        if not count:
            name = getattr(file, "name", "the file")
            raise WeightsError(f"{name} became shorter while it was read", remedy="Copy or download it again.")
        view = view[count:]


def _load_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a .ckpt file, read with torch's safe loading only."""
    try:
        with torch.serialization.safe_globals([(Inert, name) for name in HARMLESS]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise WeightsError(f"{path} contains code and is not opened", remedy="Get the .safetensors version.") from None
    while isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    return {name: tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
