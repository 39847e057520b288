"""Embedding files: every form out and in, refused files, install."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file

from ti_tui.atomic import CannotWrite
from ti_tui.embeddings.files import FORMS, RUN_ID, Embedding, EmbeddingError, EmbeddingForm, read, with_suffix, write
from ti_tui.embeddings.install import AlreadyThere, install
from ti_tui.embeddings.pictures import unmask
from ti_tui.errors import UserError

ROWS = np.linspace(-1, 1, 2 * 768, dtype=np.float32).reshape(2, 768)
SD1 = Embedding.from_rows([ROWS], token="zkz", step=500, metadata={"base_model_sha256": "ab" * 32, "base_model": "m"})
SDXL = Embedding.from_rows([ROWS, np.ones((2, 1280), dtype=np.float32)], token="zkz", step=7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("embedding", [SD1, SDXL], ids=["sd1", "sdxl"])
def test_each_form_gives_the_same_vectors_back(tmp_path: Path, form: EmbeddingForm, embedding: Embedding) -> None:
    path = with_suffix(tmp_path / "zkz", form)
    write(embedding, path, form)
    again = read(path)
    assert again.widths == embedding.widths and again.count == 2
    for ours, theirs in zip(embedding.in_order(), again.in_order(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if not (form in ("a1111-pt", "diffusers") and embedding is SDXL):
        assert (again.token, again.step) == ("zkz", embedding.step)


rows = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(16)), elements=st.floats(-100, 100, width=32))
tokens = st.text(st.characters(codec="utf-8", exclude_characters="\x00/"), min_size=1, max_size=20)


@given(rows, tokens, st.integers(0, 10**6), st.sampled_from(FORMS))
def test_any_embedding_round_trips(
    tmp_path_factory: pytest.TempPathFactory, array: Any, token: str, step: int, form: EmbeddingForm
) -> None:
    path = with_suffix(tmp_path_factory.mktemp("e") / "x", form)
    write(Embedding.from_rows([array], token=token, step=step), path, form)
    again = read(path)
    np.testing.assert_array_equal(again.in_order()[0], array)
    assert (again.token, again.step) == (token, step)


def test_safetensors_has_kohyas_key_in_fp32_and_tells_everything(tmp_path: Path) -> None:
    write(SD1, tmp_path / "z.safetensors", "safetensors")
    ((key, tensor),) = load_file(tmp_path / "z.safetensors").items()
    assert key == "emb_params" and tensor.dtype == torch.float32 and tensor.shape == (2, 768)
    metadata = read(tmp_path / "z.safetensors").metadata
    assert metadata["token"] == "zkz" and metadata["step"] == "500" and metadata["vectors"] == "2"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"


def test_a1111_pt_is_a1111s_dict(tmp_path: Path) -> None:
    write(SD1, tmp_path / "z.pt", "a1111-pt")
    content = torch.load(tmp_path / "z.pt", weights_only=True)
    assert content["string_to_token"] == {"*": 265} and content["name"] == "zkz" and content["step"] == 500
    assert content["string_to_param"]["*"].shape == (2, 768) and content["sd_checkpoint"] == "ab" * 5


def test_sdxl_has_clip_l_and_clip_g(tmp_path: Path) -> None:
    write(SDXL, tmp_path / "z.safetensors", "safetensors")
    assert {key: tuple(value.shape) for key, value in load_file(tmp_path / "z.safetensors").items()} == {
        "clip_l": (2, 768), "clip_g": (2, 1280),
    }  # fmt: skip


def test_an_sdxl_pt_holds_tensors_only_as_a1111_wants(tmp_path: Path) -> None:
    """A1111 calls `.detach()` on every value of such a file."""
    write(SDXL, tmp_path / "z.pt", "a1111-pt")
    content = torch.load(tmp_path / "z.pt", weights_only=True)
    assert {key: tuple(value.detach().shape) for key, value in content.items()} == {
        "clip_l": (2, 768),
        "clip_g": (2, 1280),
    }


def test_equal_embeddings_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(SD1, tmp_path / f"{name}.safetensors", "safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("tensors", "form"),
    [
        ({"emb_params": torch.ones(3, 768)}, "kohya"),
        ({"emp_params": torch.ones(3, 768), "emp_params_out": torch.ones(3, 768)}, "OneTrainer"),
        ({"clip_l": torch.ones(3, 768), "clip_g": torch.ones(3, 1280), "clip_l_out": torch.ones(3, 768)}, "SDXL"),
        ({"<cat-toy>": torch.ones(768)}, "diffusers"),
        ({"emb_params": torch.ones(3, 768, dtype=torch.bfloat16)}, "kohya"),
        ({"emb_params": torch.ones(3, 768, dtype=torch.float16)}, "kohya"),
    ],
)
def test_the_peers_safetensors_are_read(tmp_path: Path, tensors: dict[str, torch.Tensor], form: str) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    embedding = read(tmp_path / "x.safetensors")
    assert form in embedding.form
    assert all((array == 1).all() and array.dtype == np.float32 for array in embedding.in_order())
    if form == "diffusers":
        assert embedding.token == "<cat-toy>" and embedding.count == 1
    if form == "OneTrainer":
        assert embedding.notes


def test_early_a1111_files_with_a_parameter_dict_are_read(tmp_path: Path) -> None:
    params = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2, 768))})
    torch.save({"string_to_token": {"*": 265}, "string_to_param": params, "name": "old", "step": 9}, tmp_path / "x.pt")
    embedding = read(tmp_path / "x.pt")
    assert (embedding.token, embedding.step, embedding.count) == ("old", 9, 2)


A1111_DICT = {
    "string_to_token": {"*": 265},
    "string_to_param": {"*": {"TORCHTENSOR": ROWS.tolist()}},
    "name": "pic",
    "step": 3,
}


def test_a1111s_picture_is_read_from_its_text_chunk(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(json.dumps(A1111_DICT).encode()).decode())
    Image.new("RGB", (64, 64), "red").save(tmp_path / "x.png", pnginfo=info)
    embedding = read(tmp_path / "x.png")
    assert (embedding.token, embedding.step) == ("pic", 3)
    np.testing.assert_allclose(embedding.in_order()[0], ROWS)


def test_a1111s_picture_is_read_from_its_side_strips(tmp_path: Path) -> None:
    height = 256
    packed = np.frombuffer(zlib.compress(json.dumps(A1111_DICT).encode(), 9), np.uint8)
    columns = -(-len(packed) // (height * 3))
    padded = np.resize(packed, height * columns * 3).reshape(height, columns, 3)
    # The high 4 bits hold A1111's decoration; any value but 0 does.
    low, high = unmask(padded & 15) | 0x40, unmask(padded >> 4) | 0x40
    black = np.zeros((height, 1, 3), np.uint8)
    middle = np.full((height, 100, 3), 0x77, np.uint8)
    Image.fromarray(np.concatenate([low, black, middle, black, high], axis=1)).save(tmp_path / "x.png")
    embedding = read(tmp_path / "x.png")
    np.testing.assert_allclose(embedding.in_order()[0], ROWS)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


def test_code_in_a_file_is_named_and_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"string_to_param": {"*": torch.ones(1, 768)}, "name": Evil()}, tmp_path / "x.pt")
    (tmp_path / "y.bin").write_bytes(pickle.dumps(Evil()))
    for name in ("x.pt", "y.bin"):
        with pytest.raises(EmbeddingError, match=r"contains code|cannot be read"):
            read(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.bin", "x.png", "x.webp", "x.txt"])
@pytest.mark.parametrize("content", [b"", b"\0" * 20, b"hello there, this is no embedding", b"PK\x03\x04broken"])
def test_what_is_no_embedding_is_refused_in_words(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    assert str(tmp_path) in str(caught.value) and len(str(caught.value).splitlines()) <= 3


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("x") / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError):
        read(path)


def test_a_truncated_file_says_so(tmp_path: Path) -> None:
    write(SD1, tmp_path / "z.safetensors", "safetensors")
    content = (tmp_path / "z.safetensors").read_bytes()
    (tmp_path / "z.safetensors").write_bytes(content[:-100])
    with pytest.raises(UserError, match="truncated"):
        read(tmp_path / "z.safetensors")


def test_a_full_model_is_not_taken_for_an_embedding(models: dict[str, Path]) -> None:
    with pytest.raises(EmbeddingError, match="is not an embedding: it contains"):
        read(models["sd1.safetensors"])


@pytest.mark.parametrize("layout", ["embeddings", "webui/embeddings", "comfy/models/embeddings"])
def test_install_finds_the_folder_of_each_program(tmp_path: Path, layout: str) -> None:
    (tmp_path / layout).mkdir(parents=True)
    write(SD1, tmp_path / "z.safetensors", "safetensors")
    root = tmp_path / layout.split("/")[0]
    target = install(tmp_path / "z.safetensors", root, name="zkz")
    assert target == tmp_path / layout / "zkz.safetensors" and target.exists()


def test_install_never_replaces_a_different_file_without_force(tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    write(SD1, tmp_path / "z.safetensors", "safetensors")
    target = install(tmp_path / "z.safetensors", tmp_path / "embeddings")
    assert install(tmp_path / "z.safetensors", tmp_path / "embeddings") == target
    target.write_bytes(b"mine")
    with pytest.raises(EmbeddingError, match="exists and is not from this run"):
        install(tmp_path / "z.safetensors", tmp_path / "embeddings")
    assert target.read_bytes() == b"mine"
    install(tmp_path / "z.safetensors", tmp_path / "embeddings", force=True)
    assert target.read_bytes() == (tmp_path / "z.safetensors").read_bytes()
    assert (tmp_path / "embeddings" / "z.safetensors.bak").read_bytes() == b"mine"


@pytest.mark.parametrize("form", ["safetensors", "a1111-pt"])
def test_install_knows_a_run_by_its_id_and_keeps_what_it_replaces(tmp_path: Path, form: EmbeddingForm) -> None:
    """Two experiments on the same images with the same seed are two runs, whatever else their files say alike."""
    folder = tmp_path / "embeddings"
    folder.mkdir()
    made = {"modelspec.implementation": "ti_tui", "dataset_sha256": "d", "base_model_sha256": "m", "seed": "1"}

    def put(run: str, step: int, *, force: bool = False) -> Path:
        source = with_suffix(tmp_path / f"{run}-{step}", form)
        write(replace(SD1, step=step, metadata={**made, **({RUN_ID: run} if run else {})}), source, form)
        return install(source, folder, name="zkz", force=force)

    def kept() -> dict[str, tuple[str, int | None]]:
        found = {path.name: read(path) for path in folder.iterdir()}
        return {name: (one.metadata.get(RUN_ID, ""), one.step) for name, one in found.items()}

    name = put("a", 10).name
    put("a", 20)
    assert kept() == {name: ("a", 20), f"{name}.bak": ("a", 10)}
    put("a", 30)
    assert kept() == {name: ("a", 30), f"{name}.bak": ("a", 20)}, "one backup of a run is enough"
    for other in ("b", ""):
        with pytest.raises(AlreadyThere, match="not from this run"):
            put(other, 10)
    put("b", 10, force=True)
    put("b", 20)
    assert kept() == {name: ("b", 20), f"{name}.bak": ("a", 30), f"{name}.bak2": ("b", 10)}, "run a's is never lost"


def test_a_copied_run_that_went_on_with_other_rates_is_another_run(tmp_path: Path) -> None:
    folder = tmp_path / "embeddings"
    folder.mkdir()

    def put(scheme: str, step: int) -> Path:
        source = tmp_path / f"{step}.safetensors"
        write(replace(SD1, step=step, metadata={RUN_ID: "a", "scheme": scheme}), source, "safetensors")
        return install(source, folder, name="zkz")

    put("0.05:10, 0.01:60", 50)
    # Rates ahead may change; those behind are as they were trained.
    put("0.05:10, 0.01:45, 0.002:100", 67)
    with pytest.raises(AlreadyThere):
        put("0.05:10, 0.02:60", 60)
    assert read(folder / "zkz.safetensors").step == 67


def test_install_makes_no_folder_that_is_not_there(tmp_path: Path) -> None:
    write(SD1, tmp_path / "z.safetensors", "safetensors")
    with pytest.raises(EmbeddingError, match="there is no folder"):
        install(tmp_path / "z.safetensors", tmp_path / "webui" / "embeddings")
    assert not (tmp_path / "webui").exists()


def test_writing_to_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite):
        write(SD1, Path("/proc/x.safetensors"), "safetensors")
