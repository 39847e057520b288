"""Models: families told apart, single files equal to their folders, nothing random, nothing unsafe."""

from __future__ import annotations

import json
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from tests.fixtures.tiny_models import ldm_unet, ldm_vae, open_clip
from ti_tui.errors import UserError
from ti_tui.run.model import ModelError, ModelFacts, find_model, hub_files, inspect_model, is_whole
from ti_tui.run.original_layout import unet_config, vae_config
from ti_tui.run.prediction import OtherObjective, PredictionTruth
from ti_tui.run.sample_prompts import SamplePrompt
from ti_tui.run.weight_shapes import WeightsError, read_shapes
from ti_tui.setup.demo import demo_values
from ti_tui.training.models import ModelSource
from ti_tui.training.sample_images import SampleRenderer
from ti_tui.training.single_file import text_tensors, unet_tensors, vae_tensors
from ti_tui.training.text import Context
from ti_tui.training.weights import Checkpoint

FAMILIES = {
    "sd1": ("sd1", "epsilon", (64,)),
    "sd2-v": ("sd2", "v_prediction", (64,)),
    "sdxl": ("sdxl", "epsilon", (64, 128)),
}


def source(path: Path, vae: Path | None = None) -> ModelSource:
    return ModelSource(inspect_model(path), vae, end_id=7)


@pytest.mark.parametrize("name", FAMILIES)
def test_family_and_prediction_are_read_from_a_folder(models: dict[str, Path], name: str) -> None:
    facts = inspect_model(models[name])
    assert (facts.family, facts.prediction, facts.widths) == FAMILIES[name]
    assert (facts.scale, facts.multiple, facts.positions) == (8, 16, 77)


@pytest.mark.parametrize("name", FAMILIES)
def test_family_is_read_from_a_single_file(models: dict[str, Path], name: str) -> None:
    folder, file = inspect_model(models[name]), inspect_model(models[f"{name}.safetensors"])
    assert file.single_file and not folder.single_file
    for field in ("family", "widths", "vocabulary", "positions", "scale", "multiple", "has_vae"):
        assert getattr(file, field) == getattr(folder, field), field
    # These files do not say what they predict; their U-Net is asked at the start.
    assert file.prediction is None


@pytest.mark.parametrize("single", ["sd1.safetensors", "sd1.ckpt", "sd2-v.safetensors", "sdxl.safetensors"])
def test_a_single_file_gives_the_same_tensors_and_shape_as_its_folder(models: dict[str, Path], single: str) -> None:
    folder, file = source(models[single.rsplit(".", 1)[0]]), source(models[single])
    parts: list[Any] = [lambda s: s.unet(torch.float32), lambda s: s.load_vae(torch.float32)]
    parts += [lambda s, i=i: s.text_encoder(i, torch.float32) for i in range(len(folder.facts.widths))]
    for part in parts:
        ours, theirs = part(file), part(folder)
        tensors = theirs.state_dict()
        assert ours.state_dict().keys() == tensors.keys()
        assert all(torch.equal(value, tensors[key]) for key, value in ours.state_dict().items())
    ids = torch.tensor([[1, 5, 9, 7] + [7] * 73])
    assert torch.equal(file.text_encoder(0, torch.float32)(ids)[0], folder.text_encoder(0, torch.float32)(ids)[0])
    assert _answer(file.unet(torch.float32), file) == pytest.approx(_answer(folder.unet(torch.float32), folder))
    image = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    ours, theirs = file.load_vae(torch.float32), folder.load_vae(torch.float32)
    assert torch.equal(ours.encode(image).latent_dist.mean, theirs.encode(image).latent_dist.mean)
    assert ours.config.scaling_factor == theirs.config.scaling_factor
    assert torch.allclose(file.noise_schedule().alphas_cumprod, folder.noise_schedule().alphas_cumprod)


def _answer(unet: Any, model: ModelSource) -> float:
    width = sum(model.facts.widths)
    more = (
        {"added_cond_kwargs": {"text_embeds": torch.ones(1, 128), "time_ids": torch.ones(1, 6)}}
        if model.facts.family == "sdxl"
        else {}
    )
    with torch.no_grad():
        answer = unet(
            torch.ones(1, 4, 8, 8), torch.tensor([500]), encoder_hidden_states=torch.ones(1, 77, width), **more
        )
    return float(answer.sample.double().square().sum())


def test_both_spellings_of_clips_names_load_with_every_tensor_matched(models: dict[str, Path], tmp_path: Path) -> None:
    """transformers 5 writes `encoder...`, published folders hold `text_model.encoder...`."""
    copy = tmp_path / "sd1"
    shutil.copytree(models["sd1"], copy)
    weights = copy / "text_encoder" / "model.safetensors"
    plain = {key.removeprefix("text_model."): value for key, value in load_file(weights).items()}
    expected = source(models["sd1"]).text_encoder(0, torch.float32).state_dict()
    for prefix in ("", "text_model."):
        save_file({f"{prefix}{key}": value for key, value in plain.items()}, weights)
        loaded = source(copy).text_encoder(0, torch.float32).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in loaded.items())


@pytest.mark.parametrize("spoil", ["missing", "extra", "shape"])
def test_a_tensor_that_does_not_match_is_an_error_never_random_weights(
    models: dict[str, Path], tmp_path: Path, spoil: str
) -> None:
    copy = tmp_path / "sd1"
    shutil.copytree(models["sd1"], copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    if spoil == "missing":
        del tensors["conv_in.weight"]
    elif spoil == "extra":
        tensors["other.weight"] = torch.ones(1)
    else:
        tensors["conv_in.weight"] = torch.ones(1)
    save_file(tensors, weights)
    with pytest.raises(ModelError, match=r"conv_in\.weight|other\.weight"):
        source(copy).unet(torch.float32)


def test_published_folders_with_old_vae_attention_names_load(models: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "sd1"
    shutil.copytree(models["sd1"], copy)
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value"}
    tensors = {}
    for key, value in load_file(weights).items():
        for new, name in old.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        tensors[key.replace("attentions.0.to_out.0.", "attentions.0.proj_attn.")] = value
    save_file(tensors, weights)
    loaded, expected = (source(path).load_vae(torch.float32).state_dict() for path in (copy, models["sd1"]))
    assert all(torch.equal(value, expected[key]) for key, value in loaded.items())


def test_fp16_files_of_a_folder_are_found(models: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "sd1"
    shutil.copytree(models["sd1"], copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(
        {key: value.half() for key, value in load_file(weights).items()},
        copy / "unet" / "diffusion_pytorch_model.fp16.safetensors",
    )
    weights.unlink()
    assert source(copy).unet(torch.float32).dtype == torch.float32


@pytest.mark.parametrize("form", ["folder", "prefixed file", "bare file"])
def test_another_vae_can_be_given(models: dict[str, Path], tmp_path: Path, form: str) -> None:
    tensors = {
        key.removeprefix("first_stage_model."): value
        for key, value in load_file(models["sd1.safetensors"]).items()
        if key.startswith("first_stage_model.")
    }
    path = models["sd1"] / "vae"
    if form != "folder":
        path = tmp_path / "vae.safetensors"
        prefix = "first_stage_model." if form == "prefixed file" else ""
        save_file({f"{prefix}{key}": value.contiguous() for key, value in tensors.items()}, path)
    given = source(models["sd2-v"], path).load_vae(torch.float32).state_dict()
    expected = source(models["sd1"]).load_vae(torch.float32).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in given.items())


class Imagines(torch.nn.Module):
    """A U-Net that has learned one image exactly, and answers with what the model of a prediction type would."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, prediction: str, alphas: torch.Tensor, image: torch.Tensor | float = 0.0) -> None:
        super().__init__()
        self.prediction, self.alphas, self.image = prediction, alphas, image

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor, **conditions: Any) -> Any:
        alpha = self.alphas[timestep.long()].reshape(-1, 1, 1, 1)
        noise = (noisy - alpha.sqrt() * self.image) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * self.image
        self.conditions = conditions
        return SimpleNamespace(sample=noise if self.prediction == "epsilon" else velocity)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("name", ["sd1.safetensors", "sd2-v.safetensors", "sdxl.safetensors"])
def test_what_a_model_predicts_is_told_by_its_answers_to_noise(
    models: dict[str, Path], name: str, prediction: str, zero_snr: bool
) -> None:
    opened = source(models[name])
    opened.facts = replace(opened.facts, truth=PredictionTruth(zero_snr=zero_snr))
    unet = Imagines(prediction, opened.noise_schedule().alphas_cumprod, 0.1 * torch.ones(4, 1, 1))
    assert opened.ask_prediction(unet) == prediction
    assert opened.facts.truth.decided_by == "the U-Net's answer to noise"
    assert ("added_cond_kwargs" in unet.conditions) == (name == "sdxl.safetensors")


@pytest.mark.parametrize("name", FAMILIES)
def test_of_a_unet_that_answers_neither_the_familys_usual_type_is_taken(models: dict[str, Path], name: str) -> None:
    opened = source(models[f"{name}.safetensors"])
    assert opened.ask_prediction(opened.unet(torch.float32)) == FAMILIES[name][1]
    assert "unclear" in opened.facts.truth.decided_by


def test_a_unet_that_contradicts_the_files_is_told(models: dict[str, Path]) -> None:
    opened = source(models["sd1"])
    assert opened.ask_prediction(Imagines("v_prediction", opened.noise_schedule().alphas_cumprod)) == "epsilon"
    assert "but the U-Net's answer to noise is v_prediction" in opened.facts.truth.doubts[0]


def test_the_demos_model_answers_as_what_it_is() -> None:
    opened = source(Path(str(demo_values()["model"]["base"])))
    opened.facts = replace(opened.facts, truth=PredictionTruth())
    assert opened.ask_prediction(opened.unet(torch.float32)) == "epsilon"
    assert opened.facts.truth.decided_by == "the U-Net's answer to noise"


@pytest.mark.parametrize("form", ["folder", "file"])
def test_zero_terminal_snr_is_trained_and_sampled_with(models: dict[str, Path], tmp_path: Path, form: str) -> None:
    """Of pure noise, the sampler's first step, nothing may remain in the sample."""
    if form == "file":
        tensors = {**load_file(models["sd1.safetensors"]), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
        path = tmp_path / "m.safetensors"
        save_file(tensors, path)
    else:
        path = tmp_path / "sd1"
        shutil.copytree(models["sd1"], path)
        config = path / "scheduler" / "scheduler_config.json"
        more = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        config.write_text(json.dumps({**json.loads(config.read_text()), **more}))
    opened = source(path)
    schedule = opened.noise_schedule()
    assert schedule.alphas_cumprod[-1] == 0 and opened.facts.truth.zero_snr
    latents, noise = torch.ones(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    assert torch.equal(schedule.noisy(latents, noise, torch.tensor([999])), noise)
    assert torch.equal(schedule.target(latents, noise, torch.tensor([999])), -latents)
    unet = Imagines("v_prediction", schedule.alphas_cumprod, torch.tensor([0.5, -0.5, 1.0, 0.0]).reshape(4, 1, 1))
    asked: list[int] = []
    unet.register_forward_pre_hook(lambda _module, given: asked.append(int(given[1])))
    renderer = SampleRenderer(
        unet=unet, text=EmptyText(), scheduler_values=opened.scheduler_values(), prediction="v_prediction",  # type: ignore[arg-type]
        open_vae=lambda: None, size=(64, 64), scale=8, multiple=8, seed=0, token="zkz", model_hash="",
    )  # fmt: skip
    sample = renderer._denoise(SamplePrompt("a", steps=8, guidance=1.0))
    assert asked[0] == 999
    assert sample is not None and torch.allclose(sample, unet.image.expand_as(sample), atol=1e-2)


class EmptyText:
    """Stands for the text side: what a prompt says makes no difference to `Imagines`."""

    def ids(self, texts: list[str]) -> list[str]:
        return texts

    def encode(self, texts: list[str]) -> Context:
        return Context(torch.zeros(len(texts), 77, 64))


def test_a_v_pred_mark_in_an_sdxl_file_is_heeded(models: dict[str, Path], tmp_path: Path) -> None:
    tensors = {**load_file(models["sdxl.safetensors"]), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    save_file(tensors, tmp_path / "v.safetensors")
    facts = inspect_model(tmp_path / "v.safetensors")
    assert facts.prediction == "v_prediction"
    assert source(tmp_path / "v.safetensors").noise_schedule().alphas_cumprod[-1] < 1e-6


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


def test_a_ckpt_with_code_is_refused_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "callbacks": Evil()}, tmp_path / "x.ckpt")
    with pytest.raises(WeightsError, match=r"contains code \(__builtin__\.print\)"):
        inspect_model(tmp_path / "x.ckpt")
    assert "code ran" not in capsys.readouterr().out


def test_shapes_of_a_ckpt_are_those_of_its_safetensors(models: dict[str, Path]) -> None:
    assert read_shapes(models["sd1.ckpt"]) == read_shapes(models["sd1.safetensors"])


@pytest.mark.parametrize("cut", [0, 4, 100, -1000])
def test_a_truncated_safetensors_is_told_from_its_header(models: dict[str, Path], tmp_path: Path, cut: int) -> None:
    (tmp_path / "x.safetensors").write_bytes(models["sd1.safetensors"].read_bytes()[: cut or 0])
    with pytest.raises(WeightsError, match=r"truncated|empty|not a valid"):
        inspect_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["lora_unet_down.weight"], "is a LoRA"),
        (["emb_params"], "is an embedding"),
        (["double_blocks.0.img_attn.weight"], "is a Flux model"),
        (["model.diffusion_model.joint_blocks.0.weight"], "Stable Diffusion 3"),
        (["encoder.down.0.block.0.conv1.weight"], "is a VAE"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "without its text encoder"),
        (["whatever"], "is not a Stable Diffusion checkpoint"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, names: list[str], says: str) -> None:
    save_file({name: torch.ones(4, 4, 3, 3) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=says):
        inspect_model(tmp_path / "x.safetensors")


def test_an_inpainting_model_is_told(models: dict[str, Path], tmp_path: Path) -> None:
    tensors = load_file(models["sd1.safetensors"])
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.ones(32, 9, 3, 3)
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="inpainting"):
        inspect_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html>", b"version https://git-lfs", b"\x80\x02}q\x00.", b"PK\x03\x04"]
)
def test_a_file_that_is_no_model_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(UserError) as caught:
        inspect_model(tmp_path / "x.ckpt")
    assert len(str(caught.value).splitlines()) <= 3


def test_an_incomplete_folder_is_told(models: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "sd1"
    shutil.copytree(models["sd1"], copy)
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="vae holds no weights"):
        inspect_model(copy)
    (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        inspect_model(copy)
    shutil.copy(models["sd1.safetensors"], tmp_path)
    with pytest.raises(UserError, match=r"Did you mean .*sd1\.safetensors"):
        try:
            inspect_model(tmp_path)
        except ModelError as error:
            raise ModelError(str(error)) from None


def test_a_path_that_is_not_there_and_is_no_hub_id_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        find_model("models/of/mine.safetensors", tmp_path)
    assert find_model("nobody/nothing", tmp_path) is None


def test_a_scheduler_that_predicts_something_else_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "sd1"
    shutil.copytree(models["sd1"], copy)
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prediction_type": "sample"}))
    with pytest.raises(OtherObjective, match="prediction_type is 'sample'"):
        inspect_model(copy)


PUBLISHED: dict[str, dict[str, Any]] = {
    "sd1": {
        "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8,
    },
    "sd2": {
        "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True,
    },
    "sdxl": {
        "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True, "transformer_layers_per_block": [1, 2, 10],
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip
"""What the published model cards' unet/config.json say beyond diffusers' defaults."""


class ShapesOnly(Checkpoint):
    """A checkpoint of the published size without its gigabytes: tensors without content."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._lazy = None
        self._loaded = tensors
        self._shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_published_unets_configuration_is_read_from_their_shapes(family: str) -> None:
    with torch.device("meta"):
        published = UNet2DConditionModel(sample_size=64, **PUBLISHED[family])
    tensors = {f"model.diffusion_model.{k}": v for k, v in ldm_unet(published.state_dict(), published.config).items()}
    widths = {"sd1": (768,), "sd2": (1024,), "sdxl": (768, 1280)}[family]
    facts = ModelFacts(Path("x"), True, family, PredictionTruth("epsilon"), widths, 49408, True)  # type: ignore[arg-type]
    config = unet_config(ShapesOnly(tensors).shapes, facts)
    for key in (*PUBLISHED[family], "layers_per_block", "down_block_types", "up_block_types", "mid_block_type"):
        ours, theirs = config[key], published.config[key]
        assert (list(ours) if isinstance(ours, list | tuple) else ours) == (
            list(theirs) if isinstance(theirs, list | tuple) else theirs
        ), key
    renamed = unet_tensors(ShapesOnly(tensors), config)
    assert {k: v.shape for k, v in renamed.items()} == {k: v.shape for k, v in published.state_dict().items()}


def test_the_published_vaes_configuration_is_read_from_its_shapes() -> None:
    with torch.device("meta"):
        published = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
    tensors = {f"first_stage_model.{k}": v for k, v in ldm_vae(published.state_dict(), published.config).items()}
    facts = ModelFacts(Path("x"), True, "sd1", PredictionTruth("epsilon"), (768,), 49408, True)
    config = vae_config(ShapesOnly(tensors).shapes, facts)
    for key in ("block_out_channels", "layers_per_block", "latent_channels", "norm_num_groups"):
        assert (
            tuple(config[key]) == tuple(published.config[key])
            if key == "block_out_channels"
            else config[key] == published.config[key]
        )
    renamed = vae_tensors(ShapesOnly(tensors), config)
    assert {k: v.shape for k, v in renamed.items()} == {k: v.shape for k, v in published.state_dict().items()}


def test_what_else_published_files_hold_is_passed_over(models: dict[str, Path], tmp_path: Path) -> None:
    """Schedules, EMA weights, position ids and CLIP's scale stand in real files and belong to no part."""
    tensors = load_file(models["sd1.safetensors"])
    more = {
        "alphas_cumprod": torch.ones(1000), "betas": torch.ones(1000), "model_ema.decay": torch.ones(()),
        "model_ema.diffusion_modelinput_blocks00weight": torch.ones(4), "denoiser.sigmas": torch.ones(1000),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "cond_stage_model.logit_scale": torch.ones(()), "first_stage_model.loss.logvar": torch.zeros(()),
    }  # fmt: skip
    save_file({**tensors, **more}, tmp_path / "x.safetensors")
    model, plain = source(tmp_path / "x.safetensors"), source(models["sd1.safetensors"])
    for part in (
        lambda s: s.unet(torch.float32),
        lambda s: s.load_vae(torch.float32),
        lambda s: s.text_encoder(0, torch.float32),
    ):
        expected = part(plain).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in part(model).state_dict().items())


def test_the_last_of_sd2s_24_layers_is_left_out_and_a_file_without_it_is_kept_whole() -> None:
    """The U-Net was trained on the layer before the last; files converted from diffusers hold 23 already."""
    facts = ModelFacts(Path("x"), True, "sd2", PredictionTruth("epsilon"), (64,), 100, True)
    for layers in (24, 23):
        config = CLIPTextConfig(
            vocab_size=100, hidden_size=64, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=1
        )
        tensors = open_clip(CLIPTextModel(config).state_dict())
        found, renamed = text_tensors(
            ShapesOnly({f"cond_stage_model.model.{k}": v for k, v in tensors.items()}), facts, 0
        )
        assert found["num_hidden_layers"] == 23
        assert {int(k.split(".")[2]) for k in renamed if k.startswith("encoder.layers.")} == set(range(23))


class TrainingRecord:
    """Stands for pytorch_lightning's callback, whose class is a key in the first published .ckpt files."""


TrainingRecord.__module__ = "pytorch_lightning.callbacks.model_checkpoint"
TrainingRecord.__qualname__ = TrainingRecord.__name__ = "ModelCheckpoint"


def test_the_training_records_in_early_ckpt_files_are_passed_over(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["pytorch_lightning.callbacks.model_checkpoint"].ModelCheckpoint = TrainingRecord  # type: ignore[attr-defined]
    records = {TrainingRecord: {"best_model_score": np.float64(0.5), "monitor": "val"}}
    content = {"state_dict": load_file(models["sd1.safetensors"]), "callbacks": records, "epoch": 3}
    torch.save(content, tmp_path / "early.ckpt")
    for name in list(sys.modules):
        if name.startswith("pytorch_lightning"):
            monkeypatch.delitem(sys.modules, name)
    early, plain = source(tmp_path / "early.ckpt"), source(models["sd1.safetensors"])
    expected = plain.unet(torch.float32).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in early.unet(torch.float32).state_dict().items())


REPOSITORY = [
    "model_index.json", "README.md", "v1-5.ckpt", "v1-5.safetensors", "scheduler/scheduler_config.json",
    "tokenizer/vocab.json", "tokenizer/merges.txt", "safety_checker/model.safetensors",
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae/config.json", "vae/diffusion_pytorch_model.bin",
    "text_encoder/config.json", "text_encoder/model-00001-of-00002.safetensors",
    "text_encoder/model-00002-of-00002.safetensors", "text_encoder/model.safetensors.index.json",
]  # fmt: skip


def test_of_a_hub_repository_one_set_of_weights_for_each_part_is_fetched() -> None:
    assert hub_files(REPOSITORY) == [
        "model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer/vocab.json",
        "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.bin",
        "text_encoder/config.json", "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors", "text_encoder/model.safetensors.index.json",
    ]  # fmt: skip


def test_a_download_that_broke_off_is_not_taken_for_the_model(models: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "sd1"
    shutil.copytree(models["sd1"], copy)
    assert is_whole(copy)
    (copy / "text_encoder" / "model.safetensors").unlink()
    assert not is_whole(copy)
    (copy / "text_encoder" / "model-00001-of-00002.safetensors").touch()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copy / "text_encoder" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not is_whole(copy)


def test_a_missing_weights_file_in_a_folder_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        find_model("models/sd15.safetensors", tmp_path)
