"""The brain of the caption review: changes, undo over restarts and kills, filters, what the model reads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ti_tui.captions.desk import PHRASE, REPLACED, CaptionDesk
from ti_tui.captions.filter import Facts, FilterError, parse_filter
from ti_tui.captions.journal import history_of
from ti_tui.captions.phrases import load_phrases, save_phrases, with_phrase
from ti_tui.captions.prompt import PromptReader, reader_for, remarks
from ti_tui.dataset.caption_edits import ReplaceError, Replacement, framed, replace_in
from ti_tui.dataset.caption_files import one_line
from ti_tui.dataset.photograph_checks import SurveyedFile
from ti_tui.dataset.scan import TrainingImage
from ti_tui.dataset.survey import survey
from ti_tui.dataset.tokens import PromptTokenizer
from ti_tui.setup.draft import Draft, load_draft, save_draft

NAMES = ("a.png", "b.png", "10_zkz/c\n.png", os.fsdecode(b"bad\xff.png"))
SIDECARS = {"b.png": "a cup, on a table"}
WORDS = st.text(st.sampled_from("ab ,.é猫👩\u200d👧[]{}\\'\"\t\n\u200b"), max_size=12)


def seen(name: str, folder: Path = Path("/photos")) -> SurveyedFile:
    """A picture as the scan gives it."""
    return SurveyedFile(name, folder / name, TrainingImage(folder / name, 64, 64, SIDECARS.get(name, "")))


class Disk:
    """What would be on the disk: the draft as it was saved last, and the history. Desks come and go."""

    def __init__(self, folder: Path) -> None:
        self.draft = Draft(photographs="/photos")
        self.saved = self.draft.to_toml()
        self.history = folder / "captions.jsonl"
        self.desk = self._open()

    def keep(self) -> None:
        self.saved = self.draft.to_toml()

    def restart(self) -> None:
        """Leave the program as people do, and start it again."""
        self.desk.finish()
        self.keep()
        self.kill()

    def kill(self) -> None:
        """Start again from what is on the disk."""
        self.draft = Draft.from_toml(self.saved)
        self.desk = self._open()

    def captions(self) -> dict[str, str]:
        return {name: self.desk.caption(name) for name in NAMES}

    def _open(self) -> CaptionDesk:
        return CaptionDesk(self.draft, [seen(name) for name in NAMES], save=self.keep, history=self.history)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


# Find and replace


@given(st.lists(WORDS, max_size=5), st.text("ab ,é猫", min_size=1, max_size=3), st.text("xyz ", min_size=1, max_size=3))
def test_a_plain_replacement_is_that_of_a_text(texts: list[str], find: str, put: str) -> None:
    captions = {str(number): one_line(text) for number, text in enumerate(texts)}
    found = replace_in(captions, Replacement(find, put))
    for name, caption in captions.items():
        assert found.changed.get(name, caption) == (
            one_line(caption.replace(find, put)) if find in caption else caption
        )
    assert found.places == sum(caption.count(find) for caption in captions.values())


@given(st.lists(WORDS, max_size=5), WORDS, WORDS, st.booleans(), st.booleans(), st.booleans())
def test_no_replacement_breaks_or_leaves_a_caption_of_several_lines(
    texts: list[str], find: str, put: str, whole: bool, ignore: bool, regex: bool
) -> None:
    captions = {str(number): one_line(text) for number, text in enumerate(texts)}
    try:
        found = replace_in(captions, Replacement(find, put, whole_word=whole, ignore_case=ignore, regex=regex))
    except ReplaceError as error:
        assert regex
        assert error.message
        return
    assert all(text == one_line(text) for text in found.changed.values())
    assert all(found.changed[name] != captions[name] for name in found.changed)


@pytest.mark.parametrize(
    ("caption", "find", "options", "expected"),
    [
        ("a woman, in snow", "woman", {"whole_word": True}, "a, in snow"),
        ("woman, red coat", "woman", {}, "red coat"),
        ("red coat, woman", "woman", {}, "red coat"),
        ("red coat, woman, snow", "woman", {}, "red coat, snow"),
        ("a redwood", "red", {"whole_word": True}, "a redwood"),
        ("a redwood", "red", {}, "a wood"),
        ("RED coat", "red", {"ignore_case": True}, "coat"),
        ("红色外套女人", "外套", {}, "红色女人"),
        ("img 12, snow", r"img \d+", {"regex": True}, "snow"),
    ],
)
def test_words_are_taken_out_with_their_commas(
    caption: str, find: str, options: dict[str, bool], expected: str
) -> None:
    found = replace_in({"a": caption}, Replacement(find, **options))
    assert found.changed.get("a", caption) == expected


def test_a_regular_expression_can_name_its_parts() -> None:
    found = replace_in({"a": "cat 1 cat 22"}, Replacement(r"cat (\d+)", r"dog \1", regex=True))
    assert found.changed == {"a": "dog 1 dog 22"}
    assert found.places == 2


@pytest.mark.parametrize(("find", "put"), [("(", ""), ("[a", ""), ("a{99999999999999}", ""), ("a", r"\9"), ("a", "\\")])
def test_an_expression_that_is_none_is_said_and_changes_nothing(find: str, put: str) -> None:
    with pytest.raises(ReplaceError):
        replace_in({"a": "a cat"}, Replacement(find, put, regex=True))


def test_an_expression_that_would_take_years_is_given_up() -> None:
    began = time.monotonic()
    with pytest.raises(ReplaceError, match="too long"):
        replace_in({"a": "a" * 60 + "b"}, Replacement(r"(a+)+$", "", regex=True))
    assert time.monotonic() - began < 5


# Prefix, suffix, phrases


@given(WORDS, WORDS, WORDS)
def test_prefix_and_suffix_are_put_once_however_often(caption: str, prefix: str, suffix: str) -> None:
    once = framed(caption, prefix, suffix)
    assert framed(once, prefix, suffix) == once
    if one_line(caption):
        assert once.startswith(" ".join(prefix.split()))
        assert once.endswith(" ".join(suffix.split()))
    else:
        assert once == "" or caption.split()


def test_prefix_and_suffix_go_into_the_run_with_sidecars_too_and_leave_again(disk: Disk) -> None:
    disk.desk.type("a.png", "snow")
    disk.desk.set_frame("photograph,", ", film grain")
    disk.restart()
    assert disk.draft.choices.whole_captions()["a.png"] == "photograph, snow, film grain"
    assert disk.draft.choices.whole_captions()["b.png"] == "photograph, a cup, on a table, film grain"
    assert disk.desk.caption("b.png") == "a cup, on a table"
    assert disk.desk.in_prompt(NAMES[2]) == ""
    disk.desk.set_frame("", "")
    assert disk.draft.choices.whole_captions() == {"a.png": "snow", "b.png": "a cup, on a table"}


def test_phrases_are_kept_and_put_behind_a_comma_once() -> None:
    assert load_phrases() == ("",) * 9
    save_phrases(["at night", "in\nsnow", *[""] * 20])
    assert load_phrases()[:3] == ("at night", "in snow", "")
    assert with_phrase("a cat,", "at night") == "a cat, at night"
    assert with_phrase("a cat, At Night", "at night") == "a cat, At Night"
    assert with_phrase("", "at night") == "at night"


# Undo


TEXTS = st.sampled_from(["", "snow", "a b", "red coat, snow", "猫\n👩\u200d👧", "x" * 300])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("undo"), st.just(""), st.just("")),
        st.tuples(st.just("accept"), st.sampled_from(NAMES), TEXTS),
        st.tuples(st.just("redo"), st.just(""), st.just("")),
        st.tuples(st.just("many"), st.just(""), TEXTS),
        st.tuples(st.just("undo"), st.just(""), st.just("")),
        st.tuples(st.just("type"), st.sampled_from(NAMES), TEXTS),
        st.tuples(st.just("restart"), st.just(""), st.just("")),
        st.tuples(st.just("replace"), st.sampled_from("ab ,"), st.sampled_from(["", "x", "yy"])),
    ),
    min_size=4,
    max_size=16,
)


@settings(max_examples=150)
@given(STEPS)
def test_undo_and_redo_are_exact_also_over_restarts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    disk = Disk(tmp_path_factory.mktemp("desk"))
    undo: list[dict[str, str]] = []
    redo: list[dict[str, str]] = []
    settled = disk.captions()

    def settle(now: dict[str, str]) -> None:
        nonlocal settled
        if now != settled:
            undo.append(settled)
            redo.clear()
            settled = now

    for what, where, text in steps:
        match what:
            case "type":
                disk.desk.finish()
                settle(disk.captions())
                disk.desk.type(where, text)
            case "accept":
                disk.desk.finish()
                settle(disk.captions())
                disk.desk.type(where, text)
                disk.desk.finish(reviewed=where)
                settle(disk.captions())
            case "replace" | "many":
                disk.desk.finish()
                settle(disk.captions())
                changed = dict.fromkeys(NAMES[:3], text)
                if what == "replace":
                    changed = dict(replace_in(disk.captions(), Replacement(where, text)).changed)
                disk.desk.change(changed, REPLACED if what == "replace" else "captioner")
                settle(disk.captions())
            case "undo" | "redo":
                disk.desk.finish()
                settle(disk.captions())
                stack, other = (undo, redo) if what == "undo" else (redo, undo)
                done = disk.desk.undo() if what == "undo" else disk.desk.redo()
                assert (done is not None) == bool(stack)
                if stack:
                    other.append(settled)
                    settled = stack.pop()
                assert disk.captions() == settled
            case _:
                disk.restart()
                settle(disk.captions())
    while disk.desk.undo() is not None:
        pass
    assert disk.captions() == {name: SIDECARS.get(name, "") for name in NAMES}


@settings(max_examples=80)
@given(STEPS)
def test_a_kill_after_any_change_loses_nothing_but_the_line_that_is_typed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    disk = Disk(tmp_path_factory.mktemp("desk"))
    for what, where, text in steps:
        before = disk.captions()
        if what == "type":
            disk.desk.type(where, text)
            disk.kill()
            now = disk.captions()
            assert {name for name in NAMES if now[name] != before[name]} <= {where}
            continue
        if what == "undo":
            disk.desk.undo()
        elif what == "redo":
            disk.desk.redo()
        else:
            disk.desk.change(dict.fromkeys(NAMES[:3], text), REPLACED)
        after = disk.captions()
        disk.kill()
        assert disk.captions() == after


def test_what_was_undone_can_be_done_again_until_something_else_is_changed(disk: Disk) -> None:
    disk.desk.change({"a.png": "one"}, PHRASE)
    disk.desk.change({"a.png": "two"}, PHRASE)
    disk.desk.undo()
    disk.restart()
    disk.desk.redo()
    assert disk.desk.caption("a.png") == "two"
    disk.desk.undo()
    disk.restart()
    disk.desk.change({"b.png": "three"}, PHRASE)
    assert disk.desk.redo() is None
    disk.restart()
    assert disk.desk.redo() is None


def test_a_clock_that_was_set_back_does_not_bring_old_captions_back(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.desk.change({"a.png": "one"}, PHRASE)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    disk.desk.change({"a.png": "two"}, PHRASE)
    disk.kill()
    assert disk.desk.caption("a.png") == "two"
    saved = disk.saved
    disk.desk.change({"a.png": "three"}, PHRASE)
    disk.saved = saved
    disk.kill()
    assert disk.desk.caption("a.png") == "three"


def test_what_is_undone_together_is_told_in_the_order_of_the_list(disk: Disk) -> None:
    disk.desk.change({NAMES[2]: "three", "a.png": "one", "b.png": "two"}, "captioner")
    undone = disk.desk.undo()
    assert undone is not None
    assert undone.names == NAMES[:3]


def test_a_kill_between_the_history_and_the_draft_keeps_the_change(disk: Disk) -> None:
    disk.desk.change({"a.png": "one", "b.png": "two"}, PHRASE)
    saved = disk.saved
    disk.desk.change({"a.png": "three", "b.png": "four"}, REPLACED)
    disk.saved = saved
    disk.kill()
    assert disk.desk.caption("a.png") == "three"
    assert disk.desk.caption("b.png") == "four"
    assert disk.desk.undo() is not None
    assert disk.desk.caption("a.png") == "one"


def test_a_kill_within_the_history_leaves_a_batch_wholly_undone(disk: Disk) -> None:
    disk.desk.change({"a.png": "one", "b.png": "two"}, PHRASE)
    saved = disk.saved
    disk.desk.change({"a.png": "three", "b.png": "four"}, REPLACED)
    content = disk.history.read_bytes()
    for cut in (len(content) - 1 - len(content.splitlines()[-1]), len(content) - 20):
        disk.history.write_bytes(content[:cut])
        disk.saved = saved
        disk.kill()
        assert (disk.desk.caption("a.png"), disk.desk.caption("b.png")) == ("one", "two")
    assert disk.desk.change({"a.png": "five"}, PHRASE) == 1
    disk.kill()
    assert disk.desk.caption("a.png") == "five"
    disk.desk.undo()
    disk.desk.undo()
    assert disk.desk.caption("b.png") == "a cup, on a table"


def test_what_was_being_typed_at_a_kill_can_be_undone_as_one_edit(disk: Disk) -> None:
    disk.desk.type("b.png", "a cup, on a ta")
    disk.desk.type("b.png", "a cup, on a tall chair")
    disk.keep()
    disk.kill()
    assert disk.desk.caption("b.png") == "a cup, on a tall chair"
    disk.desk.undo()
    assert disk.desk.caption("b.png") == "a cup, on a table"


def test_a_new_draft_does_not_undo_the_one_before_but_can_take_its_captions(disk: Disk) -> None:
    disk.desk.change({"a.png": "snow", "b.png": "tea"}, PHRASE)
    disk.draft = Draft(photographs="/photos")
    disk.keep()
    disk.kill()
    assert disk.desk.caption("a.png") == ""
    assert disk.desk.undo() is None
    assert disk.desk.earlier() == {"a.png": "snow"}
    disk.desk.change({NAMES[2]: "hills"}, PHRASE)
    disk.restart()
    assert disk.desk.earlier() == {"a.png": "snow"}
    disk.desk.change(disk.desk.earlier(), "the previous draft")
    disk.desk.undo()
    disk.desk.undo()
    assert disk.desk.undo() is None
    assert disk.captions() == {name: SIDECARS.get(name, "") for name in NAMES}


def test_looking_at_another_folder_drops_nothing_before_something_is_changed_there(disk: Disk) -> None:
    disk.desk.change({"a.png": "snow"}, PHRASE)
    disk.draft.photographs = "/other"
    other = CaptionDesk(disk.draft, [seen("a.png")], history=disk.history.with_name("other.jsonl"))
    assert other.caption("a.png") == ""
    assert other.undo() is None
    disk.draft.photographs = "/photos"
    assert CaptionDesk(disk.draft, [seen("a.png")]).caption("a.png") == "snow"


def test_a_captioner_that_goes_on_while_people_type_is_one_step_to_undo(disk: Disk) -> None:
    disk.desk.change({"a.png": "made"}, "captioner", batch="run")
    disk.desk.type("b.png", "typed")
    disk.desk.finish(reviewed="b.png")
    disk.desk.change({NAMES[2]: "made too"}, "captioner", batch="run")
    disk.restart()
    assert disk.desk.states("a.png") == {"auto"}
    disk.desk.undo()
    assert disk.captions() == {"a.png": "made", "b.png": "a cup, on a table", NAMES[2]: "made too", NAMES[3]: ""}
    disk.desk.undo()
    assert disk.captions() == {name: SIDECARS.get(name, "") for name in NAMES}


def test_a_history_that_cannot_be_written_is_said_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    draft = Draft(photographs="/photos")
    desk = CaptionDesk(draft, [seen("a.png")], history=tmp_path / "file" / "captions.jsonl")
    desk.change({"a.png": "snow"}, PHRASE)
    assert draft.captions == {"a.png": "snow"}
    assert "cannot write" in desk.history_error
    assert desk.undo() is not None


# Marks


def test_marks_tell_reviewed_from_changed_left_out_and_new(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"one picture")
    draft = Draft(photographs=str(tmp_path))
    pictures = [seen(name, tmp_path) for name in ("a.png", "b.png")]
    desk = CaptionDesk(draft, pictures)
    assert [desk.mark(name) for name in desk.names] == ["none", "open"]
    desk.type("a.png", "snow")
    desk.finish(reviewed="a.png")
    desk.finish(reviewed="b.png")
    assert desk.counts().reviewed == 2
    (tmp_path / "a.png").write_bytes(b"another picture")
    desk = CaptionDesk(Draft.from_toml(draft.to_toml()), pictures)
    assert [desk.mark(name) for name in desk.names] == ["changed", "reviewed"]
    desk.type("b.png", "a cup")
    assert desk.mark("b.png") == "open"
    desk.leave_out("a.png")
    assert desk.mark("a.png") == "out"
    assert desk.counts().trained == 1
    desk.leave_out("a.png")
    assert desk.mark("a.png") == "changed"


def test_a_replacement_keeps_reviewed_captions_reviewed_and_a_captioner_does_not(disk: Disk) -> None:
    disk.desk.finish(reviewed="b.png")
    disk.desk.change({"b.png": "a mug, on a table"}, REPLACED)
    assert disk.desk.mark("b.png") == "reviewed"
    disk.desk.change({"b.png": "there is a cup"}, "captioner")
    assert disk.desk.states("b.png") == {"auto"}
    disk.desk.undo()
    assert disk.desk.mark("b.png") == "reviewed"
    disk.desk.undo()
    assert disk.desk.mark("b.png") == "reviewed"
    assert disk.desk.caption("b.png") == "a cup, on a table"


def test_a_caption_is_one_clean_line_however_it_came(disk: Disk) -> None:
    disk.desk.type("a.png", " a\ncat\u200b \x07 on\ta mat ")
    assert disk.desk.caption("a.png") == "a cat on a mat"
    assert disk.desk.next_without("a.png") == NAMES[2]
    disk.desk.type("a.png", " \n")
    disk.desk.finish(reviewed="a.png")
    assert disk.desk.mark("a.png") == "none"


def test_what_was_odd_about_a_caption_file_is_told_until_the_caption_was_looked_at(tmp_path: Path) -> None:
    (tmp_path / "old.caption").write_bytes("a café".encode("cp1252"))
    (tmp_path / "two.txt").write_text("a cup\nand more")
    (tmp_path / "void.txt").write_text("\n")
    for name in ("old", "plain", "two", "void"):
        Image.effect_noise((600, 600), 90).save(tmp_path / f"{name}.png")
    desk = CaptionDesk(Draft(photographs=str(tmp_path)), survey(tmp_path).files)
    assert desk.caption("old.png") == "a café"
    assert "is read from old.caption" in desk.note("old.png")
    assert "Windows-1252" in desk.note("old.png")
    assert desk.note("two.png") == "its caption two.txt has 2 lines; the first is used"
    assert desk.note("void.png") == "its caption void.txt is empty and counts as none"
    assert desk.note("plain.png") == ""
    desk.finish(reviewed="two.png")
    assert desk.note("two.png") == ""
    desk.type("old.png", "a café, at noon")
    assert desk.note("old.png") == ""
    assert (tmp_path / "two.txt").read_text() == "a cup\nand more"


def test_everything_about_captions_comes_back_from_the_draft_on_disk(disk: Disk) -> None:
    disk.desk.type("a.png", "猫 " * 5000)
    disk.desk.finish(reviewed="a.png")
    disk.desk.change({NAMES[3]: "made"}, "captioner")
    disk.desk.set_frame("photo,", "")
    disk.desk.type("b.png", "half")
    save_draft(disk.draft)
    assert load_draft() == disk.draft
    assert history_of(Path("/photos")).parent.parent.name == "captions"


# Filters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "abc"),
        ("snow", "a"),
        ("SNOW coat", "a"),
        ("snow -coat", ""),
        ('"red coat"', "a"),
        ("is:empty", "b"),
        ("is:e -name:b", ""),
        ("-is:reviewed", "bc"),
        ("tokens:>60", "c"),
        ("tokens:<=60", "ab"),
        ("tokens:=70", "c"),
        ("name:B", "b"),
        ("is:", "abc"),
        ("-", "abc"),
        ('"', "abc"),
        ("is:auto", "c"),
    ],
)
def test_filters_find_what_they_say(text: str, expected: str) -> None:
    facts = {
        "a": Facts("a.png", "snow, red coat", frozenset({"reviewed"}), lambda: 20),
        "b": Facts("b.png", "", frozenset({"empty"}), lambda: 10),
        "c": Facts("c.png", "hills", frozenset({"auto"}), lambda: 70),
    }
    holds = parse_filter(text)
    assert "".join(name for name, one in facts.items() if holds(one)) == expected


@pytest.mark.parametrize("text", ["is:x", "tokens:many", "tokens:>", "snow -is:nothing"])
def test_a_filter_that_cannot_be_understood_says_what_can_be_written(text: str) -> None:
    with pytest.raises(FilterError, match="takes"):
        parse_filter(text)


@given(st.text(max_size=30))
def test_no_text_breaks_the_filter(text: str) -> None:
    try:
        parse_filter(text)(Facts("a.png", "snow", frozenset(), lambda: 3))
    except FilterError as error:
        assert error.message


# What the model reads


@pytest.fixture
def clip() -> PromptTokenizer:
    return _clip()


def test_a_prompt_is_counted_with_its_template_and_its_vectors(clip: PromptTokenizer) -> None:
    reader = PromptReader(("a photo of [name], [filewords]",), 8, clip)
    reading = reader.read("a red coat")
    assert reading.prompt == "a photo of [name], a red coat"
    assert (reading.words, reading.vectors, reading.room) == (7, 8, 75)
    assert not reading.too_long
    assert reader.count("a red coat") == 15


@given(st.text(st.sampled_from("ab é猫👩,[]"), max_size=300))
def test_what_is_cut_off_is_where_the_room_ends(text: str) -> None:
    clip = _clip()
    reading = PromptReader(("a photo of [name], [filewords]",), 8, clip).read(text)
    assert f"{reading.read} {reading.cut}".split() == reading.prompt.split()
    assert bool(reading.cut) == reading.too_long
    used: Callable[[str], int] = lambda prompt: clip.encode(prompt, 8, clip.size).used  # noqa: E731
    assert used(reading.read) <= 75
    if reading.cut:
        assert used(f"{reading.read} {reading.cut.split()[0]}") > 75


def test_ten_thousand_letters_are_counted_in_no_time(clip: PromptTokenizer) -> None:
    reader = PromptReader(("a photo of [name], [filewords]",), 12, clip)
    began = time.monotonic()
    reading = reader.read("a red coat, " * 850)
    assert time.monotonic() - began < 2
    assert reading.words > 2000
    assert reading.whole_token


def test_a_caption_in_front_of_the_word_can_cut_off_its_vectors(clip: PromptTokenizer) -> None:
    reading = PromptReader(("[filewords] by [name]",), 12, clip).read("a red coat, " * 20)
    assert not reading.whole_token


def test_the_template_of_a_draft_is_read_also_where_it_cannot_be_used() -> None:
    draft = Draft(fields={"dataset.template": "/no/such/file.txt", "embedding.vectors": 4})
    reader = reader_for(draft, None)
    assert reader.patterns == ()
    assert reader.read("snow").vectors == 4
    assert reader.count("snow") == 0


# Remarks


def said(captions: list[str], **options: Any) -> str:
    named = {str(number): text for number, text in enumerate(captions)}
    arguments: dict[str, Any] = {"token": "zkz", "class_word": "woman", "uses_captions": True, **options}
    return "\n".join(remark.text for remark in remarks(named, **arguments))


def test_words_in_most_captions_are_said_to_steal_with_their_share() -> None:
    captions = [f"a woman in a red coat, place {place}" for place in ("one", "two", "three", "four", "five")]
    text = said([*captions, "a Woman in the snow"])
    assert "“woman” is in 6 of 6 captions (100 %)" in text
    assert "“coat” is in 5 of 6 captions (83 %)" in text
    assert "“in”" not in text
    assert "stands for" not in text


def test_few_captions_and_pictures_without_one_prove_nothing() -> None:
    assert said(["red coat", "red hat", "red shoes", "red sky"]) == ""
    assert said(["", "", ""]) == ""


def test_the_word_and_its_class_in_captions_are_said() -> None:
    assert "1 caption holds “zkz”" in said(["zkz in snow", "hills", ""])
    assert "2 captions name “woman”" in said(["woman in snow", "the Woman", "zkzwoman"])
    assert said(["womanly snow", "hills"]) == ""


def test_captions_that_are_all_the_same_are_said_once() -> None:
    assert said(["a photo"] * 6) == "all 6 captions are the same: they distinguish nothing"


def test_a_template_that_leaves_captions_out_is_said_first() -> None:
    captions = {str(number): "zkz" for number in range(6)}
    found = remarks(captions, "zkz", "", uses_captions=False)
    assert found[0].template
    assert found[1].word == "zkz"


@cache
def _clip() -> PromptTokenizer:
    return PromptTokenizer.clip()
