"""Reads names and shapes of the tensors in a weights file, without torch and without running anything in the file."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.errors import UserError

Shapes = dict[str, tuple[int, ...]]

MAX_HEADER_BYTES = 100_000_000
"""The limit that the safetensors format sets."""
LARGEST_SIDE = 1 << 45
"""No side of a tensor and no place in a file is as large."""
LARGEST_PICKLE = 64_000_000
"""Bytes of the table of a .ckpt file without its tensors; that of SD 1 has 0.6 MB."""
DEEPEST_TABLE = 4
"""A `state_dict` may lie in another one, but not in itself."""


class WeightsError(UserError):
    """A weights file that is damaged, unsafe, or of an unknown kind."""


@dataclass(frozen=True)
class TensorLocation:
    """Where a tensor is in a .safetensors file.

    dtype: its number format, such as "F16".
    start: its first byte, counted from the start of the file; `end` is after its last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_shapes(path: Path) -> Shapes:
    """Tensor names and shapes of a .safetensors or .ckpt/.pt/.bin file. Raises WeightsError."""
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path} is not a regular file", remedy="Give a .safetensors or .ckpt checkpoint.")
    try:
        with bounded.open_regular(path) as file:
            start = file.read(16)
            size = file.seek(0, 2)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    if size == 0:
        raise WeightsError(f"{path} is empty (0 bytes)", remedy="Copy or download it again.")
    if start.startswith(b"PK\x03\x04"):
        return _zip_shapes(path)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return {name: place.shape for name, place in _safetensors_places(path, size).items()}
    if start[:1] == b"\x80":
        raise WeightsError(
            f"{path} is in PyTorch's old format (before 2020), which cannot be read safely",
            remedy="Get the .safetensors version of this model.",
        )
    raise WeightsError(
        f"{path} is not a weights file (it starts with {_start_in_words(start)})",
        remedy="Give a .safetensors or .ckpt checkpoint, or a diffusers folder.",
    )


def read_places(path: Path) -> dict[str, TensorLocation]:
    """Where each tensor of a .safetensors file is. Raises WeightsError, also for a file of another kind."""
    # Raises the usual errors for a file that is not a weights file.
    read_shapes(path)
    if zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path} is a PyTorch checkpoint, which only PyTorch can read",
            remedy="Give the .safetensors version of this model.",
        )
    return _safetensors_places(path, path.stat().st_size)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file; empty for other files, and for what is no text."""
    try:
        with bounded.open_regular(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            metadata = bounded.parse_json(file.read(min(length, MAX_HEADER_BYTES)))["__metadata__"]
        return {str(key): value for key, value in metadata.items() if isinstance(value, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return {}


def _safetensors_places(path: Path, size: int) -> dict[str, TensorLocation]:
    damaged = WeightsError(f"{path} is not a valid safetensors file", remedy="Copy or download it again.")
    if size < 8:
        raise damaged
    with bounded.open_regular(path) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_HEADER_BYTES:
            raise damaged
        if 8 + length > size:
            raise WeightsError(
                f"{path} is truncated: {size:,} bytes, its header alone needs {8 + length:,}",
                remedy="Copy or download it again.",
            )
        try:
            header = bounded.parse_json(file.read(length))
            header.pop("__metadata__", None)
            places = {name: _place(entry, 8 + length) for name, entry in header.items()}
            end = max((place.end for place in places.values()), default=8 + length)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise damaged from None
    if end != size:
        raise WeightsError(
            f"{path} is truncated: {size:,} of {end:,} bytes are there",
            remedy="Copy or download it again.",
        )
    return places


def _place(entry: Any, data: int) -> TensorLocation:
    first, end = entry["data_offsets"]
    shape = entry["shape"]
    if not all(type(number) is int and 0 <= number < LARGEST_SIDE for number in (*shape, first, end)) or first > end:
        raise ValueError("a shape or a place that no tensor has")
    return TensorLocation(str(entry["dtype"]), tuple(shape), data + first, data + end)


@dataclass(frozen=True)
class _Storage:
    """Stands for a tensor's bytes."""


@dataclass(frozen=True)
class _Tensor:
    """Stands for a tensor: its shape only."""

    shape: tuple[int, ...]


def _rebuild_tensor(_storage: Any, _offset: int, size: Any, *_rest: Any) -> _Tensor:
    return _Tensor(tuple(size))


def _rebuild_parameter(tensor: Any, *_rest: Any) -> Any:
    return tensor


class Inert:
    """Stands for an object in a checkpoint that no tensor needs."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


HARMLESS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
)
"""Objects besides tensors in the first published .ckpt files (records of the training framework). Each is replaced by
`Inert`, so none of their code runs."""


class _ShapeUnpickler(pickle.Unpickler):
    """Replaces the few classes and functions that a plain checkpoint needs by stand-ins, and refuses all others.

    Nothing from the file or from torch is called, so no code in the file can run.
    """

    _ALLOWED: dict[tuple[str, str], Any] = {  # noqa: RUF012 - a constant table
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._ALLOWED:
            return self._ALLOWED[module, name]
        if f"{module}.{name}" in HARMLESS:
            return Inert
        if module in {"torch", "torch.storage"} and name.endswith("Storage"):
            return _Storage
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, _identifier: Any) -> Any:
        return _Storage()


def _zip_shapes(path: Path) -> Shapes:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith("data.pkl")), None)
            if name is None:
                raise WeightsError(f"{path} is a zip file, not a checkpoint")
            with archive.open(name) as file:
                pickled = file.read(LARGEST_PICKLE + 1)
        bounded.check_pickle(pickled, LARGEST_PICKLE)
        content = _ShapeUnpickler(io.BytesIO(pickled)).load()
    except zipfile.BadZipFile:
        raise WeightsError(f"{path} is damaged or truncated", remedy="Copy or download it again.") from None
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} contains code ({error}) and is not opened: a model needs none",
            remedy="Get the .safetensors version of this model.",
        ) from None
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as a checkpoint: {error}") from None
    for _ in range(DEEPEST_TABLE):
        if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
            content = content["state_dict"]
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no table of weights")
    return {str(key): value.shape for key, value in content.items() if isinstance(value, _Tensor)}


def _start_in_words(start: bytes) -> str:
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "HTML: a web page was saved in its place"
    if start.startswith(b"version https://"):
        return "a Git LFS pointer: the file itself was not fetched"
    return repr(start[:8])[2:-1]
