"""Single-file checkpoints in the original layout: configurations from shapes, and which tensors they need. No torch.

`ti-tui check`, the wizard and the trainer's start call `check_file` through `setup.check`; the trainer reads the
configurations here too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ti_tui.run.architecture import text_shapes, unet_shapes, vae_shapes
from ti_tui.run.model import UNET, ModelError, ModelFacts, families
from ti_tui.run.weight_shapes import Shapes, read_shapes
from ti_tui.run.whole_model import check_names

VAE = "first_stage_model."
TEXT_PREFIXES = {
    ("sd1", 0): ("cond_stage_model.transformer.", False), ("sd2", 0): ("cond_stage_model.model.", True),
    ("sdxl", 0): ("conditioner.embedders.0.transformer.", False), ("sdxl", 1): ("conditioner.embedders.1.model.", True),
}  # fmt: skip
"""By family and text encoder: the prefix of its names, and whether they are OpenCLIP's instead of transformers'."""


def unet_config(shapes: Shapes, facts: ModelFacts) -> dict[str, Any]:
    """Configuration of diffusers' UNet2DConditionModel for this checkpoint, read from its shapes."""
    family = families()[facts.family]["unet"]
    blocks = f"{UNET}input_blocks."
    count = 1 + max(int(name[len(blocks) :].partition(".")[0]) for name in shapes if name.startswith(blocks))
    widths: list[int] = []
    depths: list[int] = []
    layers = 0
    cross = 0
    linear = False
    level_width = level_depth = level_layers = 0
    for index in range(1, count + 1):
        here = f"{blocks}{index}."
        if index == count or f"{here}0.op.weight" in shapes:
            widths.append(level_width)
            depths.append(level_depth)
            layers = max(layers, level_layers)
            level_layers = level_depth = 0
            continue
        level_width = shapes[f"{here}0.in_layers.2.weight"][0]
        level_layers += 1
        depth = sum(f"{here}1.transformer_blocks.{n}.attn2.to_k.weight" in shapes for n in range(64))
        if depth:
            level_depth = depth
            cross = shapes[f"{here}1.transformer_blocks.0.attn2.to_k.weight"][1]
            linear = len(shapes[f"{here}1.proj_in.weight"]) == 2
    heads: Any = family["heads"] if "heads" in family else [max(1, width // family["head_dim"]) for width in widths]
    middle_depth = sum(f"{UNET}middle_block.1.transformer_blocks.{n}.attn2.to_k.weight" in shapes for n in range(64))
    transformer_layers = [depth or 1 for depth in depths]
    config: dict[str, Any] = {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": layers,
        "block_out_channels": widths,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle_depth else "UNetMidBlock2D",
        "cross_attention_dim": cross,
        "attention_head_dim": heads,
        "use_linear_projection": linear,
        "transformer_layers_per_block": transformer_layers if max(transformer_layers) > 1 else 1,
    }
    if facts.family == "sdxl":
        pooled = facts.widths[-1]
        projection = f"{UNET}label_emb.0.0.weight"
        inputs = shapes[projection][1]
        config |= {
            "addition_embed_type": "text_time",
            # The embeddings of six sizes (original, crop, target) follow the pooled text.
            "addition_time_embed_dim": (inputs - pooled) // 6,
            "projection_class_embeddings_input_dim": inputs,
        }
    return config


def vae_config(shapes: Shapes, facts: ModelFacts) -> dict[str, Any]:
    """Configuration of diffusers' AutoencoderKL, from shapes; names may have the checkpoint's prefix or none."""
    family = families()[facts.family]["vae"]
    prefix = VAE if any(name.startswith(VAE) for name in shapes) else ""
    downs = f"{prefix}encoder.down."
    levels = 1 + max(
        (int(name[len(downs) :].partition(".")[0]) for name in shapes if name.startswith(downs)),
        default=-1,
    )
    if not levels:
        raise ModelError("the file holds no VAE", remedy="Give a VAE file or a diffusers vae folder.")
    layers = sum(f"{downs}0.block.{n}.conv1.weight" in shapes for n in range(16))
    return {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": [shapes[f"{downs}{n}.block.0.conv1.weight"][0] for n in range(levels)],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": layers,
        "latent_channels": shapes[f"{prefix}quant_conv.weight"][0] // 2,
        "norm_num_groups": 32,
        "sample_size": families()[facts.family]["resolution"],
        "scaling_factor": family["scaling_factor"],
        "force_upcast": family["force_upcast"],
    }


def check_file(facts: ModelFacts, *, vae: bool) -> None:
    """Check all parts of a single-file checkpoint by its header; vae: with its VAE.

    Raises ModelError or WeightsError for the first part that cannot be loaded. Tensors of no part are passed over, as
    by the trainer.
    """
    path = facts.path
    shapes = read_shapes(path)
    for index in range(len(facts.widths)):
        given = text_tensor_shapes(shapes, facts, index)
        _check(path, f"text encoder {index + 1}", partial(_wanted_text, given, index), given)
    _check(path, "U-Net", lambda: _wanted_unet(unet_config(shapes, facts)), shapes)
    if vae:
        check_vae_file(path, facts, shapes)


def check_vae_file(path: Path, facts: ModelFacts, shapes: Shapes | None = None) -> None:
    """Check a VAE in a file of its own, or in a checkpoint. Raises ModelError or WeightsError."""
    shapes = read_shapes(path) if shapes is None else shapes
    prefix = VAE if any(name.startswith(VAE) for name in shapes) else ""
    # Attention is stored as 1x1 convolutions or, in files converted back from diffusers, as matrices.
    given = {name: shape[:2] if ".attn_1." in name else shape for name, shape in shapes.items()}
    _check(path, "VAE", lambda: _wanted_vae(vae_config(shapes, facts), prefix), given)


def _check(path: Path, what: str, wanted: Callable[[], Shapes | None], given: Shapes) -> None:
    try:
        names = wanted()
    except (KeyError, IndexError, ValueError) as error:
        # A tensor from which the configuration is read is itself missing.
        raise ModelError(
            f"{path}: the {what} is incomplete ({error})", remedy="Copy or download the file again."
        ) from None
    if names is not None:
        check_names(names, {name: shape for name, shape in given.items() if name in names}, what=what, path=path)


def _wanted_unet(config: dict[str, Any]) -> Shapes | None:
    shapes = unet_shapes(config)
    return shapes and {f"{UNET}{_unet_name(name, config)}": shape for name, shape in shapes.items()}


def _wanted_vae(config: dict[str, Any], prefix: str) -> Shapes | None:
    shapes, levels = vae_shapes(config), len(config["block_out_channels"])
    return shapes and {f"{prefix}{_vae_name(name, levels)}": shape for name, shape in shapes.items()}


def _wanted_text(given: Shapes, index: int) -> Shapes | None:
    table = given["embeddings.token_embedding.weight"]
    layers = {int(name.split(".")[2]) for name in given if name.startswith("encoder.layers.")}
    config = {
        "vocab_size": table[0],
        "hidden_size": table[1],
        "intermediate_size": given["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": 1 + max(layers),
        "max_position_embeddings": given["embeddings.position_embedding.weight"][0],
        "projection_dim": given["text_projection.weight"][0] if index else 0,
    }
    return text_shapes(config, projection=index == 1)


_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip


def _unet_name(name: str, config: dict[str, Any]) -> str:
    """The original name of a U-Net's tensor, without the prefix."""
    module, _, kind = name.rpartition(".")
    if module in _UNET_ENDS:
        return f"{_UNET_ENDS[module]}.{kind}"
    side, *rest = name.split(".")
    if side == "mid_block":
        what, index, *inner = rest
        # resnet, attention, resnet
        place = f"middle_block.{2 * int(index) if what == 'resnets' else 1}"
    else:
        block, what, index, *inner = rest
        each = config["layers_per_block"] + 1
        first = int(block) * each + (1 if side == "down_blocks" else 0)
        if what == "downsamplers":
            return f"input_blocks.{first + each - 1}.0.op.{kind}"
        if what == "upsamplers":
            after = 2 if config["up_block_types"][int(block)].startswith("CrossAttn") else 1
            return f"output_blocks.{first + each - 1}.{after}.conv.{kind}"
        place = f"{'input' if side == 'down_blocks' else 'output'}_blocks.{first + int(index)}"
        place += ".0" if what == "resnets" else ".1"
    if what == "resnets":
        inner = [_RESNET[inner[0]], *inner[1:]]
    return ".".join([place, *inner])


_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}


def _vae_name(name: str, levels: int) -> str:
    """The original name of a VAE's tensor, without the prefix."""
    side, *rest = name.split(".")
    if len(rest) < 3:
        return name.replace("conv_norm_out", "norm_out")
    kind = rest[-1]
    if rest[:2] == ["mid_block", "attentions"]:
        return f"{side}.mid.attn_1.{_VAE_ATTENTION[rest[3]]}.{kind}"
    if rest[0] == "mid_block":
        return f"{side}.mid.block_{int(rest[2]) + 1}.{rest[3]}.{kind}"
    way, level = ("down", int(rest[1])) if side == "encoder" else ("up", levels - 1 - int(rest[1]))
    if rest[2] == "resnets":
        return f"{side}.{way}.{level}.block.{rest[3]}.{rest[4].replace('conv_shortcut', 'nin_shortcut')}.{kind}"
    return f"{side}.{way}.{level}.{way}sample.conv.{kind}"


OPEN_CLIP_NAMES = (
    ("transformer.resblocks.", "encoder.layers."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
    ("ln_final.", "final_layer_norm."),
)
"""Parts of OpenCLIP's names, and what transformers calls them."""
OPEN_CLIP_WHOLE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight", "text_projection": "text_projection.weight",
}  # fmt: skip


def text_tensor_shapes(shapes: Shapes, facts: ModelFacts, index: int) -> Shapes:
    """The tensors of a text encoder under transformers' names."""
    prefix, open_clip = TEXT_PREFIXES[facts.family, index]
    given = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    if not open_clip:
        return {name.removeprefix("text_model."): shape for name, shape in given.items()}
    found: Shapes = {}
    for name, shape in given.items():
        if ".attn.in_proj_" in name:
            # Query, key and value are joined in one tensor.
            layer, kind = name.removeprefix("transformer.resblocks.").split(".attn.in_proj_")
            third = (shape[0] // 3, *shape[1:])
            found |= {f"encoder.layers.{layer}.self_attn.{part}_proj.{kind}": third for part in "qkv"}
            continue
        for old, new in OPEN_CLIP_NAMES:
            name = name.replace(old, new)
        found[OPEN_CLIP_WHOLE.get(name, name)] = shape[::-1] if name == "text_projection" else shape
    return found
