"""Loading: nothing is held twice, whatever the files hold; shards, dtypes and damaged files."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ti_tui.run.model import inspect_model
from ti_tui.run.weight_shapes import WeightsError
from ti_tui.training import weights
from ti_tui.training.models import ModelSource, read_unet_ahead
from ti_tui.training.weights import PIECE, Checkpoint

Part = Callable[[ModelSource, torch.dtype], Any]
PARTS: dict[str, Part] = {
    "unet": lambda source, dtype: source.unet(dtype),
    "vae": lambda source, dtype: source.load_vae(dtype),
    "text_encoder": lambda source, dtype: source.text_encoder(0, dtype),
}


def source(path: Path) -> ModelSource:
    return ModelSource(inspect_model(path), None, end_id=7)


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that any operation has touched and that are still there, and the most at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, Tensor) and tensor.device.type == "cpu":
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone() -> None:
            self._seen.discard(key)
            self.now -= size

        weakref.finalize(storage, gone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["sd1", "sd1.safetensors", "sd2-v.safetensors"])
@pytest.mark.parametrize("part", PARTS)
def test_of_the_files_tensors_only_a_piece_is_held_beside_the_model(
    models: dict[str, Path], name: str, part: str, dtype: torch.dtype
) -> None:
    """What is held at most is the model itself, a piece, and one tensor that is turned round on its way."""
    opened = source(models[name])
    with LiveBytes() as live:
        model = PARTS[part](opened, dtype)
    sizes = [tensor.nbytes for tensor in model.state_dict().values()]
    # OpenCLIP joins three matrices of the attention in one.
    assert live.peak <= sum(sizes) + PIECE * 4 + 4 * max(sizes)
    assert live.peak >= sum(sizes)
    assert live.now <= sum(sizes) + PIECE * 4


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_are_cast_as_torch_casts_them(tmp_path: Path, stored: torch.dtype, dtype: torch.dtype) -> None:
    sizes: list[tuple[int, ...]] = [(), (0,), (3,), (PIECE,), (PIECE + 1,), (7, 11, 3, 3), (2, PIECE)]
    made = {str(index): torch.randn(size).to(stored) for index, size in enumerate(sizes)}
    save_file({**made, "ids": torch.arange(77)}, tmp_path / "x.safetensors")
    found = Checkpoint(tmp_path / "x.safetensors")
    for name, tensor in made.items():
        read = found[name].read(dtype)
        assert read.dtype == dtype
        assert torch.equal(read, tensor.to(dtype))
        assert found[name].shape == tuple(tensor.shape)
    assert torch.equal(found["ids"].read(dtype), torch.arange(77))


def test_a_tensor_changed_on_its_way_has_its_new_shape_before_it_is_read(tmp_path: Path) -> None:
    whole = torch.randn(6, 4, 1, 1)
    save_file({"a": whole}, tmp_path / "x.safetensors")
    stored = Checkpoint(tmp_path / "x.safetensors")["a"]
    changed = stored[:, :, 0, 0].then(lambda tensor: tensor.T.contiguous())
    (tmp_path / "x.safetensors").write_bytes(b"")
    assert changed.shape == (4, 6) and changed.ndim == 2
    with pytest.raises(WeightsError, match="became shorter while it was read"):
        changed.read(torch.float32)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("part", PARTS)
def test_shards_and_bin_files_give_the_same_tensors(
    models: dict[str, Path], tmp_path: Path, part: str, form: str
) -> None:
    copy = tmp_path / "sd1"
    shutil.copytree(models["sd1"], copy)
    [weights] = (copy / part).glob("*.safetensors")
    tensors = load_file(weights)
    weights.unlink()
    names = sorted(tensors)
    where: dict[str, str] = {}
    for index in range(3):
        file = copy / part / f"{weights.stem}-0000{index + 1}-of-00003.{form}"
        shard = {name: tensors[name].clone() for name in names[index::3]}
        where |= dict.fromkeys(shard, file.name)
        if form == "bin":
            torch.save(shard, file)
        else:
            save_file(shard, file)
    (copy / part / f"{weights.stem}.{form}.index.json").write_text(json.dumps({"weight_map": where}))
    expected = PARTS[part](source(models["sd1"]), torch.bfloat16).state_dict()
    found = PARTS[part](source(copy), torch.bfloat16).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_loaded_weights_stay_when_the_file_is_overwritten(models: dict[str, Path], tmp_path: Path) -> None:
    """A training must not change, or die of a bus error, because its model's file is saved over."""
    for form in ("sd1.safetensors", "sd1.ckpt"):
        file = Path(shutil.copy(models[form], tmp_path))
        unet = source(file).unet(torch.float32)
        before = {name: value.clone() for name, value in unet.state_dict().items()}
        with file.open("r+b") as opened:
            opened.write(bytes(file.stat().st_size))
        assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_a_number_type_that_is_not_known_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    content = models["sd1.safetensors"].read_bytes().replace(b'"F32"', b'"F3X"')
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="is of type F3X"):
        source(tmp_path / "x.safetensors").unet(torch.float32)


@pytest.mark.parametrize(
    "name", ["sd1", "sdxl", "sd1.safetensors", "sd2-v.safetensors", "sdxl.safetensors", "sd1.ckpt"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_unet_that_was_read_ahead_is_the_same(models: dict[str, Path], name: str, dtype: torch.dtype) -> None:
    expected = source(models[name]).unet(dtype).state_dict()
    opened = source(models[name])
    opened.ahead = read_unet_ahead(opened.facts, dtype)
    found = opened.unet(dtype).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    # What nobody took is gone.
    assert opened.ahead.take(models[name], next(iter(found)), dtype) is None


def test_what_was_read_ahead_in_another_number_type_is_read_again(models: dict[str, Path]) -> None:
    opened = source(models["sd1"])
    opened.ahead = read_unet_ahead(opened.facts, torch.float16)
    assert {value.dtype for value in opened.unet(torch.float32).state_dict().values()} == {torch.float32}


def test_what_cannot_be_read_ahead_is_told_by_who_needs_it(models: dict[str, Path], tmp_path: Path) -> None:
    content = models["sd1.safetensors"].read_bytes().replace(b'"F32"', b'"F3X"')
    opened = source(models["sd1.safetensors"])
    (tmp_path / "x.safetensors").write_bytes(content)
    opened.facts = replace(opened.facts, path=tmp_path / "x.safetensors")
    opened.ahead = read_unet_ahead(opened.facts, torch.float32)
    with pytest.raises(WeightsError, match="is of type F3X"):
        opened.unet(torch.float32)


def test_tensors_that_lie_together_are_read_in_few_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {f"layer{index}": torch.randn(100) for index in range(20)} | {"other": torch.randn(3, dtype=torch.float16)}
    save_file(made, tmp_path / "x.safetensors")
    monkeypatch.setattr(weights, "BLOCK_BYTES", 1000)
    reads: list[int] = []
    read = weights._read

    def counted(file: Any, count: int, *given: Any) -> Tensor:
        reads.append(count)
        return read(file, count, *given)

    monkeypatch.setattr(weights, "_read", counted)
    ahead = weights.ReadAhead([(tmp_path / "x.safetensors", lambda name: name != "layer7")], torch.float32)
    taken = {name: ahead.take(tmp_path / "x.safetensors", name, torch.float32) for name in made}
    assert taken.pop("layer7") is None
    assert all(torch.equal(tensor, made[name].float()) for name, tensor in taken.items() if tensor is not None)
    assert None not in taken.values() and max(reads) == 200 and sum(reads) == 1903
