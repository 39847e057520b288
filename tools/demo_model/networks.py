"""The parts of the demo model, untrained: a Stable Diffusion 1 in every way but its size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from tools.demo_model.pictures import SIZE
from tools.demo_model.words import POSITIONS

SCALE = 4
"""Pixels per latent."""
WIDTH = 64
"""Of the text encoder."""
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def new_vae() -> Any:
    """48x48 pixels to 12x12x4 latents."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64), layers_per_block=1, latent_channels=4, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False, scaling_factor=1.0, sample_size=SIZE,
    )  # fmt: skip


def new_text_encoder(vocabulary: int, *, hidden: int = 0) -> Any:
    """CLIP's text model with two layers. hidden: rows of the token table behind the vocabulary."""
    config = CLIPTextConfig(
        vocab_size=vocabulary + hidden, hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=POSITIONS, projection_dim=WIDTH, hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
    )  # fmt: skip
    return CLIPTextModel(config)


def new_unet() -> Any:
    """12 > 6 > 3 latents, attention at 6 and 3."""
    return UNet2DConditionModel(
        sample_size=SIZE // SCALE, block_out_channels=(32, 64, 96), layers_per_block=1, norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH, attention_head_dim=4,
    )  # fmt: skip


def write_folder(folder: Path, unet: Any, vae: Any, text: Any) -> None:
    """A diffusers folder beside the tokenizer that is there already. U-Net and VAE in fp16.

    The text encoder stays float32 (0.6 MB): loaded without a dtype, an all-fp16 folder becomes a half-precision text
    encoder and a float32 U-Net, which do not fit together.
    """
    unet.to(torch.float16).save_pretrained(folder / "unet")
    vae.to(torch.float16).save_pretrained(folder / "vae")
    text.float().save_pretrained(folder / "text_encoder")
    DDIMScheduler(
        **SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="epsilon"
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=1))


def with_hidden_words(text: Any, count: int, seed: int) -> Any:
    """`text` with `count` more rows in its token table, random like its own."""
    table = text.get_input_embeddings().weight.detach().cpu()
    more = table.std() * torch.randn((count, WIDTH), generator=torch.Generator().manual_seed(seed))
    return _with_table(text, torch.cat([table, more]), len(table), count)


def without_hidden_words(text: Any, vocabulary: int) -> Any:
    """`text` with the rows of its own vocabulary only."""
    return _with_table(text, text.get_input_embeddings().weight.detach().cpu()[:vocabulary], vocabulary, 0)


def with_even_lengths(text: Any, used: torch.Tensor) -> Any:
    """`text` with the rows that no caption uses as long as the median of those with the ids `used`.

    They are as random as at the start, and most of the table: the vocabulary's median length, which `embedding.norm`
    goes by, would be theirs and a quarter of a real word's.
    """
    table = text.get_input_embeddings().weight.detach().cpu().clone()
    lengths = table.norm(dim=1)
    idle = torch.ones(len(table), dtype=torch.bool)
    idle[used.cpu()] = False
    table[idle] *= (lengths[~idle].median() / lengths[idle])[:, None]
    return _with_table(text, table, len(table), 0)


def _with_table(text: Any, table: torch.Tensor, vocabulary: int, hidden: int) -> Any:
    made = new_text_encoder(vocabulary, hidden=hidden)
    tensors = {name: tensor.cpu() for name, tensor in text.state_dict().items()}
    name = next(name for name in tensors if name.endswith("token_embedding.weight"))
    made.load_state_dict({**tensors, name: table})
    return made
