"""The demo model's making: its pictures, words and judge, and every stage once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.dataset.templates import NAME
from ti_tui.dataset.tokens import PromptTokenizer
from tools.demo_model.concepts import CONCEPTS, PICTURES, Concept
from tools.demo_model.judge import ALL_SHAPES, Asked, Verdict, judge_pictures, load_judge, named_colour, to_lab
from tools.demo_model.pictures import BACKGROUNDS, COLOURS, PATTERNS, SHAPES, SIZE, Thing, draw, placed
from tools.demo_model.team import Flat, Optimizer, Team
from tools.demo_model.words import NOUNS, TEMPLATES, Describer, prompt, write_tokenizer

ROOT = Path(__file__).parent.parent.parent


def verdicts(images: list[np.ndarray], asked: list[Asked]) -> list[Verdict]:
    return judge_pictures(load_judge(), np.stack(images), asked)


@given(seed=st.integers(0, 10_000))
def test_every_picture_is_drawn_within_its_bounds_and_the_same_again(seed: int) -> None:
    thing = Describer(0).any(np.random.default_rng(seed)).thing
    where = placed(thing, np.random.default_rng(seed))
    picture = draw(where)
    assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, draw(where))
    # There is an object: the middle of the picture is not all background.
    assert np.abs(picture.astype(int) - picture[6, 6].astype(int)).max() > 20


def test_the_judge_calls_drawn_pictures_of_every_kind_right() -> None:
    chance, images, asked, names = np.random.default_rng(5), [], [], []
    for shape in SHAPES:
        for pattern in PATTERNS:
            name = str(chance.choice(list(COLOURS)))
            background = str(chance.choice([other for other in BACKGROUNDS if other != name]))
            look = Thing(shape, pattern, COLOURS[name], BACKGROUNDS[background])
            images.append(draw(placed(look, chance)))
            asked.append(Asked(look, background))
            names.append((pattern, name))
    judged = verdicts(images, asked)
    assert np.mean([one.shape and one.pattern and one.follows for one in judged]) >= 0.95
    named = [named_colour(image, pattern) == name for image, (pattern, name) in zip(images, names, strict=True)]
    assert np.mean(named) >= 0.95


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)
def test_the_judge_calls_each_concept_right_and_everything_near_it_wrong(concept: Concept) -> None:
    look = replace(concept.look, background=BACKGROUNDS["white"])
    asked = Asked(look, "white")
    near = {
        "shape": replace(look, shape="circle"),
        "pattern": replace(look, pattern="striped" if look.pattern == "checkered" else "checkered", second=None),
        "colour": replace(look, colour=COLOURS["red"]),
        "background": replace(look, background=BACKGROUNDS["green"]),
        "frame": replace(look, frame=COLOURS["red"], radius=16),
    }
    if look.second:
        near["extra"] = replace(look, second=COLOURS["blue"])
    if look.mark:
        near["extra"] = replace(look, mark=None)
    right, *wrong = verdicts([draw(look), *(draw(one) for one in near.values())], [asked] * (len(near) + 1))
    assert right.all
    for name, verdict in zip(near, wrong, strict=True):
        assert not getattr(verdict, name) and not verdict.all, name


def test_a_mark_must_be_in_its_corner_and_nowhere_else() -> None:
    look = next(concept.look for concept in CONCEPTS if concept.look.mark)
    assert look.mark is not None
    others = [replace(look, mark=(look.mark[0], place)) for place in range(3)]
    assert not any(one.extra for one in verdicts([draw(other) for other in others], [Asked(look, "white")] * 3))


def test_no_caption_names_what_the_concepts_show() -> None:
    describer, chance = Describer(0), np.random.default_rng(1)
    named = [describer.by_words(chance).thing for _ in range(500)]
    assert all(thing.shape in SHAPES and thing.second is None and thing.mark is None for thing in named)
    shown = [describer.any(chance).thing for _ in range(500)]
    assert {thing.shape for thing in shown} < set(ALL_SHAPES)
    assert not any(thing.shape == "arrow" for thing in shown)


def test_lab_is_that_of_the_standard() -> None:
    """White, and the corners of sRGB (CIE 15, D65)."""
    corners = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    known = [[100, 0, 0], [53.2, 80.1, 67.2], [87.7, -86.2, 83.2], [32.3, 79.2, -107.9]]
    np.testing.assert_allclose(to_lab(corners), known, atol=0.6)


def test_every_word_is_one_token_and_both_tokenizers_agree(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    write_tokenizer(tmp_path)
    ours, theirs = PromptTokenizer.from_folder(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    assert all(len(ours.words(word)) == 1 for word in (*NOUNS, *SHAPES, *PATTERNS, *COLOURS, *BACKGROUNDS))
    prompts = [template.replace(NAME, "red striped heart") for template in TEMPLATES]
    for text in [*prompts, prompt("bavo", "green", "yellow")]:
        assert theirs(text).input_ids[1:-1] == ours.words(text)


def test_concept_pictures_that_ship_are_those_that_the_code_draws() -> None:
    from PIL import Image

    for concept in CONCEPTS:
        folder = ROOT / "ti_tui" / "data" / "demo" / "pictures" / concept.name
        assert len(list(folder.glob("*.png"))) == len(list(folder.glob("*.txt"))) == PICTURES
        shipped = np.asarray(Image.open(folder / "03.png").convert("RGB")).astype(int)
        assert np.abs(shipped - concept.picture(2)).max() <= 1


def test_the_flat_optimizer_learns_and_leaves_its_average_behind() -> None:
    torch.manual_seed(0)
    layer, inputs = torch.nn.Linear(4, 1), torch.randn(256, 4)
    targets = inputs @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]) + 0.25
    optimizer = Optimizer([Flat(layer, torch.float32)], rate=0.05, steps=300, warmup=10, most_average=0.9)
    team = Team(0, 1, torch.device("cpu"))
    for _ in range(300):
        (layer(inputs) - targets).square().mean().backward()
        optimizer.step(team)
    optimizer.finish()
    assert float((layer(inputs) - targets).square().mean().detach()) < 1e-2
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.usefixtures("forked_processes")
def test_every_stage_runs_and_leaves_a_folder_that_diffusers_loads(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo_model", str(tmp_path), "--quick"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "gate" in done.stdout and "NOT passed" in done.stdout
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo of a red circle", num_inference_steps=2, height=SIZE, width=SIZE).images[0]
    assert image.size == (SIZE, SIZE)
