"""What only a card can show; skipped without one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.conftest import MakeRun, result
from ti_tui.run.events import EventReader

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch sees none here"),
]


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_a_card_trains_to_about_the_rows_of_the_cpu(
    make_run: MakeRun, train: Callable[..., int], precision: str
) -> None:
    cpu = make_run(name="cpu", scheme="0.005:5")
    gpu = make_run(name="gpu", scheme="0.005:5", **{"training.device": "cuda", "training.precision": precision})
    assert train(cpu) == train(gpu) == 0
    ours, theirs = result(gpu).in_order()[0].ravel(), result(cpu).in_order()[0].ravel()
    cosine = float(np.dot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs))
    assert cosine > 0.99


def test_the_vae_leaves_the_card_before_training(make_run: MakeRun, train: Callable[..., int]) -> None:
    folder = make_run(scheme="0.005:4", **{"training.device": "cuda", "sample.every_steps": 2})
    assert train(folder) == 0
    memory = [event for event in EventReader(folder.events).read_all() if event.kind == "memory"]
    assert memory and memory[0]["used_bytes"] > 0
    assert torch.cuda.memory_allocated() < memory[0]["peak_bytes"]


def test_xformers_trains_to_about_the_rows_of_sdpa(make_run: MakeRun, train: Callable[..., int]) -> None:
    pytest.importorskip("xformers", reason="xformers is not installed")
    rows = []
    for attention in ("sdpa", "xformers"):
        folder = make_run(
            name=attention, scheme="0.005:5", **{"training.device": "cuda", "training.attention": attention}
        )
        assert train(folder) == 0
        rows.append(result(folder).in_order()[0].ravel())
    cosine = float(np.dot(rows[0], rows[1]) / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1]))
    assert cosine > 0.99


@pytest.mark.parametrize(
    "settings",
    [
        {"training.lean_backward": "on"},
        {"training.recompute": "on"},
        {"training.quantise": "8bit"},
        {"training.text_encoder": "cpu"},
        {"training.channels_last": "on"},
        {"training.compile": "blocks"},
        {"training.compile": "full"},
    ],
    ids=lambda settings: "-".join(map(str, *settings.items())),
)
def test_every_way_trains_to_about_the_same_rows(
    make_run: MakeRun, train: Callable[..., int], settings: dict[str, str]
) -> None:
    plain = make_run(name="plain", scheme="0.005:5", **{"training.device": "cuda", "training.precision": "fp32"})
    other = make_run(
        name="other", scheme="0.005:5", **{"training.device": "cuda", "training.precision": "fp32"}, **settings
    )
    assert train(plain) == train(other) == 0
    assert not [event for event in EventReader(other.events).read_all() if event.kind == "warning"]
    ours, theirs = result(other).in_order()[0].ravel(), result(plain).in_order()[0].ravel()
    assert float(np.dot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs)) > 0.99


def test_a_card_that_runs_out_of_memory_goes_on_with_smaller_micro_batches(
    make_run: MakeRun, train: Callable[..., int]
) -> None:
    settings = {"training.device": "cuda", "training.precision": "fp32", "dataset.resolution": 512}
    whole, folder = make_run(name="whole", **settings), make_run(**settings)
    torch.cuda.empty_cache()
    assert train(whole) == 0
    peak = max(event["peak_bytes"] for event in EventReader(whole.events).read_all() if event.kind == "memory")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.7 * peak / total)
    try:
        assert train(folder) == 0
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    said = [str(event["message"]) for event in EventReader(folder.events).read_all() if event.kind == "warning"]
    assert said and all(message.startswith("out of memory: ") for message in said)
    np.testing.assert_allclose(result(whole).in_order()[0], result(folder).in_order()[0], rtol=1e-2, atol=1e-3)
