"""Checks the folder of a CLIP model that will score images, before anything is loaded. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui.errors import UserError
from ti_tui.paths import is_there
from ti_tui.run.model_folder import COPY_AGAIN, PROCESSOR, ModelFolder

FIRST_CHOICE = "openai/clip-vit-large-patch14"
HOW_TO_GET = f"Get one: `hf download {FIRST_CHOICE} --exclude '*.h5' '*.msgpack' --local-dir clip`; name that folder."
NEEDED = ("visual_projection.weight", "text_projection.weight")
"""Tensors that only a model with both the image and the text encoder has."""


class JudgeError(UserError):
    """The CLIP model cannot be found or used."""


@dataclass(frozen=True)
class JudgeModel:
    """A CLIP model's folder that was checked. safetensors: whether its weights are in that format."""

    path: Path
    safetensors: bool
    positions: int


@dataclass(frozen=True)
class Scores:
    """CLIP's scores of an image: cosines of embeddings, meaningful only in comparison with other images.

    likeness:  with the training images, their mean.
    following: with the prompt without the token; None if that has no words.
    """

    likeness: float
    following: float | None


def check_judge(path: Path) -> JudgeModel:
    """Check a CLIP model's folder: kind, files, weights. Raises JudgeError with what to do."""
    if not is_there(path):
        raise JudgeError(f"there is no CLIP model at {path}", remedy=HOW_TO_GET)
    if not path.is_dir():
        raise JudgeError(f"{path} is a file; a CLIP model is a folder", remedy=_folder_meant(path.parent))
    folder = ModelFolder(path, JudgeError)
    config = _config(folder)
    _check_files(folder)
    shapes, safetensors = folder.weights()
    absent = [name for name in NEEDED if name not in shapes]
    if absent:
        raise JudgeError(
            f"the weights in {path} are not those of a whole CLIP model (no {absent[0]})", remedy=HOW_TO_GET
        )
    text = config.get("text_config")
    positions = text.get("max_position_embeddings") if isinstance(text, dict) else None
    return JudgeModel(path, safetensors, positions if isinstance(positions, int) else 77)


def _config(folder: ModelFolder) -> dict[str, Any]:
    if not folder.has("config.json"):
        trained = is_there(folder.path / "unet")
        what = "is a Stable Diffusion model, not a CLIP model" if trained else "holds no config.json"
        raise JudgeError(f"{folder.path} {what}", remedy=_folder_meant(folder.path))
    config = folder.table("config.json")
    if config.get("model_type") != "clip":
        half = str(config.get("model_type")).startswith("clip_")
        what = "is one half of a CLIP model" if half else f"is a {config.get('model_type')!r} model, not CLIP"
        raise JudgeError(f"{folder.path} {what}", remedy=HOW_TO_GET)
    folder.refuse_code(config, HOW_TO_GET)
    return config


def _folder_meant(path: Path) -> str:
    """A CLIP model in `path`, or how to get one."""
    try:
        inside = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir())]
        found = [folder for folder in inside if _is_clip(ModelFolder(folder, JudgeError))]
    except (OSError, JudgeError):
        found = []
    return f"Did you mean {found[0]}?" if found else HOW_TO_GET


def _is_clip(folder: ModelFolder) -> bool:
    return folder.has("config.json") and folder.table("config.json").get("model_type") == "clip"


def _check_files(folder: ModelFolder) -> None:
    processors = [name for name in PROCESSOR if folder.has(name)]
    if not processors:
        raise JudgeError(f"{folder.path} lacks {PROCESSOR[0]}: how to prepare images for it", remedy=COPY_AGAIN)
    for name in processors:
        folder.table(name)
    pair = folder.has("vocab.json") and folder.has("merges.txt")
    if not pair and not folder.has("tokenizer.json"):
        raise JudgeError(f"{folder.path} lacks its tokenizer (vocab.json and merges.txt)", remedy=COPY_AGAIN)
