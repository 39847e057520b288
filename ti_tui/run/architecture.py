"""Names and shapes of all tensors of a network, from its diffusers configuration alone. No torch.

They let a check find what is missing in a model before anything is loaded. A configuration with something that is not
known here gives None: then only the trainer, which builds the network, can tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ti_tui.run.weight_shapes import Shapes

Config = Mapping[str, Any]
Layers = Iterator[tuple[str, tuple[int, ...]]]

_UNET_KNOWN: dict[str, tuple[Any, ...]] = {
    "class_embed_type": (None,), "num_class_embeds": (None,), "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,), "time_cond_proj_dim": (None,), "cross_attention_norm": (None,),
    "conv_in_kernel": (3,), "conv_out_kernel": (3,), "addition_embed_type": (None, "text_time"),
    "resnet_time_scale_shift": ("default",), "time_embedding_type": ("positional",), "dual_cross_attention": (False,),
    "only_cross_attention": (False,), "mid_block_only_cross_attention": (None, False),
    "class_embeddings_concat": (False,), "time_embedding_dim": (None,), "attention_type": ("default",),
    "num_attention_heads": (None,), "reverse_transformer_layers_per_block": (None,), "resnet_skip_time_act": (False,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None), "timestep_post_act": (None,),
    "time_embedding_act_fn": (None,), "norm_num_groups": (32,),
}  # fmt: skip
"""Settings that change a U-Net's tensors, with the values that are known here."""
_VAE_KNOWN: dict[str, tuple[Any, ...]] = {
    "mid_block_add_attention": (True,), "use_quant_conv": (True,), "use_post_quant_conv": (True,),
}  # fmt: skip


def unet_shapes(config: Config) -> Shapes | None:
    """The tensors of a UNet2DConditionModel."""
    return _shapes(_unet, config, _UNET_KNOWN)


def vae_shapes(config: Config) -> Shapes | None:
    """The tensors of an AutoencoderKL."""
    return _shapes(_vae, config, _VAE_KNOWN)


def text_shapes(config: Config, *, projection: bool) -> Shapes | None:
    """The tensors of a CLIPTextModel, without the prefix `text_model.`; projection: of one with a projection."""
    found = _shapes(_text, config, {})
    if found is not None and projection:
        found["text_projection.weight"] = (int(config.get("projection_dim", 512)), int(config["hidden_size"]))
    return found


def _shapes(tensors: Any, config: Config, known: Mapping[str, tuple[Any, ...]]) -> Shapes | None:
    if any(config.get(key, values[0]) not in values for key, values in known.items()):
        return None
    try:
        return dict(tensors(config))
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
        return None


def _unet(config: Config) -> Layers:
    widths = [int(width) for width in config["block_out_channels"]]
    levels, first, last = len(widths), widths[0], widths[-1]
    downs, ups = list(config["down_block_types"]), list(config["up_block_types"])
    blocks = {"DownBlock2D", "UpBlock2D", "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"}
    if not blocks.issuperset((*downs, *ups)):
        raise ValueError("a kind of block that is not known")
    layers = _each(config.get("layers_per_block", 2), levels)
    depths = _each(config.get("transformer_layers_per_block", 1), levels)
    heads = _each(config.get("attention_head_dim", 8), levels)
    cross, linear, time = int(config["cross_attention_dim"]), bool(config.get("use_linear_projection")), first * 4

    def transformers(at: str, level: int) -> Layers:
        # Heads that do not divide the width make a narrower attention.
        if widths[level] % heads[level]:
            raise ValueError("heads that do not divide the width")
        yield from _transformer(at, widths[level], depths[level], cross, linear)

    yield from _layer("conv_in", first, int(config.get("in_channels", 4)), 3, 3)
    yield from _layer("time_embedding.linear_1", time, first)
    yield from _layer("time_embedding.linear_2", time, time)
    if config.get("addition_embed_type") == "text_time":
        yield from _layer("add_embedding.linear_1", time, int(config["projection_class_embeddings_input_dim"]))
        yield from _layer("add_embedding.linear_2", time, time)
    width = first
    for level, kind in enumerate(downs):
        at = f"down_blocks.{level}"
        for index in range(layers[level]):
            yield from _resnet(f"{at}.resnets.{index}", width, widths[level], time)
            width = widths[level]
            if kind.startswith("CrossAttn"):
                yield from transformers(f"{at}.attentions.{index}", level)
        if level < levels - 1:
            yield from _layer(f"{at}.downsamplers.0.conv", width, width, 3, 3)
    middle = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    if middle is not None:
        yield from _resnet("mid_block.resnets.0", last, last, time)
    if middle == "UNetMidBlock2DCrossAttn":
        yield from transformers("mid_block.attentions.0", levels - 1)
        yield from _resnet("mid_block.resnets.1", last, last, time)
    for place, kind in enumerate(ups):
        level, at = levels - 1 - place, f"up_blocks.{place}"
        skipped = widths[max(level - 1, 0)]
        count = layers[level] + 1
        for index in range(count):
            skip = skipped if index == count - 1 else widths[level]
            yield from _resnet(f"{at}.resnets.{index}", width + skip, widths[level], time)
            width = widths[level]
            if kind.startswith("CrossAttn"):
                yield from transformers(f"{at}.attentions.{index}", level)
        if level:
            yield from _layer(f"{at}.upsamplers.0.conv", width, width, 3, 3)
    yield from _layer("conv_norm_out", first)
    yield from _layer("conv_out", int(config.get("out_channels", 4)), first, 3, 3)


def _transformer(at: str, width: int, depth: int, cross: int, linear: bool) -> Layers:
    kernel = () if linear else (1, 1)
    yield from _layer(f"{at}.norm", width)
    yield from _layer(f"{at}.proj_in", width, width, *kernel)
    for index in range(depth):
        block = f"{at}.transformer_blocks.{index}"
        for number, context in ((1, width), (2, cross)):
            yield from _layer(f"{block}.norm{number}", width)
            yield f"{block}.attn{number}.to_q.weight", (width, width)
            yield f"{block}.attn{number}.to_k.weight", (width, context)
            yield f"{block}.attn{number}.to_v.weight", (width, context)
            yield from _layer(f"{block}.attn{number}.to_out.0", width, width)
        yield from _layer(f"{block}.norm3", width)
        yield from _layer(f"{block}.ff.net.0.proj", width * 8, width)
        yield from _layer(f"{block}.ff.net.2", width, width * 4)
    yield from _layer(f"{at}.proj_out", width, width, *kernel)


def _resnet(at: str, width: int, out: int, time: int = 0) -> Layers:
    yield from _layer(f"{at}.norm1", width)
    yield from _layer(f"{at}.conv1", out, width, 3, 3)
    if time:
        yield from _layer(f"{at}.time_emb_proj", out, time)
    yield from _layer(f"{at}.norm2", out)
    yield from _layer(f"{at}.conv2", out, out, 3, 3)
    if width != out:
        yield from _layer(f"{at}.conv_shortcut", out, width, 1, 1)


def _vae(config: Config) -> Layers:
    widths = [int(width) for width in config["block_out_channels"]]
    levels, latent, layers = len(widths), int(config.get("latent_channels", 4)), int(config.get("layers_per_block", 1))
    kinds = {*config["down_block_types"], *config["up_block_types"]}
    if not {"DownEncoderBlock2D", "UpDecoderBlock2D"} >= kinds:
        raise ValueError("a kind of block that is not known")
    yield from _layer("encoder.conv_in", widths[0], int(config.get("in_channels", 3)), 3, 3)
    yield from _layer("decoder.conv_in", widths[-1], latent, 3, 3)
    width = widths[0]
    for level, out in enumerate(widths):
        at = f"encoder.down_blocks.{level}"
        for index in range(layers):
            yield from _resnet(f"{at}.resnets.{index}", width, out)
            width = out
        if level < levels - 1:
            yield from _layer(f"{at}.downsamplers.0.conv", out, out, 3, 3)
    for side in ("encoder", "decoder"):
        yield from _resnet(f"{side}.mid_block.resnets.0", width, width)
        yield from _resnet(f"{side}.mid_block.resnets.1", width, width)
        yield from _layer(f"{side}.mid_block.attentions.0.group_norm", width)
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            yield from _layer(f"{side}.mid_block.attentions.0.{name}", width, width)
    for place, out in enumerate(reversed(widths)):
        at = f"decoder.up_blocks.{place}"
        for index in range(layers + 1):
            yield from _resnet(f"{at}.resnets.{index}", width, out)
            width = out
        if place < levels - 1:
            yield from _layer(f"{at}.upsamplers.0.conv", out, out, 3, 3)
    yield from _layer("encoder.conv_norm_out", widths[-1])
    yield from _layer("encoder.conv_out", 2 * latent, widths[-1], 3, 3)
    yield from _layer("decoder.conv_norm_out", widths[0])
    yield from _layer("decoder.conv_out", int(config.get("out_channels", 3)), widths[0], 3, 3)
    yield from _layer("quant_conv", 2 * latent, 2 * latent, 1, 1)
    yield from _layer("post_quant_conv", latent, latent, 1, 1)


def _text(config: Config) -> Layers:
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    yield "embeddings.token_embedding.weight", (int(config["vocab_size"]), width)
    yield "embeddings.position_embedding.weight", (int(config.get("max_position_embeddings", 77)), width)
    for index in range(int(config["num_hidden_layers"])):
        at = f"encoder.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _layer(f"{at}.self_attn.{name}", width, width)
        yield from _layer(f"{at}.layer_norm1", width)
        yield from _layer(f"{at}.layer_norm2", width)
        yield from _layer(f"{at}.mlp.fc1", inner, width)
        yield from _layer(f"{at}.mlp.fc2", width, inner)
    yield from _layer("final_layer_norm", width)


def _layer(at: str, *shape: int) -> Layers:
    """Weight and bias."""
    yield f"{at}.weight", shape
    yield f"{at}.bias", shape[:1]


def _each(value: Any, count: int) -> list[int]:
    """A setting for each level; a number stands for all."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(values) != count:
        raise ValueError("a setting for another number of levels")
    return [int(number) for number in values]
