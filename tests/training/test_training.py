"""Training itself: what changes and what does not, gradients, batches, rates, resume, requests, NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from tests.conftest import MakeRun, edit, result
from tests.training.running import Train, events, open_trainer, stop_at_step
from ti_tui.dataset.templates import NAME
from ti_tui.embeddings import files
from ti_tui.embeddings.run_files import SUMS
from ti_tui.run import requests
from ti_tui.run.folder import RunFolder
from ti_tui.run.hashes import file_hash
from ti_tui.run.plan import Plan, make_plan
from ti_tui.setup.check import check_run
from ti_tui.training import loop
from ti_tui.training.batches import micro_batches, share
from ti_tui.training.data import Data, Inputs
from ti_tui.training.loop import train_step
from ti_tui.training.norms import Norms
from ti_tui.training.placeholder import PlaceholderEmbedding
from ti_tui.training.recovery import Recovery
from ti_tui.training.reporter import Reporter
from ti_tui.training.session import Model, Session
from ti_tui.training.trainer import Trainer


def gradients_of(trainer: Trainer) -> float:
    """Put the gradient of the first step into the rows, which stay as they are at a rate of 0; returns its loss."""
    session = trainer.session
    inputs = session.data.inputs(session.step, 0, session.plan.batch_size)
    training, mode = session.checked.run.training, session.plan.mode
    taken = train_step(session.model, session.progress, training, inputs, rate=0.0, mode=mode)
    assert taken is not None
    return taken.loss


def same(a: RunFolder, b: RunFolder) -> bool:
    """Whether two runs ended with the same bits: vectors and optimizer."""
    last = a.checkpoints()[-1]
    if b.checkpoints()[-1] != last:
        return False
    rows = [load_file(folder.state(last) / "vectors.safetensors") for folder in (a, b)]
    states = [torch.load(folder.state(last) / "optimizer.pt", weights_only=True)["state"] for folder in (a, b)]
    equal_rows = all(torch.equal(value, rows[1][key]) for key, value in rows[0].items())
    return equal_rows and all(
        torch.equal(value, states[1][index][key]) for index, state in states[0].items() for key, value in state.items()
    )


@pytest.mark.parametrize(
    "model", ["sd1", "sd2-v", "sdxl", "sd1.safetensors", "sd1.ckpt", "sd2-v.safetensors", "sdxl.safetensors"]
)
def test_every_family_and_form_trains_and_gives_vectors_of_its_widths(
    make_run: MakeRun, train: Train, model: str
) -> None:
    folder = make_run(model, scheme="0.01:2")
    assert train(folder) == 0
    embedding = result(folder)
    assert embedding.widths == ((64, 128) if model.startswith("sdxl") else (64,))
    assert embedding.count == 2 and embedding.step == 2 and embedding.token == "zkz"
    start = events(folder, "run")[0]
    assert start["prediction"] == ("v_prediction" if model.startswith("sd2") else "epsilon")


def test_folder_and_single_file_train_to_the_same_bits(make_run: MakeRun, train: Train, trained: MakeRun) -> None:
    first = result(trained(name="first")).in_order()[0]
    for model in ("sd1.safetensors", "sd1.ckpt"):
        folder = make_run(model, name=model)
        assert train(folder) == 0
        np.testing.assert_array_equal(first, result(folder).in_order()[0])


def test_only_the_rows_change_and_every_frozen_tensor_stays_bit_identical(make_run: MakeRun) -> None:
    trainer = open_trainer(make_run("sdxl", scheme="0.1:3"))
    session = trainer.session
    parts = [session.model.unet, *session.model.text.encoders]
    before = [
        {key: value.clone() for key, value in part.state_dict().items() if not key.endswith(".rows")} for part in parts
    ]
    rows = [row.detach().clone() for row in session.rows]
    assert trainer.run() == "done"
    for part, tensors in zip(parts, before, strict=True):
        state = part.state_dict()
        assert all(torch.equal(state[key], value) for key, value in tensors.items())
        assert all(parameter.grad is None for name, parameter in part.named_parameters() if not name.endswith("rows"))
    assert all(not torch.equal(row, old) for row, old in zip(session.rows, rows, strict=True))
    trained = {name for part in parts for name, parameter in part.named_parameters() if parameter.requires_grad}
    assert {name.rsplit(".", 1)[1] for name in trained} == {"rows"}


def test_the_gradient_is_that_of_the_full_table_method(make_run: MakeRun) -> None:
    """As in the diffusers example: the table grows by the new rows, all of it is trained, the loss is the same."""
    trainer = open_trainer(make_run("sd1", **{"training.max_gradient_norm": 0.0}))
    session = trainer.session
    loss = gradients_of(trainer)
    ours = session.rows[0].grad.clone()

    encoder = session.model.text.encoders[0]
    spliced = encoder.get_input_embeddings()
    assert isinstance(spliced, PlaceholderEmbedding)
    table = nn.Embedding(spliced.table.num_embeddings + 2, 64)
    with torch.no_grad():
        table.weight[:-2] = spliced.table.weight
        table.weight[-2:] = session.rows[0]
    encoder.set_input_embeddings(table)
    images = session.data.order.step(0)
    context = encoder(
        torch.cat([session.data.ids_of(session.data.prompt_of(image))[0] for image in images])
    ).last_hidden_state
    from ti_tui.training.objective import draw

    total = 0.0
    for index, image in enumerate(images):
        latents = session.data.latents_of(image)
        drawn = draw(image.seed, tuple(latents.mean.shape), 0.0)
        clean, timestep = latents.draw(drawn.latent)[None], torch.tensor([image.timestep])
        noisy = session.model.schedule.noisy(clean, drawn.noise[None], timestep)
        answer = session.model.unet(noisy, timestep, encoder_hidden_states=context[index : index + 1]).sample
        total = total + (answer - drawn.noise[None]).square().mean() / len(images)
    total.backward()
    assert total.item() == pytest.approx(loss, rel=1e-5)
    theirs = table.weight.grad[-2:]
    assert theirs.abs().max() > 0
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_effective_batch_4_is_the_same_as_1x4_and_2x2(make_run: MakeRun, train: Train) -> None:
    results = []
    for batch, accumulation in ((4, 1), (1, 4), (2, 2)):
        folder = make_run(
            name=f"run{batch}",
            scheme="0.01:3",
            **{"training.batch_size": batch, "training.accumulation": accumulation, "dataset.template": "captions"},
        )
        assert train(folder) == 0
        results.append(result(folder).in_order()[0])
    for other in results[1:]:
        np.testing.assert_allclose(results[0], other, rtol=1e-3, atol=1e-4)


def test_auto_uses_each_image_once_a_step_also_when_the_batch_does_not_divide(make_run: MakeRun) -> None:
    trainer = open_trainer(make_run(**{"training.batch_size": 3}))
    assert trainer.session.plan.effective_batch == 4
    for step in range(5):
        assert sorted(image.index for image in trainer.session.data.order.step(step)) == [0, 1, 2, 3]


def test_every_image_comes_once_an_epoch_across_step_borders(make_run: MakeRun) -> None:
    session = open_trainer(make_run(**{"training.batch_size": 3, "training.accumulation": 1})).session
    pictures = [image.index for step in range(8) for image in session.data.order.step(step)]
    for epoch in range(6):
        assert sorted(pictures[epoch * 4 : epoch * 4 + 4]) == [0, 1, 2, 3]
    assert len({tuple(pictures[epoch * 4 : epoch * 4 + 4]) for epoch in range(6)}) > 1


def test_stratified_timesteps_cover_every_part_and_uniform_ones_need_not(make_run: MakeRun) -> None:
    session = open_trainer(make_run()).session
    for step in range(50):
        timesteps = sorted(image.timestep for image in session.data.order.step(step))
        assert [timestep // 250 for timestep in timesteps] == [0, 1, 2, 3]
    session = open_trainer(make_run(name="uniform", **{"training.timesteps": "uniform"})).session
    parts = [sorted(image.timestep // 250 for image in session.data.order.step(step)) for step in range(50)]
    assert any(part != [0, 1, 2, 3] for part in parts)


def test_the_timestep_range_is_kept(make_run: MakeRun) -> None:
    session = open_trainer(make_run(**{"training.min_timestep": 400, "training.max_timestep": 410})).session
    timesteps = {image.timestep for step in range(40) for image in session.data.order.step(step)}
    assert timesteps <= set(range(400, 410)) and len(timesteps) > 5


def test_each_step_has_the_rate_of_the_scheme(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.05:2, 0.02:3, 0.001:2", **{"scheme.warmup_steps": 1})
    assert train(folder) == 0
    assert [event["rate"] for event in events(folder, "step")] == pytest.approx(
        [0.025, 0.05, 0.02, 0.02, 0.02, 0.001, 0.001]
    )


def test_n_steps_are_k_steps_and_the_rest_bit_for_bit(make_run: MakeRun, train: Train) -> None:
    settings = {
        "training.batch_size": 3,
        "training.accumulation": 1,
        "dataset.flip": True,
        "dataset.template": "captions",
        "evaluation.every_steps": 2,
    }
    whole, parts = make_run(name="whole", **settings), make_run(name="parts", **settings)
    assert train(whole) == 0
    for stop_at in (1, 4):
        stop_at_step(parts, stop_at, train)
    assert train(parts) == 0
    assert parts.checkpoints() == [1, 3, 4, 6]
    assert same(whole, parts)
    assert [event["loss"] for event in events(whole, "step")] == [event["loss"] for event in events(parts, "step")]
    for name in ("zkz.safetensors", "zkz-step00000003.safetensors"):
        assert (whole.models / name).read_bytes() == (parts.models / name).read_bytes()


@pytest.mark.parametrize("optimizer", ["adamw", "SGD", "RMSprop", "Adamax"])
def test_every_optimizer_resumes_exactly(make_run: MakeRun, train: Train, optimizer: str) -> None:
    whole, parts = (
        make_run(name=name, scheme="0.01:4", **{"training.optimizer": optimizer}) for name in ("whole", "parts")
    )
    assert train(whole) == 0
    stop_at_step(parts, 2, train)
    assert train(parts) == 0
    np.testing.assert_array_equal(result(whole).in_order()[0], result(parts).in_order()[0])


def test_a_finished_run_goes_on_when_the_scheme_is_lengthened_at_the_new_rate(make_run: MakeRun, train: Train) -> None:
    folder, longer = make_run(scheme="0.05:4"), make_run(name="longer", scheme="0.05:4, 0.001:3")
    assert train(folder) == 0 and train(longer) == 0
    edit(
        folder,
        "{ learning_rate = 0.05, steps = 4 }",
        "{ learning_rate = 0.05, steps = 4 }, { learning_rate = 0.001, steps = 3 }",
    )
    assert train(folder) == 0
    assert [event["rate"] for event in events(folder, "step")] == [0.05] * 4 + [0.001] * 3
    np.testing.assert_array_equal(result(folder).in_order()[0], result(longer).in_order()[0])


def test_the_rate_of_a_resumed_run_comes_from_the_run_file(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.05:6")
    stop_at_step(folder, 3, train)
    edit(folder, "learning_rate = 0.05", "learning_rate = 0.0005")
    assert train(folder) == 0
    assert [event["rate"] for event in events(folder, "step")] == [0.05] * 3 + [0.0005] * 3


def test_a_resumed_run_says_what_was_changed(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.01:4")
    stop_at_step(folder, 2, train)
    edit(folder, "seed = 42", "seed = 43")
    assert train(folder) == 0
    assert any("changed since step 2: training" in event["message"] for event in events(folder, "warning"))


def test_a_resumed_run_may_be_computed_in_another_way_but_not_with_other_weights_unsaid(
    make_run: MakeRun, train: Train
) -> None:
    folder = make_run(scheme="0.01:4")

    def changes() -> list[str]:
        said = (str(event["message"]) for event in events(folder, "warning"))
        return [message for message in said if message.startswith("changed since")]

    assert train(folder) == 0
    edit(folder, "steps = 4", "steps = 5")
    edit(folder, 'lean_backward = "auto"', 'lean_backward = "on"')
    edit(folder, 'channels_last = "off"', 'channels_last = "on"')
    assert train(folder) == 0
    assert not changes()
    edit(folder, "steps = 5", "steps = 6")
    edit(folder, 'quantise = "auto"', 'quantise = "8bit"')
    assert train(folder) == 0
    (said,) = changes()
    assert said.startswith("changed since step 5: unet_bits;")


def test_another_number_of_vectors_cannot_go_on(train: Train, trained: MakeRun) -> None:
    folder = trained(scheme="0.01:2")
    edit(folder, "vectors = 2", "vectors = 3")
    assert train(folder) == 2
    message = events(folder, "error")[-1]["message"]
    assert "embedding.vectors" in message and "has 2 vectors of width 64, the run 3" in message


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(train: Train, trained: MakeRun) -> None:
    whole, folder = trained(name="whole"), trained()
    (folder.state(6) / "vectors.safetensors").write_bytes(b"broken")
    assert train(folder) == 0
    assert any("is damaged" in event["message"] for event in events(folder, "warning"))
    assert same(whole, folder)


def test_only_the_last_checkpoints_are_kept_when_asked(make_run: MakeRun, train: Train) -> None:
    folder = make_run(
        **{
            "save.every_steps": 1,
            "save.keep": 2,
            "save.formats": ["safetensors", "a1111-pt", "diffusers"],
            "evaluation.every_steps": 3,
        }
    )
    assert train(folder) == 0
    assert folder.checkpoints() == [5, 6]
    assert sorted(path.name for path in folder.models.iterdir()) == sorted(
        f"zkz{step}{suffix}"
        for step in ("", "-best", "-step00000005", "-step00000006")
        for suffix in (".safetensors", ".pt", ".diffusers.bin")
    )


def test_saves_by_epoch_come_after_whole_epochs(make_run: MakeRun, train: Train) -> None:
    folder = make_run(
        scheme="0.01:8",
        **{"training.batch_size": 2, "training.accumulation": 1, "save.every_steps": 0, "save.every_epochs": 2},
    )
    assert train(folder) == 0
    assert folder.checkpoints() == [4, 8]


def test_requests_are_answered(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.01:40", **{"save.every_steps": 0, "sample.prompts": ["[name] --s 2"]})
    original = Reporter.event

    def event(self: Reporter, kind: Any, **values: Any) -> None:
        original(self, kind, **values)
        if kind == "step":
            self._last_take = 0.0
            if values["step"] == 2:
                requests.submit(folder, "save")
                requests.submit(folder, "sample")
            if values["step"] == 4:
                edit(
                    folder,
                    "{ learning_rate = 0.01, steps = 40 }",
                    "{ learning_rate = 0.01, steps = 6 }, { learning_rate = 0.002, steps = 50 }",
                )
                requests.submit(folder, "scheme")
            if values["step"] == 8:
                requests.submit(folder, "stop")

    Reporter.event = event  # type: ignore[method-assign]
    try:
        assert train(folder) == 0
    finally:
        Reporter.event = original  # type: ignore[method-assign]
    assert folder.checkpoints() == [3, 8]
    assert (folder.sample(3) / "01.png").exists()
    assert [event["rate"] for event in events(folder, "step")] == [0.01] * 6 + [0.002] * 2
    status = folder.read_status()
    assert status is not None and (status.phase, status.step, status.total_steps) == ("stopped", 8, 56)


def test_a_changed_scheme_with_a_mistake_is_not_used_and_told(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.01:5")
    trainer = open_trainer(folder)
    edit(folder, "learning_rate = 0.01", "learning_rate = -1")
    requests.submit(folder, "scheme")
    assert trainer.run() == "done"
    assert any("the changed scheme is not used" in event["message"] for event in events(folder, "warning"))


def test_numbers_that_are_not_finite_undo_the_step_and_training_goes_on(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(scheme="0.01:6")
    trainer = open_trainer(folder)
    original, spoiled = loop.losses, []

    def spoil(*given: Any) -> torch.Tensor:
        if trainer.session.step == 3 and not spoiled:
            spoiled.append(True)
            return original(*given) * float("nan")
        return original(*given)

    monkeypatch.setattr(loop, "losses", spoil)
    assert trainer.run() == "done"
    (warning,) = events(folder, "warning")
    assert "the loss is not a number at step 4: went back to step 2" in warning["message"]
    assert np.isfinite(result(folder).in_order()[0]).all()
    assert folder.checkpoints() == [2, 3, 6], "the good state was put on disk before the spoiled one went"


def test_training_stops_with_the_last_good_vectors_if_it_repeats(
    make_run: MakeRun, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(scheme="0.01:6")
    original, calls = loop.losses, []

    def spoil(*given: Any) -> torch.Tensor:
        calls.append(1)
        return original(*given) * float("inf" if len(calls) > 4 else 1)

    monkeypatch.setattr(loop, "losses", spoil)
    assert train(folder) == 3
    monkeypatch.setattr(loop, "losses", original)
    status = folder.read_status()
    assert status is not None and status.phase == "failed"
    assert "3 times in a row" in status.message and "Lower the learning rate" in status.message
    assert len(status.message.splitlines()) <= 3
    assert folder.checkpoints()[-1] >= 2
    assert train(folder) == 0, "the folder is intact: without the fault the run goes on"


def test_bf16_and_fp16_train_with_fp32_rows(make_run: MakeRun, train: Train) -> None:
    results = {}
    for precision in ("fp32", "bf16", "fp16"):
        folder = make_run(name=precision, scheme="0.01:3", **{"training.precision": precision})
        trainer = open_trainer(folder)
        assert trainer.session.rows[0].dtype == torch.float32
        assert (
            trainer.session.model.unet.dtype
            == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        )
        gradients_of(trainer)
        results[precision] = trainer.session.rows[0].grad.clone()
    for precision in ("bf16", "fp16"):
        cosine = torch.cosine_similarity(results["fp32"].flatten(), results[precision].flatten(), dim=0)
        assert cosine > 0.99


def test_an_overflow_lowers_the_loss_scale_and_uses_up_no_step(make_run: MakeRun) -> None:
    folder = make_run(scheme="0.05:2, 0.01:2", **{"training.precision": "fp16"})
    trainer = open_trainer(folder)
    trainer.session.progress.loss_scale.factor = 2.0**28
    assert trainer.run() == "done"
    assert trainer.session.progress.loss_scale.factor < 2.0**28
    assert [event["rate"] for event in events(folder, "step")] == [0.05, 0.05, 0.01, 0.01]
    assert not events(folder, "warning")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["torch", "cublas", "cpu"],
)
def test_out_of_memory_makes_smaller_micro_batches_with_the_same_result(
    make_run: MakeRun, trained: MakeRun, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole, folder = trained(name="whole"), make_run()
    trainer = open_trainer(folder)
    predict = Model.predict

    def too_large(model: Model, noisy: torch.Tensor, *given: Any) -> torch.Tensor:
        if len(noisy) > 1:
            raise error
        return predict(model, noisy, *given)

    monkeypatch.setattr(Model, "predict", too_large)
    assert trainer.run() == "done"
    said = [event["message"].removeprefix("out of memory: ") for event in events(folder, "warning")]
    assert [message.partition(" from")[0] for message in said] == [
        "lean backward",
        "micro-batches of 2",
        "micro-batches of 1",
    ]
    np.testing.assert_allclose(result(whole).in_order()[0], result(folder).in_order()[0], rtol=1e-3, atol=1e-4)


def test_recomputing_gives_the_same_gradient(make_run: MakeRun) -> None:
    gradients = []
    for recompute in ("off", "on"):
        trainer = open_trainer(make_run(name=recompute, **{"training.recompute": recompute}))
        gradients_of(trainer)
        gradients.append(trainer.session.rows[0].grad.clone())
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize(
    "settings",
    [{"training.lean_backward": "on"}, {"training.recompute": "some"}, {"training.channels_last": "on"}],
    ids=lambda settings: next(iter(settings)),
)
def test_ways_that_compute_the_same_train_to_the_same_rows(
    make_run: MakeRun, train: Train, trained: MakeRun, family: str, settings: dict[str, Any]
) -> None:
    plain = trained(family, name="plain", scheme="0.01:3")
    other = make_run(family, name="other", scheme="0.01:3", **settings)
    assert train(other) == 0
    for mine, theirs in zip(result(other).in_order(), result(plain).in_order(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_plain_attention_gives_the_same_gradient(make_run: MakeRun) -> None:
    gradients = []
    for attention in ("sdpa", "plain"):
        trainer = open_trainer(make_run(name=attention, **{"training.attention": attention}))
        gradients_of(trainer)
        gradients.append(trainer.session.rows[0].grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {"training.loss": "l1"},
        {"training.loss": "huber"},
        {"training.min_snr_gamma": 5.0},
        {"training.noise_offset": 0.1},
        {"training.timesteps": "uniform"},
        {"model.clip_skip": 2},
        {"dataset.flip": True},
        {"embedding.init": ""},
        {"embedding.norm": "match"},
        {"embedding.norm": "direction"},
        {"training.quantise": "8bit"},
        {"dataset.template": "captions"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_choice_changes_the_result_and_is_repeatable(
    make_run: MakeRun, train: Train, trained: MakeRun, settings: dict[str, Any]
) -> None:
    plain = trained(name="plain", scheme="0.01:2")
    first, second = (make_run(name=name, scheme="0.01:2", **settings) for name in ("first", "second"))
    assert train(first) == train(second) == 0
    assert not np.array_equal(result(plain).in_order()[0], result(first).in_order()[0])
    np.testing.assert_array_equal(result(first).in_order()[0], result(second).in_order()[0])


@pytest.mark.parametrize("policy", ["match", "direction"])
@pytest.mark.parametrize("model", ["sd1", "sdxl"])
def test_vectors_keep_the_vocabularys_length_where_that_is_asked(
    make_run: MakeRun, train: Train, policy: str, model: str
) -> None:
    folder = make_run(model, scheme="0.05:4", **{"embedding.norm": policy})
    assert train(folder) == 0
    for index, vectors in enumerate(result(folder).in_order()):
        part = "text_encoder_2" if index else "text_encoder"
        tensors = load_file(Path(check_run(folder).run.model.base) / part / "model.safetensors")
        table = next(value for name, value in tensors.items() if name.endswith("token_embedding.weight"))
        median = float(table.float().norm(dim=1).median())
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), median, rtol=1e-5)


def test_free_vectors_grow_with_a_high_rate(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.05:6")
    assert train(folder) == 0
    norms = [event["norms"][0][0] for event in events(folder, "checkpoint")]
    assert norms[-1] > 1.2 * norms[0]


def test_direction_learns_no_length_and_is_pulled_to_its_start() -> None:
    generator = torch.Generator().manual_seed(0)
    table, rows = torch.randn((50, 8), generator=generator), nn.Parameter(torch.randn((2, 8), generator=generator))
    norms = Norms.of("direction", [table], [rows])
    start = rows.detach().clone()
    torch.testing.assert_close(rows.norm(dim=1), torch.full((2,), float(table.norm(dim=1).median())))
    # A gradient along the vectors would only stretch them.
    rows.grad = 3 * start
    norms.before_step([rows])
    torch.testing.assert_close(rows.grad, torch.zeros_like(rows), atol=1e-5, rtol=0)
    # Away from the start a step without any loss leads back to it.
    with torch.no_grad():
        rows.add_(0.3 * torch.randn((2, 8), generator=generator))
    norms.rescale([rows])
    away = torch.cosine_similarity(rows.detach(), start).clone()
    rows.grad = torch.zeros_like(rows)
    norms.before_step([rows])
    with torch.no_grad():
        rows.sub_(1e3 * rows.grad)
    norms.rescale([rows])
    assert bool((torch.cosine_similarity(rows.detach(), start) > away).all())


def with_masks(folder: RunFolder, draw: Callable[[np.ndarray], None]) -> None:
    """Give every picture of a run a mask, in which `draw` sets what is learned, and switch masks on."""
    for path in folder.images.glob("*/*.png"):
        mask = np.zeros((64, 64), dtype=np.uint8)
        draw(mask)
        Image.fromarray(mask).save(path.with_name(f"{path.stem}-mask.png"))
    edit(folder, "masks = false", "masks = true")


def left(mask: np.ndarray) -> None:
    mask[:, :32] = 255


def test_masks_weigh_the_loss_place_by_place(make_run: MakeRun) -> None:
    plain, masked = make_run(name="plain"), make_run(name="masked", **{"dataset.mask_outside": 0.0})
    with_masks(masked, left)
    trainers = [open_trainer(plain), open_trainer(masked)]
    session = trainers[1].session
    image = session.data.order.step(0)[0]
    mask = session.data.mask_of(image)
    assert mask is not None and mask.shape[0] == 1
    middle = mask.shape[2] // 2
    torch.testing.assert_close(mask[..., :middle], torch.full_like(mask[..., :middle], 2.0))
    assert float(mask[..., middle:].abs().max()) == 0
    losses = [gradients_of(trainer) for trainer in trainers]
    assert losses[0] != losses[1]
    assert trainers[0].session.data.mask_of(image) is None


def test_a_mask_of_all_is_no_mask(make_run: MakeRun, train: Train, trained: MakeRun) -> None:
    plain, masked = trained(name="plain"), make_run(name="masked")
    with_masks(masked, lambda mask: mask.fill(255))
    assert train(masked) == 0
    np.testing.assert_allclose(result(plain).in_order()[0], result(masked).in_order()[0], rtol=1e-5, atol=1e-7)


def test_a_mirrored_picture_has_its_mask_mirrored(make_run: MakeRun) -> None:
    folder = make_run(**{"dataset.flip": True, "dataset.mask_outside": 0.0})
    with_masks(folder, left)
    masks = open_trainer(folder).session.data.masks
    for (picture, flipped), mask in masks.items():
        if flipped:
            torch.testing.assert_close(mask, masks[picture, False].flip(2))
            assert not torch.equal(mask, masks[picture, False])


def test_masks_that_are_missing_or_wrong_are_told_before_the_start(make_run: MakeRun) -> None:
    folder = make_run()
    edit(folder, "masks = false", "masks = true")
    (problem,) = check_run(folder).problems.errors
    assert problem.message == "no image has a mask" and problem.field == "dataset.masks"
    first = min(folder.images.glob("*/*.png"))
    Image.new("L", (64, 32), 255).save(first.with_name(f"{first.stem}-mask.png"))
    assert "its image 64x64" in check_run(folder).problems.errors[0].message


def test_pictures_of_different_shapes_are_trained_in_buckets(make_run: MakeRun, train: Train, photos: Path) -> None:
    folder = make_run(**{"dataset.buckets": True, "dataset.resolution": 128})
    trainer = open_trainer(folder)
    sizes = {latents.size for latents in trainer.session.data.latents.values()}
    assert len(sizes) > 1
    assert trainer.run() == "done"


def test_regularisation_pictures_count_with_their_weight(make_run: MakeRun, photos: Path) -> None:
    trainer = open_trainer(make_run(**{"dataset.regularisation": str(photos), "training.prior_loss_weight": 0.5}))
    images = trainer.session.data.order.step(0)
    assert [image.weight for image in images] == [0.25] * 4 + [0.125] * 4
    assert [image.regularisation for image in images] == [False] * 4 + [True] * 4
    assert trainer.run() == "done"


def test_training_goes_on_from_an_embedding_file(make_run: MakeRun, train: Train) -> None:
    first = make_run(name="first", scheme="0.05:3")
    assert train(first) == 0
    second = make_run(name="second", **{"embedding.init": str(first.embedding("zkz", None))})
    start = open_trainer(second).session.rows[0].detach().numpy()
    np.testing.assert_array_equal(start, result(first).in_order()[0])


def test_init_words_are_spread_over_the_vectors(make_run: MakeRun) -> None:
    session = open_trainer(make_run(**{"embedding.init": "red cat", "embedding.vectors": 4})).session
    table = session.model.text.encoders[0].get_input_embeddings().table.weight
    words = session.checked.tokenizers[0].words("red cat")
    assert len(words) == 2
    expected = torch.stack([table[words[0]], table[words[0]], table[words[1]], table[words[1]]])
    assert torch.equal(session.rows[0].detach(), expected)


def test_latents_are_encoded_once_and_found_again_by_content(make_run: MakeRun, train: Train) -> None:
    from ti_tui.training import latents

    folder, encoded = make_run(), []
    original = latents.encode

    def count(*arguments: Any) -> Any:
        encoded.append(arguments)
        return original(*arguments)

    latents.encode = count  # type: ignore[assignment]
    try:
        assert train(folder) == 0 and len(encoded) == 4
        edit(folder, "steps = 6", "steps = 8")
        assert train(folder) == 0 and len(encoded) == 4
        picture = next(folder.images.rglob("0001.png"))
        picture.write_bytes(next(folder.images.rglob("0002.png")).read_bytes())
        edit(folder, "steps = 8", "steps = 9")
        assert train(folder) == 0 and len(encoded) == 4, "the same content has the same latents"
        for file in folder.cache.iterdir():
            file.write_bytes(b"broken")
        edit(folder, "steps = 9", "steps = 10")
        assert train(folder) == 0 and len(encoded) == 7, "three different pictures are left"
    finally:
        latents.encode = original


def test_latents_can_be_kept_in_memory_only(make_run: MakeRun, train: Train, trained: MakeRun) -> None:
    disk, memory = trained(name="disk"), make_run(name="memory", **{"training.cache_latents": "memory"})
    assert train(memory) == 0
    assert not memory.cache.exists()
    np.testing.assert_array_equal(result(disk).in_order()[0], result(memory).in_order()[0])


def test_the_result_is_installed_where_asked(make_run: MakeRun, train: Train, tmp_path: Path) -> None:
    (tmp_path / "webui" / "embeddings").mkdir(parents=True)
    folder = make_run(**{"save.install_to": str(tmp_path / "webui")})
    assert train(folder) == 0
    target = tmp_path / "webui" / "embeddings" / "zkz.safetensors"
    assert files.read(target).step == 6
    # The same images, model, seed and token with another setting are another run.
    other = make_run(name="other", **{"save.install_to": str(tmp_path / "webui"), "training.weight_decay": 0.5})
    assert train(other) == 0
    assert target.read_bytes() == folder.embedding("zkz", None).read_bytes()
    assert any("not installed" in event["message"] for event in events(other, "warning"))


def test_vectors_that_diverged_are_not_installed(make_run: MakeRun, train: Train, tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    more = {"save.install_to": str(tmp_path / "embeddings"), "evaluation.every_steps": 0}
    folder = make_run(scheme="9:12", **more)
    assert train(folder) == 0
    assert folder.embedding("zkz", None).exists() and not list((tmp_path / "embeddings").iterdir())
    assert any("have diverged" in event["message"] for event in events(folder, "warning"))


def test_the_placeholder_leaves_every_other_word_as_it_was() -> None:
    table, rows = nn.Embedding(10, 4), nn.Parameter(torch.randn(3, 4))
    spliced = PlaceholderEmbedding(table, rows)
    ids = torch.tensor([[0, 9, 10, 11, 12, 3]])
    out = spliced(ids)
    assert torch.equal(out[0, [0, 1, 5]], table.weight[[0, 9, 3]])
    assert torch.equal(out[0, 2:5], rows)
    out.sum().backward()
    assert torch.equal(rows.grad, torch.ones(3, 4)) and table.weight.grad is None
    with pytest.raises(ValueError, match="float32"):
        PlaceholderEmbedding(table, nn.Parameter(torch.randn(3, 5)))


def test_the_pooled_text_of_sdxl_is_that_of_the_prompts_end(make_run: MakeRun) -> None:
    """Learned ids are the highest of all: with the published config's end id the pooled text would be taken there."""
    session: Session = open_trainer(make_run("sdxl")).session
    encoder = session.model.text.encoders[1]
    ids = session.model.text.ids([f"a photo of {NAME} on a table"])
    output = encoder(ids[1], output_hidden_states=True)
    end = ids[1][0].tolist().index(session.checked.tokenizers[1].end)
    expected = encoder.text_projection(output.last_hidden_state[:, end])
    torch.testing.assert_close(session.model.text.encode(ids).pooled, expected)


def test_the_eval_loss_is_taken_on_the_same_set_and_does_not_touch_training(
    make_run: MakeRun, train: Train, trained: MakeRun
) -> None:
    """Two runs that differ in what they train with have the same eval set; a rate of nearly 0 changes no loss."""
    watched = make_run(scheme="0.000000001:4", name="watched", **{"evaluation.every_steps": 1})
    assert train(watched) == 0
    values = [event["loss"] for event in events(watched, "eval")]
    assert [event["step"] for event in events(watched, "eval")] == [0, 1, 2, 3, 4]
    assert values == pytest.approx([values[0]] * 5, abs=2e-6)
    losses = [event["loss"] for event in events(watched, "step")]
    assert max(losses) - min(losses) > 0.01, "the train loss moves although nothing is learned"
    on, off = make_run(name="on", **{"evaluation.every_steps": 1}), trained(name="off")
    assert train(on) == 0
    assert not events(off, "eval")
    np.testing.assert_array_equal(result(on).in_order()[0], result(off).in_order()[0])


def test_the_eval_loss_falls_when_the_vectors_are_learned(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.05:40", **{"evaluation.every_steps": 40, "save.every_steps": 0})
    assert train(folder) == 0
    first, last = (event["loss"] for event in events(folder, "eval"))
    assert last < first


def test_a_run_goes_on_exactly_after_a_step_was_undone(
    make_run: MakeRun, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = make_run(name="whole"), make_run(name="parts")
    step = Recovery.step

    def spoil_once(recovery: Recovery, rate_at: Any) -> Any:
        session, original = recovery._session, loop.losses
        mark = session.checked.folder.root / "spoiled"

        def spoiled(*given: Any) -> torch.Tensor:
            first = not mark.exists()
            mark.touch()
            return original(*given) * (float("nan") if first else 1)

        if session.step == 2:
            monkeypatch.setattr(loop, "losses", spoiled)
        try:
            return step(recovery, rate_at)
        finally:
            monkeypatch.setattr(loop, "losses", original)

    monkeypatch.setattr(Recovery, "step", spoil_once)
    assert train(whole) == 0
    for stop_at in (3, 4):
        stop_at_step(parts, stop_at, train)
    assert train(parts) == 0
    undone = [
        [event for event in events(folder, "warning") if "not a number" in event["message"]]
        for folder in (whole, parts)
    ]
    assert [len(found) for found in undone] == [1, 1]
    assert same(whole, parts)


def test_a_spoiled_checkpoint_is_left_for_the_one_before_it(train: Train, trained: MakeRun) -> None:
    folder = trained()
    path = folder.state(6) / "vectors.safetensors"
    sums = path.with_name(SUMS).read_text()
    before = file_hash(path)
    save_file({"rows0": torch.full((2, 64), float("nan"))}, path)
    path.with_name(SUMS).write_text(sums.replace(before, file_hash(path)))
    edit(folder, "steps = 6", "steps = 8")
    assert train(folder) == 0
    assert any("went back to the checkpoint of step 3" in event["message"] for event in events(folder, "warning"))
    assert result(folder).step == 8 and np.isfinite(result(folder).in_order()[0]).all()


def test_whatever_goes_wrong_the_steps_that_were_done_are_kept(
    make_run: MakeRun, train: Train, trained: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = trained(name="whole"), make_run(**{"save.every_steps": 0})
    inputs = Data.inputs

    def breaks(data: Data, number: int, *given: Any) -> Inputs:
        if number == 4:
            raise RuntimeError("the driver fell over")
        return inputs(data, number, *given)

    monkeypatch.setattr(Data, "inputs", breaks)
    assert train(folder) == 3
    assert folder.checkpoints() == [4]
    status = folder.read_status()
    assert status is not None and "the driver fell over" in status.message
    monkeypatch.setattr(Data, "inputs", inputs)
    assert train(folder) == 0
    assert same(whole, folder)


def test_a_scheme_shortened_to_a_past_step_ends_the_run_with_what_it_has(make_run: MakeRun) -> None:
    folder = make_run(scheme="0.01:40", **{"save.every_steps": 0})
    trainer = open_trainer(folder)
    original = trainer._report.event

    def event(kind: Any, **values: Any) -> None:
        original(kind, **values)
        if kind == "step" and values["step"] == 6:
            trainer._report._last_take = 0.0
            edit(folder, "steps = 40", "steps = 4")
            requests.submit(folder, "scheme")

    trainer._report.event = event  # type: ignore[method-assign]
    assert trainer.run() == "done"
    assert folder.checkpoints() == [6] and result(folder).step == 6


@pytest.mark.parametrize(
    ("old", "new", "key", "value"),
    [
        ("weight_decay = 0.0", "weight_decay = 0.5", "weight_decay", 0.5),
        ("optimizer_arguments = {}", "optimizer_arguments = { betas = [0.5, 0.9] }", "betas", (0.5, 0.9)),
    ],
)
def test_changed_optimizer_settings_hold_for_a_resumed_run(
    make_run: MakeRun, train: Train, forked_processes: None, old: str, new: str, key: str, value: Any
) -> None:
    folder = make_run()
    stop_at_step(folder, 2, train)
    edit(folder, old, new)
    session = open_trainer(folder).session
    assert session.step == 2 and session.progress.optimizer.param_groups[0][key] == value
    assert session.progress.optimizer.state_dict()["state"], "the moments are those of the checkpoint"


def test_a_run_continued_in_fp16_starts_with_a_real_loss_scale(make_run: MakeRun, train: Train) -> None:
    folder = make_run(**{"training.precision": "fp32"})
    stop_at_step(folder, 2, train)
    edit(folder, 'precision = "fp32"', 'precision = "fp16"')
    assert open_trainer(folder).session.progress.loss_scale.factor == 2.0**14


@pytest.mark.parametrize("optimizer", ["Rprop", "NAdam", "Adafactor"])
def test_every_offered_optimizer_starts(make_run: MakeRun, train: Train, optimizer: str) -> None:
    assert train(make_run(scheme="0.01:1", **{"training.optimizer": optimizer})) == 0


def test_arguments_that_an_optimizer_does_not_take_are_told(
    make_run: MakeRun, train: Train, forked_processes: None
) -> None:
    folder = make_run(**{"training.optimizer_arguments": {"momentumm": 0.9}})
    assert train(folder) == 2
    assert "training.optimizer_arguments: adamw does not take" in events(folder, "error")[-1]["message"]


def test_a_longer_scheme_also_renews_what_was_installed(make_run: MakeRun, train: Train, tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    folder = make_run(**{"save.install_to": str(tmp_path / "embeddings")})
    assert train(folder) == 0
    edit(folder, "steps = 6", "steps = 8")
    assert train(folder) == 0
    assert files.read(tmp_path / "embeddings" / "zkz.safetensors").step == 8
    (tmp_path / "embeddings" / "zkz.safetensors").write_bytes(b"somebody else's")
    edit(folder, "steps = 8", "steps = 9")
    assert train(folder) == 0
    assert (tmp_path / "embeddings" / "zkz.safetensors").read_bytes() == b"somebody else's"
    assert any("not installed" in event["message"] for event in events(folder, "warning"))


def test_samples_are_decoded_in_tiles_of_512_pixels_where_the_plan_says_so(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not open_trainer(make_run("sdxl.safetensors", name="roomy")).session.renderer.open_vae().use_tiling

    def tight(*given: Any) -> Plan:
        made = make_plan(*given)
        return replace(made, fit=replace(made.fit, tiled_sampling=True))

    monkeypatch.setattr("ti_tui.training.opening.make_plan", tight)
    vae = open_trainer(make_run("sdxl.safetensors")).session.renderer.open_vae()
    assert vae.use_tiling and (vae.tile_sample_min_size, vae.tile_latent_min_size) == (512, 64)


sizes = st.sampled_from([(8, 8), (8, 16), (16, 8)])


@given(st.lists(sizes, min_size=1, max_size=40), st.lists(st.integers(1, 8), min_size=1, max_size=4))
def test_processes_of_any_batch_sizes_share_each_sample_exactly_once(
    all_sizes: list[Any], batch_sizes: list[int]
) -> None:
    samples = list(zip(all_sizes, range(len(all_sizes)), strict=True))
    seen = []
    for process, batch_size in enumerate(batch_sizes):
        for batch in micro_batches(share(samples, process, len(batch_sizes)), batch_size):
            assert 1 <= len(batch) <= batch_size and len({all_sizes[item] for item in batch}) == 1
            seen += batch
    assert sorted(seen) == list(range(len(all_sizes)))
