"""Looks into the folder of a CLIP model that is to judge pictures, before anything is loaded. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui.errors import UserError
from ti_tui.paths import is_there
from ti_tui.run.weight_shapes import Shapes, WeightsError, read_shapes

FIRST_CHOICE = "openai/clip-vit-large-patch14"
HOW_TO_GET = f"Get one: `hf download {FIRST_CHOICE} --exclude '*.h5' '*.msgpack' --local-dir clip`; name that folder."
AGAIN = "Copy the whole folder again."
NEEDED = ("visual_projection.weight", "text_projection.weight")
"""Tensors that only a model with both halves has, the one that sees and the one that reads."""


class JudgeError(UserError):
    """The CLIP model cannot be found or used."""


@dataclass(frozen=True)
class JudgeModel:
    """A CLIP model's folder that was looked into. safetensors: whether its weights are in that format."""

    path: Path
    safetensors: bool
    positions: int


@dataclass(frozen=True)
class Scores:
    """What CLIP says of a picture; both are cosines of embeddings, and say something only beside other pictures'.

    likeness:  with the training pictures, the mean over them.
    following: with the prompt without the token; None where that has no words.
    """

    likeness: float
    following: float | None


def check_judge(folder: Path) -> JudgeModel:
    """Look into a CLIP model's folder: kind, files, weights. Raises JudgeError with what to do."""
    if not is_there(folder):
        raise JudgeError(f"there is no CLIP model at {folder}", remedy=HOW_TO_GET)
    if not folder.is_dir():
        raise JudgeError(f"{folder} is a file; a CLIP model is a folder", remedy=_folder_meant(folder.parent))
    config = _config(folder)
    _check_files(folder)
    shapes, safetensors = _weights(folder)
    absent = [name for name in NEEDED if name not in shapes]
    if absent:
        raise JudgeError(
            f"the weights in {folder} are not those of a whole CLIP model (no {absent[0]})", remedy=HOW_TO_GET
        )
    text = config.get("text_config")
    positions = text.get("max_position_embeddings") if isinstance(text, dict) else None
    return JudgeModel(folder, safetensors, positions if isinstance(positions, int) else 77)


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        what = "is a model to train on, not a CLIP model" if is_there(folder / "unet") else "holds no config.json"
        raise JudgeError(f"{folder} {what}", remedy=_folder_meant(folder))
    config = _table(folder / "config.json")
    if config.get("model_type") != "clip":
        half = str(config.get("model_type")).startswith("clip_")
        what = "is one half of a CLIP model" if half else f"is a {config.get('model_type')!r} model, not CLIP"
        raise JudgeError(f"{folder} {what}", remedy=HOW_TO_GET)
    if config.get("auto_map"):
        raise JudgeError(
            f"{folder} needs code that comes with it (auto_map in config.json), and such code is never run here",
            remedy=HOW_TO_GET,
        )
    return config


def _folder_meant(folder: Path) -> str:
    """The CLIP model that lies in `folder`, or how to get one."""
    try:
        inside = [folder, *sorted(entry for entry in folder.iterdir() if entry.is_dir())]
        found = [path for path in inside if _is_clip(path)]
    except (OSError, JudgeError):
        found = []
    return f"Did you mean {found[0]}?" if found else HOW_TO_GET


def _is_clip(folder: Path) -> bool:
    return (folder / "config.json").is_file() and _table(folder / "config.json").get("model_type") == "clip"


def _check_files(folder: Path) -> None:
    # Today's transformers writes the second where the first was.
    sights = [folder / f"{name}_config.json" for name in ("preprocessor", "processor")]
    if not any(path.is_file() for path in sights):
        raise JudgeError(f"{folder} lacks preprocessor_config.json: how it wants its pictures", remedy=AGAIN)
    for path in sights:
        if path.is_file():
            _table(path)
    pair = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    if not pair and not (folder / "tokenizer.json").is_file():
        raise JudgeError(f"{folder} lacks its tokenizer (vocab.json and merges.txt)", remedy=AGAIN)


def _weights(folder: Path) -> tuple[Shapes, bool]:
    """(shapes by tensor name, whether from safetensors); safetensors come first, as transformers takes them."""
    shapes: Shapes = {}
    for name, safetensors in (("model.safetensors", True), ("pytorch_model.bin", False)):
        index = folder / f"{name}.index.json"
        if not (folder / name).is_file() and not index.is_file():
            continue
        try:
            for file in [folder / name] if (folder / name).is_file() else _shards(index):
                shapes |= read_shapes(file)
        except WeightsError as error:
            raise JudgeError(error.message, remedy=error.remedy) from None
        return shapes, safetensors
    raise JudgeError(f"{folder} holds no weights (model.safetensors)", remedy=AGAIN)


def _shards(index: Path) -> Iterator[Path]:
    table = _table(index).get("weight_map")
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    yield from (index.parent / name for name in names)


def _table(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise JudgeError(f"{path} cannot be read: {error.strerror or error}", remedy=AGAIN) from None
    except (ValueError, RecursionError):
        raise JudgeError(f"{path} is damaged: it is no JSON", remedy=AGAIN) from None
    if not isinstance(values, dict):
        raise JudgeError(f"{path} is damaged: it is no table", remedy=AGAIN)
    return values
