"""The memory plan and the planner, on cards that this machine does not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.run.file import from_values
from ti_tui.run.hardware import GIB, Hardware
from ti_tui.run.memory import MIB, ComputeMode, MemoryPlan, Recompute, coefficients, is_known, keeps_text, predict
from ti_tui.run.memory_fit import smaller
from ti_tui.run.model import ModelFacts
from ti_tui.run.plan import Plan, make_plan
from ti_tui.run.prediction import PredictionTruth
from ti_tui.run.recipe import RunFile

SD1 = ModelFacts(Path("m"), True, "sd1", PredictionTruth("epsilon"), (768,), 49408, True)
SDXL = ModelFacts(Path("m"), True, "sdxl", PredictionTruth("epsilon"), (768, 1280), 49408, True)


def card(gib: float) -> Hardware:
    """A Turing card of which a desktop leaves about so much."""
    return Hardware("cuda", "card", int(gib * GIB), int(gib * 0.95 * GIB), bf16=False)


def recipe(resolution: int = 512, **tables: dict[str, Any]) -> RunFile:
    values: dict[str, Any] = {
        "format": 1,
        "model": {"base": "m"},
        "dataset": {"images": "i", "resolution": resolution},
        "embedding": {"token": "zkz"},
    }
    return from_values({**values, **tables}, Path("run.toml"))


def plan(gib: float, images: int = 20, facts: ModelFacts = SD1, resolution: int = 512, **training: Any) -> Plan:
    return make_plan(recipe(resolution, training=training), facts, images, card(gib))


def test_6_gb_hold_four_images_with_nothing_recomputed() -> None:
    made = plan(6)
    assert made.batch_size >= 4 and made.mode.recompute == "none" and made.mode.bits == 16


def test_4_gb_hold_two_images() -> None:
    made = plan(4)
    assert made.batch_size >= 2 and made.mode.bits == 16


def test_2_gb_get_8_bit_weights() -> None:
    made = plan(2)
    assert made.mode.bits == 8 and "8-bit" in made.reasons["U-Net"]
    assert made.memory is not None and made.memory.training <= 1.9 * GIB


def test_sdxl_fits_6_gb_at_1024() -> None:
    made = plan(6, facts=SDXL, resolution=1024)
    assert "may run out" not in made.reasons["memory"]
    assert made.memory is not None and made.memory.peak <= 5.7 * GIB
    assert made.mode.bits == 8 and made.mode.recompute == "all"


def test_where_there_is_room_layers_keep_what_they_like() -> None:
    assert plan(24).mode == ComputeMode(7, "plain", "none", 16)


@pytest.mark.parametrize(
    ("way", "most_gib"),
    [
        (ComputeMode(1, "lean", "none", 16), 2.4),
        (ComputeMode(1, "lean", "all", 16), 2.1),
        (ComputeMode(1, "lean", "all", 8), 1.25),
    ],
)
def test_tensors_of_one_image_stay_within_the_goals(way: ComputeMode, most_gib: float) -> None:
    memory = predict("sd1", way, resolution=512, precision="fp16", cuda=True)
    assert memory.training - memory.context <= most_gib * GIB


@pytest.mark.parametrize(("way", "most"), [("lean-none", 450), ("lean-all", 90)])
def test_what_an_image_leaves_for_backward_stays_within_the_goals(way: str, most: float) -> None:
    assert coefficients()["sd1"]["ways"][way]["kept"] <= most


@pytest.mark.parametrize("amount", ["none", "all"])
def test_the_coefficients_are_those_of_the_modules_as_they_are(amount: Recompute) -> None:
    """Measured again here, with shapes only: whoever changes the backward has to write the table anew."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from benchmarks.memory import make_unet, unet_step
    from ti_tui.training.lean import make_lean
    from ti_tui.training.recompute import set_recompute

    table = coefficients()["sd1"]["ways"][f"lean-{amount}"]
    with FakeTensorMode(allow_non_fake_inputs=True):
        unet = make_unet("sd1")
        make_lean(unet)
        set_recompute(unet, amount)
        kept, peak = unet_step(unet, "sd1", 1, 512)
    assert torch.get_default_dtype() == torch.float32
    assert kept == pytest.approx(table["kept"], rel=0.05)
    assert peak == pytest.approx(table["image"] + table["fixed"], rel=0.01)


@given(st.floats(1.5, 48), st.integers(1, 60), st.sampled_from([SD1, SDXL]), st.sampled_from([512, 768, 1024]))
def test_a_plan_fits_or_says_that_it_does_not(gib: float, images: int, facts: ModelFacts, resolution: int) -> None:
    made = plan(gib, images, facts, resolution)
    assert made.memory is not None
    fits = made.memory.training <= card(gib).free_bytes
    assert fits or "may run out of memory" in made.reasons["memory"]
    assert made.batch_size * made.accumulation >= made.effective_batch > 0
    assert made.values()["predicted_bytes"] == made.memory.training


@given(st.floats(2, 24), st.floats(0, 24))
def test_more_memory_never_takes_a_way_that_costs_more(gib: float, more: float) -> None:
    small, large = plan(gib).mode, plan(gib + more).mode
    amounts = ("none", "some", "all")
    assert large.bits >= small.bits and small.text_on_cpu >= large.text_on_cpu
    if large.bits == small.bits:
        assert amounts.index(large.recompute) <= amounts.index(small.recompute)


def test_what_the_run_file_says_is_done() -> None:
    made = plan(24, recompute="some", lean_backward="off", quantise="8bit", text_encoder="cpu", batch_size=3)
    assert made.mode == ComputeMode(3, "plain", "some", 8, text_on_cpu=True)
    assert plan(2, quantise="off").mode.bits == 16
    limited = plan(24, vram_limit_gib=3.0)
    assert limited.memory is not None and limited.memory.training <= 3 * GIB


def test_a_cpu_has_no_context_and_full_size_numbers() -> None:
    machine = Hardware("cpu", "CPU", 24 * GIB, 22 * GIB, bf16=False)
    made = make_plan(recipe(training={"batch_size": 1}), SD1, 4, machine)
    assert made.precision == "fp32" and made.mode == ComputeMode(1, "plain", "none", 16)
    assert made.memory is not None and 5.7 * GIB < made.memory.training < 6.2 * GIB
    small = Hardware("cpu", "CPU", 8 * GIB, 6 * GIB, bf16=False)
    assert make_plan(recipe(training={"batch_size": 1}), SD1, 4, small).mode == ComputeMode(1, "lean", "none", 16)


def test_each_smaller_way_needs_less() -> None:
    way: ComputeMode | None = ComputeMode(8, "plain")
    seen = []
    while way is not None:
        seen.append(predict("sd1", way, resolution=512, precision="fp16", cuda=True).training)
        way = smaller(way)
    assert seen == sorted(seen, reverse=True) and len(set(seen)) == len(seen) == 7


def mib(value: float) -> Any:
    return pytest.approx(value * MIB, abs=2)


def test_a_prediction_is_the_sum_of_what_was_measured() -> None:
    table = coefficients()["sd1"]
    image = table["ways"]["lean-none"]["image"]
    memory = predict("sd1", ComputeMode(3), resolution=512, precision="fp16", cuda=True, prompts=4)
    assert memory.unet == mib(table["unet"]) and memory.context == mib(500)
    assert memory.text == mib(table["text"] + 4 * table["prompt"])
    assert memory.activations == mib(3 * image)
    assert memory.training == memory.unet + memory.text + memory.activations + memory.context
    assert memory.caching == mib(2 * (table["vae"] + table["encode"]) + 500)
    assert memory.sampling == mib(memory.unet / MIB + memory.text / MIB + 500 + table["vae"] + table["decode"])
    assert memory.peak == max(memory.training, memory.caching, memory.sampling)
    assert predict("sd1", ComputeMode(1, "lean", "all"), resolution=512, precision="fp16", cuda=True).peak > memory.unet


def test_full_precision_takes_twice_as_much_but_for_8_bit_weights_and_the_encoding_of_images() -> None:
    def predicted(precision: Any, bits: Any) -> MemoryPlan:
        return predict("sd1", ComputeMode(2, bits=bits), resolution=512, precision=precision, cuda=True)

    half, full = predicted("bf16", 16), predicted("fp32", 16)
    assert predicted("fp16", 16) == half
    assert (full.unet, full.text, full.activations) == tuple(
        pytest.approx(2 * value, abs=2) for value in (half.unet, half.text, half.activations)
    )
    assert (full.context, full.caching) == (half.context, half.caching)
    half, full = predicted("bf16", 8), predicted("fp32", 8)
    assert half.unet == full.unet == mib(coefficients()["sd1"]["unet_8bit"])


def test_memory_grows_with_the_area_but_for_the_pieces_of_the_vae() -> None:
    table = coefficients()["sd1"]

    def predicted(resolution: int, **more: Any) -> MemoryPlan:
        return predict("sd1", ComputeMode(1, "plain"), resolution=resolution, precision="fp16", cuda=True, **more)

    small, large = predicted(512), predicted(1024)
    assert large.activations == pytest.approx(4 * small.activations, abs=4)
    assert large.caching == mib(2 * (table["vae"] + 4 * table["encode"]) + 500)
    tiled = predicted(1024, tiled=True)
    assert tiled.caching == mib(2 * (table["vae"] + table["encode_tiled"]) + 500)
    assert tiled.training == large.training
    # Guided, two images go through the U-Net at once: here they need more than a tile of the VAE.
    rest = (large.unet + large.text) / MIB + 500
    assert tiled.sampling == mib(rest + max(2 * table["forward"] * 4, table["vae"] + table["decode_tiled"]))
    assert large.sampling == mib(rest + table["vae"] + 4 * table["decode"])
    matrices = table["ways"]["plain-none"]["matrices"]
    assert predicted(1024, attention="plain").activations - large.activations == mib(16 * matrices)
    assert predicted(1024, attention="xformers") == large


def test_beside_the_card_the_text_takes_none_of_its_memory() -> None:
    overhead = predict("sd1", ComputeMode(1, text_on_cpu=True), resolution=512, precision="fp16", cuda=True)
    assert overhead.text == 0
    assert predict("sd1", ComputeMode(1), resolution=512, precision="fp32", cuda=False).context == mib(820)


@pytest.mark.parametrize(
    ("way", "prompts", "kept"),
    [
        (ComputeMode(1), 4, True),
        (ComputeMode(1), 5, False),
        (ComputeMode(6), 6, True),
        (ComputeMode(6), 7, False),
        (ComputeMode(6, recompute="some"), 1, False),
    ],
)
def test_few_prompts_are_kept_for_backward_where_nothing_is_recomputed(
    way: ComputeMode, prompts: int, kept: bool
) -> None:
    assert keeps_text(prompts, way) is kept
    text = coefficients()["sd1"]["text"] + coefficients()["sd1"]["prompt"] * prompts * kept
    assert predict("sd1", way, resolution=512, precision="fp16", cuda=True, prompts=prompts).text == mib(text)


def test_models_of_an_unpublished_size_are_not_known() -> None:
    assert is_known(SD1) and is_known(SDXL)
    assert not is_known(replace(SD1, widths=(64,))) and not is_known(replace(SDXL, widths=(768,)))


def chain(way: ComputeMode) -> list[ComputeMode]:
    """All compute modes that a run falls back to, one after the other."""
    found: list[ComputeMode] = []
    after = smaller(way)
    while after is not None:
        found.append(after)
        after = smaller(after)
    return found


def test_out_of_memory_takes_the_lean_backward_then_halves_the_batch_then_recomputes() -> None:
    assert chain(ComputeMode(8, "plain")) == [
        ComputeMode(8, "lean"),
        ComputeMode(4, "lean"),
        ComputeMode(2, "lean"),
        ComputeMode(1, "lean"),
        ComputeMode(1, "lean", "some"),
        ComputeMode(1, "lean", "all"),
    ]


@pytest.mark.parametrize(("size", "halves"), [(7, [4, 2, 1]), (5, [3, 2, 1]), (3, [2, 1]), (2, [1])])
def test_a_micro_batch_is_halved_and_rounded_up(size: int, halves: list[int]) -> None:
    sizes = [way.batch_size for way in chain(ComputeMode(size, "lean", "all"))]
    assert sizes == halves


def test_falling_back_keeps_what_changes_the_result() -> None:
    for way in chain(ComputeMode(4, "plain", "some", 8, text_on_cpu=True)):
        assert way.bits == 8 and way.text_on_cpu and way.recompute in ("some", "all")


@pytest.mark.parametrize(("images", "sizes"), [(5, {1, 2, 3, 5}), (8, {1, 2, 3, 4, 8}), (20, {1, 2, 3, 4, 5, 7})])
def test_micro_batches_of_a_step_are_of_even_sizes(images: int, sizes: set[int]) -> None:
    """Of 5 images, 3 + 2 and never 4 + 1."""
    limits = [2.0 + step / 8 for step in range(80)]
    found = {plan(24, images, vram_limit_gib=limit, quantise="off").batch_size for limit in limits}
    assert found <= sizes and {1, max(sizes)} <= found


def test_plain_attention_is_counted_with_its_matrices() -> None:
    fused, plain = (
        predict("sd1", ComputeMode(1), resolution=512, precision="fp16", attention=attention, cuda=True)
        for attention in ("sdpa", "plain")
    )  # fmt: skip
    assert plain.activations - fused.activations > 1400 * MIB


def test_a_plan_counts_the_attention_that_the_run_file_asks_for() -> None:
    made = plan(24, attention="plain", batch_size=1, recompute="off", lean_backward="off", quantise="off")
    way = ComputeMode(1, "plain")
    memory = predict("sd1", way, resolution=512, precision="fp16", attention="plain", cuda=True, prompts=20)
    assert made.memory is not None and made.memory.activations == memory.activations


def test_pictures_pass_the_vae_in_pieces_where_whole_ones_would_not_fit() -> None:
    roomy, tight = plan(24, facts=SDXL, resolution=1024), plan(6, facts=SDXL, resolution=1024)
    assert not roomy.fit.tiled_caching and not roomy.fit.tiled_sampling
    assert tight.fit.tiled_sampling and "in tiles" in tight.reasons["VAE"]


@pytest.mark.parametrize("images", [5, 8, 20, 30])
def test_what_goes_on_beside_takes_a_tenth_of_the_time_at_most(images: int) -> None:
    overhead = plan(6, images).overhead
    assert overhead.samples > 0 and 0 < overhead.evaluation <= 0.05
    assert overhead.samples + overhead.evaluation <= 0.10


def test_many_previews_are_told_and_leave_the_eval_loss_a_hundredth() -> None:
    run = recipe(sample={"every_steps": 5, "prompts": ["a [name]", "a [name] at night"]})
    overhead = make_plan(run, SD1, 5, card(6)).overhead
    assert overhead.samples > 0.3 and overhead.evaluation <= 0.01
    assert f"samples {overhead.samples * 100:.2g} %" in overhead.describe()


@pytest.mark.parametrize(
    ("kind", "steps", "expected"), [("cuda", 20_000, "blocks"), ("cuda", 20, "off"), ("cpu", 20_000, "off")]
)
def test_only_long_runs_on_cards_are_compiled_unasked(kind: Any, steps: int, expected: str) -> None:
    scheme = {"segments": [{"learning_rate": 0.01, "steps": steps}]}
    run = recipe(training={"compile": "auto"}, scheme=scheme)
    made = make_plan(run, SD1, 10, Hardware(kind, "device", 8 * GIB, 7 * GIB, bf16=False))
    assert made.compile == expected and made.reasons["compile"]
    assert make_plan(recipe(scheme=scheme), SD1, 10, card(6)).compile == "off"
