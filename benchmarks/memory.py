"""What a training step holds and computes, measured on the real modules at full size: no weights, no card, minutes.

    python -m benchmarks.memory            # the table, beside the figures that the program uses now
    python -m benchmarks.memory --write    # also write them to ti_tui/data/models/memory.toml, for the memory plan

The modules are built with shapes only (torch's fake tensors), and forward and backward run the same operations as in
training; each new storage is counted until it is freed. `kept` is what forward keeps for backward, by saved-tensor
hooks, without weights; `image` and `fixed` give the peak. Everything is in half precision; single precision takes
twice as much. `work` is in TFLOP, for matrix products and attention. What a card needs besides (context, workspaces,
the allocator's overhead) cannot be measured this way.
"""

from __future__ import annotations

import argparse
import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from tests.fixtures.limited_memory import LimitedMemory
from ti_tui.run.memory import COEFFICIENTS_FILE, MIB, Backward, Recompute
from ti_tui.training import lean
from ti_tui.training.lean import make_lean
from ti_tui.training.quantised import quantise
from ti_tui.training.recompute import set_recompute

HALF = torch.float16
TILE = 512
CLIP_L: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "hidden_act": "quick_gelu", "projection_dim": 768,
}  # fmt: skip
OPEN_CLIP_H: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
    "hidden_act": "gelu", "projection_dim": 512,
}  # fmt: skip
OPEN_CLIP_G: dict[str, Any] = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "hidden_act": "gelu", "projection_dim": 1280,
}  # fmt: skip
UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 768, "attention_head_dim": 8, "block_out_channels": (320, 640, 1280, 1280)},
    "sd2": {
        "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True,
        "block_out_channels": (320, 640, 1280, 1280),
    },
    "sdxl": {
        "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20], "use_linear_projection": True,
        "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": [1, 2, 10],
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip
"""The published configurations."""
TEXTS = {"sd1": [CLIP_L], "sd2": [OPEN_CLIP_H], "sdxl": [CLIP_L, OPEN_CLIP_G]}
RESOLUTIONS = {"sd1": 512, "sd2": 512, "sdxl": 1024}
WAYS: list[tuple[Backward, Recompute]] = [
    (backward, amount) for backward in ("plain", "lean") for amount in ("none", "some", "all")
]  # type: ignore[misc]


@contextlib.contextmanager
def half_precision() -> Iterator[None]:
    torch.set_default_dtype(HALF)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def weights_of(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def mib_of(model: torch.nn.Module) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in weights_of(model)) / MIB


def frozen(kind: Any, config: Any) -> Any:
    with half_precision():
        model = kind.from_config(config) if isinstance(config, dict) else kind(config)
    return model.requires_grad_(False).eval()


def make_unet(family: str) -> Any:
    from diffusers import UNet2DConditionModel

    return frozen(UNet2DConditionModel, {"sample_size": RESOLUTIONS[family] // 8, **UNETS[family]})


def make_vae() -> Any:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return frozen(AutoencoderKL, {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, **blocks})


def unet_step(unet: Any, family: str, batch_size: int, resolution: int, *, train: bool = True) -> tuple[float, float]:
    """(kept, peak) MiB of a forward and backward; of a forward alone without `train`."""
    config, side = UNETS[family], resolution // 8
    latents = torch.randn(batch_size, 4, side, side, dtype=HALF)
    context = torch.randn(batch_size, 77, config["cross_attention_dim"], dtype=HALF, requires_grad=train)
    more: dict[str, Any] = {}
    if family == "sdxl":
        pooled = torch.randn(batch_size, 1280, dtype=HALF, requires_grad=train)
        more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": torch.zeros(batch_size, 6)}
    return _forward_backward(
        unet,
        lambda: unet(latents, torch.tensor([5] * batch_size), encoder_hidden_states=context, **more).sample,
        train=train,
    )


def work_of(run: Callable[[], Any]) -> float:
    """TFLOP of the work that `run` does."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    # torch counts the cards' kernels of fused attention only.
    kernels: dict[Any, Any] = {
        attention: lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda gradient, query, key, value, *_, **__: sdpa_backward_flop_count(gradient, query, key, value)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=kernels) as counter:
        run()
    return counter.get_total_flops() / 1e12


def text_step(encoders: list[Any], prompts: int) -> tuple[float, float]:
    """(kept, peak) MiB of the text encoder(s) through forward and backward."""
    kept = peak = 0.0
    for encoder in encoders:
        width = encoder.config.hidden_size
        embedded = torch.randn(prompts, 77, width, dtype=HALF, requires_grad=True)
        encoder.get_input_embeddings().forward = lambda _ids, known=embedded: known
        ids = torch.zeros(prompts, 77, dtype=torch.int64)
        found = _forward_backward(encoder, lambda one=encoder, ids=ids: one(ids).last_hidden_state, train=True)
        kept, peak = kept + found[0], max(peak, kept + found[1])
    return kept, peak


def stand_in_of_a_card(gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Use the code paths of a card, although this runs on a CPU: the figures are for cards."""
    return gradient.new_empty(1).expand(shape)


def _forward_backward(model: Any, forward: Any, *, train: bool) -> tuple[float, float]:
    weights = {tensor.untyped_storage()._cdata for tensor in weights_of(model)}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    live = LimitedMemory()
    with live, torch.set_grad_enabled(train), mock.patch.object(lean, "stand_in", stand_in_of_a_card):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = forward().float().square().mean()
        left = sum(kept.values())
        if train:
            loss.backward()
    return left / MIB, live.peak / MIB


def vae_peaks(vae: Any, resolution: int) -> dict[str, float]:
    """Peak MiB of encoding and decoding a picture, whole and in tiles of 512 pixels."""
    found = {}
    for tiled in (False, True):
        vae.use_tiling = tiled
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // 8
        # A picture of one tile is not split, so the tile's own need is taken at twice the side.
        side = max(resolution, 2 * TILE) if tiled else resolution
        for name, run in (("encode", vae_encode), ("decode", vae_decode)):
            with LimitedMemory() as live:
                run(vae, side)
            found[f"{name}_tiled" if tiled else name] = live.peak / MIB
    return found


@torch.no_grad()
def vae_encode(vae: Any, side: int) -> None:
    vae.encode(torch.randn(1, 3, side, side, dtype=HALF))


@torch.no_grad()
def vae_decode(vae: Any, side: int) -> None:
    vae.decode(torch.randn(1, 4, side // 8, side // 8, dtype=HALF))


def measure(family: str) -> dict[str, Any]:
    """All coefficients of a family, MiB."""
    from diffusers.models.attention_processor import AttnProcessor
    from transformers import CLIPTextConfig, CLIPTextModel

    resolution = RESOLUTIONS[family]
    with FakeTensorMode(allow_non_fake_inputs=True):
        found: dict[str, Any] = {"resolution": resolution}
        encoders = [
            frozen(CLIPTextModel, CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **values))
            for values in TEXTS[family]
        ]
        found["widths"] = [encoder.config.hidden_size for encoder in encoders]
        found["text"] = sum(map(mib_of, encoders))
        one, two = text_step(encoders, 1), text_step(encoders, 2)
        found["prompt"] = two[0] - one[0]
        vae = make_vae()
        found["vae"] = mib_of(vae)
        found |= vae_peaks(vae, resolution)
        unet = make_unet(family)
        found["unet"] = mib_of(unet)
        found["forward"] = unet_step(unet, family, 1, resolution, train=False)[1]
        found["forward_work"] = work_of(lambda: unet_step(unet, family, 1, resolution, train=False))
        found["decode_work"] = work_of(lambda: vae_decode(vae, resolution))
        ways = {}
        for backward, amount in WAYS:
            unet = make_unet(family)
            if backward == "lean":
                make_lean(unet)
            set_recompute(unet, amount)
            kept, peak = unet_step(unet, family, 1, resolution)
            twice = unet_step(unet, family, 2, resolution)[1]
            work = work_of(lambda unet=unet: unet_step(unet, family, 1, resolution))
            unet.set_attn_processor(AttnProcessor())
            matrices = unet_step(unet, family, 1, resolution)[1] - peak
            ways[f"{backward}-{amount}"] = {
                "kept": kept, "image": twice - peak, "fixed": 2 * peak - twice, "matrices": matrices,
                "work": work,
            }  # fmt: skip
        quantise(unet := make_unet(family))
        found["unet_8bit"] = mib_of(unet)
        found["ways"] = ways
    return found


def as_toml(table: dict[str, dict[str, Any]]) -> str:
    lines = ["# Written by `python -m benchmarks.memory --write`: MiB in half precision, of the full-size modules."]
    for family, values in table.items():
        lines += ["", f"[{family}]"]
        lines += [f"{name} = {_plain(value)}" for name, value in values.items() if name != "ways"]
        for name, mode in values["ways"].items():
            numbers = ", ".join(f"{key} = {_plain(value)}" for key, value in mode.items())
            lines.append(f"ways.{name} = {{ {numbers} }}")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1f}" if value >= 20 or value == 0 else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=list(UNETS), default=list(UNETS))
    parser.add_argument("--write", action="store_true", help="keep the figures where the memory plan reads them")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    table = {family: measure(family) for family in given.family}
    text = as_toml(table)
    print(text)
    if given.write:
        if set(given.family) != set(UNETS):
            parser.error("--write needs every family")
        COEFFICIENTS_FILE.write_text(text, encoding="utf-8")
        print(f"written to {COEFFICIENTS_FILE}")


if __name__ == "__main__":
    main()
