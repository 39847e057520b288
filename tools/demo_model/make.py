"""All stages of making the demo model, one after the other, in every process of the team."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ti_tui.dataset.tokens import PromptTokenizer
from tools.demo_model import stages
from tools.demo_model.judge import check_on_renders, save_judge, train_judge
from tools.demo_model.networks import (
    new_text_encoder,
    new_unet,
    new_vae,
    with_even_lengths,
    with_hidden_words,
    without_hidden_words,
)
from tools.demo_model.team import Team
from tools.demo_model.words import HIDDEN, write_tokenizer


def make(team: Team, out: Path, seed: int, effort: stages.Effort) -> None:
    """Every stage that is not done yet, then the folder."""
    team = replace(team, batches=effort.batches)
    kept, model = out / "stages", out / "model"
    if team.rank == 0:
        kept.mkdir(parents=True, exist_ok=True)
        write_tokenizer(model / "tokenizer")
    if team.size > 1:
        torch.distributed.barrier()
    tokenizer = PromptTokenizer.from_folder(model / "tokenizer")

    if not (kept / "judge.safetensors").exists():
        judge = train_judge(team, seed, effort.judge)
        if team.rank == 0:
            save_judge(judge, kept / "judge.safetensors")
            team.say(f"judge on drawn pictures: {check_on_renders(judge.cpu(), seed)}")
    if (kept / "vae.safetensors").exists():
        vae = loaded(new_vae(), kept / "vae.safetensors").to(team.device).eval()
    else:
        vae = stages.train_vae(team, seed, effort.vae)
        _keep(team, vae, kept / "vae.safetensors")
    team.say(f"vae: {stages.peak_signal_to_noise(vae, seed, team.device):.1f} dB")
    if (kept / "unet.safetensors").exists():
        return
    if (kept / "first-unet.safetensors").exists():
        text = loaded(new_text_encoder(tokenizer.size), kept / "first-text.safetensors").to(team.device)
        unet = loaded(new_unet(), kept / "first-unet.safetensors").to(team.device)
    else:
        text = stages.train_text(team, seed, effort.text, tokenizer)
        data = stages.encode_pictures(team, seed, effort.pictures, vae, tokenizer)
        unet, text = stages.train_unet(team, seed, effort.unet, data, text, tokenizer.end)
        _keep(team, text, kept / "first-text.safetensors")
        _keep(team, unet, kept / "first-unet.safetensors")
    data = stages.encode_pictures(team, seed, effort.pictures, vae, tokenizer, wide=True)
    text = with_hidden_words(text, HIDDEN, seed).to(team.device)
    unet, text = stages.train_unet(
        team, seed + 1, effort.polish, data, text, tokenizer.end, unet=unet, rate=1e-3, text_rate=1.0
    )
    used = data.ids.unique()
    text = with_even_lengths(without_hidden_words(text, tokenizer.size), used[used < tokenizer.size])
    _keep(team, text, kept / "text.safetensors")
    _keep(team, unet, kept / "unet.safetensors")


def _keep(team: Team, module: Any, path: Path) -> None:
    if team.rank == 0:
        save_file({name: tensor.cpu().contiguous().clone() for name, tensor in module.state_dict().items()}, path)


def loaded(module: Any, path: Path) -> Any:
    module.load_state_dict(load_file(path))
    return module
