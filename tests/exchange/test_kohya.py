"""Settings of kohya's GUI and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.exchange.writing import imported, row
from ti_tui.exchange.importing import ImportedSettings
from ti_tui.run.scheme import format_scheme, segments_from_values

GUI: dict[str, Any] = {
    "pretrained_model_name_or_path": "owner/model",
    "token_string": "zkz",
    "init_word": "woman",
    "num_vectors_per_token": "4",
    "train_batch_size": 2,
    "learning_rate": "1e-3",
    "max_train_steps": "500",
    "lr_scheduler": "constant",
    "max_resolution": "512,512",
    "seed": "7",
}


def gui(folder: Path, **fields: Any) -> ImportedSettings:
    """The settings of the GUI, with some fields changed."""
    return imported(folder, GUI | fields)


def scheme(found: ImportedSettings) -> str:
    return format_scheme(segments_from_values(found.fields["scheme.segments"]))


def photographs(folder: Path, count: int) -> Path:
    """A folder of kohya's, with 10 repeats."""
    place = folder / "img" / "10_zkz woman"
    place.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (64, 64), (number, 9, 9)).save(place / f"{number}.png")
    return place.parent


def test_texts_for_numbers_become_numbers(tmp_path: Path) -> None:
    found = gui(tmp_path)
    assert found.fields["embedding.vectors"] == 4
    assert found.fields["training.seed"] == 7
    assert scheme(found) == "0.001:500"
    assert row(found, "num_vectors_per_token").fate == "same"


def test_epochs_and_repeats_become_steps(tmp_path: Path) -> None:
    folder = photographs(tmp_path, 3)
    found = gui(tmp_path, max_train_steps=0, epoch=8, train_data_dir=str(folder))
    # 3 images x 10 repeats in batches of 2, eight times.
    assert scheme(found) == "0.001:120"
    assert "8 epochs of 30 images" in row(found, "epoch").note


def test_epochs_without_photographs_ask_for_them(tmp_path: Path) -> None:
    found = gui(tmp_path, max_train_steps="", epoch=8, train_data_dir="C:\\photos")
    assert "scheme.segments" not in found.fields
    assert found.needs.keys() == {"photographs", "scheme.segments"}
    assert "--images" in row(found, "train_data_dir").note
    assert "--images" in row(found, "epoch").note


@pytest.mark.parametrize(
    ("fields", "shape", "warmup", "steps"),
    [
        ({"lr_scheduler": "cosine"}, "cosine", 0, "0.001:500"),
        ({"lr_scheduler": "linear", "lr_warmup": 10}, "linear", 50, "0.001:500"),
        ({"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 30}, "segments", 30, "0.001:500"),
        ({"lr_scheduler": "constant", "lr_warmup_steps": 30}, "segments", 0, "0.001:500"),
        ({"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": 0.1}, "cosine", 0, "0.001:499, 0.0001:1"),
        (
            {"lr_scheduler": "piecewise_constant", "lr_scheduler_args": "step_rules=1:100,0.5:300,0.1"},
            "segments",
            0,
            "0.001:100, 0.0005:200, 0.0001:200",
        ),
    ],
)
def test_schedulers_become_a_scheme(
    tmp_path: Path, fields: dict[str, Any], shape: str, warmup: int, steps: str
) -> None:
    found = gui(tmp_path, **fields)
    assert found.fields.get("scheme.shape", "segments") == shape
    assert found.fields.get("scheme.warmup_steps", 0) == warmup
    assert scheme(found) == steps


def test_restarts_are_drawn_in_segments(tmp_path: Path) -> None:
    found = gui(tmp_path, lr_scheduler="cosine_with_restarts", lr_scheduler_num_cycles=2)
    rates = [segment["learning_rate"] for segment in found.fields["scheme.segments"]]
    assert len(rates) == 24
    assert rates[0] == pytest.approx(rates[12]) and rates[0] > 0.9e-3 and rates[11] < 1e-4
    assert row(found, "lr_scheduler").fate == "changed"


def test_optimizer_and_its_arguments(tmp_path: Path) -> None:
    found = gui(tmp_path, optimizer="AdamW8bit", optimizer_args="weight_decay=0.02 betas=0.9,0.99 foo=1")
    assert found.fields["training.optimizer"] == "adamw8bit"
    assert found.fields["training.weight_decay"] == 0.02
    assert found.fields["training.optimizer_arguments"] == {"betas": [0.9, 0.99]}
    assert "foo = 1" in row(found, "optimizer_args").note


def test_an_optimizer_that_is_not_there_says_which_is_used(tmp_path: Path) -> None:
    assert "adamw is used" in row(gui(tmp_path, optimizer="Lion"), "optimizer").note


def test_large_batches_and_processes_keep_their_effective_batch(tmp_path: Path) -> None:
    found = gui(tmp_path, train_batch_size=128, gradient_accumulation_steps=2, num_processes=2)
    assert found.fields["training.batch_size"] == 64
    assert found.fields["training.accumulation"] == 8


@pytest.mark.parametrize(
    ("fields", "template"),
    [
        ({"template": "style template"}, "style"),
        ({"template": "caption"}, "captions"),
        ({"use_object_template": True}, "object"),
        ({}, "captions"),
    ],
)
def test_templates(tmp_path: Path, fields: dict[str, Any], template: str) -> None:
    assert gui(tmp_path, **fields).fields["dataset.template"] == template


def test_sample_prompts_name_the_token_as_name(tmp_path: Path) -> None:
    found = gui(tmp_path, sample_prompts="# mine\nphoto of zkz --w 512 --d 3\n\nzkzs at sea")
    assert found.fields["sample.prompts"] == ["photo of [name] --w 512 --d 3", "zkzs at sea"]


def test_the_window_uses_one_of_two_kinds_of_noise(tmp_path: Path) -> None:
    both = {"noise_offset": 0.05, "multires_noise_iterations": 8}
    plain = gui(tmp_path, noise_offset_type="Original", **both)
    assert plain.fields["training.noise_offset"] == 0.05
    assert row(plain, "multires_noise_iterations").fate == "same"
    multires = gui(tmp_path, noise_offset_type="Multires", **both)
    assert "training.noise_offset" not in multires.fields
    assert row(multires, "multires_noise_iterations").fate == "left out"


def test_what_nobody_knows_is_said(tmp_path: Path) -> None:
    found = gui(tmp_path, brand_new_option="yes, please", another=False)
    assert row(found, "brand_new_option").fate == "left out"
    assert row(found, "another").fate == "same"


def test_of_two_fields_for_one_thing_the_other_says_which_decides(tmp_path: Path) -> None:
    found = gui(tmp_path, xformers="sdpa", sdpa=True, max_train_epochs=2, train_data_dir=str(photographs(tmp_path, 4)))
    assert row(found, "max_train_steps").note == "max_train_epochs decides"
    assert scheme(found) == "0.001:40"


def test_further_options_of_the_window_are_read(tmp_path: Path) -> None:
    found = gui(tmp_path, additional_parameters="--noise_offset=0.1 --max_grad_norm 0.5 --debiased_estimation_loss")
    assert found.fields["training.noise_offset"] == 0.1
    assert found.fields["training.max_gradient_norm"] == 0.5
    assert row(found, "additional_parameters").fate == "changed"
    assert row(found, "additional_parameters --debiased_estimation_loss").fate == "left out"


def test_sdxl_reads_one_layer_whatever_clip_skip_says(tmp_path: Path) -> None:
    assert "model.clip_skip" not in gui(tmp_path, sdxl=True, clip_skip=2).fields
    assert gui(tmp_path, clip_skip="2").fields["model.clip_skip"] == 2


def test_what_the_file_does_not_say_is_what_kohya_takes(tmp_path: Path) -> None:
    found = imported(tmp_path, {"pretrained_model_name_or_path": "a/b", "token_string": "zkz", "learning_rate": 1e-3})
    assert found.fields["embedding.vectors"] == 1
    assert found.fields["training.batch_size"] == 1
    assert found.fields["training.weight_decay"] == 0.01
    assert scheme(found) == "0.001:1600"
    assert {row.name for row in found.rows if row.default} >= {"num_vectors_per_token", "max_train_steps"}


CONFIG = """\ufeff# made by hand
[model_arguments]
pretrained_model_name_or_path = "owner/model"
[training_arguments]
token_string = "zkz"
learning_rate = 5e-3
max_train_steps = 300
dataset_config = "data.toml"
"""
DATASET = """
[general]
enable_bucket = true
[[datasets]]
resolution = [512, 768]
batch_size = 3
  [[datasets.subsets]]
  image_dir = 'img\\10_zkz woman'
  num_repeats = 4
  class_tokens = "zkz woman"
  [[datasets.subsets]]
  image_dir = 'reg\\1_woman'
  is_reg = true
"""


def test_a_config_names_its_dataset_file(tmp_path: Path) -> None:
    photographs(tmp_path, 3)
    (tmp_path / "reg" / "1_woman").mkdir(parents=True)
    (tmp_path / "data.toml").write_text(DATASET)
    found = imported(tmp_path, CONFIG)
    assert found.own == {
        "photographs": str(tmp_path / "img/10_zkz woman"), "repeats": "4", "class_word": "woman"
    }  # fmt: skip
    assert found.fields["dataset.regularisation"] == str(tmp_path / "reg/1_woman")
    assert found.fields["dataset.resolution"] == 640
    assert found.fields["training.batch_size"] == 3
    assert found.fields["dataset.buckets"] is True
    assert scheme(found) == "0.005:300"
    assert row(found, "data.toml: datasets.0.batch_size").fate == "same"


def test_a_dataset_file_alone_sets_no_defaults(tmp_path: Path) -> None:
    found = imported(tmp_path, DATASET)
    assert "scheme.segments" not in found.fields
    assert found.needs.keys() == {"embedding.token", "model.base", "photographs"}


SHELL = r"""#!/bin/bash
# a comment with train_textual_inversion.py --seed 1
export MODEL="owner/model"
DATA=./img
accelerate launch --num_cpu_threads_per_process 1 --mixed_precision=fp16 \
  sd-scripts/train_textual_inversion.py \
  --pretrained_model_name_or_path="$MODEL" --train_data_dir ${DATA} \
  --token_string=zkz --init_word "a woman" --num-vectors-per-token=3 --use_style_template \
  --optimizer_args "betas=0.9,0.99" weight_decay=0 \
  --max_train_steps=200 --learning_rate=$RATE --mixed_precision bf16 && echo done
accelerate launch sd-scripts/train_textual_inversion.py --seed 9
"""
BATCH = r"""@echo off
set MODEL=owner\model.safetensors
rem accelerate launch train_textual_inversion.py --seed 1
accelerate launch ^
  .\sdxl_train_textual_inversion.py ^
  --pretrained_model_name_or_path "%MODEL%" --token_string zkz ^
  --train_data_dir "D:\photos of it's" --max_train_steps 200 --learning_rate 1e-3 --clip_skip 2
"""


def test_a_shell_script(tmp_path: Path) -> None:
    photographs(tmp_path, 2)
    found = imported(tmp_path, SHELL)
    assert found.fields["model.base"] == "owner/model"
    assert found.own["photographs"] == str(tmp_path / "img")
    assert found.fields["embedding.init"] == "a woman"
    assert found.fields["embedding.vectors"] == 3
    assert found.fields["dataset.template"] == "style"
    assert found.fields["training.precision"] == "bf16"
    assert found.fields["training.weight_decay"] == 0
    assert found.fields["training.optimizer_arguments"] == {"betas": [0.9, 0.99]}
    assert row(found, "--learning_rate").fate == "left out"
    assert "the first of 2 training commands is read" in found.notes
    assert "training.seed" not in found.fields


def test_a_batch_file(tmp_path: Path) -> None:
    found = imported(tmp_path, BATCH.replace("\n", "\r\n"))
    assert row(found, "--pretrained_model_name_or_path").value == "owner\\model.safetensors"
    assert row(found, "--train_data_dir").value == "D:\\photos of it's"
    assert scheme(found) == "0.001:200"
    assert row(found, "sdxl_train_textual_inversion.py").value == "true"
