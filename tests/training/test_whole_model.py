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

from tests.conftest import MakeRun
from tests.fixtures.tiny_models import ldm_unet
from tests.training.test_models import PUBLISHED
from ti_tui.errors import UserError
from ti_tui.run import original_layout
from ti_tui.run.architecture import text_shapes, unet_shapes, vae_shapes
from ti_tui.run.model import UNET, ModelError, ModelFacts, inspect_model
from ti_tui.run.original_layout import VAE, check_file, check_vae_file, unet_config
from ti_tui.run.prediction import PredictionTruth
from ti_tui.run.whole_model import check_folder
from ti_tui.setup.check import check_run


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
    return check_folder(inspect_model(path), vae=True)


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


SINGLE = ("sd1.safetensors", "sd1.ckpt", "sd2-v.safetensors", "sdxl.safetensors")


@pytest.mark.parametrize("name", SINGLE)
def test_whole_files_pass(models: dict[str, Path], name: str) -> None:
    check_file(inspect_model(models[name]), vae=True)


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_tensors_of_a_published_unet_pass_under_their_original_names(family: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = UNet2DConditionModel(sample_size=64, **PUBLISHED[family])
    wanted = {f"{UNET}{name}": tuple(value.shape) for name, value in ldm_unet(model.state_dict(), model.config).items()}
    widths = {"sd1": (768,), "sd2": (1024,), "sdxl": (768, 1280)}[family]
    facts = ModelFacts(Path("x"), True, family, PredictionTruth(), widths, 49408, True)  # type: ignore[arg-type]
    assert original_layout._wanted_unet(unet_config(wanted, facts)) == wanted


TENSORS = {
    "U-Net": ("model.diffusion_model.input_blocks.1.0.emb_layers.1.weight",
              "model.diffusion_model.middle_block.2.out_layers.3.bias",
              "model.diffusion_model.output_blocks.1.0.skip_connection.weight", "model.diffusion_model.out.2.bias",
              "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"),
    "VAE": ("first_stage_model.decoder.up.0.block.0.conv1.weight", "first_stage_model.decoder.mid.attn_1.q.weight",
            "first_stage_model.quant_conv.weight", "first_stage_model.encoder.down.0.downsample.conv.bias"),
    "text encoder 1": ("cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.weight",
                       "cond_stage_model.transformer.text_model.final_layer_norm.bias"),
}  # fmt: skip


@pytest.mark.parametrize(("what", "name"), [(what, name) for what, names in TENSORS.items() for name in names])
def test_a_tensor_that_a_file_lacks_is_found_in_its_header(
    models: dict[str, Path], tmp_path: Path, what: str, name: str
) -> None:
    tensors = load_file(models["sd1.safetensors"])
    del tensors[name]
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match=f"the {what} (lacks 1 of|is incomplete)"):
        check_file(inspect_model(tmp_path / "m.safetensors"), vae=True)


@pytest.mark.parametrize("name", ["sd2-v.safetensors", "sdxl.safetensors"])
def test_a_joined_attention_that_open_clip_lacks_is_found(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    tensors = load_file(models[name])
    del tensors[next(key for key in tensors if key.endswith("resblocks.1.attn.in_proj_weight"))]
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match=r"text encoder \d lacks 3 of"):
        check_file(inspect_model(tmp_path / "m.safetensors"), vae=True)


def test_a_vae_in_a_file_of_its_own_is_looked_at_as_a_whole(models: dict[str, Path], tmp_path: Path) -> None:
    facts = inspect_model(models["sd1.safetensors"])
    tensors = {
        name.removeprefix(VAE): value
        for name, value in load_file(models["sd1.safetensors"]).items()
        if name.startswith(VAE)
    }
    save_file(tensors, tmp_path / "vae.safetensors")
    check_vae_file(tmp_path / "vae.safetensors", facts)
    del tensors["decoder.conv_out.weight"]
    save_file(tensors, tmp_path / "vae.safetensors")
    with pytest.raises(ModelError, match=r"lacks 1 of \d+ tensors \(decoder\.conv_out\.weight\)"):
        check_vae_file(tmp_path / "vae.safetensors", facts)


def test_check_tells_of_an_incomplete_model_before_the_start(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path
) -> None:
    tensors = load_file(models["sd1.safetensors"])
    del tensors["model.diffusion_model.out.2.bias"]
    save_file(tensors, tmp_path / "m.safetensors")
    folder = make_run(
        **{"model.base": str(tmp_path / "m.safetensors"), "model.tokenizer": str(models["sd1"] / "tokenizer")}
    )
    (problem,) = check_run(folder).problems.errors
    assert problem.field == "model.base" and "the U-Net lacks 1 of" in problem.message
