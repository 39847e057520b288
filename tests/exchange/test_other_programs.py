"""Settings of OneTrainer, invoke-training, ai-toolkit, diffusers' scripts, A1111 and the original implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.exchange.writing import imported, row
from ti_tui.exchange.foreign_file import looks_like_settings
from ti_tui.exchange.importing import ImportedSettings
from ti_tui.exchange.programs import FIELDS, named_elsewhere
from ti_tui.run.scheme import format_scheme, segments_from_values
from ti_tui.setup.fields import OWN, recipe_fields


def scheme(found: ImportedSettings) -> str:
    return format_scheme(segments_from_values(found.fields["scheme.segments"]))


@pytest.fixture
def photographs(tmp_path: Path) -> str:
    """A folder with four images."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (64, 64), (number, 9, 9)).save(folder / f"{number}.png")
    return str(folder)


ONETRAINER: dict[str, Any] = {
    "__version": 6,
    "training_method": "EMBEDDING",
    "model_type": "STABLE_DIFFUSION_15",
    "base_model_name": "owner/model",
    "embedding": {"placeholder": "<zkz>", "token_count": 3, "initial_embedding_text": "woman", "uuid": "x"},
    "epochs": 10,
    "batch_size": 2,
    "learning_rate": 0.001,
    "learning_rate_warmup_steps": 0.5,
    "learning_rate_scheduler": "COSINE",
    "optimizer": {"optimizer": "ADAMW_8BIT", "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.02, "fused": False,
                  "eps": 1e-8, "stochastic_rounding": True, "foreach": None},
    "resolution": "512,768",
    "loss_weight_fn": "MIN_SNR_GAMMA",
    "loss_weight_strength": 4.0,
    "mse_strength": 0.0,
    "huber_strength": 1.0,
    "huber_delta": 0.3,
    "sample_after": 2,
    "sample_after_unit": "EPOCH",
    "save_every": 50,
    "save_every_unit": "STEP",
    "secrets": {"huggingface_token": "hf_abc"},
    "unet": {"weight_dtype": "BFLOAT_16", "train": True},
    "train_dtype": "BFLOAT_16",
}  # fmt: skip


def test_onetrainer(tmp_path: Path, photographs: str) -> None:
    concepts = [{"path": photographs, "balancing": 5.0, "image": {"enable_random_flip": True}, "text": {}}]
    samples = [
        {"prompt": "a <embedding>", "width": 512, "height": 640, "seed": 3, "cfg_scale": 7},
        {"prompt": "zkz", "width": 768, "seed": -1},
    ]
    found = imported(tmp_path, ONETRAINER | {"concepts": concepts, "samples": samples})
    assert found.own == {"photographs": photographs, "repeats": "5"}
    assert found.fields["embedding.token"] == "zkz"
    assert found.fields["embedding.vectors"] == 3
    # 4 images x 5 repeats in batches of 2, ten times.
    assert scheme(found) == "0.001:100"
    assert found.fields["scheme.warmup_steps"] == 50
    assert found.fields["scheme.shape"] == "cosine"
    assert found.fields["dataset.resolution"] == 512
    assert found.fields["dataset.flip"] is True
    assert found.fields["training.optimizer"] == "adamw8bit"
    assert found.fields["training.optimizer_arguments"] == {"betas": [0.9, 0.99]}
    assert found.fields["training.weight_decay"] == 0.02
    assert found.fields["training.min_snr_gamma"] == 4.0
    assert (found.fields["training.loss"], found.fields["training.huber_delta"]) == ("huber", 0.3)
    assert (found.fields["sample.every_epochs"], found.fields["save.every_steps"]) == (2, 50)
    assert found.fields["sample.prompts"] == [
        "a [name] --w 512 --h 640 --d 3 --l 7.0 --s 20", "[name] --w 768 --l 7.5 --s 20"
    ]  # fmt: skip
    assert row(found, "secrets.huggingface_token").value == "(not shown)"


def test_onetrainer_keeps_its_concepts_in_a_file(tmp_path: Path, photographs: str) -> None:
    (tmp_path / "training_concepts").mkdir()
    (tmp_path / "training_presets").mkdir()
    concepts = tmp_path / "training_concepts/concepts.json"
    concepts.write_text(json.dumps([{"path": photographs}]))
    named = ONETRAINER | {"concept_file_name": "training_concepts/concepts.json"}
    found = imported(tmp_path / "training_presets", named)
    assert found.own["photographs"] == photographs


def test_a_warm_up_of_none_is_none(tmp_path: Path, photographs: str) -> None:
    found = imported(tmp_path, ONETRAINER | {"learning_rate_warmup_steps": 0.0}, images=photographs)
    assert "scheme.warmup_steps" not in found.fields
    assert imported(tmp_path, ONETRAINER, images=photographs).fields["scheme.warmup_steps"] > 0


def test_minutes_between_samples_are_said_to_be_steps(tmp_path: Path) -> None:
    found = imported(tmp_path, ONETRAINER | {"sample_after_unit": "MINUTE"})
    assert "every 2 minutes there" in row(found, "sample_after").note
    assert "sample.every_epochs" not in found.fields


INVOKE = """
type: SDXL_TEXTUAL_INVERSION
model: owner/sdxl
placeholder_token: zkz
initial_phrase: red cup
optimizer: {optimizer_type: Prodigy, learning_rate: 1, d_coef: 2.0, use_bias_correction: yes}
lr_scheduler: constant
lr_warmup_steps: 30
data_loader:
  dataset: {type: IMAGE_CAPTION_DIR_DATASET, dataset_dir: photographs}
  caption_preset: null
  caption_templates: ["a photo of a {}"]
  resolution: 768
max_train_epochs: 6
validation_prompts: [zkz on a table, a table]
num_validation_images_per_prompt: 2
mixed_precision: bf16
"""


def test_invoke_training(tmp_path: Path, photographs: str) -> None:
    found = imported(tmp_path, INVOKE)
    assert found.own["photographs"] == photographs
    assert found.fields["embedding.init"] == "red cup"
    assert scheme(found) == "1.0:6"
    assert "scheme.warmup_steps" not in found.fields
    assert found.fields["training.optimizer_arguments"] == {"d_coef": 2.0, "use_bias_correction": True}
    assert found.fields["training.batch_size"] == 4
    assert found.fields["training.max_gradient_norm"] == 0
    assert [line.split(" --l")[0] for line in found.fields["sample.prompts"]] == [
        "[name] on a table --d 42", "[name] on a table --d 43", "a table --d 42", "a table --d 43"
    ]  # fmt: skip
    assert "dataset.template=FILE" in row(found, "data_loader.caption_templates").note


AI_TOOLKIT = """
job: extension
config:
  name: x
  process:
    - type: textual_inversion_trainer
      embedding: {trigger: zkz, tokens: 6, init_words: a man}
      datasets: [{folder_path: photographs, default_caption: "[trigger]", resolution: [512, 768]}]
      train: {steps: 300, lr: 5e-5, optimizer: prodigy, optimizer_params: {weight_decay: 0.5, foo: 1},
              lr_scheduler: cosine, batch_size: 2, xformers: false, invented: 3}
      model: {name_or_path: owner/model, is_v_pred: true}
      sample: {prompts: ["[trigger] at sea"], width: 640, neg: blurry, seed: 5, sample_every: 100}
"""


def test_ai_toolkit(tmp_path: Path, photographs: str) -> None:
    found = imported(tmp_path, AI_TOOLKIT)
    assert found.own["photographs"] == photographs
    assert found.fields["embedding.vectors"] == 6
    assert scheme(found) == "5e-05:300"
    assert found.fields["training.weight_decay"] == 0.5
    assert found.fields["model.prediction"] == "v_prediction"
    assert found.fields["sample.prompts"] == ["[name] at sea --n blurry --w 640 --d 5 --l 7.5 --s 20"]
    assert "prodigy here has no argument foo" in row(found, "config.process.0.train.optimizer_params.foo").note
    assert row(found, "config.process.0.train.invented").fate == "left out"


DIFFUSERS = """
export MODEL_NAME="owner/model"
accelerate launch --num_processes=2 textual_inversion.py \\
  --pretrained_model_name_or_path=$MODEL_NAME --train_data_dir="photographs" \\
  --learnable_property="style" --placeholder_token="<cat-toy>" --initializer_token="toy" \\
  --train_batch_size=2 --gradient_accumulation_steps=4 --max_train_steps=3000 \\
  --learning_rate=5.0e-04 --scale_lr --lr_scheduler="constant" --lr_warmup_steps=0 \\
  --adam_beta2 0.99 --validation_prompt "a <cat-toy> backpack" --num_validation_images=1 \\
  --validation_steps 100 --checkpointing_steps 500 --push_to_hub --output_dir out
"""


def test_diffusers(tmp_path: Path, photographs: str) -> None:
    found = imported(tmp_path, DIFFUSERS)
    assert found.program == "diffusers"
    assert found.own["photographs"] == photographs
    assert found.fields["embedding.token"] == "cat-toy"
    assert found.fields["embedding.vectors"] == 1
    assert found.fields["dataset.template"] == "style"
    # 5e-4 x 2 images x 4 micro-batches x 2 processes.
    assert scheme(found) == "0.008:3000"
    assert found.fields["training.accumulation"] == 8
    assert found.fields["training.optimizer_arguments"] == {"betas": [0.9, 0.99]}
    assert found.fields["sample.prompts"][0].startswith("a [name] backpack")
    assert found.fields["save.every_steps"] == 500


def test_a_script_of_another_name_is_known_by_its_options(tmp_path: Path) -> None:
    text = DIFFUSERS.replace(" textual_inversion.py", " my/train_textual_inversion.py")
    assert imported(tmp_path, text).program == "diffusers"
    assert imported(tmp_path, text.replace("train_textual_inversion", "texutal")).program == "diffusers"
    assert imported(tmp_path, "python ti.py --token_string zkz --init_word woman\n").program == "kohya"


def test_variables_of_a_batch_file_with_quotes(tmp_path: Path) -> None:
    text = (
        'set MODEL="owner/model"\r\nset "TOKEN=<dog>"\r\n'
        "accelerate launch textual_inversion.py ^\r\n--pretrained_model_name_or_path=%MODEL% ^\r\n"
        '--placeholder_token="%TOKEN%" --initializer_token="dog" --output_dir="%NOWHERE%" ^\r\n'
        '--train_data_dir="E:\\photos\\dog"\r\n'
    )
    found = imported(tmp_path, text)
    assert found.fields["model.base"] == "owner/model"
    assert found.fields["embedding.token"] == "dog"
    assert row(found, "--output_dir").note == "its value is not in the file"
    assert row(found, "--train_data_dir").value == "E:\\photos\\dog"


def test_everydream(tmp_path: Path) -> None:
    tokens = [{"token": "hat*", "initializer": "a hat", "vector_length": 8}, {"token": "cane"}]
    found = imported(tmp_path, {"documentation": {"example": "x"}, "tokens": tokens})
    assert (found.fields["embedding.token"], found.fields["embedding.init"]) == ("hat", "a hat")
    assert found.fields["embedding.vectors"] == 8
    assert row(found, "tokens.1.token").note == "tokens.0.token decides"
    assert "scheme.segments" in found.needs or "scheme.segments" not in found.fields


def test_a1111(tmp_path: Path, photographs: str) -> None:
    values = {
        "datetime": "2023-02-01 10:00:00", "embedding_name": "zkz", "learn_rate": "0.05:10, 0.02:20, 0.005",
        "steps": 100, "batch_size": 4, "gradient_step": 2, "data_root": photographs, "log_directory": "x",
        "template_file": "C:\\\\webui\\\\textual_inversion_templates\\\\style_filewords.txt", "training_width": 512,
        "training_height": 512, "clip_grad_mode": "norm", "clip_grad_value": "0.1", "model_name": "v1-5-pruned",
        "num_vectors_per_token": 6, "save_embedding_every": 50, "create_image_every": 25, "initial_step": 0,
        "preview_prompt": "zkz", "preview_seed": -1.0, "preview_steps": 30, "latent_sampling_method": "once",
    }  # fmt: skip
    found = imported(tmp_path, values)
    assert scheme(found) == "0.05:10, 0.02:10, 0.005:80"
    assert (found.fields["training.batch_size"], found.fields["training.accumulation"]) == (4, 2)
    assert found.fields["dataset.template"] == "style"
    assert found.fields["training.max_gradient_norm"] == 0.1
    assert "training.weight_decay" not in found.fields
    assert found.fields["sample.prompts"] == ["[name] --l 7.5 --s 30"]
    assert found.needs == {"model.base": "--model MODEL"}
    with_model = imported(tmp_path, values, model="a/b")
    assert with_model.fields["model.base"] == "a/b" and with_model.needs == {}
    assert row(with_model, "model_name").note == "--model decides"


def test_the_original_implementation(tmp_path: Path, photographs: str) -> None:
    text = """
model:
  base_learning_rate: 5.0e-03
  params: {personalization_config: {params: {placeholder_strings: ["zkz"], initializer_words: [face], num_vectors_per_token: 2}}}
data: {params: {batch_size: 2, train: {target: ldm.data.personalized_style.PersonalizedBase, params: {size: 512, repeats: 100}}}}
lightning: {trigger: x, trainer: {max_steps: 600, accumulate_grad_batches: 2}}
"""  # noqa: E501
    found = imported(tmp_path, text)
    # main.py multiplies the rate by batch size and accumulation.
    assert scheme(found) == "0.02:600"
    assert found.fields["dataset.template"] == "style"
    assert found.fields["embedding.init"] == "face"


def test_every_row_of_every_table_names_a_field_that_there_is() -> None:
    known = recipe_fields().keys() | OWN.keys() | {""}
    for program, rows in FIELDS.items():
        names = [row.name for row in rows]
        assert len(set(names)) == len(names), (program, sorted({name for name in names if names.count(name) > 1}))
        assert {row.ours for row in rows} <= known, program
        assert [row.name for row in rows if row.left_out and not row.note] == [], program


def test_a_field_is_found_by_its_name_in_another_program() -> None:
    assert ("kohya", "num_vectors_per_token") in named_elsewhere("vectors per token")["embedding.vectors"]
    assert "training.noise_offset" in named_elsewhere("offset_noise")
    assert named_elsewhere("  ") == {}


def test_settings_are_told_from_photographs_and_models(tmp_path: Path) -> None:
    for name, content in (("a.json", json.dumps(ONETRAINER)), ("run.sh", DIFFUSERS), ("x.yaml", INVOKE)):
        (tmp_path / name).write_text(content)
        assert looks_like_settings(tmp_path / name)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    assert not looks_like_settings(tmp_path / "config.json")
    assert not looks_like_settings(tmp_path)
    assert not looks_like_settings(tmp_path / "none.json")
