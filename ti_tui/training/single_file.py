"""Single-file checkpoints: finds the configuration of each network from the tensors' shapes, and converts the names.

A tensor is only read when its place in a model is known, and piece by piece: weights of 3 GiB never take 6 GiB.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from ti_tui.run.model import UNET, ModelError, ModelFacts, families
from ti_tui.training.weights import Checkpoint, Tensors

VAE = "first_stage_model."


def unet_config(checkpoint: Checkpoint, facts: ModelFacts) -> dict[str, Any]:
    """Configuration of diffusers' UNet2DConditionModel for this checkpoint, read from its shapes."""
    family = families()[facts.family]["unet"]
    blocks = f"{UNET}input_blocks."
    count = 1 + max(int(name[len(blocks) :].partition(".")[0]) for name in checkpoint if name.startswith(blocks))
    widths: list[int] = []
    depths: list[int] = []
    layers = 0
    cross = 0
    linear = False
    level_width = level_depth = level_layers = 0
    for index in range(1, count + 1):
        here = f"{blocks}{index}."
        if index == count or f"{here}0.op.weight" in checkpoint:
            widths.append(level_width)
            depths.append(level_depth)
            layers = max(layers, level_layers)
            level_layers = level_depth = 0
            continue
        level_width = checkpoint.shape(f"{here}0.in_layers.2.weight")[0]
        level_layers += 1
        depth = sum(f"{here}1.transformer_blocks.{n}.attn2.to_k.weight" in checkpoint for n in range(64))
        if depth:
            level_depth = depth
            cross = checkpoint.shape(f"{here}1.transformer_blocks.0.attn2.to_k.weight")[1]
            linear = len(checkpoint.shape(f"{here}1.proj_in.weight")) == 2
    heads: Any = family["heads"] if "heads" in family else [max(1, width // family["head_dim"]) for width in widths]
    middle_depth = sum(
        f"{UNET}middle_block.1.transformer_blocks.{n}.attn2.to_k.weight" in checkpoint for n in range(64)
    )
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
        inputs = checkpoint.shape(projection)[1]
        config |= {
            "addition_embed_type": "text_time",
            # The embeddings of six sizes (original, crop, target) follow the pooled text.
            "addition_time_embed_dim": (inputs - pooled) // 6,
            "projection_class_embeddings_input_dim": inputs,
        }
    return config


def unet_tensors(checkpoint: Checkpoint, config: dict[str, Any]) -> Tensors:
    """The U-Net's tensors under diffusers' names."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    converted: Tensors = convert_ldm_unet_checkpoint(checkpoint.part(UNET), config)
    return converted


def vae_config(checkpoint: Checkpoint, facts: ModelFacts) -> dict[str, Any]:
    """Configuration of diffusers' AutoencoderKL, from shapes; names may have the checkpoint's prefix or none."""
    family = families()[facts.family]["vae"]
    prefix = VAE if any(name.startswith(VAE) for name in checkpoint) else ""
    downs = f"{prefix}encoder.down."
    levels = 1 + max(
        (int(name[len(downs) :].partition(".")[0]) for name in checkpoint if name.startswith(downs)),
        default=-1,
    )
    if not levels:
        raise ModelError("the file holds no VAE", remedy="Give a VAE file or a diffusers vae folder.")
    layers = sum(f"{downs}0.block.{n}.conv1.weight" in checkpoint for n in range(16))
    return {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": [checkpoint.shape(f"{downs}{n}.block.0.conv1.weight")[0] for n in range(levels)],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": layers,
        "latent_channels": checkpoint.shape(f"{prefix}quant_conv.weight")[0] // 2,
        "norm_num_groups": 32,
        "sample_size": families()[facts.family]["resolution"],
        "scaling_factor": family["scaling_factor"],
        "force_upcast": family["force_upcast"],
    }


def vae_tensors(checkpoint: Checkpoint, config: dict[str, Any]) -> Tensors:
    """The VAE's tensors under diffusers' names."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    parts = checkpoint.part(VAE) or checkpoint.part("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
    converted: Tensors = convert_ldm_vae_checkpoint(parts, config)
    return converted


def text_tensors(checkpoint: Checkpoint, facts: ModelFacts, index: int) -> tuple[dict[str, Any], Tensors]:
    """(configuration, tensors) of text encoder `index`, under the names of transformers' CLIP text model."""
    family = families()[facts.family]["text_encoders"][index]
    prefix, open_clip = {
        ("sd1", 0): ("cond_stage_model.transformer.", False),
        ("sd2", 0): ("cond_stage_model.model.", True),
        ("sdxl", 0): ("conditioner.embedders.0.transformer.", False),
        ("sdxl", 1): ("conditioner.embedders.1.model.", True),
    }[facts.family, index]
    raw = {name.removeprefix(prefix): tensor for name, tensor in checkpoint.part(prefix).items()}
    tensors = _from_open_clip(raw) if open_clip else {name.removeprefix("text_model."): t for name, t in raw.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("position_ids")}
    layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layers."))
    if layers == family.get("full_layers"):
        layers -= 1
        tensors = {name: t for name, t in tensors.items() if not name.startswith(f"encoder.layers.{layers}.")}
    table = tensors["embeddings.token_embedding.weight"]
    config = {
        "vocab_size": table.shape[0],
        "hidden_size": table.shape[1],
        "intermediate_size": tensors["encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, table.shape[1] // family["head_dim"]),
        "max_position_embeddings": tensors["embeddings.position_embedding.weight"].shape[0],
        "hidden_act": family["hidden_act"],
        "projection_dim": tensors["text_projection.weight"].shape[0]
        if "text_projection.weight" in tensors
        else table.shape[1],
    }
    return config, tensors


_OPEN_CLIP_NAMES = (
    ("transformer.resblocks.", "encoder.layers."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
    ("ln_final.", "final_layer_norm."),
)


def _from_open_clip(raw: Tensors) -> Tensors:
    """Convert OpenCLIP's names and joined attention weights to those of transformers."""
    tensors: Tensors = {}
    for name, tensor in raw.items():
        if name in {"logit_scale", "attn_mask"}:
            continue
        if name == "token_embedding.weight":
            tensors["embeddings.token_embedding.weight"] = tensor
        elif name == "positional_embedding":
            tensors["embeddings.position_embedding.weight"] = tensor
        elif name == "text_projection":
            tensors["text_projection.weight"] = tensor.then(lambda whole: whole.T.contiguous())
        elif ".attn.in_proj_" in name:
            layer, kind = name.removeprefix("transformer.resblocks.").split(".attn.in_proj_")
            for index, part in enumerate("qkv"):
                tensors[f"encoder.layers.{layer}.self_attn.{part}_proj.{kind}"] = tensor.then(partial(_third, index))
        else:
            for old, new in _OPEN_CLIP_NAMES:
                name = name.replace(old, new)
            tensors[name] = tensor
    return tensors


def _third(index: int, joined: Tensor) -> Tensor:
    # A view would keep the memory of all three.
    return joined.chunk(3)[index].clone()
