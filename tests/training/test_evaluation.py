"""The eval loss, what is made of it, and that a resumed run makes the same of it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import MakeRun, edit
from tests.training.running import Train, events, open_trainer, stop_at_step
from ti_tui.dataset.hold_out import choose_held_out
from ti_tui.run.events import EventReader, as_one_run
from ti_tui.run.folder import RunFolder
from ti_tui.training.evaluation import BANDS, eval_items, items_hash
from ti_tui.training.latents import Latents


def said(folder: RunFolder) -> list[tuple[str, dict]]:
    """Evaluations and verdicts of the run, as if it had never been interrupted."""
    kept = as_one_run(EventReader(folder.events).read_all())
    return [(event.kind, event.values) for event in kept if event.kind in ("eval", "verdict")]


@pytest.mark.parametrize("stops", [(2, 7), (5,)])
def test_a_resumed_run_has_the_evaluations_and_verdicts_of_an_uninterrupted_one(
    make_run: MakeRun, train: Train, trained: MakeRun, stops: tuple[int, ...]
) -> None:
    settings = {"evaluation.every_steps": 1, "evaluation.hold_out": 1, "save.every_steps": 4}
    whole = trained(name="whole", scheme="0.05:12", **settings)
    parts = make_run(name="parts", scheme="0.05:12", **settings)
    for step in stops:
        stop_at_step(parts, step, train)
    # As a kill would leave it: the newest checkpoint is gone, what was done since is in the log only.
    newest = parts.state(parts.checkpoints()[-1])
    if len(parts.checkpoints()) > 1:
        newest.rename(newest.with_name("elsewhere"))
    assert train(parts) == 0
    assert said(parts) == said(whole)
    assert len([kind for kind, _ in said(whole) if kind == "eval"]) == 13
    assert parts.best("zkz").read_bytes() == whole.best("zkz").read_bytes()


def test_held_out_images_are_evaluated_and_never_trained_on(make_run: MakeRun) -> None:
    trainer = open_trainer(make_run(**{"evaluation.hold_out": 1, "evaluation.every_steps": 2}))
    session = trainer.session
    (held,) = session.checked.held_out
    trained = {image.index for step in range(40) for image in session.data.order.step(step)}
    assert trained == {0, 1, 2, 3} - {held}
    assert session.plan.images == session.plan.effective_batch == 3
    assert session.evaluator is not None
    own, kept = session.data.latents[held, False].mean, [one for one in session.evaluator.items if one.held]
    assert kept and all(torch.equal(one.latent, own) for one in kept)
    others = [one for one in session.evaluator.items if not one.held]
    assert len(others) >= 2 * len(kept) and not any(torch.equal(one.latent, own) for one in others)


def test_the_first_evaluation_is_the_start_and_every_other_is_compared_with_it(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.05:40", **{"evaluation.every_steps": 20, "save.every_steps": 0})
    assert train(folder) == 0
    first, _, last = (event.values for event in events(folder, "eval"))
    assert (first["gain"], first["moved"], first["length"], first["follows"]) == (0, 0, pytest.approx(1, abs=0.3), 1)
    assert last["gain"] > 2 * last["gain_error"] > 0 and last["loss"] < first["loss"] and last["moved"] > 1
    assert "held_gain" not in last, "of four images none is held out by default"
    assert len(last["bands"]) == BANDS
    (saved,) = events(folder, "checkpoint")
    (health,) = saved["health"]
    assert len(health["nearest"]) == len(health["norms"]) == 2 and health["nearest"][0]
    assert saved["best"] == 40 and folder.best("zkz").read_bytes() == folder.embedding("zkz", 40).read_bytes()


def test_a_rate_of_a_hundred_times_is_called_diverging_and_ends_the_run_if_it_may(
    make_run: MakeRun, train: Train
) -> None:
    folder = make_run(scheme="5:10, 2:20, 1:60", **{"evaluation.every_steps": "auto", "evaluation.early_stop": "stop"})
    assert train(folder) == 0
    (verdict,) = events(folder, "verdict")
    assert verdict["verdict"] == "diverging" and verdict["step"] <= 50 and "the rate is too high" in verdict["reason"]
    (end,) = events(folder, "end")
    assert (end["outcome"], end["step"]) == ("stopped", verdict["step"]) and end["message"].startswith("diverging: ")
    assert folder.checkpoints()[-1] == verdict["step"] and not folder.embedding("zkz", None).exists()


def test_a_rate_of_a_thousandth_is_called_not_learning(make_run: MakeRun, train: Train) -> None:
    folder = make_run(
        scheme="0.00005:10, 0.00002:20, 0.00001:60", **{"evaluation.every_steps": "auto", "save.every_steps": 0}
    )
    assert train(folder) == 0
    last = events(folder, "verdict")[-1]
    assert last["verdict"] == "not learning" and last["step"] <= 90 and last["cause"] == "rate too low"


def test_a_run_ends_when_it_is_learned_and_goes_on_when_it_is_asked_to(
    make_run: MakeRun, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ti_tui.run import verdicts

    # The tiny model learns next to nothing: of that it may say that it is learned.
    monkeypatch.setattr(verdicts, "LEAST_GAIN", -1.0)
    monkeypatch.setattr(verdicts, "STILL_VARIANCE", 2.0)
    monkeypatch.setattr(verdicts, "STILL_GAIN", 1.0)
    settings = {"evaluation.every_steps": 1, "save.every_steps": 0}
    folder = make_run(scheme="0.01:14", **settings, **{"evaluation.early_stop": "stop"})
    assert train(folder) == 0
    (end,) = events(folder, "end")
    assert (end["outcome"], end["step"]) == ("done", 8) and end["message"].startswith("learned: ")
    assert folder.embedding("zkz", None).exists() and folder.checkpoints() == [8]
    assert train(folder) == 0
    assert events(folder, "end")[-1]["step"] == 14, "who trains on wants more of it"
    off = make_run(name="off", scheme="0.01:14", **settings, **{"evaluation.early_stop": "off"})
    assert train(off) == 0
    assert not events(off, "verdict") and off.checkpoints() == [14]


def test_the_best_checkpoint_stays_when_only_the_last_ones_are_kept(
    make_run: MakeRun, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ti_tui.training import checkpoint_writer

    monkeypatch.setattr(checkpoint_writer, "best_of", lambda _history, steps: min(steps))
    folder = make_run(scheme="0.01:8", **{"evaluation.every_steps": "auto", "save.every_steps": 2, "save.keep": 1})
    assert train(folder) == 0
    assert folder.checkpoints() == [2, 8]
    assert folder.best("zkz").read_bytes() == folder.embedding("zkz", 2).read_bytes()


def test_losses_on_another_eval_set_are_not_compared(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.05:4", **{"evaluation.every_steps": 2, "save.every_steps": 2})
    assert train(folder) == 0
    edit(folder, "steps = 4", "steps = 8")
    edit(folder, 'hold_out = "auto"', "hold_out = 1")
    assert train(folder) == 0
    found = [event.values for event in events(folder, "eval")]
    assert [one["step"] for one in found] == [0, 2, 4, 6, 8]
    assert "held_gain" not in found[2] and found[3]["gain"] > 0, "it compares with the start, asked anew"


@pytest.mark.parametrize("model", ["sd2-v", "sdxl"])
def test_every_family_is_evaluated(make_run: MakeRun, train: Train, model: str) -> None:
    folder = make_run(model, scheme="0.05:10", **{"evaluation.every_steps": 5, "save.every_steps": 0})
    assert train(folder) == 0
    found = events(folder, "eval")[-1]
    assert all(math.isfinite(found[name]) for name in ("loss", "gain", "length", "moved", "rank"))
    assert len(events(folder, "checkpoint")[0]["health"]) == (2 if model == "sdxl" else 1)


@given(st.integers(8, 64), st.integers(1, 9), st.integers(0, 3), st.integers(0, 2**40))
def test_a_fixed_set_spreads_its_timesteps_and_asks_about_each_picture_alike(
    count: int, pictures: int, held: int, seed: int
) -> None:
    asked = [(Latents(torch.full((4, 2, 2), float(place)), torch.zeros(4, 2, 2)), "", None) for place in range(12)]
    items = eval_items(asked[:pictures], asked[9 : 9 + held], seed, count=count, timesteps=(0, 1000))
    assert len(items) == count and any(one.held for one in items) == (held > 0)
    for part in (False, True):
        mine = [one for one in items if one.held is part]
        if mine:
            stretches = sorted(one.timestep * len(mine) // 1000 for one in mine)
            assert stretches == list(range(len(mine))), "one in each equal part of the range"
            times = [sum(float(one.latent[0, 0, 0]) == value for one in mine) for value in range(12)]
            known = [number for number in times if number]
            assert max(known) - min(known) <= 1
    again = eval_items(asked[:pictures], asked[9 : 9 + held], seed, count=count, timesteps=(0, 1000))
    assert items_hash(items) == items_hash(again)


@given(st.integers(0, 60), st.integers(0, 2**60))
def test_one_image_in_eight_is_held_out_from_ten_on_and_always_the_same(count: int, seed: int) -> None:
    kept = choose_held_out(count, "auto", seed)
    assert len(kept) == (count // 8 if count >= 10 else 0) and kept == choose_held_out(count, "auto", seed)
    assert list(kept) == sorted(set(kept)) and all(0 <= place < count for place in kept)
    assert choose_held_out(count, "off", seed) == () and len(choose_held_out(count, 1000, seed)) == max(0, count - 1)
