"""Training steps on full-size modules made in memory, ours and the common method's, for `benchmarks.gpu`."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.memory import RESOLUTIONS, TEXTS, UNETS
from ti_tui.run.compiling import Compile
from ti_tui.run.hardware import nvml_handle
from ti_tui.run.memory import Backward, ComputeMode, Precision, Recompute
from ti_tui.run.recipe import Family, TrainingTable
from ti_tui.training.compute_mode import compile_unet, set_compute_mode
from ti_tui.training.data import Inputs, MicroBatch
from ti_tui.training.device import DTYPES, use_fast_arithmetic
from ti_tui.training.latents import Latents
from ti_tui.training.loop import NotFinite, train_step
from ti_tui.training.norms import Norms
from ti_tui.training.objective import NoiseSchedule, draw
from ti_tui.training.optimizers import LossScale, make_optimizer
from ti_tui.training.quantised import quantise
from ti_tui.training.sample_images import conditions_for
from ti_tui.training.session import Model, Progress
from ti_tui.training.text import Context, TextSide

VECTORS = 4
RATE = 0.005
WARM_UP = 3
ENOUGH_SECONDS = 20.0
"""Slow methods are timed no longer than this, once three steps are done."""
SMALL: dict[str, dict[str, Any]] = {
    "sd1": {
        "cross_attention_dim": 32, "attention_head_dim": 2, "block_out_channels": (32, 64), "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    "sdxl": {
        **UNETS["sdxl"], "cross_attention_dim": 64, "attention_head_dim": (2, 2), "block_out_channels": (32, 64),
        "layers_per_block": 1, "transformer_layers_per_block": (1, 2), "addition_time_embed_dim": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "projection_class_embeddings_input_dim": 80,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One measurement. `encode` is of the reference only; limit: bytes for the allocator, of a card of `cap` GiB."""

    family: Family = "sd1"
    batch: int = 1
    reference: bool = False
    encode: bool = False
    backward: Backward = "plain"
    recompute: Recompute = "none"
    bits: Literal[8, 16] = 16
    text_on_cpu: bool = False
    channels_last: bool = False
    compile: Compile = "off"
    cap: int | None = None
    limit: int | None = None

    @property
    def mode(self) -> ComputeMode:
        return ComputeMode(self.batch, self.backward, self.recompute, self.bits, self.text_on_cpu)

    @property
    def name(self) -> str:
        named = {
            "reference": self.reference, "VAE a step": self.encode, "8-bit": self.bits == 8,
            "lean": self.backward == "lean", "channels last": self.channels_last,
            f"recompute {self.recompute}": self.recompute != "none", "text on CPU": self.text_on_cpu,
            f"compiled {self.compile}": self.compile != "off",
        }  # fmt: skip
        return ", ".join(name for name, on in named.items() if on) or "plain"


@dataclass(frozen=True)
class Terms:
    """What is the same for all measurements."""

    device: str
    precision: Precision
    steps: int
    tiny: bool

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    @property
    def vocabulary(self) -> int:
        return 1000 if self.tiny else 49408

    def side(self, job: Job) -> int:
        return 64 if self.tiny else RESOLUTIONS[job.family]


@contextlib.contextmanager
def made_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    """New modules are made on `device` in `dtype`, and never hold more than that."""
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def make_unet(job: Job, terms: Terms) -> Any:
    with made_on("meta", terms.dtype):
        config = (SMALL if terms.tiny else UNETS)[job.family]
        unet = UNet2DConditionModel(sample_size=terms.side(job) // 8, **config)
    unet.eval().requires_grad_(False)
    for module in list(unet.modules()):
        if next(module.parameters(recurse=False), None) is not None:
            module.to_empty(device=terms.device, recurse=False)
            # torch's own start values: a branch adds less than it was given, so that fp16 does not overflow.
            module.reset_parameters()
            if job.bits == 8:
                # Layer by layer: the U-Net need not fit in half precision first.
                quantise(module)
    if job.channels_last:
        unet.to(memory_format=torch.channels_last)
    if not job.reference:
        set_compute_mode(unet, job.mode)
    elif job.recompute != "none":
        unet.train().enable_gradient_checkpointing()
    if job.compile != "off":
        # Residual blocks of 13 shapes share one code, of which torch compiles eight and lets the others be.
        torch._dynamo.config.recompile_limit = 256
        compile_unet(unet, job.compile, backend="inductor" if terms.device == "cuda" else "aot_eager")
    use_fast_arithmetic(torch.device(terms.device), sum(parameter.numel() for parameter in unet.parameters()))
    return unet


def make_encoders(job: Job, terms: Terms, device: str, dtype: torch.dtype, *, more: int = 0) -> list[Any]:
    """The text encoder(s), their token tables longer by `more` rows."""
    found: list[Any] = []
    end = terms.vocabulary - 1
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    for published in TEXTS[job.family]:
        values = {**published, **small, "projection_dim": 32} if terms.tiny else published
        marks = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
        config = CLIPTextConfig(vocab_size=end + 1 + more, max_position_embeddings=77, **values, **marks)
        with made_on(device, dtype):
            found.append((CLIPTextModelWithProjection if found else CLIPTextModel)(config))
        found[-1].eval().requires_grad_(False)
    return found


def make_vae(terms: Terms) -> Any:
    with made_on(terms.device, terms.dtype):
        vae = AutoencoderKL(
            block_out_channels=(32,) * 4 if terms.tiny else (128, 256, 512, 512), layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
    return vae.eval().requires_grad_(False)


def make_ids(job: Job, terms: Terms) -> list[list[Tensor]]:
    """For each of the batch's prompts, its ids [1, 77] for each encoder, with the learned rows among them."""
    end = terms.vocabulary - 1
    prompts = torch.randint(0, end - 1, (job.batch, 1, 77))
    prompts[..., 0], prompts[..., 20:] = end - 1, end
    prompts[..., 5 : 5 + VECTORS] = torch.arange(end + 1, end + 1 + VECTORS)
    return [[prompt] * len(TEXTS[job.family]) for prompt in prompts]


def make_schedule(device: torch.device) -> NoiseSchedule:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return NoiseSchedule((1 - betas).cumprod(0), "epsilon").to(device)


def our_step(job: Job, terms: Terms) -> Callable[[], float]:
    """The trainer's own step on made-up inputs; returns the loss (0 where fp16 overflowed)."""
    device, side, mode = torch.device(terms.device), terms.side(job), job.mode
    unet = make_unet(job, terms)
    place, form = ("cpu", torch.float32) if job.text_on_cpu else (terms.device, terms.dtype)
    encoders = make_encoders(job, terms, place, form)
    rows = [nn.Parameter(0.01 * torch.randn(VECTORS, one.config.hidden_size, device=place)) for one in encoders]
    text = TextSide(encoders, [], rows, family=job.family, token="it", clip_skip=1)
    training = TrainingTable()
    progress = Progress(make_optimizer(rows, training, RATE), LossScale(active=terms.precision == "fp16"))
    norms = Norms("free", (), ())
    model = Model(unet, text, make_schedule(device), norms, device, channels_last=job.channels_last)
    shape = (4, side // 8, side // 8)
    posterior = Latents(torch.randn(shape, device=device), torch.full(shape, 0.1, device=device))
    ids = [[one.to(place) for one in prompt] for prompt in make_ids(job, terms)]
    weights = torch.full((job.batch,), 1 / job.batch, device=device)
    prompts = torch.arange(job.batch, device=device)

    def sent(tensor: Tensor) -> Tensor:
        return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

    def prepare() -> Inputs:
        drawn = [draw(seed, shape, 0.0) for seed in range(job.batch)]
        units, noise = sent(torch.stack([one.latent for one in drawn])), sent(torch.stack([one.noise for one in drawn]))
        timesteps, sizes = sent(torch.randint(0, 1000, (job.batch,))), [(side, side)] * job.batch
        batch = MicroBatch(posterior.draw(units), noise, timesteps, weights, prompts, None, sizes)
        return Inputs(progress.step, 0, job.batch, [batch], ids)

    ahead = [prepare()]

    def step() -> float:
        try:
            taken = train_step(
                model, progress, training, ahead.pop(), rate=RATE, mode=mode,
                while_computing=lambda: ahead.append(prepare()),
            )  # fmt: skip
        except NotFinite as error:
            return 0.0 if error.overflow and progress.loss_scale.overflowed() else math.nan
        assert taken is not None
        return taken.loss

    return step


def reference_step(job: Job, terms: Terms) -> Callable[[], float]:
    """A step by the common method, written for this benchmark; returns the loss."""
    device, dtype, side = torch.device(terms.device), terms.dtype, terms.side(job)
    unet, vae, schedule = make_unet(job, terms), make_vae(terms), make_schedule(device)
    encoders = make_encoders(job, terms, terms.device, torch.float32, more=VECTORS)
    tables = [encoder.get_input_embeddings().weight.requires_grad_(True) for encoder in encoders]
    if job.recompute != "none":
        for encoder in encoders:
            encoder.train().gradient_checkpointing_enable()
    originals = [table.detach().clone() for table in tables]
    optimizer = torch.optim.AdamW(tables, lr=RATE, weight_decay=0.01)
    scaler = torch.amp.GradScaler(device.type, enabled=terms.precision == "fp16")
    pixels = torch.rand((job.batch, 3, side, side), device=device).to(dtype) * 2 - 1
    cached = torch.randn((job.batch, 4, side // 8, side // 8), device=device)
    ids = [torch.cat(prompts).to(device) for prompts in zip(*make_ids(job, terms), strict=True)]

    def encoded() -> Context:
        if job.family == "sd1":
            return Context(encoders[0](ids[0]).last_hidden_state)
        outputs = [encoder(one, output_hidden_states=True) for encoder, one in zip(encoders, ids, strict=True)]
        return Context(torch.cat([one.hidden_states[-2] for one in outputs], dim=-1), outputs[1].text_embeds)

    def step() -> float:
        latents = cached
        if job.encode:
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.sample().float() * vae.config.scaling_factor
        noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (job.batch,), device=device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            conditions = conditions_for(encoded(), [(side, side)] * job.batch, unet)
            prediction = unet(schedule.noisy(latents, noise, timesteps).to(dtype), timesteps, **conditions).sample
        loss = (prediction.float() - noise).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        with torch.no_grad():
            for table, original in zip(tables, originals, strict=True):
                table[: terms.vocabulary] = original[: terms.vocabulary]
        return float(loss.detach())

    return step


def measure(job: Job, terms: Terms) -> dict[str, Any]:
    """Seconds and bytes of a job, in this process. Raises what its steps raise."""
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    cuda = terms.device == "cuda"
    before = nvml_used() if cuda else None
    if cuda and job.limit is not None:
        share = max(job.limit, 0) / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0))
    step = (reference_step if job.reference else our_step)(job, terms)
    found: dict[str, Any] = {"status": "ok"}
    if cuda:
        # What only the making needed is no part of a step.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        found["weights"] = torch.cuda.memory_allocated()
    started = time.perf_counter()
    values = [step()]
    found["first"] = time.perf_counter() - started
    values += [step() for _ in range(WARM_UP + (2 if job.compile != "off" else 0) - 1)]
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < terms.steps and (len(seconds) < 3 or time.perf_counter() - started < ENOUGH_SECONDS):
        value, took = timed(step, cuda=cuda)
        values.append(value)
        seconds.append(took)
    found |= {"seconds": statistics.median(seconds), "slowest": max(seconds), "steps": len(seconds)}
    found["note"] = "" if all(map(math.isfinite, values)) else "not finite"
    if cuda:
        found |= {"live": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
        after = nvml_used()
        if before is None or after is None:
            # Then what other programs hold on the card is taken for the context's.
            free, total = torch.cuda.mem_get_info()
            before, after = 0, total - free
        found["context"] = max(0, after - before - torch.cuda.memory_reserved())
    return found


def timed(step: Callable[[], float], *, cuda: bool) -> tuple[float, float]:
    """(loss, seconds) of a step."""
    if not cuda:
        started = time.perf_counter()
        return step(), time.perf_counter() - started
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    value = step()
    end.record()
    torch.cuda.synchronize()
    return value, start.elapsed_time(end) / 1000


def nvml_used() -> int | None:
    """Bytes that all programs use on the card, read without making a CUDA context."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(nvml_handle(pynvml, 0)).used)
    except Exception:
        return None


def look_at_card() -> dict[str, Any]:
    """The card and its software, read in a separate process, because a CUDA context stays until its process ends."""
    found: dict[str, Any] = {"torch": torch.__version__, "bad_fork": torch.cuda._is_in_bad_fork(), "name": ""}
    if found["bad_fork"] or not torch.cuda.is_available():
        return found
    card = torch.cuda.get_device_properties(0)
    found |= {"name": card.name, "total": card.total_memory, "bf16": card.major >= 8, "driver": "unknown"}
    found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        found["driver"] = pynvml.nvmlSystemGetDriverVersion()
    return found
