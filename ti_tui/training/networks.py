"""Loads a run's networks onto the device, with the initial vectors spliced in, and makes the sample renderer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from ti_tui.run.hashes import weights_hash
from ti_tui.run.plan import Plan
from ti_tui.run.prediction import Prediction
from ti_tui.setup.check import Checked
from ti_tui.training.compute_mode import set_compute_mode
from ti_tui.training.device import DTYPES, set_attention, use_fast_arithmetic
from ti_tui.training.latents import use_tiles
from ti_tui.training.models import ModelSource
from ti_tui.training.quantised import quantise
from ti_tui.training.randomness import seed_for, torch_stream
from ti_tui.training.reporter import Reporter
from ti_tui.training.sample_images import SampleRenderer
from ti_tui.training.text import TextSide, random_rows, rows_of_words, spread


def load_networks(
    checked: Checked, source: ModelSource, plan: Plan, device: torch.device, report: Reporter
) -> tuple[TextSide, Any]:
    """(text encoder(s) with the initial vectors spliced in, U-Net), frozen and on the device."""
    report.phase("loading", "loading the text encoder and the U-Net")
    run, facts, dtype = checked.run, source.facts, DTYPES[plan.precision]
    # CPUs are as fast in float32, and many are far slower in half precision.
    place, form = (torch.device("cpu"), torch.float32) if plan.mode.text_on_cpu else (device, dtype)
    encoders = [source.text_encoder(index, form).to(place) for index in range(len(facts.widths))]
    text = TextSide(
        encoders,
        checked.tokenizers,
        _initial_rows(checked, encoders, place),
        family=facts.family,
        token=run.embedding.token,
        clip_skip=run.model.clip_skip,
    )
    unet = source.unet(dtype)
    use_fast_arithmetic(device, sum(parameter.numel() for parameter in unet.parameters()))
    if plan.mode.bits == 8:
        # Before it is moved to the card, which may not have room for it in 16 bits.
        quantise(unet)
    unet = unet.to(device)
    if run.training.channels_last == "on":
        unet = unet.to(memory_format=torch.channels_last)
    set_attention(unet, plan.attention)
    set_compute_mode(unet, plan.mode)
    return text, unet


def make_renderer(
    checked: Checked,
    source: ModelSource,
    plan: Plan,
    text: TextSide,
    unet: Any,
    prediction: Prediction,
    stop_requested: Callable[[], bool],
) -> SampleRenderer:
    """The renderer of a run's samples with these networks; it loads the VAE when it draws its first image."""
    run, facts = checked.run, source.facts
    return SampleRenderer(
        unet=unet,
        text=text,
        scheduler_values=source.scheduler_values(),
        prediction=prediction,
        open_vae=lambda: _sample_vae(source, unet.dtype, plan.fit.tiled_sampling),
        size=(run.dataset.resolution, run.dataset.resolution),
        scale=facts.scale,
        multiple=facts.multiple,
        seed=run.training.seed,
        token=run.embedding.token,
        model_hash=weights_hash(facts.path),
        stop_requested=stop_requested,
    )


def _initial_rows(checked: Checked, encoders: list[Any], device: torch.device) -> list[nn.Parameter]:
    """The initial vectors for each encoder by `embedding.init` and `embedding.start`; the same in every process."""
    run, facts = checked.run, checked.facts
    assert facts is not None
    starts: list[Tensor] = []
    for index, (encoder, tokenizer) in enumerate(zip(encoders, checked.tokenizers, strict=True)):
        words, count = tokenizer.words(run.embedding.init), run.embedding.vectors
        if checked.init is not None:
            starts.append(torch.from_numpy(checked.init.in_order()[index].copy()))
        elif words:
            how, family, clip_skip = run.embedding.start, facts.family, run.model.clip_skip
            rows = rows_of_words(encoder, tokenizer, words, how, family=family, clip_skip=clip_skip)
            starts.append(spread(rows, count))
        else:
            starts.append(random_rows(encoder, count, torch_stream(seed_for(run.training.seed, "init", index))))
    # Different cards round an encoder's output differently, so all processes take the main process's vectors.
    broadcast_object_list(starts)
    return [nn.Parameter(start.to(device, torch.float32)) for start in starts]


def _sample_vae(source: ModelSource, dtype: torch.dtype, tiled: bool) -> Any:
    vae = source.load_vae(dtype)
    if getattr(vae.config, "force_upcast", False) and dtype == torch.float16:
        vae = vae.float()
    if tiled:
        use_tiles(vae)
    source.close()
    return vae
