"""Embeddings and their file formats: kohya/ti_tui safetensors, A1111 .pt and PNG, diffusers, OneTrainer, SDXL."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ti_tui import atomic, bounded
from ti_tui.embeddings import pictures
from ti_tui.errors import UserError
from ti_tui.paths import user_path

EmbeddingForm = Literal["safetensors", "a1111-pt", "diffusers"]
FORMS: tuple[EmbeddingForm, ...] = get_args(EmbeddingForm)
SUFFIXES: dict[EmbeddingForm, str] = {
    "safetensors": ".safetensors",
    "a1111-pt": ".pt",
    "diffusers": ".diffusers.safetensors",
}
LARGEST_BYTES = 100_000_000
UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ArithmeticError, MemoryError,
    RuntimeError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What a file that holds something else may raise, here and in torch."""
READABLE = (".safetensors", ".pt", ".bin", ".ckpt", ".png", ".webp")

ONLY, CLIP_L, CLIP_G = "emb_params", "clip_l", "clip_g"
"""Keys of each text encoder's vectors: one for SD 1 and 2 (kohya's key), two for SDXL."""
RUN_ID = "run_id"
"""In the metadata: which run of ti_tui made the file."""

FAMILIES = {
    (768,): ("Stable Diffusion 1", "stable-diffusion-v1"),
    (1024,): ("Stable Diffusion 2", "stable-diffusion-v2-512"),
    (768, 1280): ("Stable Diffusion XL", "stable-diffusion-xl-v1-base"),
}
"""Name and modelspec architecture, by the widths of the vectors."""

A1111_PLACEHOLDER_ID = 265
"""Id of "*" in CLIP's vocabulary, which A1111 writes into every file."""

Vectors = NDArray[np.float32]


class EmbeddingError(UserError):
    """A file that is not an embedding, is damaged, or does not fit the model."""


@dataclass(frozen=True)
class Embedding:
    """Learned vectors and their metadata.

    vectors:  [n, width] float32 for each text encoder: {"emb_params": ...}, or {"clip_l": ..., "clip_g": ...}.
    token:    the word it was trained as; "" if the file does not say.
    form:     the format of the file that it was read from; "" for a new embedding.
    """

    vectors: dict[str, Vectors]
    token: str = ""
    step: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    form: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = {array.shape[0] for array in self.vectors.values()}
        if not self.vectors or len(counts) != 1 or any(array.ndim != 2 for array in self.vectors.values()):
            shapes = {name: array.shape for name, array in self.vectors.items()}
            raise EmbeddingError(f"the vectors have impossible shapes: {shapes}")
        if counts == {0}:
            raise EmbeddingError("it contains no vectors")

    @property
    def count(self) -> int:
        """Number of vectors (places that the token takes in a prompt)."""
        return int(next(iter(self.vectors.values())).shape[0])

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of the vectors for each text encoder, in the model's order."""
        return tuple(int(self.vectors[name].shape[1]) for name in (ONLY, CLIP_L, CLIP_G) if name in self.vectors)

    @property
    def family(self) -> str:
        """The models that it is for, in words."""
        if self.widths in FAMILIES:
            return FAMILIES[self.widths][0]
        return f"a model with text width {' + '.join(map(str, self.widths))}"

    def in_order(self) -> list[Vectors]:
        """The vectors of each text encoder, in the model's order."""
        return [self.vectors[name] for name in (ONLY, CLIP_L, CLIP_G) if name in self.vectors]

    @classmethod
    def from_rows(cls, rows: list[Vectors], **more: Any) -> Embedding:
        """An embedding from the vectors of one encoder (SD 1 and 2) or two (SDXL)."""
        names = (ONLY,) if len(rows) == 1 else (CLIP_L, CLIP_G)
        return cls(
            {name: np.ascontiguousarray(row, dtype=np.float32) for name, row in zip(names, rows, strict=True)},
            **more,
        )


def read(path: Path) -> Embedding:
    """Read an embedding in any common format. Raises EmbeddingError for other files; no code in the file is run."""
    path = user_path(path)
    if not path.is_file():
        raise EmbeddingError(f"{path} is not a file" if path.exists() else f"there is no file {path}")
    size = path.stat().st_size
    if not 0 < size <= LARGEST_BYTES:
        what = "is empty (0 bytes)" if not size else f"has {size / 1e6:.0f} MB; an embedding has a few KB"
        raise EmbeddingError(f"{path} {what}")
    try:
        match ending(path):
            case ".safetensors":
                return _from_tensors(*read_safetensors(path), path)
            case ".pt" | ".bin" | ".ckpt":
                return _from_content(_read_pickle(path), path)
            case ".png" | ".webp":
                return _from_content(_as_arrays(pictures.read_data(path)), path, form="A1111 image")
    except EmbeddingError as error:
        raise error if str(path) in error.message else EmbeddingError(f"{path}: {error.message}") from None
    except UNREADABLE as error:
        raise EmbeddingError(f"{path} cannot be read as an embedding: {error}") from None
    raise EmbeddingError(
        f"{path} does not have the ending of an embedding", remedy=f"Known endings: {', '.join(READABLE)}."
    )


def ending(path: Path) -> str:
    """The ending that says which format a file has, in lower case; of a file that `install` replaced, the earlier."""
    return Path(re.sub(r"\.bak\d*$", "", path.name)).suffix.lower()


def write(embedding: Embedding, path: Path, form: EmbeddingForm) -> None:
    """Write `embedding` in float32, atomically. Raises CannotWrite.

    safetensors: key `emb_params`, or `clip_l` and `clip_g` (kohya, A1111, Forge, ComfyUI, InvokeAI; diffusers
                 with `token=`), with metadata.
    a1111-pt:    A1111's own dict; for SDXL a dict with `clip_l` and `clip_g`, as A1111 reads it.
    diffusers:   the token as the key, so that diffusers finds it by itself; SDXL as in `safetensors`.
    """
    if form == "a1111-pt":
        atomic.write_bytes(path, _pickle(embedding))
        return
    tensors = dict(embedding.vectors)
    if form == "diffusers" and len(tensors) == 1:
        tensors = {embedding.token or path.stem.partition(".")[0]: next(iter(tensors.values()))}
    metadata = {"format": "pt", **_described(embedding)}
    atomic.write_bytes(path, _safetensors(tensors, metadata))


def with_suffix(path: Path, form: EmbeddingForm) -> Path:
    """`path` with the ending of the format `form`."""
    stem = path.name
    for suffix in sorted((*SUFFIXES.values(), *READABLE), key=len, reverse=True):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    return path.with_name(stem + SUFFIXES[form])


def _described(embedding: Embedding) -> dict[str, str]:
    described = dict(embedding.metadata)
    if embedding.token:
        described["token"] = embedding.token
        described.setdefault("modelspec.title", embedding.token)
        described.setdefault("modelspec.trigger_phrase", embedding.token)
    if embedding.step is not None:
        described["step"] = str(embedding.step)
    described["vectors"] = str(embedding.count)
    if embedding.widths in FAMILIES:
        described["modelspec.sai_model_spec"] = "1.0.1"
        described["modelspec.architecture"] = f"{FAMILIES[embedding.widths][1]}/textual-inversion"
    return {key: value for key, value in described.items() if key != "format"}


def _from_tensors(tensors: Mapping[str, Vectors], metadata: dict[str, str], path: Path, form: str = "") -> Embedding:
    """Recognise the format by the keys."""
    names = set(tensors)
    step = int(metadata["step"]) if metadata.get("step", "").isdigit() else None
    token = metadata.get("token", "")
    outputs = sorted(name for name in names if name.endswith("_out"))
    notes = ("its output embedding (OneTrainer's vectors after the text encoder) is not used",) if outputs else ()
    if {CLIP_L, CLIP_G} <= names:
        found = {CLIP_L: tensors[CLIP_L], CLIP_G: tensors[CLIP_G]}
        return Embedding(_matrices(found), token, step, metadata, form or "SDXL (clip_l, clip_g)", notes)
    for key, by in ((ONLY, "kohya / ti_tui"), ("emp_params", "OneTrainer")):
        if key in names:
            return Embedding(_matrices({ONLY: tensors[key]}), token, step, metadata, form or f"{by} ({key})", notes)
    if len(names) == 1:
        name = next(iter(names))
        return Embedding(_matrices({ONLY: tensors[name]}), token or name, step, metadata, form or "diffusers", notes)
    shown = ", ".join(sorted(names)[:4])
    raise EmbeddingError(
        f"{path} is not an embedding: it contains {len(names)} tensors ({shown}{', ...' if len(names) > 4 else ''})"
    )


def _from_content(content: Any, path: Path, form: str = "") -> Embedding:
    """An embedding from the content of a pickle or an image, its tensors converted to arrays."""
    if isinstance(content, np.ndarray):
        return Embedding(_matrices({ONLY: content}), form=form or "bare tensor")
    if not isinstance(content, Mapping):
        raise EmbeddingError(f"{path} is not an embedding")
    params = content.get("string_to_param")
    if isinstance(params, Mapping):
        params = params.get("_parameters", params)
        if len(params) != 1:
            raise EmbeddingError(f"{path} contains {len(params)} embeddings instead of one")
        step = content.get("step")
        metadata = {
            key: str(content[key])
            for key in ("sd_checkpoint", "sd_checkpoint_name", RUN_ID)
            if content.get(key) is not None
        }
        name = content.get("name")
        return Embedding(
            _matrices({ONLY: next(iter(params.values()))}),
            name if isinstance(name, str) else "",
            step if isinstance(step, int) else None,
            metadata,
            form or "A1111 (string_to_param)",
        )
    tensors = {str(key): value for key, value in content.items() if isinstance(value, np.ndarray)}
    return _from_tensors(tensors, {}, path, form)


def _matrices(tensors: Mapping[str, Any]) -> dict[str, Vectors]:
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in tensors.items()}
    return {name: np.ascontiguousarray(array[None] if array.ndim == 1 else array) for name, array in arrays.items()}


NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""By the number formats of safetensors. numpy has no bfloat16, so its bits are read as integers."""


def as_float32(stored: NDArray[Any], form: str) -> Vectors:
    """Numbers that were read as NUMPY_TYPES[form], in float32."""
    if form == "BF16":
        # bfloat16 is the upper half of a float32.
        stored = (stored.astype("<u4") << 16).view("<f4")
    return stored.astype(np.float32, copy=False)


def read_safetensors(path: Path) -> tuple[dict[str, Vectors], dict[str, str]]:
    """Tensors in float32, and metadata. Parsed here because numpy has no bfloat16."""
    from ti_tui.run.weight_shapes import read_shapes

    read_shapes(path)
    content = bounded.read_bytes(path, LARGEST_BYTES)
    (length,) = struct.unpack("<Q", content[:8])
    header = bounded.parse_json(content[8 : 8 + length])
    metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
    tensors: dict[str, Vectors] = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if entry["dtype"] not in NUMPY_TYPES:
            raise EmbeddingError(f"{path}: {name} has the number format {entry['dtype']}, which is not supported")
        raw = np.frombuffer(content[8 + length + start : 8 + length + end], NUMPY_TYPES[entry["dtype"]])
        tensors[name] = as_float32(raw.reshape(entry["shape"]), entry["dtype"]).copy()
    return tensors, metadata


def _safetensors(tensors: Mapping[str, Vectors], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file. The library would write metadata in random order, but equal runs should give
    equal files."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    content = b""
    for name in sorted(tensors):
        raw = np.ascontiguousarray(tensors[name], dtype="<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": [len(content), len(content) + len(raw)],
        }
        content += raw
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content


def _read_pickle(path: Path) -> Any:
    import pickle

    import torch

    if zipfile.is_zipfile(path):
        bounded.check_stored_zip(path, LARGEST_BYTES)
    try:
        # Early A1111 files contain a ParameterDict, a plain container of tensors.
        with torch.serialization.safe_globals([torch.nn.ParameterDict]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = str(error).partition("Unsupported global: GLOBAL ")[2].split(" ")[0]
        raise EmbeddingError(
            f"{path} contains code ({named or 'not named'}) and is not opened: an embedding needs none",
            remedy="Get it as .safetensors.",
        ) from None
    except Exception:
        raise EmbeddingError(f"{path} is not a PyTorch file, or is damaged") from None

    def arrays(value: Any) -> Any:
        if isinstance(value, torch.nn.ParameterDict):
            return {key: arrays(item) for key, item in value.items()}
        if isinstance(value, torch.Tensor):
            # A tensor may say that it repeats one number a billion times.
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise EmbeddingError(f"{path} has a tensor that is larger than what is stored of it")
            return value.detach().to(torch.float32).numpy()
        if isinstance(value, dict):
            return {key: arrays(item) for key, item in value.items()}
        return value

    return arrays(content)


def _pickle(embedding: Embedding) -> bytes:
    import torch

    tensors = {name: torch.from_numpy(array.copy()) for name, array in embedding.vectors.items()}
    content: dict[str, Any]
    if len(tensors) == 1:
        content = {
            "string_to_token": {"*": A1111_PLACEHOLDER_ID},
            "string_to_param": {"*": next(iter(tensors.values()))},
            "name": embedding.token,
            "step": embedding.step or 0,
            "sd_checkpoint": embedding.metadata.get("base_model_sha256", "")[:10] or None,
            "sd_checkpoint_name": embedding.metadata.get("base_model") or None,
            # A1111 and ComfyUI pass over keys that they do not know.
            **({RUN_ID: embedding.metadata[RUN_ID]} if RUN_ID in embedding.metadata else {}),
        }
    else:
        # Only tensors: A1111 expects every value in such a file to be one.
        content = dict(tensors)
    written = io.BytesIO()
    torch.save(content, written)
    return written.getvalue()


def _as_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"TORCHTENSOR"}:
            return np.asarray(value["TORCHTENSOR"], dtype=np.float32)
        return {key: _as_arrays(item) for key, item in value.items()}
    return value
