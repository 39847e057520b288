"""Reads a model's family, prediction type and widths from its headers, before anything is loaded. No torch."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.errors import UserError
from ti_tui.paths import user_path
from ti_tui.run import prediction
from ti_tui.run.prediction import Prediction, PredictionTruth
from ti_tui.run.recipe import Family
from ti_tui.run.weight_files import HALF_FIRST, find_weights, weight_sets
from ti_tui.run.weight_shapes import Shapes, WeightsError, read_metadata, read_shapes

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS = frozenset({".safetensors", ".ckpt", ".pt", ".pth", ".bin"})
UNET = "model.diffusion_model."
TOKEN_TABLES: dict[Family, tuple[tuple[str, ...], ...]] = {
    "sd1": (
        (
            "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
            "cond_stage_model.transformer.embeddings.token_embedding.weight",
        ),
    ),
    "sd2": (("cond_stage_model.model.token_embedding.weight",),),
    "sdxl": (
        (
            "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
            "conditioner.embedders.0.transformer.embeddings.token_embedding.weight",
        ),
        ("conditioner.embedders.1.model.token_embedding.weight",),
    ),
}
"""Names of each text encoder's token table in a single-file checkpoint."""


class ModelError(UserError):
    """The model cannot be used: missing, of another family, damaged.

    kind: what it is instead, in a word or two, such as `inpainting`; "" if it is none of these.
    """

    def __init__(self, message: str, *, where: str = "", remedy: str = "", kind: str = "") -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.kind = kind


@dataclass(frozen=True)
class ModelFacts:
    """What is known about a model.

    truth:      what the files say about the prediction type.
    widths:     width of each text encoder (one for SD 1 and 2, two for SDXL).
    positions:  tokens in a prompt that the text encoder reads, start and end mark included.
    layers:     layers of the first text encoder.
    scale:      pixels per latent, in each direction.
    multiple:   sizes in pixels must be a multiple of this.
    """

    path: Path
    single_file: bool
    family: Family
    truth: PredictionTruth
    widths: tuple[int, ...]
    vocabulary: int
    has_vae: bool
    positions: int = 77
    layers: int = 12
    scale: int = 8
    multiple: int = 64

    @property
    def prediction(self) -> Prediction | None:
        """None if the files do not say; the trainer then asks the U-Net."""
        return self.truth.prediction

    @property
    def family_name(self) -> str:
        return str(families()[self.family]["name"])

    def describe(self) -> str:
        """One line for people."""
        form = "single file" if self.single_file else "diffusers folder"
        kind = self.prediction or "prediction type asked of the U-Net at the start"
        return f"{self.family_name}, {kind} ({form})"


@cache
def families() -> dict[str, Any]:
    """Facts about the three families that checkpoints do not contain; see data/models/families.toml."""
    text = resources.files("ti_tui").joinpath("data/models/families.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def find_model(base: str, folder: Path) -> Path | None:
    """The path that `model.base` means: a file, a folder, or the local copy of a hub id.

    None for a hub id that has to be downloaded first. Raises ModelError if there is no such model.
    """
    given = user_path(base)
    path = given if given.is_absolute() else folder / given
    if path.exists():
        return path
    if HUB_ID.fullmatch(base) and not base.startswith(".") and path.suffix not in WEIGHTS:
        return _cached_snapshot(base)
    raise ModelError(
        f"there is no model at {path}",
        remedy="Give a .safetensors or .ckpt file, a diffusers folder or a hub id.",
    )


def inspect_model(path: Path) -> ModelFacts:
    """Family, prediction and widths of the model at `path`. Raises ModelError or WeightsError."""
    if not path.is_dir():
        return _inspect_file(path)
    try:
        return _inspect_folder(path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: its config files are not those of a Stable Diffusion model ({type(error).__name__}: {error})",
            remedy="Copy the model folder again.",
        ) from None


def check_vae(path: Path) -> None:
    """Check that `path` can be a VAE: a folder with config.json and weights, or a file with a VAE's tensors.

    Raises ModelError or WeightsError if it is not.
    """
    if not path.exists():
        raise ModelError(f"there is no VAE at {path}")
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
        _config(folder)
        _check_part(folder)
        return
    names = read_shapes(path)
    if any(".down_blocks." in name for name in names):
        raise ModelError(f"{path} is a VAE in diffusers' layout", remedy="Give its folder, with config.json, instead.")
    if not any(name.removeprefix("first_stage_model.").startswith("encoder.down.") for name in names):
        raise ModelError(f"{path} holds no VAE", remedy="Give a VAE file or a diffusers vae folder.")


def _inspect_folder(path: Path) -> ModelFacts:
    if not (path / "unet" / "config.json").is_file():
        inside = sorted(p.name for p in path.glob("*.safetensors")) + sorted(p.name for p in path.glob("*.ckpt"))
        remedy = (
            f"Did you mean {path / inside[0]}?" if inside else "It needs unet/, vae/, text_encoder/ and scheduler/."
        )
        raise ModelError(f"{path} is not a diffusers model (no unet/config.json)", remedy=remedy)
    unet = _config(path / "unet")
    vae = _config(path / "vae")
    texts = [_config(path / name) for name in ("text_encoder", "text_encoder_2") if (path / name).is_dir()]
    if not texts:
        raise ModelError(f"{path} has no text_encoder/", remedy="Copy the whole model folder.")
    for part in ("unet", "vae", "text_encoder", *(["text_encoder_2"] if len(texts) > 1 else [])):
        _check_part(path / part)
    channels = int(unet.get("in_channels", 4))
    _check_channels(channels, path)
    scheduler = _config(path / "scheduler", "scheduler_config.json")
    family: Family = "sdxl" if len(texts) > 1 else "sd2" if unet.get("use_linear_projection") else "sd1"
    scale = 2 ** (len(vae.get("block_out_channels", [0] * 4)) - 1)
    return ModelFacts(
        path=path,
        single_file=False,
        family=family,
        truth=prediction.of_folder(path, scheduler),
        widths=tuple(int(text["hidden_size"]) for text in texts),
        vocabulary=int(texts[0].get("vocab_size", 49408)),
        has_vae=True,
        positions=int(texts[0].get("max_position_embeddings", 77)),
        layers=int(texts[0].get("num_hidden_layers", 12)),
        scale=scale,
        multiple=scale * 2 ** (len(unet["block_out_channels"]) - 1),
    )


def _inspect_file(path: Path) -> ModelFacts:
    shapes = read_shapes(path)
    family = _family_of(shapes, path)
    tables = [next((name for name in names if name in shapes), None) for names in TOKEN_TABLES[family]]
    if None in tables:
        raise ModelError(f"{path} lacks a text encoder's token table", remedy="Use the full checkpoint.")
    _check_channels(shapes[f"{UNET}input_blocks.0.0.weight"][1], path)
    levels = [_number_after(name, "encoder.down.") for name in shapes if "encoder.down." in name]
    scale = 2 ** max(levels, default=3)
    downs = sum(name.startswith(f"{UNET}input_blocks.") and name.endswith(".0.op.weight") for name in shapes)
    return ModelFacts(
        path=path,
        single_file=True,
        family=family,
        truth=prediction.of_file(path, shapes, read_metadata(path)),
        widths=tuple(shapes[name][1] for name in tables if name),
        vocabulary=shapes[tables[0] or ""][0],
        has_vae=any(name.startswith("first_stage_model.encoder.") for name in shapes),
        positions=_positions(shapes, tables[0] or ""),
        layers=_layers(shapes, tables[0] or ""),
        scale=scale,
        multiple=scale * 2**downs,
    )


def _positions(shapes: Shapes, table: str) -> int:
    names = (
        table.replace("token_embedding", "position_embedding"),
        table.replace("token_embedding.weight", "positional_embedding"),
    )
    return next((shapes[name][0] for name in names if name in shapes), 77)


def _layers(shapes: Shapes, table: str) -> int:
    for mark in ("encoder.layers.", "resblocks."):
        prefix = table.split("embeddings.")[0].split("token_embedding")[0]
        found = {_number_after(name, mark) for name in shapes if name.startswith(prefix) and mark in name}
        if found:
            return len(found)
    return 12


def with_prediction(facts: ModelFacts, wanted: str) -> ModelFacts:
    """`facts` with the prediction type of the run file, unless that is "auto"."""
    return replace(facts, truth=facts.truth.chosen(wanted))


def _family_of(shapes: Shapes, path: Path) -> Family:
    names = shapes.keys()

    def any_starts(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    if f"{UNET}input_blocks.0.0.weight" in names:
        if any_starts("conditioner.embedders.1.model."):
            return "sdxl"
        if any_starts("conditioner.embedders.0.model."):
            raise ModelError(
                f"{path} is the SDXL refiner; embeddings are trained on the base model",
                remedy="Use the SDXL base model.",
                kind="refiner",
            )
        if any_starts("cond_stage_model.model."):
            return "sd2"
        if any_starts("cond_stage_model.transformer."):
            return "sd1"
        raise ModelError(
            f"{path} holds a U-Net without its text encoder", remedy="Use the full checkpoint.", kind="U-Net only"
        )
    other = next((name for sign, name in _OTHER_FILES if any(sign in key for key in names)), None)
    what = (
        f"{path} is {other}, not a Stable Diffusion checkpoint"
        if other
        else f"{path} is not a Stable Diffusion checkpoint"
    )
    kinds = {"a Flux model": "Flux", "a Stable Diffusion 3 model": "SD 3"}
    raise ModelError(what, remedy="Use an SD 1, SD 2 or SDXL model.", kind=kinds.get(other or "", ""))


_OTHER_FILES = (
    ("double_blocks.", "a Flux model"),
    ("joint_blocks.", "a Stable Diffusion 3 model"),
    ("lora_", "a LoRA"),
    ("emb_params", "an embedding"),
    ("string_to_param", "an embedding"),
    ("clip_g", "an embedding"),
    ("encoder.down.", "a VAE"),
    ("control_model.", "a ControlNet"),
)


def _check_channels(channels: int, path: Path) -> None:
    if channels == 9:
        raise ModelError(
            f"{path} is an inpainting model",
            remedy="Train on the model that it was made from; the embedding works with both.",
            kind="inpainting",
        )
    if channels != 4:
        raise ModelError(f"{path} has {channels} input channels; a text-to-image model has 4")


def _check_part(folder: Path) -> None:
    for name in find_weights(folder).files:
        if name.endswith(".safetensors"):
            read_shapes(folder / name)


def _config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    path = folder / name
    try:
        values = bounded.read_json(path)
    except OSError:
        raise ModelError(f"{path} is missing", remedy="Copy the whole model folder.") from None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}", remedy="Copy the model folder again.") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a table", remedy="Copy the model folder again.")
    return values


def _number_after(name: str, mark: str) -> int:
    digits = name.partition(mark)[2].partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def _cached_snapshot(hub_id: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(hub_id, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return None
    return path if is_whole(path) else None


def is_whole(path: Path) -> bool:
    """Whether a model folder has the weights of every part; a download that broke off has not."""
    try:
        index = bounded.read_json(path / "model_index.json")
    except (OSError, ValueError):
        return False
    parts = ["unet", "vae", *(name for name in ("text_encoder", "text_encoder_2") if name in index)]
    try:
        return all((path / part / "config.json").is_file() and find_weights(path / part) for part in parts)
    except WeightsError:
        return False


def hub_files(names: Iterable[str]) -> list[str]:
    """Of the files of a hub repository those that training needs: one set of weights for each part.

    The fp16 ones where there are any (half the download), shards with their index, safetensors before .bin.
    """
    names = sorted(names)
    chosen = [name for name in names if name == "model_index.json" or name.startswith(("scheduler/", "tokenizer"))]
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        inside = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        # What an index lists is not known before it is fetched; the shards' numbers say how many there are.
        sets = [found for found in weight_sets(inside, lambda _: (), HALF_FIRST) if not found.missing]
        wanted = [name for name in inside if name == "config.json"]
        if sets:
            wanted += [*sets[0].files, *(sets[0].indexes if len(sets[0].files) > 1 else ())]
        chosen += [f"{part}/{name}" for name in wanted]
    return chosen
