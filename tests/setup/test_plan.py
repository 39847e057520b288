"""The plan and the checks behind it, on hardware that this machine does not have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import MakeRun, edit
from ti_tui.run.file import from_values
from ti_tui.run.hardware import GIB, Hardware
from ti_tui.run.model import ModelFacts
from ti_tui.run.optimizers import OPTIMIZERS, OptimizerClass
from ti_tui.run.plan import MAX_AUTO_EFFECTIVE, Plan, make_plan
from ti_tui.run.prediction import PredictionTruth
from ti_tui.setup import check_machine
from ti_tui.setup.check import check_run

RTX_2060 = Hardware("cuda", "RTX 2060", 6 * GIB, int(5.6 * GIB), bf16=False)
RTX_4090 = Hardware("cuda", "RTX 4090", 24 * GIB, 23 * GIB, bf16=True)
SD1 = ModelFacts(Path("m"), True, "sd1", PredictionTruth("epsilon"), (768,), 49408, True)
SDXL = ModelFacts(Path("m"), True, "sdxl", PredictionTruth("epsilon"), (768, 1280), 49408, True)


def plan(hardware: Hardware, images: int, facts: ModelFacts = SD1, resolution: int = 512, **training: object) -> Plan:
    values = {
        "format": 1,
        "model": {"base": "m"},
        "dataset": {"images": "i", "resolution": resolution},
        "embedding": {"token": "zkz"},
        "training": training,
    }
    return make_plan(from_values(values, Path("run.toml")), facts, images, hardware)


def test_an_rtx_2060_gets_fp16_and_several_images_at_once_without_recomputing() -> None:
    made = plan(RTX_2060, 23)
    assert (made.precision, made.mode.recompute, made.mode.bits) == ("fp16", "none", 16)
    assert made.batch_size >= 4 and made.effective_batch == 23
    assert made.memory is not None and made.memory.training <= RTX_2060.free_bytes
    assert "one step uses each of the 23 images once" in made.reasons["step"]


def test_a_newer_card_gets_bf16() -> None:
    assert plan(RTX_4090, 23).precision == "bf16"


def test_what_does_not_fit_is_computed_twice_and_then_told() -> None:
    small = Hardware("cuda", "card", 3 * GIB, int(2.9 * GIB), bf16=False)
    made = plan(small, 4)
    assert made.mode.recompute != "none" and made.mode.bits == 16 and "recomputed" in made.reasons["memory"]
    tiny = Hardware("cuda", "card", GIB, int(0.9 * GIB), bf16=False)
    made = plan(tiny, 4)
    assert "this may run out of memory" in made.reasons["memory"]
    assert (made.batch_size, made.mode.recompute, made.mode.bits, made.mode.text_on_cpu) == (1, "all", 8, True)


def test_a_limit_on_the_cards_memory_is_kept() -> None:
    made = plan(RTX_4090, 23, vram_limit_gib=4.0)
    assert made.memory is not None and made.memory.training <= 4 * GIB
    assert made.batch_size < plan(RTX_4090, 23).batch_size


@given(st.integers(1, 500))
def test_auto_uses_every_image_in_few_micro_batches_of_nearly_equal_size(images: int) -> None:
    made = plan(RTX_4090, images)
    assert made.batch_size * (made.accumulation - 1) < made.effective_batch <= made.batch_size * made.accumulation
    if images <= MAX_AUTO_EFFECTIVE:
        assert made.effective_batch == images and made.epoch_steps == 1
    else:
        assert made.effective_batch <= MAX_AUTO_EFFECTIVE and made.epoch_steps * made.effective_batch == pytest.approx(
            images
        )


@given(st.integers(1, 60), st.integers(1, 16), st.integers(1, 16))
def test_explicit_numbers_are_taken_as_they_are(images: int, batch: int, accumulation: int) -> None:
    made = plan(RTX_4090, images, batch_size=batch, accumulation=accumulation)
    assert (made.batch_size, made.accumulation, made.effective_batch) == (batch, accumulation, batch * accumulation)


def test_saves_and_samples_come_when_they_are_due() -> None:
    values = {
        "format": 1,
        "model": {"base": "m"},
        "dataset": {"images": "i"},
        "embedding": {"token": "zkz"},
        "scheme": {"segments": [{"learning_rate": 0.1, "steps": 10}]},
        "training": {"batch_size": 2, "accumulation": 1},
        "save": {"every_steps": 4, "every_epochs": 2},
        "sample": {"every_steps": 5},
    }
    made = make_plan(from_values(values, Path("run.toml")), SD1, 3, RTX_4090)
    assert [step for step in range(1, 11) if made.save_due(step)] == [3, 4, 6, 8, 9, 10]
    assert [step for step in range(11) if made.sample_due(step)] == [0, 5, 10]
    assert (made.saves(), made.samples()) == (6, 3)


@pytest.mark.parametrize(("every", "steps"), [(0, []), (5, [0, 5, 10, 12]), (100, [0, 12])])
def test_previews_show_the_start_and_the_end_unless_they_are_off(every: int, steps: list[int]) -> None:
    values = {
        "format": 1,
        "model": {"base": "m"},
        "dataset": {"images": "i"},
        "embedding": {"token": "zkz"},
        "scheme": {"segments": [{"learning_rate": 0.1, "steps": 12}]},
        "sample": {"every_steps": every},
    }
    made = make_plan(from_values(values, Path("run.toml")), SD1, 3, RTX_4090)
    assert [step for step in range(13) if made.sample_due(step)] == steps
    assert made.samples() == len(steps)


@pytest.mark.parametrize(
    ("every", "steps"), [(7, [0, 7, 14, 20]), (5, [0, 5, 10, 15, 20]), (100, [0, 20]), (1, list(range(21))), (0, [])]
)
def test_evaluations_come_at_their_stride_at_the_start_and_at_the_end(every: int, steps: list[int]) -> None:
    values = {
        "format": 1,
        "model": {"base": "m"},
        "dataset": {"images": "i"},
        "embedding": {"token": "zkz"},
        "scheme": {"segments": [{"learning_rate": 0.01, "steps": 20}]},
        "evaluation": {"every_steps": every},
    }
    made = make_plan(from_values(values, Path("run.toml")), SD1, 4, RTX_2060)
    assert [step for step in range(21) if made.evaluation_due(step)] == steps


def test_an_optimizer_that_is_not_installed_says_how_to_install_it(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIMIZERS, "prodigy", OptimizerClass("a_package_that_is_not_there", "Prodigy"))
    folder = make_run()
    edit(folder, 'optimizer = "adamw"', 'optimizer = "prodigy"')
    (problem,) = check_run(folder).problems.errors
    assert problem.field == "training.optimizer" and problem.line is not None
    assert problem.remedy == "Install it: pip install a_package_that_is_not_there"


def test_a_read_only_run_and_a_full_disk_are_told_before_the_start(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run()
    monkeypatch.setattr(check_machine.os, "access", lambda path, mode: False)
    assert "cannot be written to" in str(check_run(folder).problems.errors[-1])
    monkeypatch.undo()
    monkeypatch.setattr(check_machine.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    assert "are free in" in str(check_run(folder).problems.errors[-1])
