"""`ti-tui embeddings inspect` with and without a model: what it says of vectors, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.commands.test_commands import ROOT, Outcome, refused, ti_tui
from ti_tui.dataset.tokens import PromptTokenizer
from ti_tui.embeddings import files
from ti_tui.embeddings.files import Embedding, Vectors
from ti_tui.embeddings.vocabulary import pieces_of
from ti_tui.run.model import TOKEN_TABLES

DEMO = ROOT / "ti_tui" / "data" / "demo" / "demo-model"


def table_of(weights: Path, name: str) -> Vectors:
    return np.concatenate(list(pieces_of(weights, name)()))


def save(path: Path, *rows: Vectors) -> Path:
    files.write(Embedding.from_rows(list(rows), token="zkz"), path, "safetensors")
    return path


def inspect(*arguments: object) -> str:
    outcome: Outcome = ti_tui("embeddings", "inspect", *arguments)
    assert outcome.returncode == 0, outcome.stderr
    told = outcome.stdout.partition("\n\n")[2]
    assert told and all(len(line) <= 80 for line in told.splitlines()), outcome.stdout
    return told


@pytest.fixture
def demo_words(tmp_path: Path) -> Path:
    """An embedding of the demo model's own words yellow, star and star, the last 6 times as long."""
    table = table_of(DEMO / "text_encoder" / "model.safetensors", "embeddings.token_embedding.weight")
    tokenizer = PromptTokenizer.from_folder(DEMO / "tokenizer")
    ids = tokenizer.words("yellow star star")
    assert len(ids) == 3
    return save(tmp_path / "zkz.safetensors", table[ids] * np.float32([[1], [1], [6]]))


def test_without_a_model_lengths_cosines_and_rank_are_told(demo_words: Path) -> None:
    told = inspect(demo_words)
    assert "norms" in told and "effective rank  1.5 of 3" in told and "at most 1.00 (vectors 2 and 3)" in told
    assert "note: vectors 2 and 3 point in the same direction (cosine 1.00): one of them adds nothing" in " ".join(
        told.split()
    )
    assert "nearest" not in told and "median" not in told


def test_with_its_model_each_vector_has_its_nearest_words(demo_words: Path) -> None:
    told = inspect(demo_words, "--model", DEMO)
    yellow, star, long = told.splitlines()[1:4]
    assert "yellow 1.00" in yellow and "star 1.00" in star and "star 1.00" in long
    assert long.split()[2:4] == ["100", "%"]
    assert "vector 3 has 6 times the norm of the median word" in " ".join(told.split())


def test_the_model_may_be_given_as_a_relative_path(demo_words: Path) -> None:
    assert "yellow 1.00" in inspect(demo_words, "--model", DEMO.relative_to(ROOT))


def test_a_single_file_of_sdxl_is_measured_for_each_encoder(models: dict[str, Path], tmp_path: Path) -> None:
    tables = [table_of(models["sdxl.safetensors"], names[0]) for names in TOKEN_TABLES["sdxl"]]
    embedding = save(tmp_path / "x.safetensors", *(table[5:7] for table in tables))
    told = inspect(embedding, "--model", models["sdxl.safetensors"])
    assert "text encoder 1 of 2, width 64:" in told and "text encoder 2 of 2, width 128:" in told
    assert "words shorter" in told and "nearest" not in told
    assert "note: the words cannot be named" in told, "the file has no tokenizer, and its words are not CLIP's"
    told = inspect(embedding, "--model", models["sdxl"])
    assert told.count("&- 1.00") == told.count("'- 1.00") == 2


def test_an_embedding_of_another_width_is_refused(models: dict[str, Path], tmp_path: Path, demo_words: Path) -> None:
    other = save(tmp_path / "x.safetensors", np.ones((2, 768), dtype=np.float32))
    outcome = ti_tui("embeddings", "inspect", other, demo_words, "--model", DEMO)
    refused(outcome, "x.safetensors does not fit demo-model", "width 768, the model's words 64")
    assert "yellow 1.00" in outcome.stdout, "the others are told all the same"
    refused(ti_tui("embeddings", "inspect", demo_words, "--model", models["sdxl"]), "the model's words 64 + 128")


def test_models_whose_words_cannot_be_read_are_refused(
    models: dict[str, Path], tmp_path: Path, demo_words: Path
) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(DEMO, pickled)
    (pickled / "text_encoder" / "model.safetensors").rename(pickled / "text_encoder" / "pytorch_model.bin")
    for model, says in (
        (models["sd1.ckpt"], "only PyTorch can read"),
        (pickled, "text_encoder has no .safetensors"),
        (tmp_path / "nothing.safetensors", "there is no model at"),
        ("nobody/nothing", "nobody/nothing is not on this machine"),
        (demo_words, "is an embedding, not a Stable Diffusion checkpoint"),
    ):
        refused(ti_tui("embeddings", "inspect", demo_words, "--model", model), says)


def test_a_spoiled_embedding_is_told(tmp_path: Path) -> None:
    rows = np.ones((2, 64), dtype=np.float32)
    rows[1, 5] = np.nan
    told = inspect(save(tmp_path / "x.safetensors", rows), "--model", DEMO)
    assert "note: vector 2 has numbers that are not finite: the embedding is unusable" in told
