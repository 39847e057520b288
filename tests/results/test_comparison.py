"""What there is to compare in a run, what is kept of it, and the picture that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import MakeRun, edit
from ti_tui.dataset.templates import without_name
from ti_tui.jobs.clip_model import Scores
from ti_tui.jobs.comparing import CompareWork, ToDraw, ToScore
from ti_tui.results.comparison import Comparison, recorded_samples, thinned, training_pictures
from ti_tui.results.gallery import Gallery, ScoreBook, made_of, mean_scores, subject_word, to_judge
from ti_tui.results.grid import LEAST, Heading, Words, draw_grid, save_grid
from ti_tui.run.events import Event
from ti_tui.run.file import load
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import RunHistory
from ti_tui.setup.check import check_run


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=60), st.integers(2, 12), st.sets(st.integers(0, 10_000)))
def test_thinned_steps_keep_both_ends_and_are_no_more_than_asked(found: set[int], most: int, keep: set[int]) -> None:
    steps = sorted(found)
    chosen = thinned(steps, most, keep=keep)
    assert chosen == sorted(set(chosen)) and set(chosen) <= found and len(chosen) == min(most, len(steps))
    assert chosen[0] == steps[0] and chosen[-1] == (steps[-1] if most > 1 else steps[0])


def test_thinned_steps_hold_the_best_one() -> None:
    assert thinned(range(0, 1001, 100), 3, keep=(700, None)) == [0, 700, 1000]


def test_previews_belong_together_by_their_prompts_also_when_those_changed() -> None:
    history = RunHistory()
    history.add(
        [
            Event(1.0, "sample", {"step": 0, "files": ["a.png", "b.png"], "prompts": ["one", "two"]}),
            Event(2.0, "sample", {"step": 5, "files": ["c.png", "d.png"], "prompts": ["two", "three"]}),
        ]
    )
    found = recorded_samples(RunFolder("/run"), history)
    assert found.steps == (0, 5) and found.prompts == ("two", "three", "one")
    assert found.pictures["two", 0] == Path("/run/b.png") and found.pictures["two", 5] == Path("/run/c.png")
    assert ("three", 0) not in found.pictures
    assert found.at([0]).prompts == ("two", "one")


@pytest.mark.parametrize(
    ("prompt", "word", "plain"),
    [
        ("a photo of a [name] at the beach", "woman", "a photo of a woman at the beach"),
        ("a photo of a zkz, zkzx", "woman", "a photo of a woman, zkzx"),
        ("a photo of the [name] at the beach", "", "a photo of at the beach"),
        ("a photo, [name], red", "", "a photo, red"),
        ("[name]", "", ""),
    ],
)
def test_a_prompt_without_the_token_is_what_the_model_knew_before(prompt: str, word: str, plain: str) -> None:
    assert without_name(prompt, "zkz", word) == plain


def test_the_subjects_word_is_the_init_text_or_the_class_of_the_folder(make_run: MakeRun) -> None:
    run = make_run(**{"embedding.init": "red cup"})
    assert subject_word(load(run.file)) == "red cup"
    images = load(run.file).dataset.images
    edit(run, 'init = "red cup"', 'init = "start.safetensors"')
    assert images == "img/1_zkz red cup" and subject_word(load(run.file)) == "red cup"
    edit(run, f'images = "{images}"', 'images = "img"')
    assert subject_word(load(run.file)) == ""


def test_masks_are_no_training_pictures(tmp_path: Path) -> None:
    place = tmp_path / "1_zkz woman"
    place.mkdir()
    for name in ("2.png", "10.png", "2-mask.png", "notes.txt"):
        (place / name).write_bytes(b"")
    assert [path.name for path in training_pictures(tmp_path)] == ["2.png", "10.png"]
    assert training_pictures(tmp_path / "none") == []


def test_what_was_drawn_counts_only_while_it_is_made_of_the_same(make_run: MakeRun) -> None:
    run = make_run()
    recipe = load(run.file)
    gallery = Gallery(run, recipe, "a photo of [name] --d 3")
    assert gallery.folder.name.startswith("a-photo-of-zkz-")
    assert gallery.folder == Gallery(run, recipe, "a photo of [name]   --w 64 --d 3").folder
    assert gallery.folder != Gallery(run, recipe, "a photo of [name] --d 4").folder
    checked = check_run(run)
    first = made_of(checked, 0)
    assert not gallery.holds(0, first)
    gallery.folder.mkdir(parents=True)
    gallery.picture(0).write_bytes(b"a picture")
    gallery.note(0, first)
    assert Gallery(run, recipe, gallery.line).holds(0, first)
    edit(run, 'init = "woman"', 'init = "man"')
    assert made_of(check_run(run), 0) != first
    run.state(3).mkdir(parents=True)
    vectors = run.state(3) / "vectors.safetensors"
    vectors.write_bytes(b"vectors")
    before = made_of(checked, 3)
    vectors.write_bytes(b"others")
    assert len({before, made_of(checked, 3), first}) == 3


def test_a_damaged_list_of_what_was_drawn_is_an_empty_one(make_run: MakeRun) -> None:
    run = make_run()
    for content in ('{"made_of": 3}', "[]", "{", ""):
        gallery = Gallery(run, load(run.file), "[name]")
        gallery.folder.mkdir(parents=True, exist_ok=True)
        (gallery.folder / "drawn.json").write_text(content)
        gallery.picture(3).write_bytes(b"a picture")
        again = Gallery(run, load(run.file), "[name]")
        assert not again.holds(3, "x")
        again.note(3, "x")
        assert Gallery(run, load(run.file), "[name]").holds(3, "x")


def test_scores_are_kept_by_the_content_of_all_that_they_follow_from(make_run: MakeRun, tmp_path: Path) -> None:
    run, judge = make_run(), tmp_path / "clip"
    judge.mkdir()
    (judge / "model.safetensors").write_bytes(b"a judge")
    references = training_pictures(run.images)
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"one")
    book = ScoreBook(run, judge, references)
    book.put(ToScore(picture, "a woman"), Scores(0.71, 0.25))
    book.put(ToScore(picture, ""), Scores(0.71, None))
    book.put_among(0.8)
    book.save()
    again = ScoreBook(run, judge, list(reversed(references)))
    assert again.get(ToScore(picture, "a woman")) == Scores(0.71, 0.25)
    assert again.get(ToScore(picture, "")) == Scores(0.71, None) and again.among == 0.8
    assert again.get(ToScore(picture, "a man")) is None
    assert ScoreBook(run, judge, references[1:]).get(ToScore(picture, "a woman")) is None
    picture.write_bytes(b"two")
    assert again.get(ToScore(picture, "a woman")) is None
    (run.samples / "compare" / "scores.json").write_text('{"x": [')
    assert ScoreBook(run, judge, references).among is None


def test_means_pass_over_what_is_not_known() -> None:
    assert mean_scores([None, Scores(0.5, None), Scores(1.0, 0.2)]) == Scores(0.75, 0.2)
    assert mean_scores([None]) is None


def test_pictures_are_judged_by_their_prompt_without_options_and_token(make_run: MakeRun) -> None:
    recipe = load(make_run().file)
    found = Comparison((3,), ("a zkz in snow --n bad --d 1",), {("a zkz in snow --n bad --d 1", 3): Path("a.png")})
    assert to_judge(found, recipe) == {("a zkz in snow --n bad --d 1", 3): ToScore(Path("a.png"), "a woman in snow")}


def test_work_goes_to_the_other_process_whole() -> None:
    work = CompareWork(
        Path("/a b"), "cpu", (ToDraw("a [name] – é", 3, Path("/x.png")),), Path("/clip"),
        (ToScore(Path("/x.png"), ""),), (Path("/1.png"), Path("/2.png")),
    )  # fmt: skip
    assert work.line().count(b"\n") == 1 and CompareWork.from_line(work.line()) == work


def colour(path: Path, name: str, size: tuple[int, int] = (48, 48)) -> Path:
    Image.new("RGB", size, name).save(path)
    return path


def test_the_grid_has_prompts_down_steps_across_and_training_pictures_at_the_right(tmp_path: Path) -> None:
    pictures = {
        ("one", 0): colour(tmp_path / "1.png", "red"),
        ("one", 5): colour(tmp_path / "2.png", "green"),
        ("two", 0): colour(tmp_path / "3.png", "blue", (48, 72)),
    }
    (tmp_path / "bad.png").write_bytes(b"\x89PNG no picture")
    pictures["two", 5] = tmp_path / "bad.png"
    real = [colour(tmp_path / "real.png", "yellow")]
    headings = [Heading(0), Heading(5, best=True, gain=0.31, scores=Scores(0.7, 0.2), against=Scores(0.5, None))]
    image = draw_grid(Comparison((0, 5), ("one", "two"), pictures), headings, real, Words("zkz", "woman", ("a note",)))
    cell = 480
    counts = {pixel: count for count, pixel in image.getcolors(2**24) or []}
    assert counts[255, 0, 0] == counts[0, 128, 0] == cell * cell
    assert counts[255, 255, 0] == 2 * cell * cell and counts[0, 0, 255] == cell * cell * 3 // 2
    xs = [
        next(x for x in range(image.width) if image.getpixel((x, 400)) == pixel) for pixel in ((255, 0, 0), (0, 128, 0))
    ]
    assert xs[1] - xs[0] == cell + 8
    save_grid(image, tmp_path / "grid.png", {"token": "zkz"})
    with Image.open(tmp_path / "grid.png") as saved:
        assert saved.size == image.size and json.loads(saved.text["ti_tui"]) == {"token": "zkz"}  # type: ignore[attr-defined]


def test_a_grid_of_many_steps_stays_readable(tmp_path: Path) -> None:
    path = colour(tmp_path / "1.png", "red", (512, 512))
    steps = tuple(range(40))
    pictures = {("one", step): path for step in steps}
    image = draw_grid(Comparison(steps, ("one",), pictures), [Heading(step) for step in steps], [], Words("zkz"))
    assert image.width >= 40 * LEAST


def test_headings_say_how_far_a_score_is_from_that_of_the_start() -> None:
    start = Scores(0.591, 0.251)
    heading = Heading(100, gain=0.312, rank=0.298, scores=Scores(0.7124, 0.243), against=start)
    assert heading.lines("woman") == ["gain +31 %", "rank 29.8 %", "likeness 0.712 +0.121", "prompt 0.243 -0.008"]
    assert Heading(0, scores=start).lines("woman") == ['"woman"', "likeness 0.591", "prompt 0.251"]
    assert Heading(0).lines("") == ["the start"] and Heading(7).lines("woman") == []
