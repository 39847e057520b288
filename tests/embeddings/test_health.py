"""Embedding health: norms beside the vocabulary's, cosines, effective rank, nearest words, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from ti_tui.dataset.tokens import PromptTokenizer
from ti_tui.embeddings.files import Vectors
from ti_tui.embeddings.health import FAINT, LONG, SAME_WAY, Health, effective_rank
from ti_tui.embeddings.vocabulary import Vocabulary, pieces_of, read_vocabularies
from ti_tui.errors import UserError
from ti_tui.run.model import inspect_model


def random_rows(count: int, width: int = 32, *, seed: int = 0, length: float = 0.4) -> Vectors:
    """Vectors of one length in random directions."""
    rows = np.random.default_rng(seed).standard_normal((count, width))
    return (length * rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def vocabulary_of(table: Vectors, *, parts: int = 3) -> Vocabulary:
    """A vocabulary that is given in so many pieces."""
    return Vocabulary(lambda: iter(np.array_split(table, parts)))


WORDS = random_rows(200)


def word(number: int) -> str:
    return f"word {number}"


@given(st.integers(1, 12), st.floats(1e-3, 1e3))
def test_orthogonal_equal_vectors_have_an_effective_rank_of_their_number(count: int, length: float) -> None:
    assert effective_rank(length * np.eye(16, dtype=np.float32)[:count]) == pytest.approx(count)


@given(st.integers(1, 12), st.integers(0, 99))
def test_copies_of_one_vector_have_an_effective_rank_of_one(count: int, seed: int) -> None:
    assert effective_rank(np.repeat(random_rows(1, seed=seed), count, axis=0)) == pytest.approx(1, abs=1e-5)


def test_vectors_of_zeros_have_no_effective_rank() -> None:
    assert effective_rank(np.zeros((3, 8), dtype=np.float32)) == 0


# Eighths: multiplied by a power of two they stay exact.
rows_of_numbers = hnp.arrays(np.int8, st.tuples(st.integers(1, 8), st.just(16))).map(lambda rows: np.float32(rows) / 8)


@given(rows_of_numbers, st.sampled_from([0.125, 2.0, 1024.0]))
def test_cosines_and_effective_rank_do_not_depend_on_the_length(rows: Any, factor: float) -> None:
    one, other = Health.of(rows), Health.of(rows * np.float32(factor))
    assert other.effective_rank == pytest.approx(one.effective_rank)
    assert other.mean_cosine == pytest.approx(one.mean_cosine, abs=1e-6)
    assert other.norms == pytest.approx([factor * norm for norm in one.norms])


@given(rows_of_numbers)
def test_the_effective_rank_lies_between_one_and_the_number_of_vectors(rows: Any) -> None:
    assert effective_rank(rows) == 0 if not rows.any() else 1 - 1e-9 <= effective_rank(rows) <= len(rows) + 1e-9


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(0.125, 8, width=32)), st.integers(1, 5))
def test_a_percentile_counts_the_shorter_words(lengths: Any, parts: int) -> None:
    vocabulary = vocabulary_of(lengths[:, None], parts=parts)
    assert vocabulary.size == len(lengths)
    assert vocabulary.norms == pytest.approx(np.percentile(lengths, (1, 5, 50, 95, 99)))
    assert vocabulary.percentile_of(0.0) == 0 and vocabulary.percentile_of(9.0) == 100
    for length in lengths:
        below, same = (lengths < length).sum(), (lengths == length).sum()
        assert vocabulary.percentile_of(float(length)) == pytest.approx(100 * (below + same / 2) / len(lengths))


@given(st.integers(0, 199), st.floats(0.01, 100), st.integers(1, 9))
def test_the_word_nearest_to_a_words_own_vector_is_that_word(number: int, factor: float, parts: int) -> None:
    ((first, second),) = vocabulary_of(WORDS, parts=parts).nearest(WORDS[[number]] * np.float32(factor), word, 2)
    assert first.word == word(number) and first.cosine == pytest.approx(1)
    assert second.cosine <= first.cosine


@given(st.integers(1, 8), st.integers(0, 999))
def test_nearest_words_are_the_same_whatever_the_pieces(parts: int, seed: int) -> None:
    rows = random_rows(4, seed=seed)
    found = vocabulary_of(WORDS, parts=parts).nearest(rows, word, 3)
    cosines = rows @ WORDS.T / 0.16
    assert [[near.word for near in row] for row in found] == [
        [word(number) for number in order] for order in np.argsort(-cosines, axis=1)[:, :3]
    ]


def test_a_vector_that_points_nowhere_is_near_to_no_word() -> None:
    rows = np.stack([np.zeros(32), np.full(32, np.nan), WORDS[0]]).astype(np.float32)
    assert [len(words) for words in vocabulary_of(WORDS).nearest(rows, word, 2)] == [0, 0, 2]


def test_chance_is_the_cosine_that_random_directions_reach() -> None:
    vocabulary = vocabulary_of(random_rows(5000, 256, seed=1))
    reached = [words[0].cosine for words in vocabulary.nearest(random_rows(100, 256, seed=2), word, 1)]
    assert vocabulary.chance == pytest.approx(np.mean(reached), abs=0.02)


def test_vectors_like_words_give_no_finding() -> None:
    health = Health.of(random_rows(12, seed=5), starts=random_rows(12, seed=6), vocabulary=vocabulary_of(WORDS))
    assert health.findings() == ()
    assert health.effective_rank > 9 and health.percentiles is not None and len(health.percentiles) == 12


def test_a_long_vector_is_told_with_its_length_in_words() -> None:
    rows = random_rows(4, seed=5)
    rows[2] *= 5.12
    (finding,) = Health.of(rows, vocabulary=vocabulary_of(WORDS)).findings()
    assert finding == "vector 3 has 5.1 times the norm of the median word: other words may drown"
    (finding,) = Health.of(rows * np.float32(20), vocabulary=vocabulary_of(WORDS)).findings()
    assert finding.startswith("vectors 1, 2, 3 and 4 have 20 to 102 times the norm")
    assert Health.of(rows).findings() == (), "without a vocabulary nothing is known of lengths"


def test_lengths_are_told_beyond_the_limits_only() -> None:
    rows = random_rows(3, seed=5)
    rows[0] *= LONG * 0.99
    rows[1] *= FAINT * 1.01
    assert Health.of(rows, vocabulary=vocabulary_of(WORDS)).findings() == ()
    rows[1] *= 0.9
    (finding,) = Health.of(rows, vocabulary=vocabulary_of(WORDS)).findings()
    assert finding.startswith("vector 2 has 0.18 times the norm of the median word")


def test_two_vectors_that_point_the_same_way_are_told() -> None:
    rows = random_rows(6, seed=5)
    rows[4] = 3 * rows[1]
    health = Health.of(rows)
    assert health.closest is not None and health.closest[:2] == (1, 4)
    assert health.findings() == ("vectors 2 and 5 point in the same direction (cosine 1.00): one of them adds nothing",)


def test_vectors_that_are_still_at_their_common_start_are_not_called_copies() -> None:
    starts = np.repeat(random_rows(1), 12, axis=0)
    health = Health.of(starts + random_rows(12, seed=5, length=0.01), starts=starts)
    assert health.closest is not None and health.closest[2] > SAME_WAY
    assert health.findings() == () and not health.has_turned


def test_the_change_tells_more_than_the_vectors_where_all_start_from_one_word() -> None:
    starts = np.repeat(random_rows(1), 12, axis=0)
    health = Health.of(starts + random_rows(12, seed=5, length=0.2), starts=starts)
    assert health.effective_rank < 8 and health.effective_rank_of_change is not None
    assert health.effective_rank_of_change > 10
    direction = random_rows(1, seed=7)
    health = Health.of(starts + np.linspace(1, 2, 12, dtype=np.float32)[:, None] * direction, starts=starts)
    assert health.effective_rank_of_change == pytest.approx(1, abs=1e-3)
    assert health.findings()[-1] == "the effective rank of 12 vectors is 1.0: fewer might do"


def test_unchanged_vectors_have_a_cosine_of_one_and_no_change() -> None:
    health = Health.of(WORDS[:3], starts=WORDS[:3])
    assert health.start_cosines == pytest.approx((1, 1, 1)) and health.effective_rank_of_change == 0


def test_a_vector_that_is_not_finite_is_told_and_the_others_are_measured() -> None:
    rows = random_rows(5, seed=5)
    rows[1, 3], rows[2, 0] = np.nan, np.inf
    health = Health.of(rows, starts=random_rows(5), vocabulary=vocabulary_of(WORDS))
    assert health.findings() == ("vectors 2 and 3 have numbers that are not finite: the embedding is unusable",)
    assert health.closest is not None and not {1, 2} & set(health.closest[:2])
    assert health.norms[0] == pytest.approx(0.4)
    again = Health.from_values(json.loads(json.dumps(health.as_values(), allow_nan=False)))
    assert again is not None and again.findings() == health.findings()


def test_a_single_vector_has_no_pair() -> None:
    health = Health.of(WORDS[:1])
    assert health.mean_cosine is None and health.closest is None and health.effective_rank == pytest.approx(1)
    assert Health.from_values(health.as_values()) is not None


@given(st.integers(1, 75), st.booleans(), st.booleans())
def test_an_event_gives_the_same_findings_back(count: int, started: bool, known: bool) -> None:
    rows = random_rows(count, seed=count) * np.resize(np.float32([1, 0.05, 8, 3]), count)[:, None]
    health = Health.of(
        rows, starts=random_rows(count) if started else None, vocabulary=vocabulary_of(WORDS) if known else None
    )
    values = json.loads(json.dumps(health.as_values()))
    again = Health.from_values(values)
    assert again is not None and again.as_values() == values
    assert again.findings() == health.findings()


@pytest.mark.parametrize(("count", "largest"), [(12, 450), (75, 2000)])
def test_an_event_is_small(count: int, largest: int) -> None:
    health = Health.of(random_rows(count, seed=5), starts=random_rows(count), vocabulary=vocabulary_of(WORDS))
    assert len(json.dumps(health.as_values(), separators=(",", ":"))) <= largest


@pytest.mark.parametrize(
    "values",
    [
        None, [], {}, {"norms": 3}, {"norms": ["x"], "effective_rank": 1}, {"norms": [1]},
        {"norms": [1, 2], "effective_rank": None}, {"norms": [1, 2], "effective_rank": 1, "closest": [1]},
        {"norms": [1, 2], "effective_rank": 1, "closest": 7}, {"norms": [1], "effective_rank": 1, "word_norms": [1]},
        {"norms": [10**400], "effective_rank": 1},
    ],
)  # fmt: skip
def test_what_is_no_health_is_read_as_none(values: Any) -> None:
    assert Health.from_values(values) is None


@pytest.mark.parametrize("name", ["sd1", "sd2-v", "sdxl"])
def test_a_folder_and_a_single_file_hold_the_same_words(models: dict[str, Path], name: str) -> None:
    folder, file = (read_vocabularies(inspect_model(models[path])) for path in (name, f"{name}.safetensors"))
    assert [one.width for one in folder] == ([64, 128] if name == "sdxl" else [64])
    assert [one.norms for one in folder] == [one.norms for one in file]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tables_are_read_in_each_number_format(tmp_path: Path, dtype: torch.dtype) -> None:
    table = torch.randn(5000, 12).to(dtype)
    save_file({"before": torch.ones(3), "table": table, "behind": torch.ones(3)}, tmp_path / "x.safetensors")
    pieces = list(pieces_of(tmp_path / "x.safetensors", "table")())
    assert len(pieces) > 1 and all(piece.dtype == np.float32 for piece in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), table.float().numpy())


def test_a_table_of_integers_is_refused(tmp_path: Path) -> None:
    save_file({"table": torch.ones(5, 4, dtype=torch.int64)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="I64"):
        pieces_of(tmp_path / "x.safetensors", "table")


def test_a_pickled_model_is_refused_with_what_to_give_instead(models: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"only PyTorch can read\nGive the \.safetensors"):
        read_vocabularies(inspect_model(models["sd1.ckpt"]))


def test_ids_are_told_as_people_write_words() -> None:
    clip = PromptTokenizer.clip()
    (cat,) = clip.words("cat")
    assert (clip.text_of(cat), clip.text_of(clip.end), clip.text_of(49408)) == ("cat", "<|endoftext|>", "?")
    beginning, *_ = clip.words("東京")
    assert clip.text_of(beginning) == "東-"
    assert [clip.text_of(number) for number in clip.words("café")] == ["café"]
