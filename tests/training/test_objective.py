"""The objective against its formulas: noisy latents, targets, weights, noise, distances."""

from __future__ import annotations

import itertools

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ti_tui.run.model import Prediction
from ti_tui.run.recipe import TrainingTable
from ti_tui.training.objective import NoiseSchedule, draw, losses

DDPM = DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
TIMESTEPS = torch.tensor([0, 250, 500, 999])


def schedule(prediction: Prediction = "epsilon") -> NoiseSchedule:
    return NoiseSchedule(DDPM.alphas_cumprod, prediction)


def latents_and_noise() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn((2, 4, 4, 8, 8), generator=generator)
    return latents, noise


def test_noisy_latents_are_those_of_diffusers() -> None:
    latents, noise = latents_and_noise()
    theirs = DDPM.add_noise(latents, noise, TIMESTEPS)
    torch.testing.assert_close(schedule().noisy(latents, noise, TIMESTEPS), theirs)


def test_the_target_of_epsilon_is_the_noise() -> None:
    latents, noise = latents_and_noise()
    assert torch.equal(schedule().target(latents, noise, TIMESTEPS), noise)


def test_the_target_of_v_is_diffusers_velocity() -> None:
    latents, noise = latents_and_noise()
    theirs = DDPM.get_velocity(latents, noise, TIMESTEPS)
    torch.testing.assert_close(schedule("v_prediction").target(latents, noise, TIMESTEPS), theirs)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        # Signal-to-noise ratios of 9, 1 and 0.25; gamma is 5.
        ("epsilon", [5 / 9, 1.0, 1.0]),
        ("v_prediction", [5 / 10, 1 / 2, 0.25 / 1.25]),
    ],
)
def test_min_snr_weights(prediction: Prediction, expected: list[float]) -> None:
    weights = NoiseSchedule(torch.tensor([0.9, 0.5, 0.2]), prediction).min_snr_weight(torch.tensor([0, 1, 2]), 5.0)
    assert weights.tolist() == pytest.approx(expected, rel=1e-5)


def test_min_snr_weights_are_finite_without_any_noise_and_without_any_signal() -> None:
    ends = torch.tensor([1.0, 0.0])
    for prediction in ("epsilon", "v_prediction"):
        weights = NoiseSchedule(ends, prediction).min_snr_weight(torch.tensor([0, 1]), 5.0)  # type: ignore[arg-type]
        assert torch.isfinite(weights).all() and (weights >= 0).all() and (weights <= 1).all()


def test_a_schedule_moved_to_a_device_predicts_the_same() -> None:
    moved = schedule("v_prediction").to(torch.device("cpu"))
    assert moved.prediction == "v_prediction" and torch.equal(moved.alphas_cumprod, DDPM.alphas_cumprod)


def test_the_noise_is_standard_normal_and_that_of_the_seed() -> None:
    drawn = draw(7, (4, 64, 64), 0.0)
    for part in (drawn.latent, drawn.noise):
        assert abs(float(part.mean())) < 0.03 and float(part.std()) == pytest.approx(1.0, abs=0.03)
    assert not torch.equal(drawn.latent, drawn.noise)
    again, other = draw(7, (4, 64, 64), 0.0), draw(8, (4, 64, 64), 0.0)
    assert torch.equal(again.noise, drawn.noise) and torch.equal(again.latent, drawn.latent)
    assert not torch.equal(other.noise, drawn.noise) and not torch.equal(other.latent, drawn.latent)


def test_a_noise_offset_is_one_number_a_channel() -> None:
    plain, offset = draw(7, (4, 16, 16), 0.0), draw(7, (4, 16, 16), 0.1)
    assert torch.equal(plain.latent, offset.latent)
    added = (offset.noise - plain.noise).flatten(start_dim=1)
    assert float((added - added[:, :1]).abs().max()) < 1e-6, "the same for every pixel of a channel"
    channels = added[:, 0].tolist()
    assert all(abs(one - other) > 1e-4 for one, other in itertools.combinations(channels, 2))


def test_the_noise_offset_has_the_wanted_standard_deviation_over_images() -> None:
    shape = (4, 2, 2)
    added = torch.stack([(draw(seed, shape, 0.1).noise - draw(seed, shape, 0.0).noise)[:, 0, 0] for seed in range(500)])
    assert float(added.std()) == pytest.approx(0.1, rel=0.05)
    assert abs(float(added.mean())) < 0.01


def test_losses_are_the_mean_distance_of_each_image() -> None:
    prediction = torch.zeros(2, 1, 1, 2)
    target = torch.tensor([[0.5, 2.0], [0.0, 4.0]]).view(2, 1, 1, 2)

    def found(kind: str, **more: float) -> list[float]:
        return losses(prediction, target, TrainingTable(loss=kind, **more)).tolist()  # type: ignore[arg-type]

    assert found("l2") == pytest.approx([(0.25 + 4) / 2, 16 / 2])
    assert found("l1") == pytest.approx([2.5 / 2, 4 / 2])
    # Up to delta half the square, beyond it delta * (distance - delta / 2).
    assert found("huber", huber_delta=1.0) == pytest.approx([(0.125 + 1.5) / 2, 3.5 / 2])


def test_losses_are_weighted_by_place_and_computed_in_float32() -> None:
    prediction, target = torch.zeros(1, 2, 1, 2), torch.full((1, 2, 1, 2), 300.0)
    weights = torch.tensor([0.5, 1.5]).view(1, 1, 1, 2)
    target[..., 0] = 100.0
    (loss,) = losses(prediction.half(), target.half(), TrainingTable(), weights).tolist()
    # 300 squared is beyond float16.
    assert loss == pytest.approx((0.5 * 100**2 + 1.5 * 300**2) / 2)
