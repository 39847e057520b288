"""`ti-tui import` and `ti-tui export` as commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeRun
from ti_tui import cli
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in this process; returns its exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ti-tui", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        printed = capfd.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def settings_file(tmp_path: Path, photos: Path, models: dict[str, Path]) -> Path:
    """kohya's GUI settings for the tests' photographs and tiny model."""
    path = tmp_path / "kohya.json"
    values = {
        "pretrained_model_name_or_path": str(models["sd1"]), "train_data_dir": str(photos), "token_string": "zkz",
        "init_word": "woman", "num_vectors_per_token": 2, "epoch": 3, "train_batch_size": 2, "learning_rate": 0.01,
        "max_resolution": "64,64", "output_dir": "/elsewhere", "huggingface_token": "hf_secret", "vae": "",
        "template": "object template", "made_up": "\x1b[2J",
    }  # fmt: skip
    path.write_text(json.dumps(values))
    return path


def test_the_table_names_every_field_and_what_a_run_needs(command: Command, settings_file: Path) -> None:
    status, out, _ = command("import", settings_file)
    assert status == 0
    lines = out.splitlines()
    for name in json.loads(settings_file.read_text()):
        assert len([line for line in lines if line.startswith(f"{name} ")]) == (name != "vae"), name
    assert "Empty in the file (1): vae." in out
    assert "hf_secret" not in out and "\x1b" not in out
    assert lines[-1] == f"To make the run: ti-tui import {settings_file} RUN"


def test_with_a_run_it_is_made_as_by_init(command: Command, settings_file: Path, tmp_path: Path) -> None:
    status, _, _ = command("import", settings_file, tmp_path / "run", "--set", "training.seed=9")
    assert status == 0
    run = run_file.load(RunFolder(tmp_path / "run").file)
    assert [(item.learning_rate, item.steps) for item in run.scheme.segments] == [(0.01, 6)]
    assert (run.embedding.token, run.embedding.vectors, run.training.seed) == ("zkz", 2, 9)
    assert len(list((tmp_path / "run").glob("img/*/*.png"))) == 4


def test_what_is_missing_is_asked_for_before_a_run_is_made(command: Command, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"token_string": "zkz", "init_word": "woman", "train_data_dir": "/nowhere"}')
    status, _, err = command("import", tmp_path / "x.json", tmp_path / "run")
    assert status == 2
    assert "--images FOLDER" in err and "--model MODEL" in err
    assert not (tmp_path / "run").exists()


def test_as_json(command: Command, settings_file: Path) -> None:
    _, out, _ = command("import", settings_file, "--json")
    values = json.loads(out)
    assert values["program"] == "kohya"
    assert values["run"]["embedding"]["token"] == "zkz"
    assert {row["name"] for row in values["fields"]} >= {"vae", "made_up"}


def test_a_file_of_another_kind_is_refused_in_words(command: Command, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    status, _, err = command("import", tmp_path / "x.json")
    assert status == 2
    assert "not the settings of a known trainer" in err


def test_an_exported_kohya_config_makes_the_same_run(command: Command, make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(**{"evaluation.hold_out": 1, "training.seed": 5})
    status, out, _ = command("export", folder.root, "--to", "kohya")
    assert status == 0
    assert "evaluation.hold_out = 1" in out and "train_textual_inversion.py --config_file" in out
    status, _, _ = command("import", folder.exports / "kohya.toml", tmp_path / "again")
    assert status == 0
    assert (tmp_path / "again/run.toml").read_text() == folder.file.read_text()


def test_export_replaces_nothing_and_follows_no_link(command: Command, make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    assert command("export", folder.root, "--to", "diffusers", "--output", tmp_path / "out")[0] == 0
    status, _, err = command("export", folder.root, "--to", "diffusers", "--output", tmp_path / "out")
    assert status == 2 and "--force" in err
    (tmp_path / "victim").mkdir()
    folder.exports.symlink_to(tmp_path / "victim")
    status, _, err = command("export", folder.root, "--to", "onetrainer")
    assert status == 2 and "leads out of the run folder" in err
    assert list((tmp_path / "victim").iterdir()) == []


def test_captions_are_exported_beside_or_without_the_settings(command: Command, make_run: MakeRun) -> None:
    folder = make_run()
    status, _, err = command("export", folder.root)
    assert status == 2 and "give --to, --captions or both" in err
    status, out, _ = command("export", folder.root, "--captions", "jsonl", "--to", "kohya")
    assert status == 0 and "Wrote the captions: " in out and "To train: " in out
    rows = [json.loads(line) for line in (folder.exports / "metadata.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["a cup on a table"]
