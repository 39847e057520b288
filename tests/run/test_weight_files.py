"""Which weights files of a folder are read: whole ones, shards, variants; and what an incomplete folder says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ti_tui.run.model import hub_files
from ti_tui.run.weight_files import find_weights
from ti_tui.run.weight_shapes import WeightsError

BASE = "diffusion_pytorch_model"
SHARDS = [f"{BASE}-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
HALF = [f"{BASE}.fp16-0000{number}-of-00002.safetensors" for number in (1, 2)]
LATE = [f"{BASE}-0000{number}-of-00002.fp16.safetensors" for number in (1, 2)]


def folder_with(path: Path, *names: str, index: str = "", listed: list[str] | None = None) -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    if index:
        (path / index).write_text(json.dumps({"weight_map": {str(n): name for n, name in enumerate(listed or names)}}))
    return path


@pytest.mark.parametrize(
    ("names", "read", "others"),
    [
        ([f"{BASE}.safetensors", f"{BASE}.bin", f"{BASE}.fp16.safetensors"], [f"{BASE}.safetensors"], []),
        ([f"{BASE}.fp16.safetensors", f"{BASE}.non_ema.safetensors"], [f"{BASE}.fp16.safetensors"], []),
        ([f"{BASE}.safetensors", "adapter_model.safetensors"], [f"{BASE}.safetensors"], []),
        # Left over from a download in parts.
        ([f"{BASE}.safetensors", SHARDS[1]], [f"{BASE}.safetensors"], [SHARDS[1]]),
        (SHARDS, SHARDS, []),
        ([*SHARDS, HALF[0]], SHARDS, []),
        ([SHARDS[0], *HALF], HALF, []),
        (LATE, LATE, []),
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"], []),
        (["pytorch_model-00001-of-00001.bin"], ["pytorch_model-00001-of-00001.bin"], []),
        ([*SHARDS, f"{BASE}-00001-of-00002.safetensors"], SHARDS, [f"{BASE}-00001-of-00002.safetensors"]),
    ],
)
def test_the_first_whole_set_is_read(tmp_path: Path, names: list[str], read: list[str], others: list[str]) -> None:
    found = find_weights(folder_with(tmp_path / "unet", *names))
    assert (list(found.files), list(found.others)) == (read, others)


@pytest.mark.parametrize(
    ("index", "names"),
    [
        (f"{BASE}.safetensors.index.json", SHARDS),
        (f"{BASE}.safetensors.index.fp16.json", HALF),
        (f"{BASE}.safetensors.index.fp16.json", LATE),
        (f"{BASE}.fp16.safetensors.index.json", HALF),
    ],
)
def test_an_index_says_what_is_missing(tmp_path: Path, index: str, names: list[str]) -> None:
    whole = folder_with(tmp_path / "whole", *names, index=index)
    assert list(find_weights(whole).files) == names
    with pytest.raises(WeightsError, match=f"lacks {names[-1]}"):
        find_weights(folder_with(tmp_path / "unet", *names[:-1], index=index, listed=names))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (SHARDS[1:], f"lacks {SHARDS[0]}"),
        ([f"{BASE}.non_ema.safetensors"], f"holds no weights, only {BASE}.non_ema.safetensors"),
        (["adapter_model.safetensors"], "holds no weights, only adapter_model.safetensors"),
        ([], "holds no weights"),
        ([f"{BASE}-00001-of-99999.safetensors"], "lacks"),
    ],
)
def test_an_incomplete_folder_says_what_is_missing(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(WeightsError, match=said) as caught:
        find_weights(folder_with(tmp_path / "unet", *names))
    assert "Copy the whole model folder." in caught.value.remedy


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": {"a": "../../other.safetensors"}}', '{"weight_map": 3}'])
def test_an_index_that_cannot_be_used_is_passed_over(tmp_path: Path, content: str) -> None:
    folder = folder_with(tmp_path / "unet", *SHARDS)
    (folder / f"{BASE}.safetensors.index.json").write_text(content)
    assert list(find_weights(folder).files) == SHARDS


def test_of_a_hub_repository_the_half_shards_are_fetched_with_their_index() -> None:
    names = [f"unet/{name}" for name in ("config.json", *SHARDS, *HALF, f"{BASE}.safetensors.index.json",
             f"{BASE}.safetensors.index.fp16.json", f"{BASE}.non_ema.safetensors")]  # fmt: skip
    assert hub_files(names) == [
        f"unet/{name}" for name in ("config.json", *HALF, f"{BASE}.safetensors.index.fp16.json")
    ]
