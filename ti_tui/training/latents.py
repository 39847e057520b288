"""Latents: each image is encoded once, to a mean and a standard deviation; then the VAE leaves the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor

from ti_tui import atomic
from ti_tui.dataset.crop import load_fitted
from ti_tui.dataset.crop_boxes import PixelSize
from ti_tui.dataset.picture_file import DatasetError
from ti_tui.out_of_memory import is_out_of_memory
from ti_tui.run.hashes import file_hash
from ti_tui.training.device import free_memory

TILE = 512
"""Side in pixels of the tiles in which a VAE encodes and decodes large images."""
FORM = 1
"""Increased when the cached latents of older versions must no longer be used."""


@dataclass(frozen=True)
class Latents:
    """The VAE's posterior of an image: mean and std [4, h, w] float32, scaled as the U-Net expects.

    Every step draws a latent from it; kohya's trainer draws once and caches that draw.
    """

    mean: Tensor
    std: Tensor

    def draw(self, unit: Tensor) -> Tensor:
        """A latent from standard normal numbers of the same shape."""
        return self.mean + self.std * unit

    @property
    def size(self) -> PixelSize:
        """(width, height) in latent pixels."""
        return int(self.mean.shape[2]), int(self.mean.shape[1])


@dataclass(frozen=True)
class ToEncode:
    """An image to encode as it is trained on: file, size in pixels, mirrored or not."""

    path: Path
    size: PixelSize
    flipped: bool = False


class LatentCache:
    """Caches latents by the content of the image and the VAE, size and flip. On disk they can be used again later.

    folder:    where they are kept; None keeps nothing on disk.
    read_only: use what is there and add nothing.
    """

    def __init__(self, folder: Path | None, vae_hash: str, *, read_only: bool = False) -> None:
        self._folder = folder
        self._read_only = read_only
        self._vae_hash = vae_hash

    def get(
        self,
        wanted: Sequence[ToEncode],
        encode: Callable[[ToEncode], Latents],
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Latents]:
        """Latents of `wanted`, on the CPU; `encode` is called for those that are not cached.

        Raises DatasetError for an image that cannot be read, or whose latents are not finite.
        """
        found: list[Latents] = []
        for number, item in enumerate(wanted, start=1):
            key = self._key(item)
            latents = self._read(key)
            if latents is None:
                latents = encode(item)
                self._write(key, latents)
            found.append(latents)
            progress(number, len(wanted))
        return found

    def _key(self, item: ToEncode) -> str:
        try:
            content = file_hash(item.path)
        except OSError as error:
            raise DatasetError(f"{item.path} cannot be read: {error.strerror}") from None
        parts = f"{FORM}|{content}|{item.size}|{item.flipped}|{self._vae_hash}"
        return hashlib.sha256(parts.encode()).hexdigest()[:32]

    def _read(self, key: str) -> Latents | None:
        if self._folder is None:
            return None
        path = self._folder / f"{key}.safetensors"
        try:
            tensors = load_file(path)
            return Latents(tensors["mean"], tensors["std"])
        except Exception:
            # Missing or damaged: encoding again is always right.
            return None

    def _write(self, key: str, latents: Latents) -> None:
        if self._folder is not None and not self._read_only:
            content = save({"mean": latents.mean.contiguous(), "std": latents.std.contiguous()})
            atomic.write_bytes(self._folder / f"{key}.safetensors", content)


class Encoder:
    """Encodes images with a VAE that is loaded for the first one; if memory runs out, in tiles, then on the CPU.

    open_vae: loads the VAE in float32.
    tiled:    encode in tiles of `TILE` pixels from the first image on.
    warn:     called when memory runs out.
    """

    def __init__(
        self, open_vae: Callable[[], Any], device: torch.device, *, tiled: bool, warn: Callable[[str], None]
    ) -> None:
        self._open_vae = open_vae
        self._device = device
        self._tiled = tiled
        self._warn = warn
        self._vae: Any = None

    def __call__(self, item: ToEncode) -> Latents:
        while True:
            try:
                return encode(self._ready(), item)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self._device.type == "cpu" and self._tiled:
                    raise
            # Outside the except block, where the error no longer keeps the tensors alive.
            self._make_room()

    def close(self) -> None:
        """Remove the VAE from the device."""
        self._vae = None
        free_memory(self._device)

    def _ready(self) -> Any:
        if self._vae is None:
            vae = self._open_vae().to(self._device)
            if self._tiled:
                use_tiles(vae)
            self._vae = vae
        return self._vae

    def _make_room(self) -> None:
        self.close()
        if not self._tiled:
            self._tiled = True
            self._warn("out of memory while encoding the images: in tiles from now on")
        else:
            self._device = torch.device("cpu")
            self._warn("out of memory while encoding the images: on the CPU from now on, which is slower")


def use_tiles(vae: Any) -> None:
    """Let `vae` work in overlapping tiles of `TILE` pixels: 389 MiB instead of 1.5 GiB at 1024 pixels."""
    # diffusers sizes its tiles by the config's sample_size, which says nothing about memory.
    vae.enable_tiling()
    vae.tile_sample_min_size = TILE
    vae.tile_latent_min_size = TILE // 2 ** (len(vae.config.block_out_channels) - 1)


def encode(vae: Any, item: ToEncode) -> Latents:
    """Encode one image in float32. Raises DatasetError if the result is not finite."""
    image = load_fitted(item.path, item.size)
    if item.flipped:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = to_tensor(image).unsqueeze(0).to(vae.device, vae.dtype)
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
    scale = float(vae.config.scaling_factor)
    shift = float(getattr(vae.config, "shift_factor", None) or 0.0)
    mean = ((posterior.mean[0].float() - shift) * scale).cpu()
    std = (posterior.std[0].float() * scale).cpu()
    if not (mean.isfinite().all() and std.isfinite().all()):
        raise DatasetError(
            f"the VAE encodes {item.path.name} to numbers that are not finite",
            remedy="Try another VAE (model.vae).",
        )
    return Latents(mean, std)


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image -> [3, h, w] float32 in -1..1."""
    pixels = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def to_image(tensor: Tensor) -> Image.Image:
    """[3, h, w] in -1..1 -> RGB image."""
    pixels = ((tensor.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
