"""Seconds per step and peak memory of training on the CPU, compared with the same step by other trainers' methods.

    python -m benchmarks.step --size tiny                      # half a minute: only shows that all methods run
    python -m benchmarks.step --size full --precision fp32     # a random SD 1.5 at 512x512: minutes, 2 GB of disk

Three methods, each a separate process with the same weights and image, batch 1. The references are written for this
benchmark and leave out what those programs do besides, such as reading images and logging:
  ti_tui                        this program's trainer, as `ti-tui train` runs it
  whole table, cached latents   every row of the token table trained with AdamW, the others copied back after each
                                step; each image encoded once (kohya's sd-scripts with --cache_latents --sdpa)
  whole table, VAE each step    the same with the image encoded at every step (the example script of diffusers)
In bf16 both references keep the text encoder in fp32, under autocast, and cast U-Net and VAE; the first runs the
U-Net under autocast as well. All methods use torch's fused attention.

Times are medians over the steps after the first, and over the repeats: CPU seconds of the process, and wall seconds.
With --threads 1 the speed-up is in CPU seconds, which hardly depend on what else the machine does; with more threads it
is in wall seconds, which are only right on an idle machine. Speed-up: the method's seconds over ours. Memory is
resident and counts mapped weights: the peak of the whole process, loading included, and the peak while training (after
step 1), each with ours as a multiple of it. Start-up is from the start of the process to step 1, without the encoding
(loading the VAE included); a first start of ti_tui also hashes the model. Linux only: the peaks are read from /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

Precision = Literal["fp32", "bf16"]
Way = Literal["ti_tui", "cached", "encoding"]

NAMES: dict[Way, str] = {
    "ti_tui": "ti_tui",
    "cached": "whole table, cached latents",
    "encoding": "whole table, VAE each step",
}
VECTORS = 2


@dataclass(frozen=True)
class Job:
    """What one process is to measure; without steps, only the start. `run` is for our own trainer."""

    way: Way
    model: Path
    run: Path
    precision: Precision
    resolution: int
    steps: int


@dataclass(frozen=True)
class Measured:
    """Medians of seconds a step (NaN without steps), seconds until the first, and peaks in GiB."""

    cpu: float
    wall: float
    start_up: float
    encoding: float
    peak: float
    training_peak: float

    @classmethod
    def of_repeats(cls, repeats: list[Measured]) -> Measured:
        """The median of each number."""
        return cls(*map(statistics.median, zip(*map(astuple, repeats), strict=True)))


@dataclass
class Meter:
    """Takes the times and peaks of the process that it lives in. `began` is when that was started, in unix seconds."""

    began: float
    encoding: float = 0.0
    ready: float = 0.0
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Measure what happens inside as one step."""
        self.ready = self.ready or time.time()
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        self.peaks.append(peak_memory())
        if len(self.peaks) == 1:
            # Makes the present size the peak (proc(5), clear_refs); getrusage's ru_maxrss would forget it as well.
            Path("/proc/self/clear_refs").write_text("5")

    def measured(self) -> Measured:
        cpu, wall = (statistics.median(seconds[1:] or [math.nan]) for seconds in (self.cpu, self.wall))
        peaks = self.peaks or [peak_memory()]
        start_up = self.ready - self.began - self.encoding
        return Measured(cpu, wall, start_up, self.encoding, max(peaks), peaks[-1])


def peak_memory() -> float:
    """Peak resident GiB of this process. ru_maxrss could include that of its parent."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024**2


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


def make_run(root: Path, model: Path, precision: Precision, resolution: int, steps: int) -> Path:
    """A run of `steps` steps on one real photograph."""
    from tests.fixtures.bad_pictures import photo
    from ti_tui.setup.create import create_run

    photos = root.parent / "photos"
    photos.mkdir(exist_ok=True)
    photo("astronaut", (512, 512)).save(photos / "1.png")
    values: dict[str, Any] = {
        "model": {"base": str(model)},
        "dataset": {"resolution": resolution},
        "embedding": {"token": "zkz", "init": "woman", "vectors": VECTORS},
        "scheme": {"segments": [{"learning_rate": 0.005, "steps": steps}]},
        "training": {"device": "cpu", "batch_size": 1, "precision": precision},
        "save": {"every_steps": 0},
        "sample": {"every_steps": 0},
        "evaluation": {"every_steps": 0},
    }
    return create_run(root, photos, values).folder.root


def train_ours(job: Job, meter: Meter) -> None:
    """Our trainer on `job.run`, its steps measured from outside."""
    # Here, so that these imports count as start-up and not as part of the encoding, which comes first.
    from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401

    from ti_tui.run.events import EventReader
    from ti_tui.run.folder import RunFolder
    from ti_tui.training.__main__ import main as train
    from ti_tui.training.recovery import Recovery

    take_step = Recovery.step

    def measured_step(recovery: Recovery, rate_at: Callable[[int], float]) -> Any:
        if not job.steps:
            meter.ready = time.time()
            return None
        with meter.step():
            return take_step(recovery, rate_at)

    with patch.object(Recovery, "step", measured_step):
        if train(str(job.run)):
            raise RuntimeError("the trainer failed")
    phases = [event for event in EventReader(RunFolder(job.run).events).read_all() if event.kind == "phase"]
    meter.encoding = sum(after.t - before.t for before, after in pairwise(phases) if before["phase"] == "caching")


def train_whole_table(job: Job, meter: Meter) -> None:
    """The method of sd-scripts ("cached") and of the diffusers example ("encoding"), written for this benchmark."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    from tests.fixtures.bad_pictures import photo
    from ti_tui.dataset.tokens import PromptTokenizer
    from ti_tui.training.latents import to_tensor

    torch.manual_seed(0)
    half, cached, model = job.precision == "bf16", job.way == "cached", job.model
    dtype = torch.bfloat16 if half else torch.float32
    text_autocast = torch.autocast("cpu", torch.bfloat16, enabled=half)
    unet_autocast = torch.autocast("cpu", torch.bfloat16, enabled=half and cached)

    tokenizer = PromptTokenizer.from_folder(model / "tokenizer")
    text = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    unet.requires_grad_(False).to(dtype)
    schedule = DDPMScheduler.from_pretrained(model / "scheduler")
    vocabulary = tokenizer.size
    text.resize_token_embeddings(vocabulary + VECTORS, mean_resizing=False)
    text.requires_grad_(False)
    table = text.get_input_embeddings().weight.requires_grad_(True)
    original = table.detach().clone()
    others = torch.arange(len(table)) < vocabulary
    optimizer = torch.optim.AdamW([table], lr=0.005, weight_decay=0.01)
    pixels = to_tensor(photo("astronaut", (job.resolution, job.resolution)))[None].to(dtype)
    ids = torch.tensor([tokenizer.encode("a photo of a [name]", VECTORS, vocabulary).ids])

    encoding = time.perf_counter()
    vae = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32).requires_grad_(False).to(dtype)

    def encode() -> Any:
        with torch.no_grad():
            return vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor

    kept = encode() if cached else None
    meter.encoding = time.perf_counter() - encoding if cached else 0.0
    for _ in range(job.steps):
        with meter.step():
            latents = encode() if kept is None else kept
            noise, timestep = torch.randn_like(latents), torch.randint(0, 1000, (1,))
            noisy = schedule.add_noise(latents, noise, timestep)
            with text_autocast:
                context = text(ids)[0].float()
            with unet_autocast:
                # Only autocast takes the context in fp32 where the U-Net is not.
                given = context if cached else context.to(dtype)
                answer = unet(noisy, timestep, encoder_hidden_states=given).sample
            loss = (answer.float() - noise.float()).square().mean()
            loss.backward()
            if cached:
                torch.nn.utils.clip_grad_norm_([table], 1.0)
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                table[others] = original[others]
            loss.item()


def measure(job: Job, began: float) -> Measured:
    """Do a job in this process, quietly; what was written to stderr is told if it fails."""
    meter, said = Meter(began), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            (train_ours if job.way == "ti_tui" else train_whole_table)(job, meter)
    except Exception as error:
        raise RuntimeError(f"{NAMES[job.way]}: {error}\n{said.getvalue()}") from error
    return meter.measured()


def in_own_process(job: Job) -> Measured:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, job, time.time()).result()


def row(name: str, it: Measured, ours: Measured, by_cpu: bool) -> str:
    """A line of the table."""
    speed_up = it.cpu / ours.cpu if by_cpu else it.wall / ours.wall
    peaks = "".join(
        f"{theirs:>11.2f}{f'x{mine / theirs:.2f}':>7}"
        for theirs, mine in ((it.peak, ours.peak), (it.training_peak, ours.training_peak))
    )
    return f"{name:<28}{it.cpu:>9.3f}{it.wall:>9.3f}{speed_up:>10.2f}{peaks}{it.start_up:>12.1f}{it.encoding:>12.1f}"


HEADER = (
    f"{'':<28}{'CPU s':>9}{'wall s':>9}{'speed-up':>10}{'peak':>11}{'ours':>7}{'training':>11}{'ours':>7}"
    f"{'start-up':>12}{'encoding':>12}\n"
    f"{'':<28}{'a step':>9}{'a step':>9}{'of ours':>10}{'GiB':>11}{'':>7}{'peak GiB':>11}{'':>7}{'s':>12}{'s':>12}"
)


def compare(model: Path, precision: Precision, resolution: int, steps: int, repeats: int, by_cpu: bool) -> None:
    """Measure all ways in turns and print the table of one precision, each row as soon as it is known."""
    print(HEADER, flush=True)
    found: dict[Way, list[Measured]] = {way: [] for way in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            # A cache of its own: nothing is known of the model yet, as at a user's first start.
            os.environ["TI_TUI_CACHE"] = f"{folder}/cache-{repeat}"
            run = make_run(Path(folder) / f"run-{repeat}", model, precision, resolution, steps)
            for way, name in NAMES.items():
                found[way].append(in_own_process(Job(way, model, run, precision, resolution, steps)))
                if repeat == repeats - 1:
                    ours = Measured.of_repeats(found["ti_tui"])
                    print(row(name, Measured.of_repeats(found[way]), ours, by_cpu), flush=True)
        again = make_run(Path(folder) / "again", model, precision, resolution, steps)
        shutil.copytree(run / "cache", again / "cache", dirs_exist_ok=True)
        second = in_own_process(Job("ti_tui", model, again, precision, resolution, 0))
    print(f"second start of ti_tui: {second.start_up:.1f} s of start-up, {second.encoding:.1f} s of encoding")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny")
    parser.add_argument("--precision", choices=["fp32", "bf16", "both"], help="both; tiny fp32")
    parser.add_argument("--steps", type=int, help="steps of each method; the first is not counted (3; tiny 30)")
    parser.add_argument("--repeats", type=int, default=1, help="how often each method is measured, in turns")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "ti_tui-benchmark")
    given = parser.parse_args()
    resolution = 512 if given.size == "full" else 64
    steps = given.steps or (3 if given.size == "full" else 30)
    if steps < 2 or given.repeats < 1:
        parser.error("at least 2 steps and 1 repeat")
    os.environ.update(OMP_NUM_THREADS=str(given.threads), HF_HUB_OFFLINE="1")
    model = make_model(given.size, given.models)
    by_cpu = given.threads == 1
    wanted: Precision | Literal["both"] = given.precision or ("both" if given.size == "full" else "fp32")
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if wanted == "both" else (wanted,)
    for precision in precisions:
        print(
            f"\nSD 1.5 {given.size}, {resolution}x{resolution}, batch 1, {VECTORS} vectors, {precision}, "
            f"{given.threads} CPU thread{'s' if given.threads > 1 else ''}; "
            f"speed-up by {'CPU seconds' if by_cpu else 'the clock'}"
        )
        compare(model, precision, resolution, steps, given.repeats, by_cpu)


if __name__ == "__main__":
    main()
