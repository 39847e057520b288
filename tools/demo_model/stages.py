"""The stages in which the demo model is trained: VAE, text encoder, latents, U-Net.

Each works in every process of a team. The recipe and its figures: docs/demo-model.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ti_tui.dataset.tokens import PromptTokenizer
from tools.demo_model.judge import to_pixels
from tools.demo_model.networks import SCALE, SCHEDULE, WIDTH, new_text_encoder, new_unet, new_vae
from tools.demo_model.pictures import BACKGROUNDS, FRAMES, PATTERNS, SHAPES, SIZE, Thing, draw, placed
from tools.demo_model.team import Flat, Optimizer, Team, counted
from tools.demo_model.words import Describer

EMPTY_CAPTIONS = 0.1
"""Share of the samples whose caption is left out, for classifier-free guidance."""
GAMMA = 5.0
"""Of the min-SNR weight (Hang et al. 2023)."""


@dataclass(frozen=True)
class Effort:
    """How long each stage trains, in steps; pictures is the size of the U-Net's training set.

    batches: what every batch is divided by.
    """

    judge: int = 1500
    vae: int = 4500
    text: int = 500
    pictures: int = 40_960
    unet: int = 9000
    polish: int = 4000
    batches: int = 1


QUICK = Effort(judge=4, vae=4, text=4, pictures=32, unet=4, polish=2, batches=16)
"""Just enough to run every line; the model is worth nothing."""


def train_vae(team: Team, seed: int, steps: int) -> Any:
    """The VAE, on fresh pictures; its latents have mean 0 and deviation 1 in each channel."""
    torch.manual_seed(seed)
    vae = new_vae().to(team.device, memory_format=torch.channels_last)
    optimizer = Optimizer([Flat(vae, torch.float32)], rate=2.5e-3, steps=steps, most_average=0.99)
    chance, describer = np.random.default_rng([seed, 4, team.rank]), Describer(seed)
    torch.manual_seed(seed + 1000 * team.rank)
    for step, tell in counted("vae", steps, team):
        pixels = _fresh_pixels(chance, describer, team.batch(32, 4), whole=step % 6 == 0 or step > 0.95 * steps)
        pixels = pixels.to(team.device, memory_format=torch.channels_last)
        with torch.autocast(team.device.type, torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        error = decoded - pixels
        loss = 0.5 * error.abs().mean() + 3 * error.square().mean() + 1e-4 * kl
        loss.backward()
        optimizer.step(team)
        tell(float(loss.detach()))
    optimizer.finish()
    vae.to(memory_format=torch.contiguous_format)
    _fold_scale(vae, _fresh_pixels(np.random.default_rng([seed, 5]), describer, 256, whole=True).to(team.device))
    return vae.eval()


@torch.no_grad()
def peak_signal_to_noise(vae: Any, seed: int, device: torch.device) -> float:
    """Mean PSNR in dB of pictures that were encoded and decoded."""
    pixels = _fresh_pixels(np.random.default_rng([seed, 6]), Describer(seed), 128, whole=True).to(device)
    decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    error = (decoded - pixels).square().mean(dim=(1, 2, 3)) / 4
    return float((-10 * error.log10()).mean())


def train_text(team: Team, seed: int, steps: int, tokenizer: PromptTokenizer) -> Any:
    """The text encoder, before the U-Net: linear heads read from its output what the caption says.

    A U-Net that starts with a random text encoder does not learn to listen to it for a long time.
    """
    torch.manual_seed(seed)
    text = new_text_encoder(tokenizer.size).to(team.device)
    heads = nn.ModuleDict(
        {name: nn.Linear(WIDTH, len(known) + 1) for name, known in _NAMED.items()} | {"colour": nn.Linear(WIDTH, 3)}
    ).to(team.device)
    both = nn.ModuleList([text, heads])
    optimizer = Optimizer([Flat(both, torch.float32)], rate=3e-3, steps=steps, warmup=20, most_average=0.98)
    chance, describer = np.random.default_rng([seed, 7, team.rank]), Describer(seed)
    for _, tell in counted("text", steps, team, every=100):
        described = []
        while len(described) < team.batch(48, 4):
            one = describer.any(chance)
            described += [one] if one.caption else []
        ids = torch.tensor([tokenizer.encode(one.caption, 0, 0).ids for one in described], device=team.device)
        hidden = text(ids).last_hidden_state
        ends = (ids == tokenizer.end).int().argmax(1)
        later = ends + torch.from_numpy((chance.random(len(ends)) * (76 - ends.cpu().numpy())).astype(np.int64)).to(ids)
        rows = torch.arange(len(ends), device=ids.device)
        loss = torch.zeros((), device=team.device)
        for at in (ends, later):
            loss = loss + _attribute_loss(heads, hidden[rows, at], [one.thing for one in described])
        loss.backward()
        optimizer.step(team)
        tell(float(loss.detach()))
    optimizer.finish()
    return text


@dataclass(frozen=True)
class TrainingSet:
    """latents [n, 4, 12, 12] float32 and ids [n, 77]."""

    latents: Tensor
    ids: Tensor


@torch.no_grad()
def encode_pictures(
    team: Team, seed: int, count: int, vae: Any, tokenizer: PromptTokenizer, *, wide: bool = False
) -> TrainingSet:
    """Draw and encode the U-Net's training set; every member encodes its share and gets all.

    wide: other pictures, with the captions of a wide Describer; ids from the vocabulary's size on are hidden words.
    """
    latents, ids, describer = [], [], Describer(seed, wide=wide)
    share = list(team.share(count))
    for start in range(0, len(share), 64):
        images = []
        for index in share[start : start + 64]:
            chance = np.random.default_rng([seed, 8, wide, index])
            described = describer.any(chance)
            images.append(draw(placed(described.thing, chance)))
            ids.append(tokenizer.encode(described.caption, 1, tokenizer.size + described.hidden).ids)
        latents.append(vae.encode(to_pixels(np.stack(images)).to(team.device)).latent_dist.mean)
    mine = torch.tensor(ids, device=team.device)
    return TrainingSet(team.gather(torch.cat(latents)), team.gather(mine))


def train_unet(
    team: Team,
    seed: int,
    steps: int,
    data: TrainingSet,
    text: Any,
    end: int,
    *,
    unet: Any = None,
    rate: float = 2e-3,
    text_rate: float = 0.3,
) -> tuple[Any, Any]:
    """The U-Net (a new one if None) and with it the text encoder: epsilon prediction, SD 1's noise schedule.

    text_rate: of the text encoder, relative to the U-Net's.
    """
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(seed)
    unet = (unet if unet is not None else new_unet()).to(team.device).train()
    if team.device.type == "cpu":
        # The fused kernel's backward takes a third of a step on CPUs at this size.
        unet.set_attn_processor(AttnProcessor())
    flats = [Flat(unet, torch.bfloat16), Flat(text, torch.float32, rate=text_rate)]
    optimizer = Optimizer(flats, rate=rate, steps=steps, warmup=150, most_average=0.9995)
    alphas = alphas_cumprod().to(team.device)
    stream = torch.Generator(team.device).manual_seed(seed * 1000 + team.rank)
    size = team.batch(64, 8)
    empty = torch.full((1, data.ids.shape[1]), end, device=team.device)
    empty[0, 0] = data.ids[0, 0]

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=stream, device=team.device)

    for _, tell in counted("unet", steps, team):
        index = (chance(size) * len(data.latents)).long()
        latents = data.latents[index]
        ids = torch.where(chance(size, 1) < EMPTY_CAPTIONS, empty, data.ids[index])
        times = ((torch.arange(size, device=team.device) + chance(size)) / size * len(alphas)).long().clamp_max(999)
        noise = torch.randn(latents.shape, generator=stream, device=team.device)
        alpha = alphas[times].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        hidden = text(ids).last_hidden_state
        answer = unet(noisy.bfloat16(), times, encoder_hidden_states=hidden.bfloat16()).sample.float()
        snr = alphas[times] / (1 - alphas[times])
        loss = ((answer - noise).square().mean(dim=(1, 2, 3)) * snr.clamp_max(GAMMA) / snr).mean()
        loss.backward()
        optimizer.step(team)
        tell(float(loss.detach()))
    optimizer.finish()
    unet.set_default_attn_processor()
    return unet.eval(), text.eval()


def alphas_cumprod() -> Tensor:
    """Of the noise schedule [1000]."""
    from diffusers import DDPMScheduler

    alphas: Tensor = DDPMScheduler(**SCHEDULE).alphas_cumprod
    return alphas


@torch.no_grad()
def sample(
    unet: Any, vae: Any, hidden: Tensor, empty: Tensor, *, guidance: float, seed: int, steps: int = 20
) -> np.ndarray:
    """Draw pictures, uint8 [b, 48, 48, 3], for encoded prompts [b, 77, width]; empty [1, 77, width]."""
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(**SCHEDULE, steps_offset=1)
    scheduler.set_timesteps(steps)
    count = len(hidden)
    both = torch.cat([empty.expand_as(hidden), hidden])
    side = SIZE // SCALE
    latents = torch.randn((count, 4, side, side), generator=torch.Generator().manual_seed(seed)).to(hidden.device)
    for time in scheduler.timesteps:
        without, prompted = unet(torch.cat([latents] * 2), time, encoder_hidden_states=both).sample.chunk(2)
        latents = scheduler.step(without + guidance * (prompted - without), time, latents, return_dict=False)[0]
    pixels = vae.decode(latents).sample.clamp(-1, 1)
    images: np.ndarray = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return images


_NAMED: dict[str, tuple[Any, ...]] = {
    "shape": SHAPES,
    "pattern": PATTERNS,
    "background": tuple(BACKGROUNDS.values()),
    "frame": tuple(FRAMES.values()),
}
"""What the heads of the text encoder tell apart; one more class stands for all else."""


def _attribute_loss(heads: nn.ModuleDict, hidden: Tensor, things: list[Thing]) -> Tensor:
    loss = torch.zeros((), device=hidden.device)
    for name, known in _NAMED.items():
        places = [known.index(value) if (value := getattr(thing, name)) in known else len(known) for thing in things]
        loss = loss + functional.cross_entropy(heads[name](hidden), torch.tensor(places, device=hidden.device))
    colours = torch.tensor([thing.colour for thing in things], device=hidden.device, dtype=torch.float32)
    return loss + 8 * functional.mse_loss(heads["colour"](hidden), colours)


def _fresh_pixels(chance: np.random.Generator, describer: Describer, count: int, *, whole: bool) -> Tensor:
    """Random pictures [count, 3, 48, 48] in -1..1, or crops of 28x28, on which the VAE learns faster."""
    images = np.stack([draw(placed(describer.any(chance).thing, chance)) for _ in range(count)])
    if whole:
        return to_pixels(images)
    crops = []
    for image in images:
        top, left = (int(chance.integers((SIZE - 28) // SCALE + 1)) * SCALE for _ in range(2))
        crops.append(image[top : top + 28, left : left + 28])
    return to_pixels(np.stack(crops))


@torch.no_grad()
def _fold_scale(vae: Any, pixels: Tensor) -> None:
    """Fold each latent channel's mean and deviation into the convolutions next to it."""
    posterior = vae.encode(pixels).latent_dist
    mean = posterior.mean.mean(dim=(0, 2, 3))
    deviation = (posterior.mean - mean.view(1, -1, 1, 1)).square().mean(dim=(0, 2, 3)).sqrt()
    quant, post = vae.quant_conv, vae.post_quant_conv
    count = len(mean)
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= deviation.view(1, -1, 1, 1)
    quant.weight[:count] /= deviation.view(-1, 1, 1, 1)
    quant.bias[:count] = (quant.bias[:count] - mean) / deviation
    quant.bias[count:] -= 2 * deviation.log()
