"""Where the vectors start: `embedding.init` and `embedding.start`, on every family of models."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from tests.conftest import MakeRun, edit, result
from tests.fixtures.tiny_models import WORDS
from tests.training.test_training import Train, events, open_trainer
from ti_tui.dataset.templates import NAME
from ti_tui.run.folder import RunFolder
from ti_tui.setup.check import check_run
from ti_tui.training.session import Session
from ti_tui.training.text import rows_of_words, spread

FAMILIES = ["sd1", "sd2-v", "sdxl"]


def starts(session: Session) -> list[Tensor]:
    return [row.detach().clone() for row in session.rows]


def rows_in_tables(session: Session, words: str) -> list[Tensor]:
    """Rows [k, width] of the words in each encoder's own table."""
    return [
        encoder.get_input_embeddings().weight[tokenizer.words(words)].detach()
        for encoder, tokenizer in zip(session.model.text.encoders, session.checked.tokenizers, strict=True)
    ]


def outputs(session: Session, words: str) -> list[Tensor]:
    """What the U-Net reads of each encoder at the words' places, in a prompt as the trainer makes them."""
    count = len(session.checked.tokenizers[0].words(words))
    with torch.no_grad():
        hidden = session.model.text.encode(session.model.text.ids([words])).hidden[0, 1 : count + 1]
    return list(hidden.split([row.shape[1] for row in session.rows], dim=1))


def set_start(folder: RunFolder, start: str, *, before: str = "words") -> None:
    edit(folder, f'start = "{before}"', f'start = "{start}"')


@pytest.mark.parametrize("model", FAMILIES)
def test_mean_starts_each_vector_at_the_mean_of_the_words_rows(make_run: MakeRun, model: str) -> None:
    settings = {"embedding.init": "red cat coat", "embedding.vectors": 4, "embedding.start": "mean"}
    session = open_trainer(make_run(model, **settings)).session
    for start, rows in zip(starts(session), rows_in_tables(session, "red cat coat"), strict=True):
        assert rows.shape[0] == 3
        torch.testing.assert_close(start, rows.mean(dim=0).expand(4, -1))


@pytest.mark.parametrize("model", FAMILIES)
def test_cross_spreads_what_the_unet_reads_of_the_words_over_the_vectors(make_run: MakeRun, model: str) -> None:
    settings = {"embedding.init": "red cat", "embedding.vectors": 4, "embedding.start": "cross"}
    session = open_trainer(make_run(model, **settings)).session
    for start, read, rows in zip(
        starts(session), outputs(session, "red cat"), rows_in_tables(session, "red cat"), strict=True
    ):
        torch.testing.assert_close(start, read[[0, 0, 1, 1]], rtol=1e-4, atol=1e-5)
        assert float(start.norm(dim=1).min()) > 5 * float(rows.norm(dim=1).max()), "the output keeps its length"


def test_cross_reads_the_layer_that_clip_skip_names(make_run: MakeRun) -> None:
    found = {}
    for clip_skip in (1, 2):
        folder = make_run(name=f"skip{clip_skip}", **{"embedding.start": "cross", "model.clip_skip": clip_skip})
        session = open_trainer(folder).session
        (found[clip_skip],) = starts(session)
        torch.testing.assert_close(found[clip_skip], outputs(session, "woman")[0].expand(2, -1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[1], found[2], atol=0.1)


@pytest.mark.parametrize("norm", ["match", "direction"])
@pytest.mark.parametrize("model", ["sd1", "sdxl"])
def test_a_kept_norm_gives_cross_the_vocabularys_length(make_run: MakeRun, model: str, norm: str) -> None:
    session = open_trainer(make_run(model, **{"embedding.start": "cross", "embedding.norm": norm})).session
    for start, read, encoder in zip(
        starts(session), outputs(session, "woman"), session.model.text.encoders, strict=True
    ):
        median = encoder.get_input_embeddings().weight.norm(dim=1).median()
        torch.testing.assert_close(start.norm(dim=1), median.detach().expand(2))
        torch.testing.assert_close(torch.cosine_similarity(start, read), torch.ones(2))


def test_a_single_word_is_its_own_mean(make_run: MakeRun) -> None:
    words, mean = (
        starts(open_trainer(make_run(name=start, **{"embedding.start": start})).session)[0]
        for start in ("words", "mean")
    )
    assert torch.equal(words, mean)


def test_cross_starts_alike_in_half_precision(make_run: MakeRun) -> None:
    full, half = (
        starts(open_trainer(make_run(name=form, **{"embedding.start": "cross", "training.precision": form})).session)
        for form in ("fp32", "bf16")
    )
    assert half[0].dtype == torch.float32
    assert float(torch.cosine_similarity(full[0], half[0]).min()) > 0.999


@pytest.mark.parametrize("model", ["sd1", "sdxl"])
def test_a_run_trains_from_each_start_to_another_result_and_can_be_repeated(
    make_run: MakeRun, train: Train, model: str
) -> None:
    results = {}
    for name in ("words", "mean", "cross", "cross again"):
        settings = {"embedding.init": "red cat", "embedding.start": name.partition(" ")[0]}
        folder = make_run(model, name=name, scheme="0.05:2", **settings)
        assert train(folder) == 0
        results[name] = result(folder).in_order()
    for index, crossed in enumerate(results["cross"]):
        assert np.isfinite(crossed).all()
        np.testing.assert_array_equal(crossed, results["cross again"][index])
        assert not np.allclose(crossed, results["words"][index])
        assert not np.allclose(results["mean"][index], results["words"][index])


def test_the_embedding_says_how_it_started_if_not_as_always(make_run: MakeRun, train: Train) -> None:
    said = {}
    for start in ("words", "cross"):
        folder = make_run(name=start, scheme="0.01:1", **{"embedding.start": start})
        assert train(folder) == 0
        with safe_open(folder.embedding("zkz", None), framework="np") as file:
            said[start] = file.metadata()
    assert "start" not in said["words"]
    assert (said["cross"]["init"], said["cross"]["start"]) == ("woman", "cross")


def test_the_start_does_not_matter_to_a_run_that_goes_on(make_run: MakeRun, train: Train) -> None:
    whole, parts = make_run(name="whole", scheme="0.01:4"), make_run(name="parts", scheme="0.01:2")
    assert train(whole) == train(parts) == 0
    edit(parts, "steps = 2", "steps = 4")
    set_start(parts, "cross")
    assert train(parts) == 0
    assert not [event for event in events(parts, "warning") if "changed since" in event["message"]]
    np.testing.assert_array_equal(result(whole).in_order()[0], result(parts).in_order()[0])


@pytest.mark.parametrize("start", ["mean", "cross"])
def test_mean_and_cross_of_no_words_are_told_with_the_way_out(
    make_run: MakeRun, train: Train, trained: MakeRun, models: dict[str, Path], start: str
) -> None:
    first = trained(name="first", scheme="0.01:1")
    for init, says in (
        ("", f"{start} needs words to start from"),
        ("  ", f"{start} needs words to start from"),
        (str(first.embedding("zkz", None)), f"{start} is for words; the vectors of a file are used as they are"),
    ):
        folder = make_run(name=f"of{len(init)}", **{"embedding.init": init})
        assert not check_run(folder).problems.errors
        set_start(folder, start)
        (problem,) = check_run(folder).problems.errors
        assert (problem.field, problem.message) == ("embedding.start", says)
        assert problem.line and 'start = "words"' in problem.remedy
        assert train(folder) == 2


def test_words_without_a_vector_are_told_unless_they_are_blended(make_run: MakeRun) -> None:
    folder = make_run(**{"embedding.init": "red cat coat"})

    def told() -> list[str]:
        return [problem.message for problem in check_run(folder).problems.found if problem.field == "embedding.init"]

    assert told() == ["the initial words have 3 tokens, of which 2 start a vector"]
    set_start(folder, "mean")
    assert not told()
    set_start(folder, "cross", before="mean")
    assert told()


@given(st.integers(1, 90), st.integers(1, 75))
def test_words_are_spread_in_their_order_and_evenly(words: int, vectors: int) -> None:
    taken = spread(torch.arange(words)[:, None], vectors)[:, 0].tolist()
    assert len(taken) == vectors and taken[0] == 0 and taken == sorted(taken)
    if words <= vectors:
        counts = [taken.count(word) for word in range(words)]
        assert max(counts) - min(counts) <= 1


@cache
def tiny_encoder(folder: Path) -> tuple[Any, Any]:
    from transformers import CLIPTextModel

    from ti_tui.dataset.tokens import PromptTokenizer

    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").requires_grad_(False).eval()
    return encoder, PromptTokenizer.from_folder(folder / "tokenizer")


@given(text=st.lists(st.sampled_from(WORDS), min_size=1, max_size=90), clip_skip=st.integers(1, 2))
def test_each_start_gives_rows_for_any_words_and_later_ones_do_not_change_earlier_ones(
    models: dict[str, Path], text: list[str], clip_skip: int
) -> None:
    encoder, tokenizer = tiny_encoder(models["sd1"])
    ids = tokenizer.words(" ".join(text))

    def rows(start: Any, count: int) -> Tensor:
        return rows_of_words(encoder, tokenizer, ids[:count], start, family="sd1", clip_skip=clip_skip)

    count, half = len(ids), (len(ids) + 1) // 2
    assert rows("words", count).shape == (count, 64)
    torch.testing.assert_close(rows("mean", count)[0], rows("words", count).mean(dim=0))
    crossed = rows("cross", count)
    assert crossed.shape == (min(count, tokenizer.room), 64), "an encoder reads 75 words at once"
    kept = min(half, tokenizer.room)
    torch.testing.assert_close(crossed[:kept], rows("cross", half), rtol=1e-4, atol=1e-4)


def test_a_prompt_with_vectors_from_cross_reads_as_one_with_any_others(make_run: MakeRun) -> None:
    """However long its vectors are, the token takes its places and the end mark stays where it was."""
    session = open_trainer(make_run(**{"embedding.start": "cross"})).session
    hidden = session.model.text.encode(session.model.text.ids([f"a photo of {NAME} on a table"])).hidden
    assert hidden.shape == (1, 77, 64) and bool(hidden.isfinite().all())
