"""`ti-tui compare` on runs that were really trained: what it draws, keeps, scores and says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.commands.test_commands import refused, ti_tui
from tests.conftest import MakeRun, edit
from tests.fixtures import tiny_clip
from tests.fixtures.terminal import Terminal
from tests.fixtures.terminal import ti_tui as command_line
from ti_tui.cli import cli
from ti_tui.errors import UserError
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import GIB, Hardware

PROMPTS = ["a photo of [name] --d 1 --s 2", "a zkz in snow --d 2 --s 2 --l 1"]
SAMPLES = {"sample.every_steps": 3, "sample.prompts": PROMPTS}


@pytest.fixture
def run(make_run: MakeRun, train: Callable[..., int]) -> RunFolder:
    """A run of 6 steps with checkpoints at 3 and 6, and previews of two prompts at 0, 3 and 6."""
    folder = make_run(**{**SAMPLES, "evaluation.every_steps": 3})
    assert train(folder) == 0
    return folder


def here(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_the_previews_of_a_run_become_one_picture_and_nothing_else_changes(run: RunFolder) -> None:
    before = contents(run.root)
    code = "import sys; from ti_tui.cli import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", str(run.root)], capture_output=True, text=True, check=True
    )
    *table, last, modules = done.stdout.splitlines()
    assert table[0].split()[0] == "step" and table[0].split()[-1] == "images"
    assert [line.split()[0] for line in table[1:4]] == ["0", "3", "6"]
    assert table[4].startswith("best: step ") and "the highest" in table[4] and len(table) == 5
    assert table[2].endswith("sample/step00000003")
    assert last == f"Wrote {run.samples / 'compare.png'}"
    assert not set(modules.split()) & {"torch", "textual", "transformers", "diffusers", "accelerate"}
    after = contents(run.root)
    with Image.open(run.samples / "compare.png") as image:
        about = json.loads(image.text["ti_tui"])  # type: ignore[attr-defined]
        # Three steps and a training picture.
        assert image.width > 4 * 144 and image.height > 2 * 144
    assert about["token"] == "zkz" and about["prompts"] == PROMPTS
    assert [column["step"] for column in about["columns"]] == [0, 3, 6]
    del after["sample/compare.png"]
    assert after == before


def test_steps_can_be_chosen_and_the_picture_can_go_elsewhere(run: RunFolder, tmp_path: Path) -> None:
    chosen = here(run.root, "--steps", "6, 0", "-o", tmp_path / "new" / "grid.png")
    assert chosen.exit_code == 0 and not (run.samples / "compare.png").exists()
    with Image.open(tmp_path / "new" / "grid.png") as image:
        about = json.loads(image.text["ti_tui"])  # type: ignore[attr-defined]
    assert [column["step"] for column in about["columns"]] == [0, 6]


def test_checkpoints_draw_what_the_run_itself_drew_and_only_once(run: RunFolder) -> None:
    asked = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    first = ti_tui("compare", run.root, *asked)
    assert first.returncode == 0, first.stderr
    assert "6/6  step 6: a zkz in snow" in first.stdout and "drawing on the CPU" in first.stderr
    folders = sorted(path for path in (run.samples / "compare").iterdir() if path.is_dir())
    assert [path.name.rpartition("-")[0] for path in folders] == ["a-photo-of-zkz", "a-zkz-in-snow"]
    for step in (0, 3, 6):
        for number, folder in enumerate(folders, start=1):
            drawn, preview = folder / f"step{step:08d}.png", run.sample(step) / f"{number:02d}.png"
            assert pixels(drawn) == pixels(preview)
    kept = contents(run.samples / "compare")
    again = here(run.root, *asked)
    assert again.exit_code == 0 and "1/6" not in again.output and contents(run.samples / "compare") == kept
    # Another checkpoint at the same step is drawn anew, and it alone.
    shutil.copytree(run.state(3), run.state(6), dirs_exist_ok=True)
    changed = here(run.root, *asked)
    assert "1/2  step 6: " in changed.output and "2/2  step 6: " in changed.output
    assert pixels(folders[0] / "step00000006.png") == pixels(run.sample(3) / "01.png")


def test_scores_stand_beside_those_of_the_start_and_are_found_once(run: RunFolder, tmp_path: Path) -> None:
    clip = tiny_clip.make(tmp_path / "clip")
    first = ti_tui("compare", run.root, "--clip", clip, "--steps", "3,6")
    assert first.returncode == 0, first.stderr
    rows = [line.split() for line in first.stdout.splitlines()]
    assert [word for word in rows[0] if word not in ("gain", "rank")] == ["step", "likeness", "prompt", "images"]
    for row in rows[1:3]:
        # A score, and how far it is from that of step 0, which is not shown itself.
        assert row[-4][0] in "+-" and row[-2][0] in "+-"
    assert 'those of "woman"; among the training images: 0.' in first.stdout
    assert "judging on the CPU" in first.stderr
    again = here(run.root, "--clip", clip, "--steps", "3,6")
    assert again.exit_code == 0 and "judging" not in again.output
    assert again.output.splitlines()[:3] == first.stdout.splitlines()[:3]
    with Image.open(run.samples / "compare.png") as image:
        columns = json.loads(image.text["ti_tui"])["columns"]  # type: ignore[attr-defined]
    assert all(-1 < column["likeness"] < 1 and -1 < column["prompt"] < 1 for column in columns)
    # Drawn and judged in one go.
    both = here(run.root, "--clip", clip, "--prompt", "[name] --d 9 --s 1", "--steps", "3")
    assert both.exit_code == 0 and "1/1  step 3" in both.output and "judging" in both.output
    assert "likeness" in both.output and "a-zkz" not in both.output


def test_ctrl_c_stops_the_drawing_and_keeps_what_is_drawn(run: RunFolder) -> None:
    prompts = ["--prompt", "[name] --s 1 --w 64 --h 64", "--prompt", "[name] --s 1000 --d 7 --w 256 --h 256"]
    with Terminal(command_line("compare", str(run.root), "--steps", "3", *prompts), columns=160) as shown:
        shown.wait_for("1/2  step 3", seconds=120)
        shown.press("ctrl+c")
        assert shown.wait_for_end() == 130
        assert "Stopped. Images drawn so far are kept" in shown.text and "Traceback" not in shown.text
    assert len(list((run.samples / "compare").rglob("*.png"))) == 1
    assert not list(run.samples.rglob("*.tmp"))


def test_a_run_that_trains_is_read_and_a_checkpoint_that_goes_meanwhile_is_left_out(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Hardware("cuda", "RTX 2060", 6 * GIB, 5 * GIB, bf16=False)
    monkeypatch.setattr("ti_tui.commands.compare.find_hardware", lambda wanted: card)
    # Only its vectors: the others of the step are whole, so the list still names it.
    with run.lock():
        (run.state(3) / "vectors.safetensors").write_bytes(b"cut short")
        outcome = here(run.root, "--prompt", "[name] --s 1", "--steps", "3,6")
    assert outcome.exit_code == 0 and "left out: the checkpoint" in outcome.output
    assert "this needs GPU memory too; --device cpu needs none" in outcome.output
    assert "2/2  step 6" in outcome.output and "1/2" not in outcome.output
    rows = {line.split()[0]: line for line in outcome.output.splitlines()}
    assert rows["6"].endswith("step00000006.png") and not rows["3"].endswith(".png")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--steps", "4"], "--steps: there is no sample of step 4\nSteps are 0, 3, 6."),
        (["--steps", "three"], "--steps: 'three' is not a step"),
        (["--prompt", "[name]", "--steps", "4"], "--steps: there is no checkpoint of step 4"),
        (["--prompt", " "], "--prompt: the prompt is empty"),
        (["--prompt", "[name] --s many"], "--prompt: --s many: a whole number from 1 to 1000 is needed"),
        (["--device", "gpu"], "--device: there is no device 'gpu'"),
        (["-o", "grid.jpg"], "--output: grid.jpg does not end in .png"),
        (["-o", "."], "is a folder"),
        (["--clip", "/nowhere"], "there is no CLIP model at /nowhere"),
        (["--clip", "MODEL"], "is a Stable Diffusion model, not a CLIP model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_mistyped_is_told_before_anything_is_drawn(
    arguments: list[str], says: str, make_run: MakeRun, models: dict[str, Path]
) -> None:
    folder = make_run(**{**SAMPLES, "evaluation.every_steps": 3})
    for step in (0, 3, 6):
        folder.sample(step).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder.sample(step) / "01.png")
        folder.events.parent.mkdir(exist_ok=True)
        with folder.events.open("a") as log:
            event = {
                "t": 1,
                "kind": "sample",
                "step": step,
                "files": [f"sample/step{step:08d}/01.png"],
                "prompts": ["x"],
            }
            log.write(json.dumps(event) + "\n")
    found = here(folder.root, *(str(models["sd1"]) if part == "MODEL" else part for part in arguments))
    assert isinstance(found.exception, UserError) and says in str(found.exception)
    assert len(str(found.exception).splitlines()) <= 3
    assert not (folder.samples / "compare").exists() and not (folder.samples / "compare.png").exists()


def test_a_run_without_previews_says_how_to_get_some(make_run: MakeRun, tmp_path: Path) -> None:
    refused(ti_tui("compare", make_run().root), "has no samples to compare", "--prompt")
    refused(ti_tui("compare", tmp_path), "holds no run.toml")


def test_a_model_that_is_gone_is_told_with_its_line(run: RunFolder, models: dict[str, Path]) -> None:
    edit(run, str(models["sd1"]), "/models/gone.safetensors")
    outcome = here(run.root, "--prompt", "[name]")
    assert isinstance(outcome.exception, UserError) and "there is no model at /models/gone" in str(outcome.exception)
    # What was drawn before needs no model.
    assert here(run.root).exit_code == 0
