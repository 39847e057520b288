"""What other programs take as an embedding, as facts: allowed zip entries and globals, keys in order, shapes.

Each rule was read in the program that is named beside it, and stated again here; none of its code is used.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

A1111_GLOBALS = frozenset(
    {
        "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
        "torch FloatStorage", "torch HalfStorage", "torch IntStorage", "torch LongStorage", "torch DoubleStorage",
        "torch ByteStorage", "torch BFloat16Storage", "torch float32", "torch.nn.modules.container ParameterDict",
        "numpy dtype", "numpy ndarray", "numpy.core.multiarray scalar", "numpy.core.multiarray _reconstruct",
        "_codecs encode",
    }
)  # fmt: skip
"""modules/safe.py, `RestrictedUnpickler.find_class`; the same in 1.7 and 1.10."""
A1111_ENTRIES = {
    "1.7": re.compile(r"[^/]+/(data/\d+|version|data\.pkl)"),
    "1.10": re.compile(r"[^/]+/(data/\d+|version|byteorder|.data/serialization_id|data\.pkl)"),
}
"""modules/safe.py, `allowed_zip_names_re`."""


def refused_by_a1111(path: Path, version: str) -> list[str]:
    """What A1111's check finds in a .pt file: entries and globals that it does not allow."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        tables = [name for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)]
        wrong = [name for name in names if not A1111_ENTRIES[version].fullmatch(name)]
        if len(tables) != 1:
            return [*wrong, f"{len(tables)} data.pkl"]
        opcodes = list(pickletools.genops(archive.read(tables[0])))
    named = {str(argument) for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"}
    return [*wrong, *sorted(named - A1111_GLOBALS), *(code.name for code, *_ in opcodes if code.name == "STACK_GLOBAL")]


def content_of(path: Path) -> dict[str, Any]:
    """What ComfyUI, kohya, InvokeAI and OneTrainer have after their first line."""
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


ENCODERS = {768: ("clip_l",), 1024: ("clip_h",), 2048: ("clip_l", "clip_g")}
"""ComfyUI's keys of the text encoders, by the sum of their widths."""


def a1111(content: Mapping[str, Any], width: int) -> list[Tensor] | None:
    """modules/textual_inversion/textual_inversion.py, `create_embedding_from_data`; Forge's is the same."""
    if "string_to_param" in content:
        (rows,) = content["string_to_param"].values()
        return [rows]
    if {"clip_g", "clip_l"} <= content.keys():
        # Every value is detached, so that a text among them ends the loading.
        return [content["clip_l"], content["clip_g"]] if _all_tensors(content) else None
    return _rows(list(content.values())) if len(content) == 1 and _all_tensors(content) else None


def comfy(content: Mapping[str, Any], width: int) -> list[Tensor] | None:
    """comfy/sd1_clip.py, `load_embed`: the same for each text encoder; else the first value, whatever it is."""
    if "string_to_param" in content:
        return [next(iter(content["string_to_param"].values()))]
    found = [content.get(key, next(iter(content.values()))) for key in ENCODERS[width]]
    return _rows(found)


def kohya(content: Mapping[str, Any], width: int) -> list[Tensor] | None:
    """train_textual_inversion.py and sdxl_train_textual_inversion.py, `load_weights`."""
    if width == 2048:
        return [content["clip_l"], content["clip_g"]] if {"clip_g", "clip_l"} <= content.keys() else None
    table = content.get("string_to_param", content)
    return _rows([next(iter(table.values()))])


def invokeai(content: Mapping[str, Any], width: int) -> list[Tensor] | None:
    """backend/model_manager/configs/textual_inversion.py (the probe), backend/textual_inversion.py (the loader)."""
    if not (content.keys() & {"string_to_param", "emb_params", "clip_g"} or _all_tensors(content)):
        return None
    if "string_to_token" in content:
        probed = next(iter(content["string_to_param"].values())).shape[-1]
    elif "emb_params" in content:
        probed = content["emb_params"].shape[-1]
    elif "clip_g" in content:
        probed = content["clip_g"].shape[-1]
    else:
        probed = next(iter(content.values())).shape[0]
    if probed != {768: 768, 1024: 1024, 2048: 1280}[width]:
        return None
    if "string_to_param" in content:
        return [next(iter(content["string_to_param"].values()))]
    if "emb_params" in content:
        return [content["emb_params"]]
    if {"clip_g", "clip_l"} <= content.keys():
        return [content["clip_l"], content["clip_g"]]
    return _rows([next(iter(content.values()))])


def onetrainer(content: Mapping[str, Any], width: int) -> list[Tensor] | None:
    """modules/modelLoader/mixin/EmbeddingLoaderMixin.py; the keys are those of modules/modelSaver/stableDiffusion*."""
    keys = ("clip_l", "clip_g") if width == 2048 else ("emp_params",)
    return [content[key] for key in keys] if set(keys) <= content.keys() else None


READERS = {"A1111": a1111, "Forge": a1111, "ComfyUI": comfy, "kohya": kohya, "InvokeAI": invokeai,
           "OneTrainer": onetrainer}  # fmt: skip


def _all_tensors(content: Mapping[str, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in content.values())


def _rows(tensors: list[Any]) -> list[Tensor] | None:
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        return None
    return [tensor[None] if tensor.ndim == 1 else tensor for tensor in tensors]
