"""Out of memory is not the end: at every place where it can happen, with an allocator that really has a limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import MakeRun, result
from tests.fixtures.limited_memory import LimitedMemory
from tests.training.running import Train, events, open_trainer
from ti_tui.errors import TrainingError
from ti_tui.run.folder import RunFolder
from ti_tui.training import latents, opening


def warnings(folder: RunFolder) -> list[str]:
    return [str(event["message"]) for event in events(folder, "warning")]


def vectors(folder: RunFolder) -> Any:
    return result(folder).in_order()[0]


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.9, "lean backward"),
        (0.7, "micro-batches of 2"),
        (0.5, "micro-batches of 1"),
        (0.45, "activations recomputed"),
    ],
)
def test_training_goes_on_in_the_memory_there_is_with_the_same_result(
    make_run: MakeRun, share: float, said: str
) -> None:
    short = {"scheme": "0.01:2", "save.every_steps": 2}
    whole, folder = make_run(name="whole", **short), make_run(**short)
    trainer = open_trainer(whole)
    with LimitedMemory() as memory:
        assert trainer.run() == "done"
    assert not warnings(whole)
    trainer = open_trainer(folder)
    with LimitedMemory(int(memory.peak * share)) as limited:
        assert trainer.run() == "done"
    assert limited.shortages and any(said in message for message in warnings(folder))
    assert all(message.endswith("the result is the same") for message in warnings(folder))
    assert len(events(folder, "step")) == len(events(whole, "step")) == 2
    np.testing.assert_allclose(vectors(folder), vectors(whole), rtol=1e-3, atol=1e-4)


def test_a_step_that_ran_out_of_memory_is_computed_from_the_exact_state(make_run: MakeRun) -> None:
    """The shortage comes in the middle of a step, in backward; with micro-batches of one nothing can differ."""
    short = {"scheme": "0.01:2", "save.every_steps": 2, "training.batch_size": 1}
    whole, folder = make_run(name="whole", **short), make_run(**short)
    assert open_trainer(whole).run() == "done"
    trainer, calls = open_trainer(folder), []

    class FailsOnce(LimitedMemory):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "convolution_backward" in str(function):
                calls.append(function)
                if len(calls) == 37:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().__torch_dispatch__(function, types, args, kwargs)

    with FailsOnce():
        assert trainer.run() == "done"
    assert warnings(folder) == ["out of memory: lean backward from now on; the result is the same"]
    np.testing.assert_allclose(vectors(folder), vectors(whole), rtol=1e-5, atol=1e-6)


def test_where_nothing_fits_the_run_ends_with_what_it_has_and_says_what_to_do(make_run: MakeRun, train: Train) -> None:
    folder = make_run()
    trainer = open_trainer(folder)
    with LimitedMemory(100_000), pytest.raises(TrainingError) as error:
        trainer.run()
    assert "out of memory with the smallest micro-batches" in str(error.value)
    assert "8bit" in str(error.value.remedy)


def test_pictures_are_encoded_in_pieces_where_whole_ones_do_not_fit(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import AutoencoderKL

    monkeypatch.setattr(latents, "TILE", 64)
    # A trained one: what a VAE with random weights makes of a piece says nothing about the whole.
    demo = Path(latents.__file__).parent.parent / "data" / "demo" / "demo-model" / "vae"
    vae = AutoencoderKL.from_pretrained(demo, torch_dtype=torch.float32)
    item, said = latents.ToEncode(photos / "chelsea.jpg", (256, 256)), list[str]()
    with LimitedMemory() as memory:
        whole = latents.encode(vae, item)
    encoder = latents.Encoder(lambda: vae, torch.device("cpu"), tiled=False, warn=said.append)
    with LimitedMemory(memory.peak // 2) as limited:
        pieces = encoder(item)
    assert limited.shortages and said == ["out of memory while encoding the images: in tiles from now on"]
    assert pieces.mean.shape == whole.mean.shape
    assert torch.nn.functional.cosine_similarity(pieces.mean.flatten(), whole.mean.flatten(), dim=0) > 0.9


def test_an_encoder_that_does_not_fit_at_all_moves_to_the_cpu(photos: Path) -> None:
    item = latents.ToEncode(photos / "chelsea.jpg", (64, 64))
    places: list[tuple[str, bool]] = []
    said: list[str] = []

    class Vae:
        """Has room on the CPU only. (A card that is full cannot be had here; its encoder is this stand-in.)"""

        config = type("Config", (), {"block_out_channels": (1, 1, 1, 1), "scaling_factor": 1.0})
        dtype = torch.float32

        def __init__(self) -> None:
            self.device, self.tiled = torch.device("cpu"), False

        def to(self, device: torch.device) -> Vae:
            # Tensors of this test stay on the CPU, whatever the place is called.
            self.place = device
            return self

        def enable_tiling(self) -> None:
            self.tiled = True

        def encode(self, pixels: Tensor) -> Any:
            places.append((self.place.type, self.tiled))
            if self.place.type != "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory")
            moments = torch.zeros(1, 4, 8, 8)
            return type("Out", (), {"latent_dist": type("Posterior", (), {"mean": moments, "std": moments})})

    encoder = latents.Encoder(Vae, torch.device("meta"), tiled=False, warn=said.append)
    assert encoder(item).mean.shape == (4, 8, 8)
    assert places == [("meta", False), ("meta", True), ("cpu", True)]
    assert [message.partition(": ")[2][:10] for message in said] == ["in tiles f", "on the CPU"]


@pytest.mark.parametrize("times", [1, 2])
def test_an_evaluation_is_tried_again_and_then_left_out(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    folder, calls = make_run(**{"evaluation.every_steps": 3}), []
    losses = opening.losses

    def too_large(*given: Any, batch_size: int, prompt: str | None) -> list[float]:
        calls.append(batch_size)
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return losses(*given, batch_size=batch_size, prompt=prompt)

    monkeypatch.setattr(opening, "losses", too_large)
    assert open_trainer(folder).run() == "done"
    assert [event["step"] for event in events(folder, "eval")] == ([0, 3, 6] if times == 1 else [3, 6])
    assert warnings(folder) == ["the evaluation did not fit into memory and was skipped"] * (times - 1)
    assert calls[0] > 1 and set(calls[1:]) == {1}, "from then on one item at a time"


def test_samples_that_do_not_fit_are_drawn_with_less_memory(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(**{"sample.every_steps": 6, "sample.prompts": ["a photo of [name] --s 2 --w 96 --h 96"]})
    trainer = open_trainer(folder)
    monkeypatch.setattr(latents, "TILE", 48)
    with LimitedMemory() as memory:
        trainer.session.renderer.draw(trainer._prompts, folder.root / "elsewhere", 0)
    trainer = open_trainer(folder)
    with LimitedMemory(int(memory.peak * 0.8)) as limited:
        assert trainer.run() == "done"
    assert limited.shortages
    assert [event["step"] for event in events(folder, "sample")] == [0, 6]
    assert not [message for message in warnings(folder) if "samples" in message]


def test_samples_that_cannot_fit_are_skipped_with_a_warning(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(**{"sample.every_steps": 6})
    trainer = open_trainer(folder)

    def draw(*_given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(trainer.session.renderer, "draw", draw)
    assert trainer.run() == "done"
    assert warnings(folder) == [
        "the samples did not fit into memory and were skipped; set a smaller --w and --h in the sample prompts"
    ] * 2  # fmt: skip


def test_a_compiler_that_fails_is_done_without(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from ti_tui.training import compute_mode

    def backend(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("no compiler here\nwith a long story")

    monkeypatch.setattr(
        opening, "compile_unet", lambda unet, _how: compute_mode.compile_unet(unet, "blocks", backend=backend)
    )
    plain, folder = make_run(name="plain"), make_run(**{"training.compile": "blocks"})
    assert open_trainer(folder).run() == "done"
    monkeypatch.undo()
    assert open_trainer(plain).run() == "done"
    (said,) = warnings(folder)
    assert said.startswith("compiling failed; the run continues without it: ") and "\n" not in said
    np.testing.assert_array_equal(vectors(folder), vectors(plain))


def test_what_was_predicted_and_what_was_used_stand_in_the_log(make_run: MakeRun) -> None:
    folder = make_run()
    assert open_trainer(folder).run() == "done"
    (first, *_) = events(folder, "memory")
    # A tiny model has no prediction, and none is made up.
    assert first["predicted_bytes"] is None and first["peak_bytes"] > 0
