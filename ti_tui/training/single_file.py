"""Single-file checkpoints: the tensors of each network under the names of diffusers and transformers.

A tensor is only read when its place in a model is known, and piece by piece: weights of 3 GiB never take 6 GiB.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from ti_tui.run.model import UNET, ModelFacts, families
from ti_tui.run.original_layout import OPEN_CLIP_NAMES, OPEN_CLIP_WHOLE, TEXT_PREFIXES, VAE
from ti_tui.training.weights import Checkpoint, Tensors


def unet_tensors(checkpoint: Checkpoint, config: dict[str, Any]) -> Tensors:
    """The U-Net's tensors under diffusers' names."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    converted: Tensors = convert_ldm_unet_checkpoint(checkpoint.part(UNET), config)
    return converted


def vae_tensors(checkpoint: Checkpoint, config: dict[str, Any]) -> Tensors:
    """The VAE's tensors under diffusers' names."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    parts = checkpoint.part(VAE) or checkpoint.part("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
    converted: Tensors = convert_ldm_vae_checkpoint(parts, config)
    return converted


def text_tensors(checkpoint: Checkpoint, facts: ModelFacts, index: int) -> tuple[dict[str, Any], Tensors]:
    """(configuration, tensors) of text encoder `index`, under the names of transformers' CLIP text model."""
    family = families()[facts.family]["text_encoders"][index]
    prefix, open_clip = TEXT_PREFIXES[facts.family, index]
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


def _from_open_clip(raw: Tensors) -> Tensors:
    """Convert OpenCLIP's names and joined attention weights to those of transformers."""
    tensors: Tensors = {}
    for name, tensor in raw.items():
        if name in {"logit_scale", "attn_mask"}:
            continue
        if name == "text_projection":
            tensors[OPEN_CLIP_WHOLE[name]] = tensor.then(lambda whole: whole.T.contiguous())
        elif ".attn.in_proj_" in name:
            layer, kind = name.removeprefix("transformer.resblocks.").split(".attn.in_proj_")
            for index, part in enumerate("qkv"):
                tensors[f"encoder.layers.{layer}.self_attn.{part}_proj.{kind}"] = tensor.then(partial(_third, index))
        else:
            for old, new in OPEN_CLIP_NAMES:
                name = name.replace(old, new)
            tensors[OPEN_CLIP_WHOLE.get(name, name)] = tensor
    return tensors


def _third(index: int, joined: Tensor) -> Tensor:
    # A view would keep the memory of all three.
    return joined.chunk(3)[index].clone()
