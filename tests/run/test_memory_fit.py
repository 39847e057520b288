"""Which compute mode is taken with how much memory, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ti_tui.run.file import from_values
from ti_tui.run.hardware import GIB, Hardware
from ti_tui.run.memory import ComputeMode, predict
from ti_tui.run.memory_fit import Fit, find_fit, limit_of
from ti_tui.run.model import ModelFacts
from ti_tui.run.prediction import PredictionTruth
from ti_tui.run.recipe import RunFile

SD1 = ModelFacts(Path("m"), True, "sd1", PredictionTruth("epsilon"), (768,), 49408, True)
TINY = ModelFacts(Path("m"), True, "sd1", PredictionTruth("epsilon"), (64,), 49408, True)
PINNED = {"batch_size": 1, "recompute": "off", "quantise": "off", "text_encoder": "device"}


def recipe(**training: Any) -> RunFile:
    values = {"format": 1, "model": {"base": "m"}, "dataset": {"images": "i"}, "embedding": {"token": "zkz"}}
    return from_values({**values, "training": training}, Path("run.toml"))


def card(limit: float) -> Hardware:
    """A card of which a plan may fill so many bytes."""
    return Hardware("cuda", "card", int(2 * limit), int(limit / 0.95), bf16=False)


def fit(
    limit: float, *, effective: int = 4, facts: ModelFacts = SD1, hardware: Hardware | None = None, **training: Any
) -> tuple[Fit, dict[str, str]]:
    reasons: dict[str, str] = {}
    device = hardware or card(limit)
    precision: Any = "fp16" if device.kind == "cuda" else "fp32"
    return find_fit(recipe(**training), facts, device, precision, "sdpa", effective, reasons), reasons


def needed(way: ComputeMode, prompts: int = 4) -> int:
    return predict("sd1", way, resolution=512, precision="fp16", cuda=True, prompts=prompts).training


def test_the_limit_is_that_of_the_run_file_or_most_of_what_is_free() -> None:
    hardware = Hardware("cuda", "card", 8 * GIB, 6 * GIB, bf16=False)
    assert limit_of(recipe(), hardware) == int(6 * GIB * 0.95)
    assert limit_of(recipe(vram_limit_gib=1.5), hardware) == int(1.5 * GIB)


def test_a_model_of_no_known_size_gets_all_at_once_and_no_prediction() -> None:
    found, reasons = fit(1.0, facts=TINY, effective=5)
    assert found == Fit(ComputeMode(5, "plain", "none", 16), None) and set(reasons) == {"memory"}
    assert fit(1.0, facts=TINY, effective=0)[0].mode.batch_size == 8


def test_layers_keep_all_they_like_only_with_a_fifth_to_spare() -> None:
    need = needed(ComputeMode(1, "plain"))
    assert fit(need / 0.8 + 10, **PINNED)[0].mode.backward == "plain"
    assert fit(need / 0.8 - 10, **PINNED)[0].mode.backward == "lean"
    # Where the run file says so, nothing needs to be spared.
    found, reasons = fit(need + 10, lean_backward="off", **PINNED)
    assert found.mode.backward == "plain" and "may run out" not in reasons["memory"]
    assert "may run out" in fit(need - 10, lean_backward="off", **PINNED)[1]["memory"]


def test_a_plan_takes_all_of_the_limit_and_no_more() -> None:
    way = ComputeMode(2, "lean")
    pinned = {**PINNED, "batch_size": "auto", "lean_backward": "on"}
    assert fit(needed(way) + 10, **pinned)[0].mode == way
    assert fit(needed(way) - 10, **pinned)[0].mode == ComputeMode(1, "lean")


def test_where_nothing_fits_the_least_of_all_is_taken() -> None:
    found, reasons = fit(GIB / 2)
    assert found.mode == ComputeMode(1, "lean", "all", 8, text_on_cpu=True)
    assert "may run out of memory" in reasons["memory"] and "0.5" in reasons["memory"]


def test_with_less_and_less_memory_a_plan_gives_up_speed_before_exact_weights() -> None:
    seen = []
    for tenths in range(120, 8, -1):
        way = fit(tenths / 10 * GIB, effective=8)[0].mode
        if way not in seen:
            seen.append(way)
    bits, beside = [way.bits for way in seen], [way.text_on_cpu for way in seen]
    assert bits == sorted(bits, reverse=True) and beside == sorted(beside)
    # Recomputing comes before 8 bits, and these before the text encoder beside the card.
    first = seen[bits.index(8) - 1]
    assert first.recompute == "all" and not first.text_on_cpu
    assert seen[0] == ComputeMode(8, "plain", "none", 16) and seen[-1] == ComputeMode(1, "lean", "all", 8, True)


def test_a_cpu_neither_rounds_weights_nor_has_a_place_beside() -> None:
    found, _ = fit(GIB, hardware=Hardware("cpu", "CPU", GIB, GIB, bf16=False))
    assert found.mode == ComputeMode(1, "lean", "all", 16, False)


def test_images_and_samples_pass_the_vae_in_pieces_only_where_whole_ones_do_not_fit() -> None:
    run: dict[str, Any] = {**PINNED, "lean_backward": "on"}
    way = ComputeMode(1, "lean")
    whole, pieces = (
        predict("sd1", way, resolution=512, precision="fp16", cuda=True, prompts=4, tiled=tiled)
        for tiled in (False, True)
    )
    found, reasons = fit(24 * GIB, **run)
    assert found == Fit(way, whole, False, False) and "VAE" not in reasons
    # So little that neither fits: what is predicted is that of pieces.
    found, reasons = fit(min(whole.caching, whole.sampling) - GIB / 4, **run)
    assert found.tiled_caching and found.tiled_sampling and "tiles" in reasons["VAE"]
    assert found.memory is not None
    assert (found.memory.caching, found.memory.sampling) == (pieces.caching, pieces.sampling)
    between = (whole.caching + whole.sampling) / 2
    found, _ = fit(between, **run)
    assert (found.tiled_caching, found.tiled_sampling) == (whole.caching > between, whole.sampling > between)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"lean_backward": "off", "recompute": "off"}, {"backward": "plain"}),
        ({"lean_backward": "off", "recompute": "some"}, {"backward": "plain", "recompute": ""}),
        ({"lean_backward": "on", "recompute": "on"}, {"backward": "lean", "recompute": ""}),
        ({"lean_backward": "on", "recompute": "off"}, {"backward": "lean"}),
    ],
)
@pytest.mark.parametrize("small", [False, True])
def test_there_is_a_reason_for_each_decision(training: dict[str, Any], said: dict[str, str], small: bool) -> None:
    more = {"quantise": "8bit", "text_encoder": "cpu"} if small else {"quantise": "off", "text_encoder": "device"}
    found, reasons = fit(24 * GIB, batch_size=1, **more, **training)
    expected = {"memory", "holds", *said, *(("U-Net", "text encoder") if small else ())}
    assert set(reasons) == expected and all(reasons.values())
    assert reasons["backward"].startswith(said["backward"])
    assert found.memory is not None and f"{found.memory.training / GIB:.1f} of 24.0 GiB" in reasons["memory"]
    assert (", text " in reasons["holds"]) is not small
    for part in (found.memory.unet, found.memory.activations, found.memory.context):
        assert f"{part / GIB:.1f}" in reasons["holds"]


def test_what_is_said_of_recomputing_and_backward_tells_its_kinds_apart() -> None:
    def said(name: str, **training: Any) -> str:
        return fit(24 * GIB, batch_size=1, quantise="off", **training)[1][name]

    kinds = {said("backward", lean_backward=lean, recompute=amount)
             for lean, amount in (("on", "off"), ("off", "off"), ("off", "some"))}  # fmt: skip
    assert len(kinds) == 3
    assert said("recompute", recompute="some") != said("recompute", recompute="on")
    assert len({said("memory", lean_backward="on", recompute=amount)[-30:] for amount in ("off", "some", "on")}) == 3
