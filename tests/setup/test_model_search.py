"""Models are found in the folders of the programs, in the hub's cache and in folders of one's own; by their headers."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ti_tui.run.memory import coefficients
from ti_tui.run.model import ModelFacts
from ti_tui.run.prediction import Prediction, PredictionTruth
from ti_tui.run.recipe import Family
from ti_tui.setup.model_places import ModelPlace, model_places
from ti_tui.setup.model_search import FoundModel, read_model, search_models

UNET = "model.diffusion_model.input_blocks.0.0.weight"


def found_in(home: Path, named: tuple[str, ...] = (), recent: tuple[str, ...] = (), **environment: str) -> list[str]:
    places = model_places(named, recent, home=home, environment=environment)
    return sorted(model.base for model in search_models(places))


def header(path: Path, **shapes: list[int]) -> Path:
    """A .safetensors file of tensors without bytes, which a header cannot tell from one with them."""
    tensors = {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps(tensors).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def linked(path: Path, to: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)
    return path


def test_models_are_found_where_each_program_keeps_them(tmp_path: Path, models: dict[str, Path]) -> None:
    file, folder = models["sd1.safetensors"], models["sd1"]
    places = [
        tmp_path / "stable-diffusion-webui/models/Stable-diffusion/faces/a1111.safetensors",
        tmp_path / "AI/ComfyUI/models/checkpoints/comfy.safetensors",
        tmp_path / "SwarmUI/Models/Stable-Diffusion/swarm.safetensors",
        tmp_path / "invokeai/models/sd-1/main/invoke",
        tmp_path / "models/mine.safetensors",
        tmp_path / "named/deep/er/named.safetensors",
        tmp_path / "elsewhere/recent.safetensors",
        tmp_path / "elsewhere/beside.safetensors",
        tmp_path / "listed/checkpoints/listed.safetensors",
    ]
    for number, place in enumerate(places):
        # Each its own file: the same one is listed once.
        own = shutil.copytree(folder, tmp_path / "own") if place.suffix == "" else tmp_path / f"own{number}.safetensors"
        if place.suffix:
            shutil.copy(file, own)
        linked(place, own)
    list_of_folders = tmp_path / "AI/ComfyUI/extra_model_paths.yaml"
    list_of_folders.write_text(f"other:\n  base_path: {tmp_path}/listed\n  checkpoints: |\n    checkpoints\n    none\n")
    found = found_in(tmp_path, (str(tmp_path / "named"),), (str(places[6]), "owner/name"))
    assert found == sorted(map(str, places))


def test_the_hubs_cache_gives_hub_ids_of_whole_models(tmp_path: Path, models: dict[str, Path]) -> None:
    for name, commit in (("models--owner--whole", "abc"), ("models--owner--half", "def"), ("datasets--a--b", "1")):
        folder = tmp_path / "hub" / name
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
        shutil.copytree(models["sd1"], folder / "snapshots" / commit)
    shutil.rmtree(tmp_path / "hub/models--owner--half/snapshots/def/vae")
    assert found_in(tmp_path, HF_HOME=str(tmp_path)) == ["owner/whole"]
    assert found_in(tmp_path, HF_HUB_CACHE=str(tmp_path / "hub")) == ["owner/whole"]


def test_each_model_says_its_family_and_what_it_is_good_for(models: dict[str, Path]) -> None:
    for name, family, use in (("sd1.safetensors", "SD 1", "512 px"), ("sd2-v", "SD 2 v", "768 px"),
                              ("sdxl.safetensors", "SDXL", "1024 px")):  # fmt: skip
        model = read_model(models[name], f"~/{name}")
        assert model is not None
        assert (model.name, model.family, model.use) == (name.removesuffix(".safetensors"), family, use)
        assert model.size_bytes > 100_000


@pytest.mark.parametrize(
    ("family", "prediction", "use"),
    [
        ("sd1", "epsilon", "512 px, from 2 GB"),
        ("sd2", "epsilon", "512 px, from 3 GB"),
        ("sd2", "v_prediction", "768 px, from 3 GB"),
        ("sdxl", "epsilon", "1024 px, from 6 GB"),
    ],
)
def test_the_smallest_card_is_that_of_the_memory_plan(family: Family, prediction: Prediction, use: str) -> None:
    truth = PredictionTruth(prediction)
    facts = ModelFacts(Path("m"), True, family, truth, tuple(coefficients()[family]["widths"]), 49408, True)
    assert FoundModel("m", Path("m"), 1, facts).use == use


def test_what_cannot_be_trained_says_why_and_what_is_no_model_is_left_out(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    text = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    cases = {
        "inpainting": {UNET: [320, 9, 3, 3], text: [49408, 768]},
        "refiner": {UNET: [320, 4, 3, 3], "conditioner.embedders.0.model.x": [1]},
        "U-Net only": {UNET: [320, 4, 3, 3]},
        "Flux": {"double_blocks.0.x": [1]},
        "EDM or flow": {UNET: [320, 4, 3, 3], text: [49408, 768], "edm_mean": [4]},
    }
    for kind, shapes in cases.items():
        model = read_model(header(tmp_path / "a.safetensors", **shapes), "~/a.safetensors")
        assert model is not None and model.use == f"{kind}: not trainable"
    (tmp_path / "half.safetensors").write_bytes(models["sd1.safetensors"].read_bytes()[:90_000])
    damaged = read_model(tmp_path / "half.safetensors", "~/half.safetensors")
    assert damaged is not None and damaged.refused == "damaged"
    assert read_model(header(tmp_path / "lora.safetensors", lora_unet_x=[4]), "lora") is None
    long = tmp_path / "long.safetensors"
    long.write_bytes(struct.pack("<Q", 90_000_000) + b"{" * 100)
    assert read_model(long, "long") is None


def test_a_ckpt_is_listed_and_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"PK\x03\x04 anything")
    monkeypatch.setattr("ti_tui.bounded.open_regular", lambda path: pytest.fail(f"{path} was opened"))
    model = read_model(tmp_path / "a.ckpt", "~/a.ckpt")
    assert model is not None and (model.name, model.family, model.use) == ("a.ckpt", "", "read when chosen")


def test_a_place_that_does_not_answer_holds_up_nothing(tmp_path: Path, models: dict[str, Path]) -> None:
    def places() -> Iterator[ModelPlace]:
        yield ModelPlace(models["sd1"].parent, 0)
        time.sleep(5)

    began = time.monotonic()
    assert len(list(search_models(places(), seconds=1))) == 4
    assert time.monotonic() - began < 3
    # Cancelled, as when the program ends.
    assert not list(search_models(places(), cancelled=lambda: True))


def test_a_link_to_a_folder_above_and_a_list_of_nonsense_end(tmp_path: Path, models: dict[str, Path]) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "loop").symlink_to(tmp_path)
    shutil.copy(models["sd1.safetensors"], tmp_path / "models" / "a.safetensors")
    (tmp_path / "ComfyUI").mkdir()
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    for text in (bomb, "a:\n  checkpoints: [1]\n", "[" * 5000, "- 1\n", "a: {base_path: ~nobody, checkpoints: x}\n"):
        (tmp_path / "ComfyUI" / "extra_model_paths.yaml").write_text(text)
        assert found_in(tmp_path) == [str(tmp_path / "models" / "a.safetensors")]
