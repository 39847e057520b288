"""Seconds per step and peak memory of a training step, beside the same step done the full-table way.

    python -m benchmarks.step --size full      # a random SD 1.5 (860M U-Net) at 512x512, batch 1: minutes, 2 GB of disk
    python -m benchmarks.step --size tiny      # seconds

Three ways, each a process of its own on the same weights and picture:
  ti_tui                    this program's trainer, as `ti-tui train` runs it
  full table                every row of the token table trained with AdamW, the others copied back after each step;
                            latents cached (the way of kohya sd-scripts)
  full table, VAE a step    the same with the picture encoded at every step (the way of the diffusers example)
Times are of the steps after the first; memory is the process's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VECTORS = 2
WAYS = {"ti_tui": "ti_tui", "table": "full table", "table-vae": "full table, VAE a step"}


def make_model(size: str, out: Path) -> Path:
    """A random diffusers folder: the tiny fixture, or one with SD 1.5's published configuration, in fp16."""
    from tests.fixtures.tiny_models import make_folder

    if size == "tiny":
        return make_folder("sd1", out / "sd1-tiny")
    folder = out / "sd1-full"
    if (folder / "made").exists():
        return folder
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from ti_tui.dataset.tokens import PromptTokenizer

    torch.manual_seed(0)
    clip = PromptTokenizer.clip()
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    merges = json.loads(clip._tokenizer.to_str())["model"]["merges"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(clip._vocab))
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(" ".join(pair) for pair in merges))
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768,
    )  # fmt: skip
    CLIPTextModel(text).half().save_pretrained(folder / "text_encoder")
    UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280)
    ).half().save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).half().save_pretrained(folder / "vae")  # fmt: skip
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(
        folder / "scheduler"
    )
    (folder / "made").touch()
    return folder


def make_run(model: Path, out: Path, steps: int, resolution: int) -> Path:
    """A run of `steps` steps on one real photograph."""
    import skimage.data
    from PIL import Image

    from ti_tui.setup.create import create_run

    photos = out / "photos"
    photos.mkdir()
    Image.fromarray(skimage.data.astronaut()).save(photos / "1.png")
    values: dict[str, Any] = {
        "model": {"base": str(model)},
        "dataset": {"resolution": resolution},
        "embedding": {"token": "zkz", "init": "woman", "vectors": VECTORS},
        "scheme": {"segments": [{"learning_rate": 0.005, "steps": steps}]},
        "training": {"device": "cpu", "batch_size": 1},
        "save": {"every_steps": 0},
        "sample": {"every_steps": 0},
        "evaluation": {"every_steps": 0},
    }
    return create_run(out / "run", photos, values).folder.root


def train_full_table(model: Path, steps: int, resolution: int, *, encode_each_step: bool) -> list[float]:
    """The method of the diffusers example, written for this benchmark; returns the seconds of each step."""
    import skimage.data
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from PIL import Image
    from transformers import CLIPTextModel

    from ti_tui.dataset.crop import fit
    from ti_tui.dataset.tokens import PromptTokenizer
    from ti_tui.training.latents import to_tensor

    torch.manual_seed(0)
    tokenizer = PromptTokenizer.from_folder(model / "tokenizer")
    text = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32).requires_grad_(False)
    vae = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32).requires_grad_(False)
    schedule = DDPMScheduler.from_pretrained(model / "scheduler")
    vocabulary = tokenizer.size
    text.resize_token_embeddings(vocabulary + VECTORS, mean_resizing=False)
    text.requires_grad_(False)
    table = text.get_input_embeddings().weight.requires_grad_(True)
    original = table.detach().clone()
    optimizer = torch.optim.AdamW([table], lr=0.005, weight_decay=0.01)
    pixels = to_tensor(fit(Image.fromarray(skimage.data.astronaut()), (resolution, resolution)))[None]
    ids = torch.tensor([tokenizer.encode("a photo of a [name]", VECTORS, vocabulary).ids])

    def encode() -> Any:
        with torch.no_grad():
            return vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor

    cached, seconds = encode(), []
    for _ in range(steps):
        started = time.perf_counter()
        latents = encode() if encode_each_step else cached
        noise, timestep = torch.randn_like(latents), torch.randint(0, 1000, (1,))
        answer = unet(schedule.add_noise(latents, noise, timestep), timestep, encoder_hidden_states=text(ids)[0]).sample
        (answer - noise).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            table[:vocabulary] = original[:vocabulary]
        seconds.append(time.perf_counter() - started)
    return seconds


def measure(way: str, model: Path, steps: int, resolution: int) -> dict[str, Any]:
    """Run one way in this process; returns seconds of each step and peak bytes."""
    started = time.perf_counter()
    if way == "ti_tui":
        from ti_tui.run.events import EventReader
        from ti_tui.run.folder import RunFolder
        from ti_tui.training.__main__ import main as train

        with tempfile.TemporaryDirectory() as out:
            run = make_run(model, Path(out), steps, resolution)
            started = time.perf_counter()
            status = train(str(run))
            if status:
                sys.exit(status)
            steps_done = [event for event in EventReader(RunFolder(run).events).read_all() if event.kind == "step"]
            seconds = [event["seconds"] for event in steps_done]
    else:
        seconds = train_full_table(model, steps, resolution, encode_each_step=way == "table-vae")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak": peak, "start": time.perf_counter() - started - sum(seconds[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny")
    parser.add_argument("--steps", type=int, help="steps of each way, of which the first is not counted (3; tiny 60)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "ti_tui-benchmark")
    parser.add_argument("--measure", choices=list(WAYS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    resolution = 512 if given.size == "full" else 64
    steps = given.steps or (3 if given.size == "full" else 60)
    model = make_model(given.size, given.models)
    if given.measure:
        print(json.dumps(measure(given.measure, model, steps, resolution)))
        return
    print(
        f"SD 1.5 {given.size}, {resolution}x{resolution}, batch 1, {VECTORS} vectors, fp32, {given.threads} CPU threads"
    )
    print(f"{'way':<26}{'s/step':>9}{'ratio':>8}{'peak GiB':>10}{'ratio':>8}{'start to step 1, s':>21}")
    first: dict[str, float] = {}
    for way, name in WAYS.items():
        command = [sys.executable, "-m", "benchmarks.step", "--size", given.size, "--steps", str(steps),
                   "--models", str(given.models), "--measure", way]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "HF_HUB_OFFLINE": "1"}
        outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if outcome.returncode:
            sys.exit(outcome.stderr)
        found = json.loads(outcome.stdout.splitlines()[-1])
        each, peak = statistics.median(found["seconds"][1:] or found["seconds"]), found["peak"] / 1024**3
        first = first or {"each": each, "peak": peak}
        ratios = each / first["each"], peak / first["peak"]
        print(f"{name:<26}{each:>9.3f}{ratios[0]:>8.2f}{peak:>10.2f}{ratios[1]:>8.2f}{found['start']:>21.1f}")


if __name__ == "__main__":
    main()
