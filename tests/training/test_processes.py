"""The trainer as a process: killed at random instants, stopped by signals, several processes, detached."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import MakeRun, result
from ti_tui.embeddings import files
from ti_tui.run.events import EventReader, as_one_run
from ti_tui.run.folder import RunFolder

pytestmark = pytest.mark.usefixtures("forked_processes")
ROOT = Path(__file__).parents[2]
KILLS = 8
"""Where they fall is chance; `python -m tools.crash_points` goes through every change to a file."""


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )


def accelerate(way: str, module: str, folder: RunFolder) -> subprocess.CompletedProcess[str]:
    """Start a run under `accelerate launch` with two processes."""
    numbers = ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    plain = ["--mixed_precision", "no", "--dynamo_backend", "no"]
    return launch("-m", "accelerate.commands.launch", way, *numbers, *plain, "-m", module, str(folder.root))


def wait_for_step(folder: RunFolder, step: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        status = folder.read_status()
        if status is not None and status.step >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached: {folder.log.read_text() if folder.log.exists() else ''}")


def test_a_run_killed_at_random_instants_ends_with_the_same_bits(make_run: MakeRun, train: Callable[..., int]) -> None:
    settings = {
        "dataset.resolution": 32, "training.batch_size": 2, "training.accumulation": 1, "save.every_steps": 1,
        "sample.every_steps": 40, "sample.prompts": ["[name] --s 1"], "evaluation.every_steps": "auto",
    }  # fmt: skip
    whole, killed = (make_run(name=name, scheme="0.05:20, 0.01:50", **settings) for name in ("whole", "killed"))
    assert train(whole) == 0
    seed = int.from_bytes(os.urandom(4))
    outcome = launch("-m", "tests.fixtures.killer", str(killed.root), str(KILLS), str(seed))
    assert outcome.returncode == 0, f"seed {seed}: {outcome.stderr}"
    report = json.loads(outcome.stdout.splitlines()[-1])
    assert report["kills"] == KILLS and report["status"] == 0, f"seed {seed}: {report}"
    assert killed.checkpoints() == whole.checkpoints() == list(range(1, 71))
    for step in whole.checkpoints():
        ours, theirs = (load_file(folder.state(step) / "vectors.safetensors") for folder in (killed, whole))
        assert torch.equal(ours["rows0"], theirs["rows0"]), f"seed {seed}, step {step}"
        moments = [
            torch.load(folder.state(step) / "optimizer.pt", weights_only=True)["state"][0] for folder in (killed, whole)
        ]
        assert all(torch.equal(moments[0][key], value) for key, value in moments[1].items()), (
            f"seed {seed}, step {step}"
        )
    for path in whole.models.iterdir():
        assert path.read_bytes() == (killed.models / path.name).read_bytes()
    assert {path.parent.name for path in killed.samples.rglob("01.png")} == {f"step{step:08d}" for step in (0, 40, 70)}
    steps = [event["step"] for event in as_one_run(EventReader(killed.events).read_all()) if event.kind == "step"]
    assert steps == list(range(1, 71))
    leftovers = [path for path in killed.root.rglob("*") if path.name.endswith((".tmp", ".old"))]
    assert len([path for path in leftovers if path.parent == killed.states]) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_an_exact_checkpoint_and_ends_with_0(make_run: MakeRun, number: signal.Signals) -> None:
    folder = make_run(scheme="0.01:5000", **{"save.every_steps": 0})
    # Under nohup this test would inherit what it ignores.
    as_in_a_terminal = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
    command = [sys.executable, "-m", "ti_tui.training", str(folder.root)]
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=as_in_a_terminal)
    wait_for_step(folder, 2, process)
    process.send_signal(number)
    assert process.wait(60) == 0
    status = folder.read_status()
    assert status is not None and status.phase == "stopped"
    assert folder.checkpoints() == [status.step]
    last = list(EventReader(folder.events).read_all())[-1]
    assert (last.kind, last["outcome"], last["step"]) == ("end", "stopped", status.step)
    assert not folder.lock_file.exists()


@pytest.mark.usefixtures("forked_processes")
def test_nohup_protects_a_trainer_from_the_end_of_its_terminal(make_run: MakeRun) -> None:
    folder = make_run(scheme="0.01:5000", **{"save.every_steps": 0})
    command = [sys.executable, "-m", "ti_tui.training", str(folder.root)]
    under_nohup = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=under_nohup)
    wait_for_step(folder, 2, process)
    process.send_signal(signal.SIGHUP)
    wait_for_step(folder, 5, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_closing_the_terminal_does_not_end_a_detached_run(make_run: MakeRun) -> None:
    """A terminal's end sends SIGHUP to every process of its session."""
    folder = make_run(scheme="0.01:5000")
    code = "import pty,sys; sys.exit(pty.spawn([sys.executable, '-m', 'ti_tui', 'train', '--detach', sys.argv[1]]))"
    subprocess.run([sys.executable, "-c", code, str(folder.root)], cwd=ROOT, stdin=subprocess.DEVNULL,
                   capture_output=True, timeout=120, check=True)  # fmt: skip
    trainer = folder.trainer()
    assert trainer is not None
    try:
        assert os.getsid(trainer.pid) == trainer.pid
        time.sleep(0.5)
        assert trainer.alive()
        second = launch("-m", "ti_tui.training", str(folder.root))
        assert second.returncode == 2 and f"process {trainer.pid}" in second.stderr
        stopped = launch("-m", "ti_tui", "stop", str(folder.root))
        assert stopped.returncode == 0 and "Stopped" in stopped.stdout
    finally:
        if trainer.alive():
            os.kill(trainer.pid, signal.SIGKILL)
    assert not trainer.alive()


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("way", "processes", "started"), [("--multi_gpu", 2, "new_processes"), ("--cpu", 1, "forked_processes")]
)
def test_accelerate_gives_the_rows_of_one_process_with_the_same_effective_batch(
    make_run: MakeRun,
    trained: MakeRun,
    way: str,
    processes: int,
    started: str,
    request: pytest.FixtureRequest,
) -> None:
    """`--multi_gpu` really starts two (on a machine without a card they are CPU processes, joined by gloo).

    `--cpu --num_processes 2` starts one in accelerate 1.15 unless MPI is set up; the result is the same either way.
    """
    request.getfixturevalue(started)
    single = trained(name="single", **{"training.batch_size": 1, "training.accumulation": 4})
    other = make_run(name="other", **{"training.batch_size": 1, "training.accumulation": 4 // processes})
    outcome = accelerate(way, "ti_tui.training", other)
    assert outcome.returncode == 0, outcome.stderr
    np.testing.assert_allclose(result(single).in_order()[0], result(other).in_order()[0], rtol=1e-3, atol=1e-4)
    assert other.checkpoints() == [3, 6]
    (start,) = (event for event in EventReader(other.events).read_all() if event.kind == "run")
    assert start["processes"] == processes and start["plan"]["effective_batch"] == 4


def test_processes_start_at_the_rows_of_the_first_and_make_room_together(
    make_run: MakeRun, train: Callable[..., int]
) -> None:
    """The second process makes other rows of the same words, and has room for one image at a time."""
    settings = {"embedding.start": "cross"}
    single, double = make_run(name="single", **settings), make_run(name="double", **settings)
    assert train(single) == 0
    outcome = accelerate("--multi_gpu", "tests.fixtures.odd_process", double)
    assert outcome.returncode == 0, outcome.stderr
    np.testing.assert_allclose(result(single).in_order()[0], result(double).in_order()[0], rtol=1e-3, atol=1e-4)
    warnings = [event["message"] for event in EventReader(double.events).read_all() if event.kind == "warning"]
    assert any("micro-batches of 1" in message for message in warnings)


def test_the_result_loads_in_diffusers_and_changes_the_picture(make_run: MakeRun, train: Callable[..., int]) -> None:
    from diffusers import StableDiffusionPipeline

    folder = make_run(scheme="0.3:10", **{"save.formats": ["safetensors", "a1111-pt", "diffusers"]})
    assert train(folder) == 0
    pictures = {}
    for suffix, token in ((".safetensors", "zkz"), (".pt", None), (".diffusers.bin", None)):
        pipe = StableDiffusionPipeline.from_pretrained(_model_of(folder), safety_checker=None)
        pipe.set_progress_bar_config(disable=True)

        def draw(prompt: str, pipe: StableDiffusionPipeline = pipe) -> np.ndarray:
            return pipe(prompt, num_inference_steps=4, height=64, width=64, output_type="np",
                        generator=torch.Generator().manual_seed(0)).images[0]  # fmt: skip

        without = draw("a photo of zkz")
        pipe.load_textual_inversion(str(folder.models / f"zkz{suffix}"), token=token)
        pictures[suffix] = draw("a photo of zkz")
        assert np.abs(pictures[suffix] - without).mean() > 0.005
        loaded = pipe.text_encoder.get_input_embeddings().weight[-2:].detach().numpy()
        np.testing.assert_allclose(loaded, result(folder).in_order()[0], rtol=1e-6)
    np.testing.assert_allclose(pictures[".safetensors"], pictures[".pt"])


def _model_of(folder: RunFolder) -> str:
    return str(tomllib.loads(folder.file.read_text())["model"]["base"])


def test_our_samples_are_those_of_diffusers_with_the_same_embedding(
    make_run: MakeRun, train: Callable[..., int]
) -> None:
    """What the dashboard shows is what the user will get: same prompt, seed, sampler, and A1111's settings text."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
    from PIL import Image

    from ti_tui.training.randomness import torch_stream

    prompts = ["a photo of zkz --n dark --w 64 --h 96 --d 5 --l 4 --s 6", "a cup --w 64 --h 64"]
    folder = make_run(scheme="0.1:3", **{"sample.every_steps": 3, "sample.prompts": prompts})
    assert train(folder) == 0
    ours = Image.open(folder.sample(3) / "01.png")
    assert ours.size == (64, 96)
    assert ours.info["parameters"].splitlines()[:2] == ["a photo of zkz", "Negative prompt: dark"]
    assert "Steps: 6, Sampler: DPM++ 2M, CFG scale: 4, Seed: 5, Size: 64x96" in ours.info["parameters"]
    pipe = StableDiffusionPipeline.from_pretrained(_model_of(folder), safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.load_textual_inversion(str(folder.embedding("zkz", 3)), token="zkz")
    latents = torch.randn((1, 4, 12, 8), generator=torch_stream(5))
    settings = {"width": 64, "height": 96, "guidance_scale": 4, "num_inference_steps": 6}
    theirs = pipe("a photo of zkz", negative_prompt="dark", latents=latents, **settings).images[0]
    difference = np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int))
    assert difference.max() <= 2


def test_a_full_disk_ends_the_run_in_words_and_leaves_it_resumable(
    make_run: MakeRun, train: Callable[..., int]
) -> None:
    """A limit on the size of files fails as a full disk does: in the middle of a write."""
    folder = make_run(scheme="0.01:6", **{"save.every_steps": 3, "embedding.vectors": 40})
    outcome = launch("-m", "tests.fixtures.full_disk", str(folder.root))
    assert outcome.returncode in (2, 3)
    words = outcome.stderr.strip().splitlines()
    assert "cannot write" in words[-2] and "larger than the limit allows" in words[-2]
    assert "Traceback" not in outcome.stderr
    assert train(folder) == 0
    assert files.read(folder.embedding("zkz", None)).step == 6
