"""PyTorch's container of embeddings (.pt, .bin): written byte by byte without torch, and read with its safe loader.

What torch.save writes depends on its version: since 2.13 the zip holds entries that A1111 takes for malicious. Here it
holds only what every version of A1111 allows, and equal vectors give equal files.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ti_tui import bounded
from ti_tui.errors import UserError

A1111_ENTRIES = re.compile(r"[^/]+/(data/\d+|version|data\.pkl)")
"""The entries of a zip that A1111 opens, up to 1.7; 1.10 also allows `byteorder` and `.data/serialization_id`."""
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip can hold."""


def pickled(content: Mapping[str, Any]) -> bytes:
    """A .pt file with `content`: tables, texts, numbers, None, and float32 arrays, which become tensors."""
    arrays: list[Any] = []
    # Protocol 2, as torch.save: its safe loader reads no newer one.
    table = pickle.PROTO + b"\2" + _opcodes(content, arrays) + pickle.STOP
    entries = {"data.pkl": table}
    entries |= {f"data/{index}": np.ascontiguousarray(array, "<f4").tobytes() for index, array in enumerate(arrays)}
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, entry in {**entries, "version": b"3\n"}.items():
            place = zipfile.ZipInfo(f"archive/{name}", EARLIEST)
            # The system that writes it, which would make a difference between equal files.
            place.create_system = 0
            archive.writestr(place, entry)
    return written.getvalue()


def _opcodes(value: Any, arrays: list[Any]) -> bytes:
    """What an unpickler is told to make `value`. arrays: collects the arrays, in the order of their entries."""
    if isinstance(value, Mapping):
        pairs = b"".join(_opcodes(key, arrays) + _opcodes(item, arrays) for key, item in value.items())
        return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS
    if not isinstance(value, np.ndarray):
        return _plain(value)
    arrays.append(value)
    strides = tuple(stride // value.itemsize for stride in np.ascontiguousarray(value).strides)
    storage = _tuple(
        _plain("storage"), _global("torch", "FloatStorage"), _plain(str(len(arrays) - 1)), _plain("cpu"),
        _plain(value.size),
    )  # fmt: skip
    hooks = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    # _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, backward_hooks)
    arguments = _tuple(
        storage + pickle.BINPERSID, _plain(0), _plain(value.shape), _plain(strides), _plain(False), hooks
    )
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _plain(value: Any) -> bytes:
    """A value that pickle writes by itself, without its first two bytes (the protocol) and its last (STOP)."""
    return pickle.dumps(value, protocol=2)[2:-1]


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def refused_by_a1111(path: Path) -> list[str]:
    """The entries for which A1111 refuses the file; none in files of PyTorch before 2.1."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return [name for name in archive.namelist() if not A1111_ENTRIES.fullmatch(name)]


def read_pickle(path: Path, limit: int, error: type[UserError]) -> Any:
    """The content of a .pt file, its tensors as float32 arrays. limit: bytes. Raises `error`; runs no code in it."""
    import torch

    if zipfile.is_zipfile(path):
        bounded.check_stored_zip(path, limit)
    try:
        # Early A1111 files contain a ParameterDict, a plain container of tensors.
        with torch.serialization.safe_globals([torch.nn.ParameterDict]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as failure:
        named = str(failure).partition("Unsupported global: GLOBAL ")[2].split(" ")[0]
        raise error(
            f"{path} contains code ({named or 'not named'}) and is not opened: an embedding needs none",
            remedy="Get it as .safetensors.",
        ) from None
    except Exception:
        raise error(f"{path} is not a PyTorch file, or is damaged") from None

    def arrays(value: Any) -> Any:
        if isinstance(value, torch.nn.ParameterDict):
            return {key: arrays(item) for key, item in value.items()}
        if isinstance(value, torch.Tensor):
            # A tensor may say that it repeats one number a billion times.
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise error(f"{path} has a tensor that is larger than what is stored of it")
            return value.detach().to(torch.float32).numpy()
        if isinstance(value, dict):
            return {key: arrays(item) for key, item in value.items()}
        return value

    return arrays(content)
