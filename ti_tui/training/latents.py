"""Latents: each picture is encoded once, as mean and standard deviation, then the VAE leaves the device."""

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
from ti_tui.dataset.scan import DatasetError
from ti_tui.out_of_memory import is_out_of_memory
from ti_tui.run.hashes import file_hash
from ti_tui.training.device import free_memory

TILE = 512
"""Side in pixels of the pieces in which a VAE takes large pictures."""
FORM = 1
"""Raised when latents of an older program must not be used any more."""


@dataclass(frozen=True)
class Latents:
    """The VAE's posterior of a picture: mean and std [4, h, w] float32, scaled as the U-Net wants them.

    Keeping both, and drawing anew at every step, is what kohya gives up by freezing one draw.
    """

    mean: Tensor
    std: Tensor

    def draw(self, unit: Tensor) -> Tensor:
        """A latent from standard normal numbers of the same shape."""
        return self.mean + self.std * unit

    @property
    def size(self) -> PixelSize:
        """(width, height) in latents."""
        return int(self.mean.shape[2]), int(self.mean.shape[1])


@dataclass(frozen=True)
class ToEncode:
    """A picture as it will be trained: file, size in pixels, mirrored or not."""

    path: Path
    size: PixelSize
    flipped: bool = False


class LatentCache:
    """Latents by content of picture, size, flip and VAE; on disk they serve the next run as well.

    read_only: what is there is used, and nothing is added.
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
        """Latents of `wanted`, on the CPU; `encode` is called for those that are not there.

        Raises DatasetError for a picture that cannot be read or encodes to NaN.
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
            # Not there, or damaged by something else: encoding again is always right.
            return None

    def _write(self, key: str, latents: Latents) -> None:
        if self._folder is not None and not self._read_only:
            content = save({"mean": latents.mean.contiguous(), "std": latents.std.contiguous()})
            atomic.write_bytes(self._folder / f"{key}.safetensors", content)


class Encoder:
    """Encodes pictures with a VAE that is loaded for the first one; where memory runs out, in pieces, then on the CPU.

    open_vae: loads it, in float32, which costs nothing once a picture and loses nothing.
    tiled:    pictures are encoded in pieces of `TILE` pixels from the first one on.
    warn:     is told when memory ran out.
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
            shortage = False
            try:
                return encode(self._ready(), item)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # Mended outside of this block: the error holds on to what did not fit.
                shortage = self._device.type != "cpu" or not self._tiled
                if not shortage:
                    raise
            self._make_room()

    def close(self) -> None:
        """Let the VAE go from the device."""
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
            self._warn("out of memory while encoding the pictures: in pieces from now on")
        else:
            self._device = torch.device("cpu")
            self._warn("out of memory while encoding the pictures: on the CPU from now on, which is slower")


def use_tiles(vae: Any) -> None:
    """Let `vae` take pictures in pieces of `TILE` pixels, which overlap: 389 MiB instead of 1.5 GiB at 1024 pixels."""
    # The library's tile follows the config's sample_size, which says nothing about memory.
    vae.enable_tiling()
    vae.tile_sample_min_size = TILE
    vae.tile_latent_min_size = TILE // 2 ** (len(vae.config.block_out_channels) - 1)


def encode(vae: Any, item: ToEncode) -> Latents:
    """Encode one picture in float32. Raises DatasetError if the result is not finite."""
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
            f"{item.path.name} is encoded to numbers that are not finite",
            remedy="Try another VAE (model.vae).",
        )
    return Latents(mean, std)


def to_tensor(image: Image.Image) -> Tensor:
    """RGB picture -> [3, h, w] float32 in -1..1."""
    pixels = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def to_image(tensor: Tensor) -> Image.Image:
    """[3, h, w] in -1..1 -> RGB picture."""
    pixels = ((tensor.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
