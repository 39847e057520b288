"""Runs written for other trainers, and read back."""

from __future__ import annotations

import ast
import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ti_tui.errors import UserError
from ti_tui.exchange.exporting import WRITERS, ExportedSettings, export_settings, write_exported
from ti_tui.exchange.importing import import_settings
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder
from ti_tui.run.recipe import RunFile


def made(root: Path, *, repeats: tuple[int, ...] = (1,), **fields: Any) -> RunFolder:
    """A run with a hub id for its model; fields by `table__field`."""
    values: dict[str, dict[str, Any]] = {
        "model": {"base": "owner/model"},
        "dataset": {"images": "img"},
        "embedding": {"token": "zkz", "init": "woman"},
    }
    for name, value in fields.items():
        table, _, key = name.partition("__")
        values.setdefault(table, {})[key] = value
    folder = RunFolder(root)
    for times in repeats:
        place = folder.images / f"{times}_zkz woman"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (times, 9, 9)).save(place / "0001.png")
    run = run_file.from_values({"format": 1, **values}, folder.file)
    run_file.save(run, folder.file)
    return folder


def exported(folder: RunFolder, program: str) -> ExportedSettings:
    found = export_settings(folder, program, folder.exports)
    write_exported(found, force=True)
    return found


def read_back(folder: RunFolder, name: str) -> RunFile:
    """The run file of what was exported, with the images where init would put them."""
    found = import_settings(folder.exports / name)
    values = found.values()
    values.setdefault("dataset", {})["images"] = "img"
    return run_file.from_values({"format": 1, **values}, folder.file)


def test_a_kohya_config_gives_the_same_run_file(tmp_path: Path) -> None:
    folder = made(
        tmp_path / "run", training__precision="fp32", evaluation__hold_out=2, embedding__norm="match",
        save__formats=["safetensors"], sample__prompts=["a [name] --w 64 --d 7", "# [name]"],
        training__optimizer_arguments={"betas": [0.8, 0.9], "eps": 1e-6},
    )  # fmt: skip
    found = exported(folder, "kohya")
    assert run_file.to_toml(read_back(folder, "kohya.toml")) == run_file.to_toml(run_file.load(folder.file))
    lost = {each.name for each in found.lost}
    assert {"evaluation.hold_out", "embedding.norm", "training.batch_size"} <= lost
    assert "embedding.vectors" not in lost and "scheme.segments" not in lost
    config = tomllib.loads((folder.exports / "kohya.toml").read_text())
    name, _, value = config["training"]["lr_scheduler_args"][0].partition("=")
    # sd-scripts reads the value as Python.
    assert name == "step_rules" and ast.literal_eval(value).startswith("1:10,0.4:30")
    data = tomllib.loads((folder.exports / "kohya-dataset.toml").read_text())
    assert data["datasets"][0]["subsets"][0]["image_dir"] == str(folder.images / "1_zkz woman")


def test_folders_with_repeats_come_back_as_the_folder_around_them(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", repeats=(2, 5))
    exported(folder, "kohya")
    found = import_settings(folder.exports / "kohya.toml")
    assert found.own == {"photographs": str(folder.images)}
    assert found.needs == {}


SHAPES = st.sampled_from(["segments", "constant", "cosine", "linear"])
SEGMENTS = st.lists(
    st.fixed_dictionaries({"learning_rate": st.floats(1e-7, 0.5), "steps": st.integers(1, 5000)}),
    min_size=1,
    max_size=4,
)
FIELDS = {
    "scheme__segments": SEGMENTS,
    "scheme__shape": SHAPES,
    "scheme__warmup_steps": st.integers(0, 1),
    "embedding__vectors": st.integers(1, 40),
    "embedding__init": st.sampled_from(["", "woman", "a red cup", "*"]),
    "embedding__norm": st.sampled_from(["free", "match"]),
    "dataset__resolution": st.sampled_from([64, 512, 1000, 1024]),
    "dataset__template": st.sampled_from(["object", "style", "captions"]),
    "dataset__buckets": st.booleans(),
    "dataset__flip": st.booleans(),
    "dataset__masks": st.booleans(),
    "model__clip_skip": st.integers(1, 3),
    "model__prediction": st.sampled_from(["auto", "epsilon", "v_prediction"]),
    "training__batch_size": st.sampled_from(["auto", 1, 7, 64]),
    "training__accumulation": st.sampled_from(["auto", 1, 9]),
    "training__optimizer": st.sampled_from(["adamw", "prodigy", "nadam", "adafactor", "adamw8bit"]),
    "training__weight_decay": st.sampled_from([0.0, 0.01, 1.0]),
    "training__optimizer_arguments": st.sampled_from([{}, {"betas": [0.9, 0.99]}, {"eps": 1e-6}, {"odd": "a b"}]),
    "training__loss": st.sampled_from(["l2", "l1", "huber"]),
    "training__huber_delta": st.floats(0.01, 2),
    "training__min_snr_gamma": st.sampled_from([0.0, 5.0]),
    "training__noise_offset": st.sampled_from([0.0, 0.05]),
    "training__max_timestep": st.sampled_from([1000, 500]),
    "training__recompute": st.sampled_from(["auto", "on", "off", "some"]),
    "training__attention": st.sampled_from(["auto", "sdpa", "plain"]),
    "training__cache_latents": st.sampled_from(["disk", "memory"]),
    "training__seed": st.integers(0, 2**63 - 1),
    "save__every_steps": st.sampled_from([0, 50, 100]),
    "save__every_epochs": st.sampled_from([0, 2]),
    "save__log_to": st.sampled_from([[], ["wandb"], ["tensorboard", "wandb"]]),
    "scheme__earlier": st.sampled_from([[], [{"until": 1, "segments": [{"learning_rate": 0.1, "steps": 9}]}]]),
    "save__keep": st.integers(0, 3),
    "sample__every_steps": st.sampled_from([0, 100]),
    "sample__prompts": st.lists(st.sampled_from(["[name]", "zkz --d 1", "#x", 'ä 😀 "q" --n \'']), max_size=2),
    "evaluation__hold_out": st.sampled_from(["auto", "off", 3]),
}


@pytest.mark.parametrize("program", list(WRITERS))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.fixed_dictionaries({}, optional=FIELDS))
def test_any_run_comes_back_but_for_what_was_said_to_be_lost(
    tmp_path: Path, program: str, fields: dict[str, Any]
) -> None:
    folder = made(tmp_path / "run", **fields)
    found = exported(folder, program)
    name = next(iter(found.files)).name
    before, after = run_file.load(folder.file), read_back(folder, name)
    if program == "kohya":
        assert after == before
        return
    lost = {each.name for each in found.lost}
    for table in type(before).model_fields:
        if table in ("format",):
            continue
        for key in type(getattr(before, table)).model_fields:
            if f"{table}.{key}" not in lost | {"sample.prompts"}:
                assert getattr(getattr(after, table), key) == getattr(getattr(before, table), key), key


def test_onetrainer_trains_as_many_steps_in_epochs(tmp_path: Path) -> None:
    folder = made(
        tmp_path / "run", repeats=(4,), training__batch_size=2, training__accumulation=1, training__precision="bf16",
        scheme__segments=[{"learning_rate": 0.01, "steps": 20}], scheme__shape="cosine",
    )  # fmt: skip
    found = exported(folder, "onetrainer")
    values = json.loads((folder.exports / "onetrainer.json").read_text())
    assert (values["epochs"], values["learning_rate_scheduler"], values["train_dtype"]) == (10, "COSINE", "BFLOAT_16")
    (concept,) = json.loads((folder.exports / "onetrainer-concepts.json").read_text())
    assert (concept["path"], concept["balancing"]) == (str(folder.images / "4_zkz woman"), 4.0)
    # Without the token in its prompts nothing would be learned.
    assert concept["text"] == {
        "prompt_source": "concept",
        "prompt_path": str(folder.exports / "onetrainer-prompts.txt"),
    }
    prompts = (folder.exports / "onetrainer-prompts.txt").read_text().splitlines()
    assert len(prompts) > 20 and all("zkz" in prompt for prompt in prompts)
    kept = {"scheme.segments", "scheme.warmup_steps", "embedding.token", "embedding.vectors", "sample.prompts"}
    assert not kept & {each.name for each in found.lost}


def test_diffusers_gets_a_command_that_a_shell_reads(tmp_path: Path) -> None:
    folder = made(tmp_path / "it's; rm -rf $HOME", embedding__init="red cup", sample__prompts=["a [name]; $x --d 1"])
    found = exported(folder, "diffusers")
    words = shlex.split((folder.exports / "diffusers.sh").read_text(), comments=True)
    assert words[:3] == ["accelerate", "launch", "textual_inversion.py"]
    assert f"--train_data_dir={folder.images / '1_zkz woman'}" in words
    assert "--validation_prompt=a zkz; $x" in words
    assert "--initializer_token=red" in words
    assert {"embedding.init", "evaluation.hold_out"} & {each.name for each in found.lost} == {"embedding.init"}


def test_files_that_are_there_are_not_replaced(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    found = export_settings(folder, "kohya", folder.exports)
    write_exported(found)
    (folder.exports / "kohya.toml").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        write_exported(found)
    assert (folder.exports / "kohya.toml").read_text() == "mine"
    write_exported(found, force=True)
    assert (folder.exports / "kohya.toml").read_text() != "mine"
