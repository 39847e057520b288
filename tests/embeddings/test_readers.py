"""Every form that is written is taken by the programs it is for: by their rules, and by diffusers' own loader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.embeddings.reader_rules import READERS, content_of, refused_by_a1111
from tests.fixtures.tiny_models import END, write_tokenizer
from ti_tui.embeddings.files import FORMS, RUN_ID, Embedding, EmbeddingError, EmbeddingForm, read, with_suffix, write

COUNTS = (1, 4, 12)
FAMILIES = {"sd1": (768,), "sd2": (1024,), "sdxl": (768, 1280)}
OTHERS = frozenset(READERS) - {"OneTrainer"}
TAKES: dict[EmbeddingForm, dict[str, frozenset[str]]] = {
    "safetensors": {"sd": OTHERS, "sdxl": frozenset(READERS)},
    "a1111-pt": {"sd": OTHERS, "sdxl": frozenset(READERS)},
    "diffusers": {"sd": OTHERS, "sdxl": frozenset(READERS)},
    # Any single tensor is an embedding for the others; InvokeAI takes its number of vectors for its width.
    "onetrainer": {"sd": frozenset(READERS) - {"InvokeAI"}, "sdxl": frozenset(READERS)},
}
"""The programs that take each form."""


def made(family: str, count: int) -> Embedding:
    numbers = np.random.default_rng(count)
    rows = [numbers.normal(size=(count, width)).astype(np.float32) for width in FAMILIES[family]]
    return Embedding.from_rows(rows, token="zkz", step=500, metadata={RUN_ID: "abc", "base_model": "m.safetensors"})


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", FORMS)
def test_each_program_takes_the_forms_that_are_for_it(
    tmp_path: Path, form: EmbeddingForm, family: str, count: int
) -> None:
    embedding, path = made(family, count), with_suffix(tmp_path / "zkz", form)
    write(embedding, path, form)
    taken = set()
    for name, reader in READERS.items():
        rows = reader(content_of(path), sum(FAMILIES[family]))
        if rows is None:
            continue
        taken.add(name)
        for found, written in zip(rows, embedding.in_order(), strict=True):
            assert found.dtype == torch.float32
            np.testing.assert_array_equal(found.numpy(), written)
    assert taken == TAKES[form]["sdxl" if family == "sdxl" else "sd"]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["a1111-pt", "diffusers"])
def test_a1111_finds_nothing_in_a_pt_file_that_it_does_not_allow(
    tmp_path: Path, form: EmbeddingForm, family: str, count: int
) -> None:
    path = with_suffix(tmp_path / "zkz", form)
    write(made(family, count), path, form)
    assert [refused_by_a1111(path, version) for version in ("1.7", "1.10")] == [[], []]


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_vectors_give_equal_pt_files_without_torch(tmp_path: Path, family: str) -> None:
    write(made(family, 4), tmp_path / "a.pt", "a1111-pt")
    write(read(tmp_path / "a.pt"), tmp_path / "c.pt", "a1111-pt")
    script = (
        "import sys; from pathlib import Path; from tests.embeddings.test_readers import made\n"
        "for name in [name for name in sys.modules if name.split('.')[0] == 'torch']: del sys.modules[name]\n"
        "sys.modules['torch'] = None\n"
        f"from ti_tui.embeddings.files import write; write(made({family!r}, 4), Path(sys.argv[1]), 'a1111-pt')"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "b.pt")], check=True)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_what_a_pt_file_says_besides_the_vectors_survives_its_mending(tmp_path: Path) -> None:
    content = {
        "string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(2, 768)}, "name": "old", "step": 2**40,
        "sd_checkpoint": "0123456789", "sd_checkpoint_name": "m", RUN_ID: "abc",
    }  # fmt: skip
    torch.save(content, tmp_path / "old.pt")
    write(read(tmp_path / "old.pt"), tmp_path / "new.pt", "a1111-pt")
    assert refused_by_a1111(tmp_path / "new.pt", "1.7") == []
    again = torch.load(tmp_path / "new.pt", weights_only=True)
    assert torch.equal(again["string_to_param"].pop("*"), content["string_to_param"].pop("*"))  # type: ignore[attr-defined]
    assert again == content


def test_a_pt_file_that_a1111_refuses_says_how_to_mend_it(tmp_path: Path) -> None:
    content = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(2, 768)}, "name": "zkz"}
    torch.save(content, tmp_path / "zkz.pt")
    assert refused_by_a1111(tmp_path / "zkz.pt", "1.7")
    assert "convert zkz.pt --to a1111-pt --force" in read(tmp_path / "zkz.pt").notes[0]
    write(read(tmp_path / "zkz.pt"), tmp_path / "zkz.pt", "a1111-pt")
    assert read(tmp_path / "zkz.pt").notes == ()


def pipeline_of(folder: Path, width: int) -> Any:
    """A text encoder and a tokenizer with diffusers' own loader of embeddings."""
    from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin

    pipeline: Any = TextualInversionLoaderMixin()
    # The loader looks for hooks in them.
    pipeline.components, pipeline.hf_device_map = {}, None
    size = write_tokenizer(folder, pad=END)
    config = CLIPTextConfig(
        vocab_size=size, hidden_size=width, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1
    )
    pipeline.tokenizer, pipeline.text_encoder = CLIPTokenizer.from_pretrained(folder), CLIPTextModel(config)
    return pipeline


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize("form", ["a1111-pt", "diffusers"])
def test_diffusers_finds_the_token_by_itself(tmp_path: Path, form: EmbeddingForm, family: str, count: int) -> None:
    embedding, path = made(family, count), with_suffix(tmp_path / "other-name", form)
    write(embedding, path, form)
    pipeline = pipeline_of(tmp_path / "tokenizer", *FAMILIES[family])
    pipeline.load_textual_inversion(str(path))
    ids = pipeline.tokenizer.convert_tokens_to_ids(["zkz", *(f"zkz_{n}" for n in range(1, count))])
    table = pipeline.text_encoder.get_input_embeddings().weight.detach()
    np.testing.assert_array_equal(table[ids].numpy(), embedding.in_order()[0])


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("form", FORMS)
def test_diffusers_takes_sdxls_two_parts_by_their_keys(tmp_path: Path, form: EmbeddingForm, count: int) -> None:
    embedding, path = made("sdxl", count), with_suffix(tmp_path / "zkz", form)
    write(embedding, path, form)
    content = content_of(path)
    for key, rows in embedding.vectors.items():
        pipeline = pipeline_of(tmp_path / "tokenizer", rows.shape[1])
        pipeline.load_textual_inversion(content[key], token="zkz")
        table = pipeline.text_encoder.get_input_embeddings().weight[-count:].detach()
        np.testing.assert_array_equal(table.numpy(), rows)


def test_onetrainers_key_is_spelt_as_it_spells_it(tmp_path: Path) -> None:
    write(made("sd1", 4), tmp_path / "z.safetensors", "onetrainer")
    assert list(load_file(tmp_path / "z.safetensors")) == ["emp_params"]
    assert read(tmp_path / "z.safetensors").token == "zkz"


@pytest.mark.parametrize("names", [("emp_params_out",), ("clip_l_out", "clip_g_out"), ("clip_g_out",)])
def test_onetrainers_output_embedding_alone_is_refused_in_words(tmp_path: Path, names: tuple[str, ...]) -> None:
    save_file({name: torch.ones(2, 768) for name in names}, tmp_path / "z.safetensors")
    with pytest.raises(EmbeddingError, match="only an output embedding"):
        read(tmp_path / "z.safetensors")


@pytest.mark.parametrize("name", ["clip_l", "clip_g"])
def test_half_of_an_sdxl_embedding_is_refused_in_words(tmp_path: Path, name: str) -> None:
    save_file({name: torch.ones(2, 768), f"{name}_out": torch.ones(2, 768)}, tmp_path / "z.safetensors")
    with pytest.raises(EmbeddingError, match="one of SDXL's two text encoders"):
        read(tmp_path / "z.safetensors")
