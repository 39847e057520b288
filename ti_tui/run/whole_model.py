"""Compares the headers of a diffusers folder's weights with what its configurations ask for, before a run. No torch.

`ti-tui check`, the wizard and the trainer's start call it through `setup.check`: an incomplete model is found there,
and not after the images were encoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.run.architecture import text_shapes, unet_shapes, vae_shapes
from ti_tui.run.model import ModelError, ModelFacts
from ti_tui.run.weight_files import find_weights
from ti_tui.run.weight_shapes import Shapes, read_shapes

IGNORED = ("position_ids", "logit_scale")
"""Endings of the names of tensors that old checkpoints hold and no model needs."""
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""A VAE's names from diffusers before 0.15, which published folders still have."""
TEXT_PREFIX = "text_model."
"""transformers 5 writes CLIP without it, published folders have it."""


def check_folder(facts: ModelFacts, *, vae: bool) -> list[str]:
    """Check all parts of a diffusers folder, vae: with its VAE. Returns notes.

    Raises ModelError or WeightsError for the first part that cannot be loaded.
    """
    parts = {"unet": "U-Net", "text_encoder": "text encoder 1"}
    if len(facts.widths) > 1:
        parts["text_encoder_2"] = "text encoder 2"
    if vae:
        parts["vae"] = "VAE"
    return [note for name, what in parts.items() for note in _check_part(facts.path / name, what, facts.path)]


def check_vae_folder(path: Path) -> list[str]:
    """Check a VAE in a folder of its own. Returns notes; raises ModelError or WeightsError."""
    return _check_part(path / "vae" if (path / "vae").is_dir() else path, "VAE", path)


def _check_part(folder: Path, what: str, path: Path) -> list[str]:
    found = find_weights(folder)
    given: Shapes = {}
    for name in found.files:
        given |= read_shapes(folder / name)
    try:
        config = bounded.read_json(folder / "config.json")
        wanted = _wanted(config, what) if isinstance(config, dict) else None
    except (OSError, ValueError):
        wanted = None
    if wanted is not None:
        given = {_plain_name(name, what): _plain_shape(name, shape, what) for name, shape in given.items()}
        check_names(wanted, given, what=what, path=path)
    others = f"{folder.name}: not read: {', '.join(found.others[:3])}{', ...' if len(found.others) > 3 else ''}"
    return [others] if found.others else []


def _wanted(config: dict[str, Any], what: str) -> Shapes | None:
    if what == "U-Net":
        return unet_shapes(config)
    if what == "VAE":
        return vae_shapes(config)
    return text_shapes(config, projection=what.endswith("2"))


def _plain_name(name: str, what: str) -> str:
    return new_attention_name(name) if what == "VAE" else name.removeprefix(TEXT_PREFIX)


def _plain_shape(name: str, shape: tuple[int, ...], what: str) -> tuple[int, ...]:
    return shape[:2] if what == "VAE" and new_attention_name(name) != name else shape


def new_attention_name(name: str) -> str:
    """A VAE's tensor under its present name."""
    parts = name.split(".")
    if len(parts) > 2 and "attentions" in parts and parts[-2] in OLD_ATTENTION:
        parts[-2] = OLD_ATTENTION[parts[-2]]
    return ".".join(parts)


def check_names(wanted: Shapes, given: Shapes, *, what: str, path: Path) -> None:
    """Compare the tensors of a network with those of a file. Raises ModelError if any is missing, left over, misshapen.

    Tensors of old checkpoints that no model needs are passed over.
    """
    given = {name: shape for name, shape in given.items() if not name.endswith(IGNORED)}
    if "text_projection.weight" not in wanted:
        given.pop("text_projection.weight", None)
    missing, extra = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    wrong = [name for name in wanted.keys() & given.keys() if wanted[name] != given[name]]
    for names, reason in ((missing, "lacks"), (extra, "has unknown"), (wrong, "has a different shape in")):
        if names:
            raise ModelError(
                f"{path}: the {what} {reason} {len(names)} of {len(wanted)} tensors ({_some(names)})",
                remedy="The file is incomplete, or its config belongs to another model.",
            )


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:2]) + (", ..." if len(listed) > 2 else "")
