"""Draws sample images during training: with fixed seeds, and the VAE on the device only while it decodes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ti_tui import atomic
from ti_tui.dataset.templates import name_token
from ti_tui.run.prediction import Prediction
from ti_tui.run.sample_prompts import SamplePrompt
from ti_tui.training.latents import to_image, use_tiles
from ti_tui.training.randomness import torch_stream
from ti_tui.training.text import Context, TextSide

SAMPLER = "DPM++ 2M"


def sample_paths(folder: Path, count: int) -> list[Path]:
    """The files of `count` prompts' samples: 01.png, 02.png, ..."""
    return [folder / f"{number:02d}.png" for number in range(1, count + 1)]


@dataclass
class SampleRenderer:
    """Draws samples with the vectors as they are.

    open_vae: loads the VAE, for the first image; after that the VAE stays in main memory.
    size:     (width, height) in pixels for prompts that set none.
    scale:    pixels per latent pixel; multiple: width and height are rounded down to a multiple of it.
    """

    unet: Any
    text: TextSide
    scheduler_values: dict[str, Any]
    prediction: Prediction
    open_vae: Callable[[], Any]
    size: tuple[int, int]
    scale: int
    multiple: int
    seed: int
    token: str
    model_hash: str
    stop_requested: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._vae: Any = None
        self._less_memory = False

    def use_less_memory(self) -> None:
        """From now on run the U-Net on one latent at a time, even with guidance, and decode in tiles."""
        self._less_memory = True
        if self._vae is not None:
            use_tiles(self._vae)

    def draw(self, prompts: Sequence[SamplePrompt], folder: Path, step: int) -> list[Path]:
        """Draw each prompt into `folder` as 01.png, 02.png, ..., with its settings in the PNG. Raises CannotWrite.

        Returns the images drawn so far if a stop is requested.
        """
        paths: list[Path] = []
        for prompt, path in zip(prompts, sample_paths(folder, len(prompts)), strict=True):
            if not self.draw_one(prompt, path, step):
                break
            paths.append(path)
        return paths

    def draw_one(self, prompt: SamplePrompt, path: Path, step: int) -> bool:
        """Draw one prompt into the file `path`; False if a stop was requested meanwhile. Raises CannotWrite."""
        latents = self._denoise(prompt)
        if latents is None:
            return False
        self._write(self._decode(latents), prompt, path, step)
        return True

    @torch.no_grad()
    def _denoise(self, prompt: SamplePrompt) -> Tensor | None:
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        device, dtype = self.unet.device, self.unet.dtype
        scheduler = DPMSolverMultistepScheduler.from_config(
            {**self.scheduler_values, "prediction_type": self.prediction}
        )
        scheduler.set_timesteps(prompt.steps, device=device)
        width, height = self._size_of(prompt)
        shape = (1, 4, height // self.scale, width // self.scale)
        latents = torch.randn(shape, generator=torch_stream(self._seed_of(prompt))) * float(scheduler.init_noise_sigma)
        latents = latents.to(device)
        guided = prompt.guidance > 1.0
        texts = [prompt.negative, prompt.text] if guided else [prompt.text]
        context = self.text.encode(self.text.ids(texts))
        places = torch.arange(len(texts), device=context.hidden.device)
        parts = [context.rows(index) for index in places.split(1 if self._less_memory else len(texts))]
        passes = [(part, conditions_for(part, [(width, height)] * len(part.hidden), self.unet)) for part in parts]
        for timestep in scheduler.timesteps:
            if self.stop_requested():
                return None
            scaled = scheduler.scale_model_input(latents, timestep).to(dtype)
            predictions = [
                self.unet(torch.cat([scaled] * len(part.hidden)), timestep, **conditions).sample.float()
                for part, conditions in passes
            ]
            prediction = torch.cat(predictions)
            if guided:
                negative, positive = prediction.chunk(2)
                prediction = negative + prompt.guidance * (positive - negative)
            latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
        return latents

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Tensor:
        if self._vae is None:
            self._vae = self.open_vae()
            if self._less_memory:
                use_tiles(self._vae)
        vae = self._vae.to(latents.device)
        try:
            shift = float(getattr(vae.config, "shift_factor", None) or 0.0)
            return vae.decode(latents.to(vae.dtype) / float(vae.config.scaling_factor) + shift).sample[0]
        finally:
            if latents.device.type != "cpu":
                self._vae.to("cpu")
                torch.cuda.empty_cache()

    def _write(self, pixels: Tensor, prompt: SamplePrompt, path: Path, step: int) -> None:
        text = name_token(prompt.text, self.token).replace("[name]", self.token)
        width, height = self._size_of(prompt)
        # A1111's "parameters" text: A1111's PNG info tab, Forge and InvokeAI read the settings from it.
        lines = [text]
        if prompt.negative:
            lines.append(f"Negative prompt: {prompt.negative}")
        settings = {
            "Steps": prompt.steps,
            "Sampler": SAMPLER,
            "CFG scale": f"{prompt.guidance:g}",
            "Seed": self._seed_of(prompt),
            "Size": f"{width}x{height}",
            "Model hash": self.model_hash[:10],
            "Embedding": self.token,
            "Embedding step": step,
        }
        lines.append(", ".join(f"{name}: {value}" for name, value in settings.items()))
        info = PngInfo()
        info.add_itxt("parameters", "\n".join(lines))
        content = io.BytesIO()
        to_image(pixels).save(content, "PNG", pnginfo=info)
        atomic.write_bytes(path, content.getvalue())

    def _size_of(self, prompt: SamplePrompt) -> tuple[int, int]:
        width, height = prompt.width or self.size[0], prompt.height or self.size[1]
        return (
            max(self.multiple, width // self.multiple * self.multiple),
            max(self.multiple, height // self.multiple * self.multiple),
        )

    def _seed_of(self, prompt: SamplePrompt) -> int:
        return self.seed if prompt.seed is None else prompt.seed


def conditions_for(context: Context, sizes: Sequence[tuple[int, int]], unet: Any) -> dict[str, Any]:
    """The U-Net's keyword arguments for a context. sizes: (width, height) in pixels, on which SDXL is conditioned."""
    device, dtype = unet.device, unet.dtype
    conditions: dict[str, Any] = {"encoder_hidden_states": context.hidden.to(device, dtype)}
    if context.pooled is not None:
        # Original size, crop corner, target size; height before width.
        ids = [[height, width, 0, 0, height, width] for width, height in sizes]
        # float32: half precision cannot hold every size above 2048.
        time_ids = torch.tensor(ids, device=device, dtype=torch.float32)
        conditions["added_cond_kwargs"] = {"text_embeds": context.pooled.to(device, dtype), "time_ids": time_ids}
    return conditions
