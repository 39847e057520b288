"""Loads the networks of a model, each when it is needed. Every tensor must match by name and shape."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ti_tui import bounded
from ti_tui.errors import first_line
from ti_tui.run.model import UNET, ModelError, ModelFacts, check_vae, families, hub_files
from ti_tui.run.original_layout import unet_config, vae_config
from ti_tui.run.prediction import Prediction
from ti_tui.run.weight_files import find_weights
from ti_tui.run.whole_model import TEXT_PREFIX, check_names, new_attention_name
from ti_tui.training import single_file
from ti_tui.training.objective import NoiseSchedule
from ti_tui.training.randomness import torch_stream
from ti_tui.training.sample_images import conditions_for
from ti_tui.training.text import Context
from ti_tui.training.weights import Checkpoint, ReadAhead, Tensors

ASKED_SIZE = 16
"""Side in latent pixels of the noise that a U-Net is asked about."""


@dataclass
class ModelSource:
    """Where the networks come from: a single file or a diffusers folder, and perhaps a separate VAE.

    ahead:  the U-Net's weights, if they are already being read.
    end_id: id of the end-of-text token. Published text encoders' configs hold a wrong one (2), with which transformers
            takes the pooled text at the highest id: at a learned row instead of the prompt's end.
    """

    facts: ModelFacts
    vae: Path | None
    end_id: int
    ahead: ReadAhead | None = None

    def __post_init__(self) -> None:
        self._checkpoint: Checkpoint | None = None

    def text_encoder(self, index: int, dtype: torch.dtype) -> Any:
        """Text encoder `index` (SDXL has two), frozen. Raises ModelError unless every tensor is matched."""
        from accelerate import init_empty_weights
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
        from transformers.initialization import no_init_weights

        if self.facts.single_file:
            values, tensors = single_file.text_tensors(self._single(), self.facts, index)
        else:
            folder = self.facts.path / ("text_encoder" if index == 0 else "text_encoder_2")
            values = bounded.read_json(folder / "config.json")
            tensors = _folder_tensors(folder)
        with _config_errors(self.facts.path, "text encoder"), init_empty_weights(), no_init_weights():
            config = CLIPTextConfig(**{**values, "eos_token_id": self.end_id})
            model = (CLIPTextModelWithProjection if index == 1 else CLIPTextModel)(config)
        return _filled(model, tensors, dtype, what=f"text encoder {index + 1}", path=self.facts.path, drop=TEXT_PREFIX)

    def unet(self, dtype: torch.dtype) -> Any:
        """The U-Net, frozen. Raises ModelError unless every tensor is matched."""
        from accelerate import init_empty_weights
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from transformers.initialization import no_init_weights

        if self.facts.single_file:
            values = unet_config(self._single().shapes, self.facts)
            tensors = single_file.unet_tensors(self._single(), values)
        else:
            values = bounded.read_json(self.facts.path / "unet" / "config.json")
            tensors = _folder_tensors(self.facts.path / "unet", self.ahead)
        with _config_errors(self.facts.path, "U-Net"), init_empty_weights(), no_init_weights():
            model = UNet2DConditionModel.from_config(values)
        unet = _filled(model, tensors, dtype, what="U-Net", path=self.facts.path)
        if self.ahead is not None:
            self.ahead.close()
        return unet

    def load_vae(self, dtype: torch.dtype) -> Any:
        """The VAE, frozen: the separate one, or the model's. Raises ModelError unless every tensor is matched."""
        from accelerate import init_empty_weights
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from transformers.initialization import no_init_weights

        values, tensors, path = self._vae_parts()
        with _config_errors(path, "VAE"), init_empty_weights(), no_init_weights():
            model = AutoencoderKL.from_config(values)
        return _filled(model, _new_attention_names(tensors), dtype, what="VAE", path=path)

    def noise_schedule(self) -> NoiseSchedule:
        """The schedule that the model was trained with. Its prediction type is a guess until `ask_prediction`."""
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        values = self.scheduler_values()
        with _config_errors(self.facts.path, "scheduler"):
            scheduler = DDPMScheduler.from_config(values)
        prediction: Prediction = self.facts.prediction or "v_prediction"
        return NoiseSchedule(scheduler.alphas_cumprod.float(), prediction)

    def scheduler_values(self) -> dict[str, Any]:
        """The scheduler's configuration: that of the folder, or that of the family for a single file."""
        if not self.facts.single_file:
            path = self.facts.path / "scheduler" / "scheduler_config.json"
            values: dict[str, Any] = bounded.read_json(path)
        else:
            values = {**families()["noise"], **families()[self.facts.family]["scheduler"]}
            if self.facts.truth.zero_snr:
                values |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return {key: value for key, value in values.items() if not key.startswith("_")}

    def ask_prediction(self, unet: Any) -> Prediction:
        """The prediction type: from the files; from a test of the U-Net if they do not say; else the family's.

        If the files say one and the U-Net clearly answers with the other, that becomes one of `facts.truth.doubts`.
        """
        answer, truth = detect_prediction(unet, self.facts, self.noise_schedule()), self.facts.truth
        if truth.prediction is None:
            usual: Prediction = families()[self.facts.family]["scheduler"]["prediction_type"]
            place = "the U-Net's answer to noise" if answer else "what is usual, since the U-Net's answer is unclear"
            truth = replace(truth, prediction=answer or usual, decided_by=place)
        elif answer is not None and answer != truth.prediction:
            doubt = f"{truth.prediction} is trained, by {truth.decided_by}, but the U-Net's answer to noise is {answer}"
            truth = replace(truth, doubts=(*truth.doubts, doubt))
        self.facts = replace(self.facts, truth=truth)
        assert truth.prediction is not None
        return truth.prediction

    def close(self) -> None:
        """Close the file; loaded networks stay."""
        self._checkpoint = None

    def _single(self) -> Checkpoint:
        if self._checkpoint is None:
            self._checkpoint = Checkpoint(self.facts.path, self.ahead)
        return self._checkpoint

    def _vae_parts(self) -> tuple[dict[str, Any], Tensors, Path]:
        path = self.vae or self.facts.path
        if self.vae is not None:
            check_vae(self.vae)
        if path.is_dir():
            folder = path if self.vae and not (path / "vae").is_dir() else path / "vae"
            return bounded.read_json(folder / "config.json"), _folder_tensors(folder), folder
        checkpoint = self._single() if path == self.facts.path else Checkpoint(path)
        values = vae_config(checkpoint.shapes, self.facts)
        return values, single_file.vae_tensors(checkpoint, values), path


@contextlib.contextmanager
def _config_errors(path: Path, part: str) -> Iterator[None]:
    """Turn the libraries' errors about a network's configuration into a ModelError of one line."""
    try:
        yield
    except Exception as error:
        raise ModelError(f"{path}: the {part}'s configuration cannot be used: {first_line(error)}") from None


def detect_prediction(unet: Any, facts: ModelFacts, schedule: NoiseSchedule) -> Prediction | None:
    """The prediction type of a U-Net, found from its answers to noise; None if they are neither's.

    For noise at the last timestep an epsilon model returns its input, a v model returns minus the image that it
    imagines. For a little noise on grey both return the noise, which tells them from a network that learned neither.
    """
    noise = torch.randn((1, 4, ASKED_SIZE, ASKED_SIZE), generator=torch_stream(0))
    alphas = schedule.alphas_cumprod
    last = len(alphas) - 1
    much = _answer(unet, facts, noise, last)
    little = _answer(unet, facts, noise * (1 - alphas[last // 4]).sqrt(), last // 4)
    share = float((much * noise).sum() / noise.square().sum())
    alike = float(torch.corrcoef(torch.stack([noise.flatten(), little.flatten()]))[0, 1])
    if not alike > 0.5:
        return None
    return "epsilon" if share > 0.5 else "v_prediction"


def _answer(unet: Any, facts: ModelFacts, latent: Tensor, timestep: int) -> Tensor:
    """The U-Net's prediction for one latent without a prompt, in float32 on the CPU."""
    hidden = torch.zeros((1, facts.positions, sum(facts.widths)))
    pooled = torch.zeros((1, facts.widths[-1])) if facts.family == "sdxl" else None
    side = ASKED_SIZE * facts.scale
    conditions = conditions_for(Context(hidden, pooled), [(side, side)], unet)
    with torch.no_grad():
        at = torch.tensor([timestep], device=unet.device)
        answer: Tensor = unet(latent.to(unet.device, unet.dtype), at, **conditions).sample
    return answer.float().cpu()


def download(hub_id: str) -> Path:
    """Download a model from the hub into the local cache. Raises ModelError if that fails."""
    from huggingface_hub import list_repo_files, snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=hub_files(list_repo_files(hub_id))))
    except Exception as error:
        raise ModelError(
            f"{hub_id} is neither a path nor in the local cache, and could not be downloaded: {first_line(error)}",
            remedy="Copy the model to this machine and give its path.",
        ) from None


def read_unet_ahead(facts: ModelFacts, dtype: torch.dtype) -> ReadAhead:
    """Start to read the U-Net's weights, which takes seconds, while the libraries are still being imported."""
    if facts.single_file:
        return ReadAhead([(facts.path, lambda name: name.startswith(UNET))], dtype)
    return ReadAhead([(file, lambda _name: True) for file in _weights_files(facts.path / "unet")], dtype)


def _folder_tensors(folder: Path, ahead: ReadAhead | None = None) -> Tensors:
    """The weights in a network's diffusers folder, from all shards."""
    tensors: Tensors = {}
    for file in _weights_files(folder):
        tensors.update(Checkpoint(file, ahead))
    return tensors


def _weights_files(folder: Path) -> list[Path]:
    return [folder / name for name in find_weights(folder).files]


def _filled(model: Any, tensors: Tensors, dtype: torch.dtype, *, what: str, path: Path, drop: str = "") -> Any:
    """Load `tensors` into the empty `model`, by name. Raises ModelError if any is missing, left over or misshapen.

    drop: a prefix that the names may or may not have (transformers 5 writes CLIP without `text_model.`, published
          folders have it).
    """
    wanted = {name.removeprefix(drop): name for name in model.state_dict()}
    given = {name.removeprefix(drop): value for name, value in tensors.items()}
    shapes = {name.removeprefix(drop): tuple(value.shape) for name, value in model.state_dict().items()}
    check_names(shapes, {name: value.shape for name, value in given.items()}, what=what, path=path)
    given = {name: given[name] for name in shapes}
    model.load_state_dict({wanted[name]: value.read(dtype) for name, value in given.items()}, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _new_attention_names(tensors: Tensors) -> Tensors:
    """Rename a VAE's attention tensors from the names of diffusers before 0.15, which published folders still have."""
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        new = new_attention_name(name)
        renamed[new] = tensor[:, :, 0, 0] if new != name and tensor.ndim == 4 else tensor
    return renamed
