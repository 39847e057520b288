"""`check` looks at the whole model: every incomplete folder is found before a run starts, and every good one passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.training.test_models import PUBLISHED
from ti_tui.errors import UserError
from ti_tui.run.architecture import text_shapes, unet_shapes, vae_shapes
from ti_tui.run.model import inspect_model
from ti_tui.run.whole_model import check_folder


def shapes_of(model: torch.nn.Module, drop: str = "") -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(drop): tuple(value.shape) for name, value in model.state_dict().items()}


ODD_UNETS: dict[str, dict[str, Any]] = {
    "three levels, layers of each": {
        "block_out_channels": (32, 64, 64), "layers_per_block": [1, 2, 2], "cross_attention_dim": 24,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 3, 2], "attention_head_dim": [4, 8, 8], "use_linear_projection": True,
    },
    "no middle": {"block_out_channels": (32, 64), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                  "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "mid_block_type": None},
    "plain middle": {"block_out_channels": (32, 64), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                     "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "mid_block_type": "UNetMidBlock2D"},
}  # fmt: skip


@pytest.mark.parametrize("config", [*PUBLISHED.values(), *ODD_UNETS.values()], ids=[*PUBLISHED, *ODD_UNETS])
def test_a_unets_tensors_follow_from_its_configuration(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = UNet2DConditionModel(sample_size=64, **config)
    assert unet_shapes(dict(model.config)) == shapes_of(model)


@pytest.mark.parametrize("latents", [4, 16])
def test_a_vaes_tensors_follow_from_its_configuration(latents: int) -> None:
    with torch.device("meta"):
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=latents,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
    assert vae_shapes(dict(model.config)) == shapes_of(model)


@pytest.mark.parametrize("projection", [False, True])
def test_a_text_encoders_tensors_follow_from_its_configuration(projection: bool) -> None:
    config = CLIPTextConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=1)
    with torch.device("meta"):
        model = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    assert text_shapes(config.to_dict(), projection=projection) == shapes_of(model, "text_model.")


@pytest.mark.parametrize(
    "config",
    [
        {"class_embed_type": "timestep"},
        {"time_cond_proj_dim": 256},
        {"block_out_channels": 3},
        {"attention_head_dim": 7},
    ],
)
def test_what_is_not_known_of_an_architecture_is_left_to_the_trainer(config: dict[str, Any]) -> None:
    assert unet_shapes({**PUBLISHED["sd1"], **config}) is None


@pytest.fixture
def copy(models: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(models["sd1"], tmp_path / "sd1"))


def check(path: Path) -> list[str]:
    return check_folder(inspect_model(path), None)


@pytest.mark.parametrize("name", ["sd1", "sd2-v", "sdxl"])
def test_whole_folders_pass(models: dict[str, Path], name: str) -> None:
    assert check(models[name]) == []


def test_the_demos_model_passes() -> None:
    from ti_tui.setup.demo import demo_values

    assert check(Path(str(demo_values()["model"]["base"]))) == []


WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors", "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}  # fmt: skip


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_tensor_that_is_missing_or_misshapen_is_found_in_the_headers(copy: Path, part: str) -> None:
    weights = copy / part / WEIGHTS[part]
    tensors = load_file(weights)
    name = sorted(tensors)[-1]
    save_file({key: value for key, value in tensors.items() if key != name}, weights)
    with pytest.raises(UserError, match=rf"lacks 1 of {len(tensors)} tensors"):
        check(copy)
    save_file({**tensors, name: torch.ones(1, 2, 3)}, weights)
    with pytest.raises(UserError, match=r"has a different shape in 1 of"):
        check(copy)


def test_a_config_of_another_model_is_found(copy: Path) -> None:
    config = copy / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "cross_attention_dim": 96}))
    with pytest.raises(UserError, match=r"the U-Net has a different shape in"):
        check(copy)


def test_shards_beside_a_whole_file_are_told_and_not_read(copy: Path) -> None:
    left_over = copy / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    save_file({"conv_in.weight": torch.ones(1)}, left_over)
    (copy / "unet" / "adapter_model.safetensors").write_bytes(b"")
    assert check(copy) == [f"unet: not read: {left_over.name}"]


@pytest.mark.parametrize("left", ["adapter_model.safetensors", "diffusion_pytorch_model.non_ema.safetensors"])
def test_a_folder_with_only_other_weights_is_refused(copy: Path, left: str) -> None:
    weights = copy / "unet" / WEIGHTS["unet"]
    weights.rename(weights.with_name(left))
    with pytest.raises(UserError, match="holds no weights, only"):
        check(copy)


def test_a_missing_shard_is_named(copy: Path) -> None:
    weights = copy / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    half = sorted(tensors)[: len(tensors) // 2]
    save_file({name: tensors[name] for name in half}, weights.with_name(names[0]))
    weights.unlink()
    table = {name: names[0] if name in half else names[1] for name in tensors}
    (copy / "text_encoder" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    with pytest.raises(UserError, match=f"lacks {names[1]}"):
        check(copy)
