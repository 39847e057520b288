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
