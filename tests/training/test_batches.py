"""Which images a step takes, with which timestep, noise and weight; and the seeds that all of it comes from."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from ti_tui.run.recipe import TrainingTable
from ti_tui.training.batches import ImageOrder, StepImage, micro_batches, share
from ti_tui.training.randomness import numpy_stream, seed_for, torch_stream


def image_order(
    *,
    repeats: tuple[int, ...] = (1, 1, 1),
    effective: int = 2,
    regularisation: int = 0,
    templates: int = 1,
    flip: bool = False,
    **training: Any,
) -> ImageOrder:
    return ImageOrder(
        repeats=repeats,
        regularisation=regularisation,
        templates=templates,
        flip=flip,
        effective_batch=effective,
        training=TrainingTable(**training),
    )


def drawn(made: ImageOrder, steps: int) -> list[StepImage]:
    return [image for step in range(steps) for image in made.step(step)]


def test_repeated_images_come_as_often_in_every_epoch() -> None:
    pictures = [image.index for image in drawn(image_order(repeats=(1, 3, 2), effective=4), 30)]
    epochs = [pictures[start : start + 6] for start in range(0, 120, 6)]
    assert all(Counter(epoch) == {0: 1, 1: 3, 2: 2} for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 10, "each in an order of its own"


def test_samples_are_those_of_the_step_alone() -> None:
    made, again = image_order(flip=True, templates=5), image_order(flip=True, templates=5)
    assert [made.step(step) for step in (3, 0, 3)] == [again.step(3), again.step(0), again.step(3)]
    assert made.step(3) != image_order(flip=True, templates=5, seed=43).step(3)


def test_each_sample_has_a_seed_of_its_own() -> None:
    found = drawn(image_order(effective=3, regularisation=2), 10)
    assert len({image.seed for image in found}) == len(found) == 60
    assert len({(image.timestep, image.seed) for image in found}) == 60


def test_another_attempt_draws_other_noise_and_timesteps_for_the_same_images() -> None:
    made = image_order(effective=3, regularisation=2)
    first, second = made.step(4), made.step(4, attempt=1)
    assert [image.index for image in first] == [image.index for image in second]
    assert not {image.seed for image in first} & {image.seed for image in second}
    assert [image.timestep for image in first] != [image.timestep for image in second]
    assert made.step(4, 0) == first


def test_templates_and_mirroring_are_drawn_evenly() -> None:
    found = drawn(image_order(templates=4, flip=True, effective=10), 100)
    assert all(200 < count < 300 for count in Counter(image.template for image in found).values())
    assert {image.template for image in found} == {0, 1, 2, 3}
    assert 400 < sum(image.flipped for image in found) < 600
    assert not any(image.flipped for image in drawn(image_order(effective=10), 20))


def test_weights_of_a_step_are_those_of_a_mean() -> None:
    assert [image.weight for image in image_order(effective=4).step(0)] == [0.25] * 4
    with_class = image_order(effective=4, regularisation=3, prior_loss_weight=0.5).step(0)
    assert [(image.regularisation, image.weight) for image in with_class] == [(False, 0.25)] * 4 + [(True, 0.125)] * 4


def test_regularisation_images_are_drawn_epoch_by_epoch_too_and_never_mirrored() -> None:
    made = image_order(repeats=(1,) * 5, effective=2, regularisation=3, templates=4, flip=True)
    found = [image for image in drawn(made, 60) if image.regularisation]
    pictures = [image.index for image in found]
    assert len(pictures) == 120
    epochs = [tuple(pictures[start : start + 3]) for start in range(0, 120, 3)]
    assert all(sorted(epoch) == [0, 1, 2] for epoch in epochs) and len(set(epochs)) > 3
    assert not any(image.flipped for image in found)
    assert {image.template for image in found} == {0, 1, 2, 3}
    assert all(0 <= image.timestep < 1000 for image in found)


def test_regularisation_of_no_weight_or_without_images_is_left_out() -> None:
    assert len(image_order(regularisation=3, prior_loss_weight=0.0).step(0)) == 2
    assert len(image_order(regularisation=0).step(0)) == 2


@pytest.mark.parametrize("kind", ["stratified", "uniform"])
def test_timesteps_reach_both_ends_of_their_range_and_no_further(kind: str) -> None:
    made = image_order(effective=8, timesteps=kind, min_timestep=100, max_timestep=108)
    found = Counter(image.timestep for image in drawn(made, 200))
    assert sorted(found) == list(range(100, 108))
    assert all(140 < count < 260 for count in found.values())


def test_stratified_timesteps_take_one_of_each_part_in_random_order() -> None:
    made = image_order(effective=5, min_timestep=200, max_timestep=700)
    orders = set()
    for step in range(40):
        parts = [(image.timestep - 200) // 100 for image in made.step(step)]
        assert sorted(parts) == [0, 1, 2, 3, 4]
        orders.add(tuple(parts))
    assert len(orders) > 20


def test_uniform_timesteps_need_not_be_spread_over_a_step() -> None:
    def spread(kind: str) -> set[int]:
        made = image_order(effective=8, timesteps=kind, min_timestep=100, max_timestep=108)
        return {len({image.timestep for image in made.step(step)}) for step in range(20)}

    assert spread("stratified") == {8} and min(spread("uniform")) < 8


def test_micro_batches_are_of_one_size_of_picture_and_nearly_equal() -> None:
    tall, wide = (8, 16), (16, 8)
    samples = [(tall, 1), (wide, 2), (tall, 3), (tall, 4), (wide, 5), (tall, 6), (tall, 7)]
    assert micro_batches(samples, 3) == [[1, 3, 4], [6, 7], [2, 5]]
    assert micro_batches(samples, 5) == [[1, 3, 4, 6, 7], [2, 5]]
    assert micro_batches(samples, 1) == [[1], [3], [4], [6], [7], [2], [5]]
    assert micro_batches([], 3) == []
    # 7 in batches of up to 3 are 3 + 2 + 2, never 3 + 3 + 1.
    assert [len(batch) for batch in micro_batches([(tall, item) for item in range(7)], 3)] == [3, 2, 2]


def test_processes_get_as_many_of_each_size() -> None:
    tall, wide = (8, 16), (16, 8)
    samples = [(tall, 1), (wide, 2), (tall, 3), (wide, 4), (tall, 5), (wide, 6)]
    assert share(samples, 0, 2) == [(tall, 1), (tall, 5), (wide, 4)]
    assert share(samples, 1, 2) == [(tall, 3), (wide, 2), (wide, 6)]
    assert share(samples, 0, 1) == [(tall, 1), (tall, 3), (tall, 5), (wide, 2), (wide, 4), (wide, 6)]


def test_a_seed_is_a_function_of_all_that_it_is_for() -> None:
    seeds = [
        seed_for(1, "noise", 2, 3), seed_for(2, "noise", 2, 3), seed_for(1, "order", 2, 3), seed_for(1, "noise", 3, 2),
        seed_for(1, "noise", 2), seed_for(1 + 2**32, "noise", 2, 3), seed_for(1, "noise", 2, 4),
    ]  # fmt: skip
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds) and any(seed > 2**40 for seed in seeds)


def test_seeds_stay_what_they_were() -> None:
    """A run that goes on with a newer program must go on with the same numbers."""
    assert seed_for(42, "noise", 7, 0, 0) == 2173338880560001803
    assert numpy_stream(42, "samples", 7, 0).integers(1000, size=3).tolist() == [748, 581, 270]
    assert torch.equal(torch.randn(4, generator=torch_stream(5)), torch.randn(4, generator=torch_stream(5)))
    assert not torch.equal(torch.randn(4, generator=torch_stream(5)), torch.randn(4, generator=torch_stream(6)))


def test_the_samples_of_a_step_stay_what_they_were() -> None:
    found = image_order(effective=2, templates=7, flip=True, regularisation=2).step(11)
    assert found == [
        StepImage(1, 3, 282, 2120719204945435163, flipped=False, regularisation=False, weight=0.5),
        StepImage(2, 6, 890, 9100473405623953632, flipped=True, regularisation=False, weight=0.5),
        StepImage(0, 4, 74, 9053118329285500761, flipped=False, regularisation=True, weight=0.5),
        StepImage(1, 2, 658, 1152589987462513008, flipped=False, regularisation=True, weight=0.5),
    ]
