"""Embeddings and their file formats: kohya/ti_tui safetensors, A1111 .pt and PNG, diffusers, OneTrainer, SDXL.

Which program reads which form, and by which rule, is in tests/embeddings/reader_rules.py.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ti_tui import atomic, bounded
from ti_tui.embeddings import pictures, torch_files
from ti_tui.errors import UserError
from ti_tui.paths import user_path

EmbeddingForm = Literal["safetensors", "a1111-pt", "diffusers", "onetrainer"]
FORMS: tuple[EmbeddingForm, ...] = get_args(EmbeddingForm)
SUFFIXES: dict[EmbeddingForm, str] = {
    "safetensors": ".safetensors",
    "a1111-pt": ".pt",
    "diffusers": ".diffusers.bin",
    "onetrainer": ".onetrainer.safetensors",
}
EARLIER_SUFFIXES = (".diffusers.safetensors",)
"""Endings of files that older versions wrote."""
LARGEST_BYTES = 100_000_000
UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ArithmeticError, MemoryError,
    RuntimeError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What a file that holds something else may raise, here and in torch."""
READABLE = (".safetensors", ".pt", ".bin", ".ckpt", ".png", ".webp")

ONLY, CLIP_L, CLIP_G = "emb_params", "clip_l", "clip_g"
"""Keys of each text encoder's vectors: one for SD 1 and 2 (kohya's key), two for SDXL."""
ONETRAINER = "emp_params"
"""OneTrainer's key for SD 1 and 2, as it spells it."""
OUTPUTS = "_out"
"""Ending of OneTrainer's keys for vectors that replace the text encoder's output instead of its input."""
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
                return _from_pickle(path)
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
    diffusers:   A1111's dict too. Of the forms that diffusers finds the token in, InvokeAI's probe takes only this
                 one: in a table with the token as its key it reads the number of vectors as their width.
    onetrainer:  key `emp_params`, or `clip_l` and `clip_g`, with metadata.
    """
    if form in ("a1111-pt", "diffusers"):
        atomic.write_bytes(path, torch_files.pickled(_a1111_content(embedding)))
        return
    tensors = dict(embedding.vectors)
    if form == "onetrainer" and ONLY in tensors:
        tensors = {ONETRAINER: tensors[ONLY]}
    metadata = {"format": "pt", **_described(embedding)}
    atomic.write_bytes(path, _safetensors(tensors, metadata))


def with_suffix(path: Path, form: EmbeddingForm) -> Path:
    """`path` with the ending of the format `form`."""
    stem = path.name
    for suffix in sorted((*SUFFIXES.values(), *EARLIER_SUFFIXES, *READABLE), key=len, reverse=True):
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
    step = int(metadata["step"]) if metadata.get("step", "").isdigit() else None
    token = metadata.get("token", "")
    outputs = [name for name in tensors if name.endswith(OUTPUTS) and name.removesuffix(OUTPUTS) in _INPUTS]
    names = tensors.keys() - set(outputs)
    if outputs and not names:
        raise EmbeddingError(
            f"{path} holds only an output embedding ({', '.join(sorted(outputs))}): OneTrainer's vectors after the"
            " text encoder, which no prompt of another program can use",
            remedy="In OneTrainer, switch `Output embedding` off for this embedding and train it again.",
        )
    notes = ("its output embedding (OneTrainer's vectors after the text encoder) is not used",) if outputs else ()
    if {CLIP_L, CLIP_G} <= names:
        found = {CLIP_L: tensors[CLIP_L], CLIP_G: tensors[CLIP_G]}
        return Embedding(_matrices(found), token, step, metadata, form or "SDXL (clip_l, clip_g)", notes)
    if half := names & {CLIP_L, CLIP_G}:
        (present,) = half
        lacks = CLIP_G if present == CLIP_L else CLIP_L
        raise EmbeddingError(f"{path} holds vectors for one of SDXL's two text encoders: {lacks} is missing")
    for key, by in ((ONLY, "kohya / ti_tui"), (ONETRAINER, "OneTrainer")):
        if key in names:
            return Embedding(_matrices({ONLY: tensors[key]}), token, step, metadata, form or f"{by} ({key})", notes)
    if len(names) == 1:
        name = next(iter(names))
        return Embedding(_matrices({ONLY: tensors[name]}), token or name, step, metadata, form or "diffusers", notes)
    shown = ", ".join(sorted(names)[:4])
    raise EmbeddingError(
        f"{path} is not an embedding: it contains {len(names)} tensors ({shown}{', ...' if len(names) > 4 else ''})"
    )


_INPUTS = {ONLY, CLIP_L, CLIP_G, ONETRAINER}


def _from_pickle(path: Path) -> Embedding:
    embedding = _from_content(torch_files.read_pickle(path, LARGEST_BYTES, EmbeddingError), path)
    if not torch_files.refused_by_a1111(path):
        return embedding
    note = "A1111 may refuse it: newer versions of PyTorch write entries into it that A1111 does not know;"
    mend = f"`ti-tui embeddings convert {path.name} --to a1111-pt --force` writes it without them"
    return replace(embedding, notes=(*embedding.notes, f"{note} {mend}"))


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
    ends = [entry["data_offsets"] for entry in header.values()]
    if sum(end - start for start, end in ends) > len(content):
        raise EmbeddingError(f"{path}: its tensors overlap")
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


def _a1111_content(embedding: Embedding) -> dict[str, Any]:
    """What A1111 writes: its table for SD 1 and 2. For SDXL only tensors, since it takes every value for one."""
    if len(embedding.vectors) > 1:
        return dict(embedding.vectors)
    known = embedding.metadata
    return {
        "string_to_token": {"*": A1111_PLACEHOLDER_ID},
        "string_to_param": {"*": embedding.vectors[ONLY]},
        "name": embedding.token,
        "step": embedding.step or 0,
        "sd_checkpoint": known.get("base_model_sha256", known.get("sd_checkpoint", ""))[:10] or None,
        "sd_checkpoint_name": known.get("base_model", known.get("sd_checkpoint_name")) or None,
        # A1111 and ComfyUI pass over keys that they do not know.
        **({RUN_ID: known[RUN_ID]} if RUN_ID in known else {}),
    }


def _as_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"TORCHTENSOR"}:
            return np.asarray(value["TORCHTENSOR"], dtype=np.float32)
        return {key: _as_arrays(item) for key, item in value.items()}
    return value
