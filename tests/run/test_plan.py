"""What `auto` becomes, counted by hand: images of a step, epochs, and what is due when."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.run.file import from_values
from ti_tui.run.hardware import GIB, Hardware
from ti_tui.run.model import ModelFacts
from ti_tui.run.plan import Plan, make_plan
from ti_tui.run.prediction import PredictionTruth

TINY = ModelFacts(Path("m"), True, "sd1", PredictionTruth("epsilon"), (64,), 49408, True)
CPU = Hardware("cpu", "a CPU", 8 * GIB, 6 * GIB, bf16=False)
CARD = Hardware("cuda", "a card", 8 * GIB, 6 * GIB, bf16=False)
NEW_CARD = Hardware("cuda", "a card", 8 * GIB, 6 * GIB, bf16=True)


def plan(images: int = 4, *, hardware: Hardware = CPU, steps: int = 20, **tables: dict[str, Any]) -> Plan:
    values: dict[str, Any] = {
        "format": 1,
        "model": {"base": "m"},
        "dataset": {"images": "i"},
        "embedding": {"token": "zkz"},
        "scheme": {"segments": [{"learning_rate": 0.01, "steps": steps}]},
        **tables,
    }
    return make_plan(from_values(values, Path("run.toml")), TINY, images, hardware)


@pytest.mark.parametrize(
    ("images", "effective"), [(1, 1), (40, 40), (41, 21), (80, 40), (81, 27), (120, 40), (1000, 40), (0, 1)]
)
def test_a_step_uses_every_image_or_an_even_part_of_at_most_40(images: int, effective: int) -> None:
    assert plan(images).effective_batch == effective


@pytest.mark.parametrize(
    ("batch", "accumulation", "expected"),
    [
        # batch size, micro-batches, images of a step; of 10 images where both are auto.
        ("auto", "auto", (5, 2, 10)),
        (4, "auto", (4, 3, 10)),
        ("auto", 3, (8, 3, 24)),
        (4, 3, (4, 3, 12)),
        (16, "auto", (16, 1, 10)),
    ],
)
def test_batch_size_and_accumulation(batch: Any, accumulation: Any, expected: tuple[int, int, int]) -> None:
    made = plan(10, training={"batch_size": batch, "accumulation": accumulation})
    assert (made.batch_size, made.accumulation, made.effective_batch) == expected
    assert made.epoch_steps == 10 / expected[2]


@pytest.mark.parametrize(
    ("training", "numbers"),
    [
        # Micro-batches, their size, the last of them, images.
        ({"batch_size": 4}, [3, 4, 2, 10]),
        ({"batch_size": 5}, [2, 5, 10]),
        ({"batch_size": 10}, [10, 10]),
        ({"batch_size": 4, "accumulation": 2}, [2, 4, 8, 10]),
    ],
)
def test_a_step_is_told_by_its_numbers(training: dict[str, Any], numbers: list[int]) -> None:
    words = "".join(letter if letter.isdigit() else " " for letter in plan(10, training=training).reasons["step"])
    assert [int(word) for word in words.split()] == numbers


@pytest.mark.parametrize(
    ("hardware", "wanted", "precision"),
    [
        (CPU, "auto", "fp32"),
        (CARD, "auto", "fp16"),
        (NEW_CARD, "auto", "bf16"),
        (CPU, "bf16", "bf16"),
        (NEW_CARD, "fp16", "fp16"),
        (NEW_CARD, "fp32", "fp32"),
    ],
)
def test_the_precision_of_a_device(hardware: Hardware, wanted: str, precision: str) -> None:
    made = plan(hardware=hardware, training={"precision": wanted})
    assert made.precision == precision and precision in made.reasons["precision"]


def test_attention_is_that_of_the_run_file_or_torchs_own() -> None:
    assert plan().attention == "sdpa"
    assert plan(training={"attention": "plain"}).attention == "plain"


def test_epochs_are_counted_in_images() -> None:
    made = plan(6, training={"batch_size": 4, "accumulation": 1})
    assert made.epoch_steps == 1.5
    assert [made.epoch_at(step) for step in range(8)] == [0, 0, 1, 2, 2, 3, 4, 4]


def test_checkpoints_come_by_steps_by_epochs_and_at_the_end() -> None:
    def due(images: int = 4, **save: int) -> list[int]:
        made = plan(images, steps=10, training={"batch_size": 4, "accumulation": 1}, save=save)
        found = [step for step in range(1, 11) if made.save_due(step)]
        assert made.saves() == len(found)
        return found

    assert due(every_steps=4) == [4, 8, 10]
    assert due(every_steps=5) == [5, 10]
    assert due(every_steps=0) == [10]
    assert due(every_steps=0, every_epochs=3) == [3, 6, 9, 10]
    assert due(every_steps=4, every_epochs=3) == [3, 4, 6, 8, 9, 10]
    # 10 images in steps of 4: epochs end within the steps 3, 5, 8 and 10.
    assert due(10, every_steps=0, every_epochs=1) == [3, 5, 8, 10]
    assert due(10, every_steps=0, every_epochs=2) == [5, 10]


@given(st.integers(1, 60), st.integers(0, 25), st.integers(0, 25))
def test_checkpoints_and_samples_are_counted_without_going_through_the_steps(
    steps: int, save: int, sample: int
) -> None:
    made = plan(steps=steps, save={"every_steps": save}, sample={"every_steps": sample, "prompts": ["a [name]"]})
    assert made.saves() == sum(made.save_due(step) for step in range(1, steps + 1))
    assert made.samples() == sum(made.sample_due(step) for step in range(steps + 1))


def test_samples_come_by_steps_by_epochs_at_the_start_and_the_end() -> None:
    def due(**sample: Any) -> list[int]:
        made = plan(4, steps=10, sample={"prompts": ["a [name]"], **sample})
        found = [step for step in range(11) if made.sample_due(step)]
        assert made.samples() == len(found)
        return found

    assert due(every_steps=4) == [0, 4, 8, 10]
    assert due(every_steps=0, every_epochs=4) == [0, 4, 8, 10]
    assert due(every_steps=0) == []
    assert due(every_steps=4, prompts=[]) == [] and due(every_steps=0, every_epochs=4, prompts=[]) == []


def test_a_million_steps_are_counted_at_once() -> None:
    made = plan(steps=1_000_000, save={"every_steps": 7})
    assert made.saves() == math.ceil(1_000_000 / 7)


def test_the_decisions_stand_in_the_log_as_plain_values() -> None:
    values = plan(10, training={"batch_size": 4, "attention": "plain"}).values()
    assert values == {
        "device": "cpu", "device_name": "a CPU", "precision": "fp32", "attention": "plain", "batch_size": 4,
        "backward": "plain", "recompute": "none", "bits": 16, "text_on_cpu": False, "compile": "off",
        "accumulation": 3, "effective_batch": 10, "predicted_bytes": None,
    }  # fmt: skip
