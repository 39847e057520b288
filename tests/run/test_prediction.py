"""What the files of a model say about its prediction type, in which order, and which models are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ti_tui.run.prediction import OtherObjective, of_file, of_folder

V_YAML = "model:\n  params:\n    parameterization: v\n    unet_config: {}\n"
PLAIN_YAML = "model:\n  params:\n    unet_config: {}\n"
SCALING = "model: {params: {denoiser_config: {params: {scaling_config: {target: sgm.modules.%s}}}}}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.v1.safetensors"


def beside(file: Path, text: str) -> None:
    file.with_suffix(".yaml").write_text(text)


def test_the_files_first_statement_decides_and_the_others_are_told(file: Path) -> None:
    beside(file, PLAIN_YAML)
    metadata = {"modelspec.prediction_type": "epsilon", "modelspec.predict_key": "v"}
    truth = of_file(file, {"v_pred"}, metadata)
    assert (truth.prediction, truth.decided_by) == ("v_prediction", "the tensor v_pred in the file")
    assert [doubt.partition(", but ")[2] for doubt in truth.doubts] == [
        "modelspec.prediction_type in the file's metadata says epsilon", "model.v1.yaml says epsilon"
    ]  # fmt: skip
    assert of_file(file, set(), metadata).prediction == "epsilon"
    assert of_file(file, set(), {"modelspec.predict_key": "v"}).prediction == "v_prediction"
    assert of_file(file, set(), {}).decided_by == "model.v1.yaml"


@pytest.mark.parametrize(
    ("text", "prediction"),
    [
        (V_YAML, "v_prediction"), (V_YAML.replace("v\n", '"v"\n'), "v_prediction"), (PLAIN_YAML, "epsilon"),
        (SCALING % "denoiser_scaling.VScaling", "v_prediction"), (SCALING % "x.EpsScaling", "epsilon"),
        ("nothing: of the kind\n", None), ("", None), ("- 1\n", None),
    ],
)  # fmt: skip
def test_the_yaml_beside_the_model_is_read(file: Path, text: str, prediction: str | None) -> None:
    beside(file, text)
    assert of_file(file, set(), {}).prediction == prediction


@pytest.mark.parametrize(
    "text",
    ["model: [", "[" * 5000, "a: 2001-99-99\n", "\0", "!!python/object:os.system {}"],
)
def test_a_yaml_that_cannot_be_read_is_ignored_in_words(file: Path, text: str) -> None:
    beside(file, text)
    truth = of_file(file, set(), {"modelspec.predict_key": "v"})
    assert truth.prediction == "v_prediction"
    assert "model.v1.yaml" in truth.doubts[0] and "\n" not in truth.doubts[0]


@pytest.mark.parametrize(
    ("names", "metadata", "text", "name"),
    [
        ({"edm_vpred.sigma_max", "v_pred"}, {}, "", "CosXL"),
        ({"edm_mean", "edm_std"}, {}, "", "Playground 2.5"),
        (set(), {"modelspec.prediction_type": "flow"}, "", "flow"),
        (set(), {}, SCALING % "denoiser_scaling.VScalingWithEDMcNoise", "edm"),
    ],
)
def test_edm_and_flow_models_are_refused_by_name(
    file: Path, names: set[str], metadata: dict[str, str], text: str, name: str
) -> None:
    beside(file, text)
    with pytest.raises(OtherObjective, match=name) as caught:
        of_file(file, names, metadata)
    assert "SDXL base 1.0" in caught.value.remedy


@pytest.mark.parametrize(
    "scheduler",
    [
        {"_class_name": "EDMDPMSolverMultistepScheduler"}, {"_class_name": "EDMEulerScheduler"},
        {"_class_name": "FlowMatchEulerDiscreteScheduler"}, {"prediction_type": "sample"},
        {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    ],
)  # fmt: skip
def test_a_folder_with_a_scheduler_of_another_kind_is_refused(scheduler: dict[str, Any]) -> None:
    with pytest.raises(OtherObjective, match=r"scheduler_config\.json"):
        of_folder(Path("model"), scheduler)


def test_a_folders_scheduler_decides() -> None:
    truth = of_folder(Path("m"), {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True})
    assert truth.in_words() == "v_prediction, by scheduler/scheduler_config.json, with zero terminal SNR"
    assert not truth.doubts
    assert of_folder(Path("m"), {"rescale_betas_zero_snr": True}).doubts


def test_what_the_run_file_says_decides_and_is_doubted_in_words() -> None:
    truth = of_folder(Path("m"), {"prediction_type": "v_prediction"})
    assert truth.chosen("auto") is truth
    chosen = truth.chosen("epsilon")
    assert chosen.prediction == "epsilon"
    assert chosen.doubts == (
        "epsilon is trained, by model.prediction in the run file, but "
        "scheduler/scheduler_config.json says v_prediction",
    )
    assert not truth.chosen("v_prediction").doubts


def test_nothing_said_is_nothing_decided(file: Path) -> None:
    assert of_file(file, {"ztsnr"}, {"modelspec.prediction_type": "?"}).in_words() == (
        "the U-Net is asked at the start, with zero terminal SNR"
    )
