"""What a model's files say about its prediction type and noise schedule, and which of it decides. No torch.

A wrong prediction type trains towards a wrong target without any error, so every place that may name it is read; the
first one decides, and the others are told when they disagree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ti_tui import bounded
from ti_tui.errors import UserError

Prediction = Literal["epsilon", "v_prediction"]

NAMES: dict[str, Prediction] = {
    **dict.fromkeys(("epsilon", "eps"), "epsilon"),
    **dict.fromkeys(("v", "v_prediction", "v-prediction", "vpred", "v_pred", "velocity"), "v_prediction"),
}
"""What metadata and configurations call the two types."""
MODELSPEC = ("modelspec.prediction_type", "modelspec.predict_key")
"""kohya's trainers write the first, the ModelSpec standard names the second."""
EDM_TENSORS = {"edm_vpred.sigma_max": "CosXL", "edm_mean": "Playground 2.5", "edm_std": "Playground 2.5"}
"""Tensors that mark EDM models, as ComfyUI and Forge know them; the models that they came with."""
USE_INSTEAD = "Use a model with epsilon or v-prediction, such as SDXL base 1.0."


class OtherObjective(UserError):
    """A model that was trained towards something else: EDM, flow matching, the image itself."""


@dataclass(frozen=True)
class PredictionTruth:
    """What the files of a model say.

    prediction: None if they do not say; the U-Net is then asked at the start.
    decided_by: the place that says it, in words; "" if none does.
    doubts:     what disagrees with it, as sentences.
    zero_snr:   the noise schedule ends in pure noise (zero terminal SNR).
    """

    prediction: Prediction | None = None
    decided_by: str = ""
    doubts: tuple[str, ...] = ()
    zero_snr: bool = False

    def chosen(self, wanted: str) -> PredictionTruth:
        """This with the prediction type of the run file, unless that is "auto"."""
        if wanted == "auto":
            return self
        return _decided([("model.prediction in the run file", wanted), *self._said()], self.zero_snr, self.doubts)

    def _said(self) -> list[tuple[str, str]]:
        return [(self.decided_by, self.prediction)] if self.prediction else []

    def in_words(self) -> str:
        """What decides, for people."""
        decides = f"{self.prediction}, by {self.decided_by}" if self.prediction else "the U-Net is asked at the start"
        return decides + (", with zero terminal SNR" if self.zero_snr else "")


def of_file(path: Path, names: Collection[str], metadata: Mapping[str, str]) -> PredictionTruth:
    """What a single-file checkpoint says: by its tensors' names, its metadata and the .yaml beside it, in this order.

    Raises OtherObjective for EDM and flow-matching models.
    """
    for tensor, model in EDM_TENSORS.items():
        if tensor in names:
            raise _other(path, f"an EDM model, such as {model} (it has the tensor {tensor})")
    # NoobAI's convention, which ComfyUI and Forge follow: empty tensors of these names.
    said = [("the tensor v_pred in the file", "v_prediction")] if "v_pred" in names else []
    for key in MODELSPEC:
        if value := metadata.get(key, "").strip().lower():
            said.append((f"{key} in the file's metadata", value))
    doubts: tuple[str, ...] = ()
    if (beside := path.with_suffix(".yaml")).exists():
        try:
            said += [(beside.name, value) for value in _in_yaml(bounded.read_yaml(beside))]
        except (OSError, ValueError) as error:
            doubts = (f"{beside.name} beside the model cannot be read and is ignored: {error}",)
    for place, value in said:
        if any(word in value for word in ("edm", "flow", "sample")):
            raise _other(path, f"of another kind: {place} is {value!r}")
    return _decided(said, "ztsnr" in names, doubts)


def of_folder(path: Path, scheduler: Mapping[str, Any]) -> PredictionTruth:
    """What a diffusers folder says by its scheduler's configuration. Raises OtherObjective."""
    name, kind = str(scheduler.get("_class_name", "")), str(scheduler.get("prediction_type", "epsilon"))
    place = "scheduler/scheduler_config.json"
    if name.startswith(("EDM", "FlowMatch")) or scheduler.get("use_flow_sigmas"):
        raise _other(path, f"of another kind: its scheduler is {name or 'for flow matching'} ({place})")
    if kind not in NAMES:
        raise _other(path, f"of another kind: prediction_type is {kind!r} ({place})")
    return _decided([(place, kind)], bool(scheduler.get("rescale_betas_zero_snr")), ())


def _decided(said: list[tuple[str, str]], zero_snr: bool, doubts: tuple[str, ...]) -> PredictionTruth:
    """The truth from (place, what it says), the first place that can be understood being right."""
    known = [(place, NAMES[value]) for place, value in said if value in NAMES]
    doubts += tuple(f"{place} says {value!r}, which is not known" for place, value in said if value not in NAMES)
    if not known:
        return PredictionTruth(None, "", doubts, zero_snr)
    decided_by, prediction = known[0]
    others = [f"{place} says {value}" for place, value in known[1:] if value != prediction]
    if zero_snr and prediction == "epsilon":
        others.append("its noise schedule ends in pure noise, from which only v-prediction can learn")
    doubts += tuple(f"{prediction} is trained, by {decided_by}, but {other}" for other in others)
    return PredictionTruth(prediction, decided_by, doubts, zero_snr)


def _in_yaml(content: Any) -> Iterator[str]:
    """What an original configuration says: SD's `parameterization`, or the scaling of SDXL's denoiser."""
    params = _table(_table(content, "model"), "params")
    denoiser = _table(_table(params, "denoiser_config"), "params")
    scaling = str(_table(denoiser, "scaling_config").get("target", "")).rpartition(".")[2]
    if isinstance(named := params.get("parameterization"), str):
        yield named.strip().lower()
    elif scaling:
        known = {"EpsScaling": "epsilon", "VScaling": "v_prediction"}
        yield known.get(scaling, "edm" if "EDM" in scaling else scaling)
    elif "unet_config" in params:
        # The default of the original program.
        yield "epsilon"


def _table(value: Any, key: str) -> dict[str, Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _other(path: Path, what: str) -> OtherObjective:
    message = f"{path} is {what}, which learns another target with other noise than ti_tui trains with"
    return OtherObjective(message, remedy=USE_INSTEAD)
