"""A run that TensorBoard's own reader opens; and a trainer that tells others how it ended."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.conftest import MakeRun
from tests.training.running import Train, events, stop_at_step
from ti_tui.cli import cli
from ti_tui.run.folder import RunFolder
from ti_tui.trackers.follow import Follower
from ti_tui.trackers.hooks import Hooks

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder: RunFolder) -> object:
    found = event_accumulator.EventAccumulator(
        str(folder.events.parent / "tensorboard"), size_guidance={"images": 0, "scalars": 0, "tensors": 0}
    )
    found.Reload()
    return found


def test_a_run_that_was_resumed_is_in_tensorboard_with_each_step_once(make_run: MakeRun, train: Train) -> None:
    folder = make_run(**{
        "evaluation.every_steps": 2, "sample.every_steps": 3, "sample.prompts": ["a [name] --s 1", "[name] --s 1"],
    })  # fmt: skip
    stop_at_step(folder, 4, train)
    # A kill would go back to the checkpoint of step 3: its log says so.
    shutil.rmtree(folder.state(4))
    assert train(folder) == 0
    result = CliRunner().invoke(cli, ["log", str(folder.root)])
    assert result.exit_code == 0 and "tensorboard --logdir" in result.output
    board = read(folder)
    losses = [(value.step, round(value.value, 5)) for value in board.Scalars("train/loss")]
    last = {event["step"]: round(event["loss"], 5) for event in events(folder, "step")}
    assert losses == sorted(last.items()) and [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    assert all(value.value == pytest.approx(0.01) for value in board.Scalars("train/learning_rate"))
    assert [value.step for value in board.Scalars("eval/loss")] == [0, 2, 4, 6]
    assert [value.step for value in board.Scalars("eval/gain")] == [0, 2, 4, 6]
    for number in (1, 2):
        samples = board.Images(f"samples/prompt_{number:02d}")
        assert [sample.step for sample in samples] == [0, 3, 6]
        with Image.open(io.BytesIO(samples[-1].encoded_image_string)) as image:
            assert image.size == (samples[-1].width, samples[-1].height)
    assert "1. a [name] --s 1" in board.Tensors("prompts")[0].tensor_proto.string_val[0].decode()
    # Written again it is the same, not twice as much.
    CliRunner().invoke(cli, ["log", str(folder.root)])
    assert len(read(folder).Scalars("train/loss")) == 6


def test_what_is_no_sample_of_the_run_is_not_read(make_run: MakeRun, tmp_path: Path) -> None:
    from ti_tui.run.events import EventWriter
    from ti_tui.trackers.tensorboard import TensorBoard

    folder = make_run()
    folder.create()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (folder.root / "bad.png").write_bytes(b"no picture")
    os.mkfifo(folder.root / "pipe.png")
    files = ["../secret.png", "bad.png", "gone.png", "pipe.png"]
    EventWriter(folder.events).write("sample", step=1, files=files, prompts=[])
    follower = Follower(folder, [TensorBoard(folder)], Hooks({}, "zkz"))
    follower.read()
    follower.close()
    assert read(folder).Tags()["images"] == []


def test_a_link_in_place_of_the_folder_is_not_followed(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    folder.create()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    (folder.events.parent / "tensorboard").symlink_to(tmp_path / "mine")
    result = CliRunner().invoke(cli, ["log", str(folder.root)])
    assert result.exit_code != 0 and (tmp_path / "mine" / "thesis").exists()
    shutil.rmtree(folder.events.parent)
    (tmp_path / "mine" / "tensorboard").mkdir()
    (tmp_path / "mine" / "tensorboard" / "thesis").touch()
    folder.events.parent.symlink_to(tmp_path / "mine")
    result = CliRunner().invoke(cli, ["log", str(folder.root)])
    assert result.exit_code != 0 and (tmp_path / "mine" / "tensorboard" / "thesis").exists()


@pytest.mark.usefixtures("forked_processes")
def test_a_trainer_tells_how_it_ended_and_writes_for_tensorboard_while_it_trains(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder, told = make_run(**{"save.log_to": ["tensorboard"]}), tmp_path / "told"
    (tmp_path / "own-config").mkdir()
    (tmp_path / "own-config" / "config.toml").write_text(
        f"""on_end = 'echo "$TI_TUI_STEP $TI_TUI_EMBEDDING" >{told}'\n"""
    )
    trainer = subprocess.run(
        [sys.executable, "-m", "ti_tui.training", str(folder.root)], capture_output=True, text=True, check=False
    )
    assert trainer.returncode == 0, trainer.stderr
    end = time.monotonic() + 60
    while not (told.exists() and told.read_text().strip()) and time.monotonic() < end:
        time.sleep(0.1)
    assert told.read_text().strip() == f"6 {folder.embedding('zkz', None)}"
    assert [value.step for value in read(folder).Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
