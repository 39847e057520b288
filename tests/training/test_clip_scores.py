"""The judge: a real CLIP model, tiny and random, from a folder as the hub has it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fixtures import tiny_clip
from ti_tui.jobs.clip_model import JudgeError, Scores, check_judge
from ti_tui.training.clip_scores import ImageJudge, mutual_likeness

PROMPT = "a photo of a thing on a white background"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder; not to be changed."""
    return tiny_clip.make(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def copied(clip: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(clip, tmp_path / "clip"))


def pictures(count: int) -> list[Image.Image]:
    """Different pictures of different shapes."""
    numbers = np.random.default_rng(1)
    return [
        Image.fromarray(np.kron(numbers.integers(0, 256, (4, 5, 3), np.uint8), np.ones((12, 9 + turn, 1), np.uint8)))
        for turn in range(count)
    ]


def test_scores_are_the_cosines_that_transformers_itself_gives(clip: Path) -> None:
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    images = pictures(11)
    model = CLIPModel.from_pretrained(clip)
    inputs = CLIPTokenizer.from_pretrained(clip)([PROMPT], padding=True, return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(clip)(images=images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = model(**inputs, pixel_values=pixels)
    judged = ImageJudge(clip).scores(images[:3], [PROMPT] * 3, images[3:])
    seen = output.image_embeds
    assert [one.following for one in judged] == pytest.approx((seen @ output.text_embeds.T)[:3, 0].tolist(), abs=1e-5)
    assert [one.likeness for one in judged] == pytest.approx((seen[:3] @ seen[3:].T).mean(dim=1).tolist(), abs=1e-5)


def test_a_picture_is_most_like_itself_and_known_references_give_the_same(clip: Path) -> None:
    judge, images = ImageJudge(clip), pictures(3)
    found = judge.scores(images, [""] * 3, [images[1]])
    assert found[1].likeness == pytest.approx(1, abs=1e-5) and max(found, key=lambda one: one.likeness) is found[1]
    assert judge.scores(images, [""] * 3, judge.embed([images[1]])) == found


def test_a_prompt_without_words_has_no_score_and_a_long_one_is_cut(clip: Path) -> None:
    found = ImageJudge(clip).scores(pictures(3), ["", PROMPT, f"{PROMPT} " * 40], pictures(1))
    assert found[0].following is None and found[1].following != found[2].following is not None
    assert ImageJudge(clip).scores([], [], pictures(1)) == []


def test_pictures_of_every_mode_are_taken(clip: Path) -> None:
    images = [pictures(1)[0].convert(mode) for mode in ("L", "RGBA", "P", "1", "CMYK")]
    assert all(isinstance(one, Scores) for one in ImageJudge(clip).scores(images, [""] * 5, pictures(2)))


def test_pictures_among_themselves_are_compared_with_the_others_only() -> None:
    corners = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert mutual_likeness(corners) == pytest.approx(1 / 3)
    assert mutual_likeness(corners[:1]) is None


def test_the_layout_that_the_hub_has_since_2021_is_read(copied: Path, clip: Path) -> None:
    from transformers import CLIPModel

    weights = CLIPModel.from_pretrained(clip).state_dict()
    # Libraries of that time wrote them, too; today's make them themselves.
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    torch.save(weights, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    sizes = {"feature_extractor_type": "CLIPFeatureExtractor", "size": tiny_clip.SIDE, "crop_size": tiny_clip.SIDE}
    sight = {key: value for key, value in tiny_clip.SIGHT.items() if key != "image_processor_type"} | sizes
    (copied / "preprocessor_config.json").write_text(json.dumps(sight))
    arguments = (pictures(2), [PROMPT, ""], pictures(3))
    pairs = zip(ImageJudge(copied).scores(*arguments), ImageJudge(clip).scores(*arguments), strict=True)
    assert all(old.likeness == pytest.approx(new.likeness, abs=1e-5) for old, new in pairs)


def put(folder: Path, name: str, **values: object) -> None:
    """Change values in one of the folder's JSON files."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def half_the_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "layers.1" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def shortened(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shutil.rmtree, "there is no CLIP model at"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (lambda folder: put(folder, "config.json", model_type="siglip"), "is a 'siglip' model, not CLIP"),
        (lambda folder: put(folder, "config.json", model_type="clip_vision_model"), "is one half of a CLIP model"),
        (lambda folder: put(folder, "config.json", auto_map={"AutoModel": "x.Y"}), "which is never run here"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "lacks preprocessor_config.json"),
        (lambda folder: (folder / "merges.txt").unlink(), "lacks its tokenizer"),
        (lambda folder: (folder / "vocab.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (shortened, "is truncated"),
        (half_the_weights, "lack 32 tensors"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_wrong_folder_is_told_in_words(copied: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(copied)
    with pytest.raises(JudgeError) as caught:
        ImageJudge(copied)
    assert says in caught.value.message and caught.value.remedy and len(str(caught.value).splitlines()) == 2


def test_the_folder_that_was_meant_is_named(clip: Path, copied: Path) -> None:
    for near in (copied.parent, copied / "config.json"):
        with pytest.raises(JudgeError) as caught:
            check_judge(near)
        assert caught.value.remedy == f"Did you mean {copied}?"
    assert check_judge(clip).safetensors
