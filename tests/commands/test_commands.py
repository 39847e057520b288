"""The command line as a person uses it: real processes, real photographs, what is printed and the exit status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import MakeRun, edit
from tests.fixtures.terminal import Terminal
from tests.fixtures.terminal import ti_tui as command_line
from ti_tui.cli import COMMANDS
from ti_tui.embeddings import files
from ti_tui.run.events import EventReader
from ti_tui.run.folder import RunFolder

ROOT = Path(__file__).parents[2]
Outcome = subprocess.CompletedProcess[str]


def ti_tui(*arguments: object, cwd: Path = ROOT) -> Outcome:
    """Run `ti-tui` as a process."""
    command = [sys.executable, "-m", "ti_tui", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


def init(run: Path, photos: Path, model: Path, *more: object) -> Outcome:
    return ti_tui(
        "init", run, "--images", photos, "--model", model, "--token", "zkz", "--init", "woman",
        "--scheme", "0.05:3, 0.01:4", "--read-as", "for",
        "--set", "dataset.resolution=64", "--set", "sample.every_steps=7",
        "--set", 'sample.prompts=["a photo of [name] --d 1 --s 2"]', *more,
    )  # fmt: skip


def refused(outcome: Outcome, *says: str, status: int = 2) -> None:
    """A message of one to three lines on stderr, no traceback, the exit status."""
    assert outcome.returncode == status, outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr + outcome.stdout
    text = outcome.stdout + outcome.stderr
    for words in says:
        assert words in text, text
    assert 1 <= len(outcome.stderr.strip().splitlines()) <= 3, outcome.stderr


def test_the_main_job_from_photographs_to_an_embedding(tmp_path: Path, photos: Path, models: dict[str, Path]) -> None:
    run = tmp_path / "run"
    made = init(run, photos, models["sd1"])
    assert made.returncode == 0 and "4 images, 1 with captions" in made.stdout
    assert sorted(path.name for path in (run / "img" / "1_zkz woman").iterdir()) == [
        "0001.png", "0002.png", "0003.png", "0003.txt", "0004.png",
    ]  # fmt: skip
    checked = ti_tui("check", run)
    assert checked.returncode == 0 and "This run can start." in checked.stdout
    plan = ti_tui("plan", run)
    assert plan.returncode == 0
    for words in (
        "7 in one run = 7 epochs of 1 step",
        "one step uses each of the 4 images once",
        "0.05:3, 0.01:7  (until",
    ):
        assert words in plan.stdout
    trained = ti_tui("train", run, "--plain")
    assert trained.returncode == 0, trained.stderr
    for words in ("starts at step 0 of 7", "step 7 of 7", "drew sample/step00000007/01.png", "done at step 7"):
        assert words in trained.stdout
    inspected = ti_tui("embeddings", "inspect", run / "model" / "zkz.safetensors")
    for words in (
        "kohya / ti_tui (emb_params)",
        "token",
        "zkz",
        "12 of width 64",
        "0.05:3, 0.01:4",
        "base_model_sha256",
    ):
        assert words in inspected.stdout
    assert "s each, measured in this run" in ti_tui("plan", run).stdout
    again = ti_tui("train", run)
    assert again.returncode == 0 and "Done: the scheme ends at step 7" in again.stdout
    for arguments in ((), (tmp_path,)):
        (row,) = ti_tui("runs", *arguments).stdout.splitlines()[1:]
        assert row.split()[1:3] == ["done", "7"]
    watched = ti_tui("watch", run, "--plain")
    assert watched.returncode == 0 and "done at step 7" in watched.stdout


def test_a_terminal_gets_a_progress_bar(make_run: MakeRun) -> None:
    folder = make_run(scheme="0.01:3")
    with Terminal(command_line("train", str(folder.root))) as terminal:
        assert terminal.wait_for_end(120) == 0
        terminal.read(0.2)
        assert "3/3" in terminal.text and "━" in terminal.text and "The embedding is in" in terminal.text


def test_detach_stop_and_go_on(make_run: MakeRun) -> None:
    folder = make_run(scheme="0.01:3000", **{"save.every_steps": 0})
    detached = ti_tui("train", "--detach", folder.root)
    assert detached.returncode == 0 and "ti-tui watch" in detached.stdout
    refused(ti_tui("train", folder.root), "is already running in")
    stopped = ti_tui("stop", folder.root)
    assert stopped.returncode == 0 and "Stopped at step" in stopped.stdout
    assert "No trainer is running" in ti_tui("stop", folder.root).stdout
    edit(folder, "steps = 3000", f"steps = {(folder.checkpoints() or [0])[-1] + 2}")
    assert ti_tui("train", folder.root, "--plain").returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    help_text = ti_tui(command, "--help")
    assert help_text.returncode == 0 and "Usage:" in help_text.stdout and len(help_text.stdout.splitlines()) > 5
    assert COMMANDS[command] in ti_tui("--help").stdout


def test_version_and_paths_import_nothing_heavy() -> None:
    code = "import sys; from ti_tui.cli import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    for arguments in (["--version"], ["paths"], ["--help"]):
        loaded = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        ).stdout
        modules = set(loaded.splitlines()[-1].split())
        assert not modules & {"torch", "numpy", "PIL", "textual", "pydantic", "transformers", "diffusers", "rich"}


def test_the_light_commands_never_import_torch(make_run: MakeRun) -> None:
    folder = make_run()
    code = "import sys; from ti_tui.cli import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    for command in ("check", "plan"):
        loaded = subprocess.run(
            [sys.executable, "-c", code, command, str(folder.root)], capture_output=True, text=True, check=True
        ).stdout
        assert not set(loaded.splitlines()[-1].split()) & {
            "torch",
            "textual",
            "transformers",
            "diffusers",
            "accelerate",
        }


def test_a_mistyped_command_names_the_nearest() -> None:
    outcome = ti_tui("trian")
    assert outcome.returncode == 2 and "did you mean train?" in outcome.stderr


def test_doctor_says_what_is_there_and_what_is_missing() -> None:
    outcome = ti_tui("doctor")
    assert outcome.returncode == 0
    for words in ("torch", "device", "precision", "attention", "free", "pip install"):
        assert words in outcome.stdout


# What bad input gets


def test_init_refuses_and_leaves_nothing_behind(tmp_path: Path, photos: Path, models: dict[str, Path]) -> None:
    run = tmp_path / "run"
    (tmp_path / "none").mkdir()
    for outcome, says in (
        (init(run, tmp_path / "nowhere", models["sd1"]), "there is no folder"),
        (init(run, tmp_path / "none", models["sd1"]), "no photograph in"),
        (init(run, photos, tmp_path / "no.safetensors"), "there is no model at"),
        (init(run, photos, photos / "coffee.jpg"), "is not a weights file"),
        (init(run, photos, models["sd1"], "--set", "training.sead=1"), "Did you mean training.seed?"),
        (init(run, photos, models["sd1"], "--set", "training.seed"), "has no value"),
        (init(run, photos, models["sd1"], "--set", "embedding.start=cros"), "Did you mean cross?"),
        (init(run, photos, models["sd1"], "--vectors", "99"), "99 is not a whole number from 1 to 75"),
        (init(run, photos, models["sd1"], "--scheme", "0.05:x"), "is not a whole number of steps"),
        (init(run, photos, models["sd1"], "--set", "embedding.token=cat"), "is already a word of the model"),
        (init(photos / "inside", photos, models["sd1"]), "inside the folder of photographs"),
    ):
        refused(outcome, says)
        assert not run.exists() and not (photos / "inside").exists()
    (run / "mine").mkdir(parents=True)
    refused(init(run, photos, models["sd1"]), "exists and is not empty")
    assert (run / "mine").is_dir()


def test_an_ambiguous_scheme_is_asked_about(tmp_path: Path, photos: Path, models: dict[str, Path]) -> None:
    outcome = ti_tui(
        "init",
        tmp_path / "r",
        "--images",
        photos,
        "--model",
        models["sd1"],
        "--token",
        "zkz",
        "--scheme",
        "0.05:10, 0.02:20",
    )
    refused(outcome, "for N steps: 30 in all; until step N: 20 in all", "--read-as")


def spoil_pictures(folder: RunFolder) -> None:
    for path in folder.images.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:200])


def remove_pictures(folder: RunFolder) -> None:
    shutil.rmtree(folder.images)


def set_field(old: str, new: str) -> Callable[[RunFolder], None]:
    return lambda folder: edit(folder, old, new)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_pictures, "0001.png is truncated"),
        (remove_pictures, "dataset.images: there is no folder"),
        (set_field("format = 1", "format = 9"), "made by a newer ti_tui"),
        (set_field("format = 1", "format = 1.5"), "1.5 is not a version"),
        (set_field('token = "zkz"', 'token = "photo"'), "is already a word of the model"),
        (set_field('template = "object"', 'template = "mine.txt"'), "there is no template file"),
        (set_field("resolution = 64", "resolution = 72"), "72 is not a multiple of 16"),
        (set_field('optimizer = "adamw"', 'optimizer = "adamwx"'), "Did you mean adamw?"),
        (set_field('install_to = ""', 'install_to = "/nowhere/webui"'), "there is no folder /nowhere/webui"),
        (set_field('init = "woman"', 'init = "lost.safetensors"'), "there is no file"),
        (set_field("vectors = 2", "vectors = 75"), "no room for words"),
        (set_field('vae = ""', 'vae = "lost"'), "there is no VAE at"),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else None,
)
def test_every_mistake_is_told_before_the_start_with_its_line(
    make_run: MakeRun, spoil: Callable[[RunFolder], None], says: str
) -> None:
    folder = make_run()
    spoil(folder)
    outcome = ti_tui("check", folder.root)
    assert outcome.returncode == 2 and "Traceback" not in outcome.stderr
    assert says in outcome.stdout + outcome.stderr
    assert "run.toml:" in outcome.stdout + outcome.stderr
    trained = ti_tui("train", folder.root)
    assert trained.returncode == 2 and says in trained.stdout + trained.stderr
    assert not folder.events.exists() or not list(EventReader(folder.events).read_all())


def test_ten_mistakes_come_as_ten_lines(make_run: MakeRun) -> None:
    folder = make_run()
    text = folder.file.read_text()
    for old, new in (
        ("clip_skip = 1", "clip_skip = 0"), ("resolution = 64", "resolution = 65"), ("vectors = 2", 'vectors = "2"'),
        ('init = "woman"', "init = 1"), ("flip = false", 'flip = "no"'), ("seed = 42", "seed = -1"),
        ('loss = "l2"', 'loss = "l3"'), ("keep = 0", "keep = -1"), ('precision = "auto"', 'precision = "half"'),
        ("warmup_steps = 0", "warmup = 0"),
    ):  # fmt: skip
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    folder.file.write_text(text)
    outcome = ti_tui("check", folder.root)
    lines = outcome.stderr.strip().splitlines()
    assert outcome.returncode == 2 and len(lines) == 10
    assert all(line.startswith(f"{folder.file}:") for line in lines)


class Evil:
    def __reduce__(self) -> object:
        return (os.system, ("echo code ran",))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path, models: path.write_bytes(models["sd1.safetensors"].read_bytes()[:-5000]), "is truncated"),
        (lambda path, models: path.write_bytes(b"<!DOCTYPE html>"), "not a valid safetensors"),
        (lambda path, models: torch.save({"state_dict": {}, "x": Evil()}, path), "contains code"),
        (lambda path, models: path.write_bytes(b""), "is empty (0 bytes)"),
    ],
    ids=["truncated", "web page", "code", "empty"],
)
def test_a_bad_model_is_told_and_never_run(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path, make: Callable[..., object], says: str
) -> None:
    folder = make_run("sd1.safetensors")
    bad = tmp_path / "bad.safetensors"
    make(bad, models)
    edit(folder, str(models["sd1.safetensors"]), str(bad))
    outcome = ti_tui("train", folder.root)
    assert outcome.returncode == 2 and says in outcome.stderr
    assert "code ran" not in outcome.stdout + outcome.stderr


@pytest.mark.usefixtures("new_processes")
def test_nothing_in_a_run_folder_is_run_as_a_module(make_run: MakeRun) -> None:
    folder = make_run(scheme="0.01:1")
    for name in ("numpy", "torch", "json"):
        (folder.root / f"{name}.py").write_text("print('code ran')")
    trained = ti_tui("train", folder.root, "--plain")
    assert trained.returncode == 0 and "code ran" not in folder.log.read_text()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    refused(ti_tui("check", tmp_path), "has neither a run.toml nor photographs")
    for command in ("plan", "train", "watch", "stop"):
        refused(ti_tui(command, tmp_path), "holds no run.toml")
    refused(ti_tui("watch"), "no run is known")


def test_a_run_that_was_never_trained_has_nothing_to_watch(make_run: MakeRun) -> None:
    refused(ti_tui("watch", make_run().root), "was never trained")


def test_embeddings_convert_and_install(make_run: MakeRun, train: Callable[..., int], tmp_path: Path) -> None:
    folder = make_run(scheme="0.01:1", **{"save.formats": ["safetensors"]})
    assert train(folder) == 0
    source = folder.embedding("zkz", None)
    for form, name in (("a1111-pt", "zkz.pt"), ("diffusers", "zkz.diffusers.bin")):
        converted = ti_tui("embeddings", "convert", source, "--to", form)
        assert converted.returncode == 0 and (folder.models / name).exists()
        refused(ti_tui("embeddings", "convert", source, "--to", form), "exists")
        assert (files.read(folder.models / name).in_order()[0] == files.read(source).in_order()[0]).all()
    (tmp_path / "comfy" / "models" / "embeddings").mkdir(parents=True)
    assert ti_tui("embeddings", "install", source, tmp_path / "comfy").returncode == 0
    (tmp_path / "comfy" / "models" / "embeddings" / "zkz.safetensors").write_bytes(b"mine")
    refused(ti_tui("embeddings", "install", source, tmp_path / "comfy"), "not from this run", "--force")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    refused(ti_tui("embeddings", "inspect", tmp_path / "x.png"), "without an embedding")
