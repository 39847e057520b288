"""Speed and memory of training steps on a card: SD 1.5 at 512x512 and SDXL at 1024x1024, full size, random weights.

    python -m benchmarks.gpu                        # everything; about an hour on a fast card
    python -m benchmarks.gpu --short                # what tells most; eight minutes
    python -m benchmarks.gpu --tiny --device cpu    # small modules: whether this program works

No network and no files: the modules are made in memory from their published configurations. Each measurement is a
process of its own. It is compared with "reference", the common way: the whole token table trained with AdamW and its
rows copied back, autocast, float32 text encoders, the VAE resident; latents cached, or encoded at every step.

cap       as if the card had so many GiB; the CUDA context is taken off the allocator's limit
TFLOP/s   by the products of a step, with those of forward counted twice where all of it is recomputed
held      GiB that the card gives away: the most that the allocator reserved, and the context beside it
live      GiB, the most that tensors held at once
predicted GiB, by the program's memory plan
first     seconds until the first step is done, the compiler's included
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

if not __package__:
    # As a plain script this folder comes first on the path, and its modules have common names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# All of it up here: the processes are forked from this one, and need not import it again, seconds each time.
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.memory import RESOLUTIONS, TEXTS, UNETS
from ti_tui.run.compiling import Compile
from ti_tui.run.hardware import GIB, nvml_handle
from ti_tui.run.memory import Backward, Precision, Recompute, Way, predict
from ti_tui.run.recipe import Family, TrainingTable
from ti_tui.training.device import DTYPES, is_out_of_memory, use_fast_arithmetic
from ti_tui.training.latents import Latents
from ti_tui.training.objective import NoiseSchedule, draw, losses
from ti_tui.training.optimizers import LossScale, clip_gradients, gradient_length, make_optimizer
from ti_tui.training.previews import conditions_for
from ti_tui.training.quantised import quantise
from ti_tui.training.text import Context, TextGradients, TextSide
from ti_tui.training.ways import compile_unet, set_way

VECTORS = 4
RATE = 0.005
CAPS = (6, 4, 3, 2)
WARM_UP = 3
ENOUGH_SECONDS = 20.0
"""Slow ways are timed no longer than this, once three steps are done."""
LONGEST_SECONDS = 420.0
"""For one measurement, the compiler included."""
USUAL_CONTEXT = GIB // 2
"""Until one was measured."""
TFLOP = {"sd1": (1.75, 2.34), "sdxl": (14.89, 20.10)}
"""Of a step with one image: as it is, and with all of forward done twice."""
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
    def way(self) -> Way:
        return Way(self.batch, self.backward, self.recompute, self.bits, self.text_on_cpu)

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


REFERENCE, CHECKPOINTED = Job(reference=True), Job(reference=True, recompute="all")
ENCODING = [replace(REFERENCE, encode=True), replace(CHECKPOINTED, encode=True)]
PLAIN, LEAN = Job(), Job(backward="lean")
SOME, ALL = replace(LEAN, recompute="some"), replace(LEAN, recompute="all")
INT8, INT8_SOME, INT8_ALL = (replace(job, bits=8) for job in (LEAN, SOME, ALL))
LEAST = replace(INT8_ALL, text_on_cpu=True)
LAST = replace(LEAN, channels_last=True)
BLOCKS = [replace(job, compile="blocks") for job in (LEAN, SOME, PLAIN, ALL, INT8, LAST)]
FULL = [replace(job, compile="full") for job in (LEAN, ALL, INT8, PLAIN)]


def all_jobs(families: Sequence[Family], batches: Sequence[int], *, short: bool) -> Iterator[Job]:
    """All measurements, those that tell most first. Capped ones come after the same without a cap: see `known`."""
    first, rest = batches[:1], batches[1:]
    tight = [ALL, INT8_ALL, SOME, LEAST, LEAN, INT8, INT8_SOME, CHECKPOINTED, REFERENCE]
    stages: list[tuple[list[Job], Sequence[int], bool]] = [
        ([REFERENCE, LEAN, ALL, SOME, CHECKPOINTED, INT8_ALL, PLAIN, INT8, INT8_SOME, LEAST], first, False),
        (tight, first, True),
        ([*BLOCKS, LAST], first, False),
        ([REFERENCE, LEAN, ALL, SOME, INT8_ALL, INT8, CHECKPOINTED, BLOCKS[0], LAST], rest, False),
        ([ALL, INT8_ALL, SOME], rest, True),
        ([*ENCODING, *FULL], first, False),
        (BLOCKS[:2], first, True),
    ]
    if short:
        stages = [
            ([REFERENCE, LEAN, ALL, SOME, CHECKPOINTED, INT8_ALL, PLAIN, LEAST], first, False),
            (tight[:4], first, True),
            ([BLOCKS[0], LAST], first, False),
            ([REFERENCE, LEAN, ALL], [batch for batch in rest if batch in (2, 4)][-1:], False),
            ([ENCODING[0], FULL[0]], first, False),
        ]
    for ways, sizes, capped in stages:
        for family in families:
            for size in sizes:
                for job in ways:
                    for cap in CAPS if capped else (None,):
                        yield replace(job, family=family, batch=size, cap=cap)


# --- One measurement, in a process of its own ---


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
        set_way(unet, job.way)
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
    """A step as the trainer does it; returns the loss."""
    device, side, way = torch.device(terms.device), terms.side(job), job.way
    unet = make_unet(job, terms)
    place, form = ("cpu", torch.float32) if job.text_on_cpu else (terms.device, terms.dtype)
    encoders = make_encoders(job, terms, place, form)
    rows = [nn.Parameter(0.01 * torch.randn(VECTORS, one.config.hidden_size, device=place)) for one in encoders]
    text = TextSide(encoders, [], rows, family=job.family, token="it", clip_skip=1)
    training, schedule, scale = TrainingTable(), make_schedule(device), LossScale(active=terms.precision == "fp16")
    optimizer = make_optimizer(rows, training, RATE)
    shape = (4, side // 8, side // 8)
    posterior = Latents(torch.randn(shape, device=device), torch.full(shape, 0.1, device=device))
    ids = [[one.to(place) for one in prompt] for prompt in make_ids(job, terms)]
    index = torch.arange(job.batch, device=device)
    order = torch.channels_last if job.channels_last else torch.contiguous_format

    def sent(tensor: Tensor) -> Tensor:
        return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

    def prepare() -> tuple[Tensor, Tensor, Tensor]:
        drawn = [draw(seed, shape, 0.0) for seed in range(job.batch)]
        units, noise = sent(torch.stack([one.latent for one in drawn])), sent(torch.stack([one.noise for one in drawn]))
        latents, timesteps = posterior.draw(units), sent(torch.randint(0, 1000, (job.batch,)))
        noisy = schedule.noisy(latents, noise, timesteps).to(unet.dtype, memory_format=order)
        return noisy, schedule.target(latents, noise, timesteps), timesteps

    ahead = [prepare()]

    def step() -> float:
        noisy, target, timesteps = ahead.pop()
        for row in rows:
            row.grad = torch.zeros_like(row)
        prompts = TextGradients(text, ids, way, device)
        conditions = conditions_for(prompts.context.rows(index), [(side, side)] * job.batch, unet)
        loss = losses(unet(noisy, timesteps, **conditions).sample, target, training).mean()
        (loss * scale.factor).backward()
        prompts.backward()
        for row in rows:
            assert row.grad is not None
            row.grad.div_(scale.factor)
        # While the device is at work; what follows waits for it.
        ahead.append(prepare())
        length, value = float(gradient_length(rows)), float(loss.detach())
        if not math.isfinite(length):
            return value if scale.overflowed() else math.nan
        clip_gradients(rows, length, training.max_gradient_norm)
        optimizer.step()
        scale.succeeded()
        return value

    return step


def reference_step(job: Job, terms: Terms) -> Callable[[], float]:
    """A step as it is commonly done, written for this benchmark; returns the loss."""
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
    """Bytes that everybody uses of the card, asked without making a CUDA context."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(nvml_handle(pynvml, 0)).used)
    except Exception:
        return None


def look_at_card() -> dict[str, Any]:
    """The card and its software, asked in a process of its own, for the context stays as long as that."""
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


# --- The program that starts them ---


def answer(pipe: Any, function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    """Run `function` in this new process, quietly, and send what it returns."""
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    try:
        pipe.send(function(*arguments))
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        status = "does not fit" if is_out_of_memory(error) else f"error: {first}"
        pipe.send({"status": status, "detail": traceback.format_exc()})


def apart(start: str, function: Callable[..., dict[str, Any]], *arguments: Any, seconds: float) -> dict[str, Any]:
    """What `function` returns in a process of its own; its status tells of what went wrong there."""
    context: Any = multiprocessing.get_context(start)
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(there, function, arguments))
    child.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv() if here.poll(seconds) else {"status": f"not done in {seconds:.0f} s"}
    except EOFError:
        child.join()
        found = {"status": f"error: its process ended with {child.exitcode}"}
    child.join(0 if found.get("status", "").startswith("not done") else 30)
    child.kill()
    child.join()
    return found


def known(job: Job, done: dict[Job, dict[str, Any]]) -> dict[str, Any] | None:
    """What of a capped job follows from others that were measured."""
    if job.cap is None:
        return None
    free = done.get(replace(job, cap=None))
    if free is None or free["status"] != "ok":
        return None if free is None else free
    if "reserved" not in free:
        return {**free, "note": "a CPU knows no cap"}
    cap = job.cap * GIB
    if free["reserved"] + free["context"] <= cap:
        return {**free, "note": "as without a cap"}
    worse = (
        replace(other, cap=job.cap, batch=job.batch) == job and (other.cap or 0) >= job.cap and other.batch <= job.batch
        for other, found in done.items()
        if found["status"] == "does not fit"
    )
    if free["weights"] + free["context"] > cap or any(worse):
        return {"status": "does not fit"}
    return None


def predicted(job: Job, terms: Terms) -> int | None:
    """Bytes by the program's memory plan."""
    if job.reference or terms.tiny or terms.device != "cuda":
        return None
    side = terms.side(job)
    plan = predict(job.family, job.way, resolution=side, precision=terms.precision, cuda=True, prompts=job.batch)
    return plan.training


TITLES = (
    "family", "way", "batch", "cap", "steps/s", "images/s", "speed", "TFLOP/s",
    "held", "live", "memory", "predicted", "first", "note",
)  # fmt: skip


def cells(job: Job, terms: Terms, done: dict[Job, dict[str, Any]]) -> list[str]:
    """A row of the table; `speed` and `memory` are relative to the reference's step with latents cached."""
    found, bytes_planned = done[job], predicted(job, terms)
    # Capped rows as well are compared with what the reference does, and needs, without a cap.
    reference = done.get(replace(REFERENCE, family=job.family, batch=job.batch), {})
    plan = f"{bytes_planned / GIB:.2f}" if bytes_planned else ""
    row = [job.family, job.name, str(job.batch), str(job.cap or "")]
    if found["status"] != "ok":
        return [*row, *[""] * 7, plan, "", found["status"]]
    speed = 1 / found["seconds"]
    work = TFLOP[job.family][job.recompute == "all"] * job.batch * speed
    row += [f"{speed:.3f}", f"{speed * job.batch:.3f}"]
    row.append(f"{reference['seconds'] * speed:.2f}x" if "seconds" in reference else "")
    row.append("" if terms.tiny else f"{work:.1f}")
    if "reserved" not in found:
        return [*row, "", "", "", plan, f"{found['first']:.1f}", found["note"]]
    held = found["reserved"] + found["context"]
    row += [f"{held / GIB:.2f}", f"{found['live'] / GIB:.2f}"]
    row.append(f"{held / (reference['reserved'] + reference['context']):.2f}x" if "reserved" in reference else "")
    return [*row, plan, f"{found['first']:.1f}", found["note"]]


def line(row: Sequence[str], *, markdown: bool) -> str:
    if markdown:
        return f"| {' | '.join(row)} |"
    widths = (6, 44, 5, 3, 8, 8, 6, 7, 6, 6, 6, 9, 6, 0)
    texts = (
        cell.ljust(width) if index in (1, len(row) - 1) else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(texts).rstrip()


def run_all(given: argparse.Namespace) -> None:
    """Measure everything, and print each row when it is known."""
    until = time.monotonic() + 60 * (given.minutes or (8 if given.short else 75))
    start = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    card = apart(start, look_at_card, seconds=120)
    if card.get("bad_fork"):
        # Some library asked for the card while it was imported: a fork of that cannot use it.
        start = "spawn"
        card = apart(start, look_at_card, seconds=120)
    cuda = given.device == "cuda"
    if cuda and not card.get("name"):
        sys.exit(f"torch {torch.__version__} finds no card here ({card.get('status', 'none')})")
    precision: Precision = given.precision or (("bf16" if card["bf16"] else "fp16") if cuda else "fp32")
    terms = Terms(given.device, precision, given.steps, given.tiny)
    about = "CPU, times only" if not cuda else (
        f"{card['name']} ({card['total'] / GIB:.1f} GiB), driver {card['driver']}, CUDA {card['cuda']}, "
        f"cuDNN {card['cudnn']}"
    )  # fmt: skip
    print(f"{about}; torch {torch.__version__}, {precision}, {'tiny' if given.tiny else 'full-size'} modules\n")
    print(line(TITLES, markdown=given.markdown))
    if given.markdown:
        print(line(["---"] * len(TITLES), markdown=True))
    done: dict[Job, dict[str, Any]] = {}
    skipped = 0
    for job in all_jobs(given.family, given.batches, short=given.short):
        found = known(job, done)
        left = until - time.monotonic()
        if found is None and left < 10:
            skipped += 1
            continue
        if found is None:
            free = done.get(replace(job, cap=None), {})
            limit = None if job.cap is None else job.cap * GIB - free.get("context", USUAL_CONTEXT)
            limited = replace(job, limit=limit)
            found = apart(start, measure, limited, terms, seconds=min(left, LONGEST_SECONDS))
        done[job] = found
        print(line(cells(job, terms, done), markdown=given.markdown), flush=True)
        if given.out:
            rows = [{**asdict(each), **values, "predicted": predicted(each, terms)} for each, values in done.items()]
            given.out.write_text(json.dumps({"card": card, "terms": asdict(terms), "rows": rows}, indent=1))
    if skipped:
        print(f"\n{skipped} more were skipped: the time given (--minutes) is over.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=["sd1", "sdxl"], default=["sd1", "sdxl"])
    parser.add_argument("--batches", nargs="+", type=int, help="1 2 4 8 (tiny: 1 2)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each way, after the warm-up")
    parser.add_argument("--short", action="store_true", help="only what tells most")
    parser.add_argument("--minutes", type=float, help="what is not measured by then is left out (75; short 8)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], help="bf16 where the card has it, else fp16")
    parser.add_argument("--tiny", action="store_true", help="small modules, to try this program")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    parser.add_argument("--out", type=Path, help="also write everything that was measured to this file, as JSON")
    parser.add_argument("--measure", metavar="JSON", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.batches = given.batches or ([1, 2] if given.tiny else [1, 2, 4, 8])
    if given.measure:
        # One row of --out, here and with all that torch says.
        fields = Job.__dataclass_fields__
        job = Job(**{name: value for name, value in json.loads(given.measure).items() if name in fields})
        terms = Terms(given.device, given.precision or "fp32", given.steps, given.tiny)
        print(json.dumps(measure(job, terms)))
        return
    run_all(given)


if __name__ == "__main__":
    main()
