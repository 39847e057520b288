"""The models themselves, loaded in this process: every kind, the device, and what happens when memory runs out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.fixtures.tiny_blip import KINDS, old_layout, shared
from ti_tui.captioning import models
from ti_tui.captioning.models import Cancelled, LoadedModel, device_with_room
from ti_tui.captioning.worker import LONG_SIDE, Worker, load_image
from ti_tui.captions.endpoint import CaptionerError
from ti_tui.captions.models import CaptionerModel, check_captioner
from ti_tui.run.hardware import Hardware

GB = 10**9


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> CaptionerModel:
    return check_captioner(shared(tmp_path_factory))


@pytest.fixture
def images(photos: Path) -> list[Image.Image]:
    return [load_image(photos / name) for name in ("coffee.jpg", "astronaut.jpg")]


def never() -> bool:
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_says_what_it_sees_and_goes_on_from_first_words(
    tmp_path_factory: pytest.TempPathFactory, images: list[Image.Image], kind: str
) -> None:
    model = LoadedModel(check_captioner(shared(tmp_path_factory, kind)), "cpu", print)
    plain = model.captions(images, "", never)
    begun = model.captions(images, "a photo of", never)
    assert all(plain) and plain[0] != plain[1]
    assert all(text.startswith("a photo of") for text in begun)
    # Each of several at once is what it is alone.
    model.batch = 2
    assert model.captions(images, "", never) == plain
    assert model.captions(images, "a photo of", never) == begun


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_of_each_kind_works_in_half_precision(
    tmp_path_factory: pytest.TempPathFactory, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # As on a card; that it is one changes no number format.
    monkeypatch.setattr(LoadedModel, "_dtype", torch.float16)
    model = LoadedModel(check_captioner(shared(tmp_path_factory, kind)), "cpu", print)
    for words in ("", "a photo of"):
        assert all(text.startswith(words) and text != words for text in model.captions(images, words, never))
    # From there, the way back is open.
    monkeypatch.undo()
    model._to_cpu()
    assert all(model.captions(images, "", never))


def test_the_layout_of_the_hub_gives_the_same_captions(
    blip: CaptionerModel, images: list[Image.Image], tmp_path: Path
) -> None:
    other = check_captioner(old_layout(blip.path, tmp_path / "hub-blip"))
    ours, theirs = LoadedModel(blip, "cpu", print), LoadedModel(other, "cpu", print)
    for words in ("", "a photo of"):
        assert ours.captions(images, words, never) == theirs.captions(images, words, never)


def test_a_cancelled_picture_has_no_caption(blip: CaptionerModel, images: list[Image.Image]) -> None:
    with pytest.raises(Cancelled):
        LoadedModel(blip, "cpu", print).captions(images, "", lambda: True)


def test_weights_that_lack_a_matrix_are_refused(blip: CaptionerModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(blip.path, tmp_path / "blip"))
    weights = load_file(folder / "model.safetensors")
    del weights["text_decoder.bert.encoder.layer.1.attention.self.query.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CaptionerError, match=r"lack 1 tensors \(text_decoder.bert.encoder.layer.1"):
        LoadedModel(check_captioner(folder), "cpu", print)


def test_weights_of_another_size_than_config_json_says_are_refused(blip: CaptionerModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(blip.path, tmp_path / "blip"))
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 48
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CaptionerError, match="cannot be loaded") as error:
        LoadedModel(check_captioner(folder), "cpu", print)
    assert len(str(error.value).splitlines()) <= 3


def test_settings_for_pictures_that_make_no_sense_are_refused(blip: CaptionerModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(blip.path, tmp_path / "blip"))
    (folder / "processor_config.json").write_text("{")
    with pytest.raises(CaptionerError, match="cannot be loaded: "):
        LoadedModel(check_captioner(folder), "cpu", print)


def test_code_in_a_tokenizers_folder_is_never_run(blip: CaptionerModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(blip.path, tmp_path / "blip"))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Tokenizer: ...\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    LoadedModel(check_captioner(folder), "cpu", print)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("free", "parameters", "device"),
    [(1.4, 0.2, "cpu"), (1.6, 0.2, "cuda"), (1.6, 0.45, "cpu"), (1.8, 0.45, "cuda"), (6.0, 2.7, "cpu")],
)
def test_a_card_is_taken_if_the_captioner_has_room_on_it(
    blip: CaptionerModel, monkeypatch: pytest.MonkeyPatch, free: float, parameters: float, device: str
) -> None:
    card = Hardware("cuda", "RTX 2060", 6 * GB, int(free * GB), bf16=False)
    monkeypatch.setattr(models, "find_hardware", lambda _: card)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(models.psutil, "virtual_memory", lambda: type("", (), {"available": 32 * GB}))
    model = replace(blip, parameters=int(parameters * GB))
    said: list[str] = []
    assert device_with_room(model, "auto", said.append) == device
    assert bool(said) == (device == "cpu")
    if device == "cpu":
        assert "RTX 2060 has" in said[0] and "works on the CPU" in said[0]
        with pytest.raises(CaptionerError, match="GB free"):
            device_with_room(model, "cuda", said.append)


def test_a_model_that_does_not_fit_in_memory_is_not_loaded(
    blip: CaptionerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.psutil, "virtual_memory", lambda: type("", (), {"available": 6 * GB}))
    with pytest.raises(CaptionerError, match=r"not enough memory for BLIP, 2.7 billion.*needs about 12.9 GB, 6.0 GB"):
        LoadedModel(replace(blip, parameters=2_700_000_000), "cpu", print)


def test_without_a_card_none_can_be_asked_for(blip: CaptionerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CaptionerError, match="no NVIDIA card"):
        device_with_room(blip, "cuda", print)


def test_when_a_cards_memory_runs_out_it_takes_smaller_steps_and_then_the_cpu(
    blip: CaptionerModel, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    model = LoadedModel(blip, "cpu", said.append)
    expected = model.captions(images, "", never)
    tried: list[tuple[str, int, int]] = []
    original = LoadedModel._captions

    def captions(self: LoadedModel, images: Sequence[Image.Image], *rest: Any) -> list[str]:
        tried.append((self.device, len(images), self.beams))
        if self.device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, images, *rest)

    monkeypatch.setattr(LoadedModel, "_captions", captions)
    # The model itself is on the CPU already: no card is needed to see what is tried.
    model.device, model.batch = "cuda", 4
    assert model.captions(images, "", never) == expected
    assert tried == [("cuda", 2, 3), ("cuda", 1, 3), ("cuda", 1, 1), ("cpu", 1, 3), ("cpu", 1, 3)]
    assert [text.partition(": ")[2] for text in said] == [
        "the captioner takes one image at a time",
        "the captioner looks for one wording instead of the best of three",
        "the captioner continues on the CPU",
    ]


def test_large_pictures_are_reduced_before_the_captioner_gets_them(tmp_path: Path) -> None:
    Image.new("RGBA", (3000, 1500), (255, 0, 0, 0)).save(tmp_path / "large.png")
    image = load_image(tmp_path / "large.png")
    assert image.size == (LONG_SIDE, LONG_SIDE // 2) and image.mode == "RGB"
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_a_worker_that_is_cancelled_between_pictures_says_so(blip: CaptionerModel, photos: Path) -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    def answer(kind: str, **values: Any) -> None:
        told.append((kind, values))

    worker = Worker(blip, "cpu", answer, lambda: len(told) > 2)
    worker.run(7, [(str(number), photos / "coffee.jpg") for number in range(5)], "")
    assert [kind for kind, _ in told] == ["loaded", "captioned", "captioned", "finished"]
    assert told[-1][1] == {"job": 7, "cancelled": True}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch sees none here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_card_captions_in_half_precision(
    tmp_path_factory: pytest.TempPathFactory, images: list[Image.Image], kind: str
) -> None:
    model = LoadedModel(check_captioner(shared(tmp_path_factory, kind)), "cuda", print)
    assert model.device == "cuda" and model.batch > 1
    for words in ("", "a photo of"):
        assert all(text.startswith(words) for text in model.captions(images, words, never))
    with pytest.raises(Cancelled):
        model.captions(images, "", lambda: True)
