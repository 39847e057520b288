"""What each policy does to the length of the vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ti_tui.training.norms import KAPPA, Norms, Policy

TABLE = torch.tensor([[3.0, 4.0], [0.0, 2.0], [8.0, 6.0]])
"""A vocabulary whose norms are 5, 2 and 10."""


def start(policy: Policy, *values: list[list[float]]) -> tuple[Norms, list[nn.Parameter]]:
    rows = [nn.Parameter(torch.tensor(each)) for each in values]
    return Norms.of(policy, [TABLE, 2 * TABLE][: len(rows)], rows), rows


def lengths(row: Tensor) -> list[float]:
    return row.detach().norm(dim=1).tolist()


@pytest.mark.parametrize("policy", ["match", "direction"])
def test_vectors_get_the_median_norm_of_their_vocabulary_and_keep_their_direction(policy: Policy) -> None:
    norms, rows = start(policy, [[1.0, 0.0], [0.0, -20.0]], [[0.3, 0.4]])
    assert norms.median_norms == (5.0, 10.0)
    assert rows[0].tolist() == [[5.0, 0.0], [0.0, -5.0]]
    assert rows[1].tolist() == [pytest.approx([6.0, 8.0])]
    with torch.no_grad():
        rows[0].mul_(3)
    norms.rescale(rows)
    assert lengths(rows[0]) == pytest.approx([5.0, 5.0])


def test_each_vector_has_its_own_length() -> None:
    norms, rows = start("match", [[6.0, 8.0], [0.3, -0.4]])
    assert rows[0].tolist() == [pytest.approx([3.0, 4.0]), pytest.approx([3.0, -4.0])]
    assert [each.tolist() for each in norms.initial_directions] == [
        [pytest.approx([0.6, 0.8]), pytest.approx([0.6, -0.8])]
    ]


def test_free_vectors_and_gradients_stay_as_they_are() -> None:
    norms, rows = start("free", [[1.0, 2.0]])
    rows[0].grad = torch.tensor([[3.0, -1.0]])
    norms.before_step(rows)
    norms.rescale(rows)
    assert rows[0].tolist() == [[1.0, 2.0]] and rows[0].grad.tolist() == [[3.0, -1.0]]


def test_match_leaves_gradients_as_they_are() -> None:
    norms, rows = start("match", [[1.0, 2.0]])
    rows[0].grad = torch.tensor([[3.0, -1.0]])
    norms.before_step(rows)
    assert rows[0].grad.tolist() == [[3.0, -1.0]]


def test_direction_takes_out_of_each_gradient_what_lies_along_its_vector() -> None:
    norms, rows = start("direction", [[1.0, 0.0], [0.0, 1.0]])
    rows[0].grad = torch.tensor([[3.0, -1.0], [2.0, 7.0]])
    norms.before_step(rows)
    # At the start the pull lies along the vector, so it goes too.
    assert rows[0].grad.tolist() == [pytest.approx([0.0, -1.0]), pytest.approx([2.0, 0.0])]


def test_direction_pulls_towards_the_start_by_kappa() -> None:
    norms, rows = start("direction", [[1.0, 0.0]])
    with torch.no_grad():
        rows[0].copy_(torch.tensor([[0.0, 5.0]]))
    rows[0].grad = torch.zeros(1, 2)
    norms.before_step(rows)
    assert rows[0].grad.tolist() == [pytest.approx([-KAPPA, 0.0])]
    assert pytest.approx(1e-4) == KAPPA


def test_a_vector_of_zeros_stays_finite() -> None:
    norms, rows = start("match", [[0.0, 0.0]])
    norms.rescale(rows)
    assert rows[0].tolist() == [[0.0, 0.0]]
