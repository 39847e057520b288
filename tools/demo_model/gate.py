"""The gate of the demo model: how often it draws what its own words say, by the judge."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ti_tui.dataset.tokens import PromptTokenizer
from tools.demo_model.judge import Asked, Judge, judge_pictures, named_colour
from tools.demo_model.pictures import BACKGROUNDS, COLOURS, FRAMES, PATTERNS, SHAPES, Thing
from tools.demo_model.stages import sample
from tools.demo_model.words import prompt

GATE = {"all": 0.95, "background": 0.98}
GUIDANCE = 2.0
SHOWN = ("shape", "pattern", "colour", "background", "all", "frame", "everything")
"""all: the four before it; frame: the one that is asked for, or none; everything: all and the frame."""


def print_gate(model: Path, judge: Judge, count: int) -> dict[str, float]:
    """Print own-word accuracy at several guidances and whether the gate is passed; returns the rates at GUIDANCE."""
    print("own words      n  shape pattern colour backgr.    all  frame  every.  Delta E")
    judged: dict[str, float] = {}
    for frames, guidance in ((False, 1.0), (False, GUIDANCE), (False, 3.0), (True, GUIDANCE)):
        rates = own_words(model, judge, count=count, guidance=guidance, frames=frames)
        name = f"CFG {guidance:g}{', frame' if frames else ''}"
        cells = "  ".join(f"{rates[key]:5.3f}" for key in SHOWN)
        print(f"{name:<12}{count:>4}  {cells}   {rates['distance']:.1f}", flush=True)
        if guidance == GUIDANCE and not frames:
            judged = rates
    passed = all(judged[key] >= least for key, least in GATE.items())
    print(f"gate {GATE}: {'passed' if passed else 'NOT passed'}")
    return judged


def own_words(
    model: Path, judge: Judge, *, count: int, guidance: float, frames: bool, seed: int = 11
) -> dict[str, float]:
    """Share of pictures that are as the prompt says, by attribute; like and follows as of a Verdict; median Delta E."""
    asked, prompts, names = [], [], []
    chance = np.random.default_rng([seed, 9])
    kinds = list(itertools.product(SHAPES, PATTERNS, COLOURS))
    for index in chance.permutation(len(kinds))[:count]:
        shape, pattern, colour = kinds[index]
        background = str(chance.choice([name for name in BACKGROUNDS if name != colour]))
        frame = str(chance.choice([name for name in FRAMES if name not in (colour, background)])) if frames else ""
        asked.append(Asked(Thing(shape, pattern, COLOURS[colour], BACKGROUNDS[background]), background, frame))
        prompts.append(prompt(f"{colour} {pattern} {shape}", background, frame))
        names.append(colour)
    images = draw_prompts(model, prompts, guidance=guidance, seed=seed)
    verdicts = judge_pictures(judge, images, asked)
    colours = [
        named_colour(image, one.look.pattern) == name for image, one, name in zip(images, asked, names, strict=True)
    ]
    likes = [one.shape and one.pattern and colour for one, colour in zip(verdicts, colours, strict=True)]
    seen = {
        name: [getattr(one, name) for one in verdicts]
        for name in ("shape", "pattern", "background", "frame", "follows")
    }
    seen |= {"colour": colours, "like": likes}
    seen["all"] = [like and there for like, there in zip(likes, seen["background"], strict=True)]
    seen["everything"] = [like and follows for like, follows in zip(likes, seen["follows"], strict=True)]
    rates = {name: float(np.mean(values)) for name, values in seen.items()}
    rates["distance"] = float(np.median([one.distance for one in verdicts]))
    return rates


def draw_prompts(model: Path, prompts: list[str], *, guidance: float, seed: int) -> np.ndarray:
    """Pictures of prompts, uint8 [n, 48, 48, 3], with the folder's own words."""
    unet, vae, text, tokenizer = load_parts(model)
    empty = text(torch.tensor([tokenizer.encode("", 0, 0).ids])).last_hidden_state
    parts = []
    for number in range(math.ceil(len(prompts) / 48)):
        ids = torch.tensor([tokenizer.encode(one, 0, 0).ids for one in prompts[number * 48 : number * 48 + 48]])
        hidden = text(ids).last_hidden_state
        parts.append(sample(unet, vae, hidden, empty, guidance=guidance, seed=seed * 100 + number))
    return np.concatenate(parts)


def load_parts(model: Path) -> tuple[Any, Any, Any, PromptTokenizer]:
    """U-Net, VAE, text encoder and tokenizer of a folder, frozen, in float32."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
    tokenizer = PromptTokenizer.from_folder(model / "tokenizer")
    return unet.requires_grad_(False), vae.requires_grad_(False), text.requires_grad_(False), tokenizer
