"""Words: templates, CLIP's tokenizer with learned vectors, checks of token and captions, preview prompts."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.dataset.prompt_checks import check_captions, check_prompt_lengths, check_sample_prompts, check_token
from ti_tui.dataset.scan import TrainingImage
from ti_tui.dataset.templates import BUILT_IN, NAME, TemplateError, fill, load_templates, name_token, without_name
from ti_tui.dataset.tokens import PromptTokenizer, TokenizerError, find_tokenizer
from ti_tui.run.sample_prompts import SamplePrompt, SamplePromptError, format_sample_prompt, parse_sample_prompt


@pytest.fixture(scope="module")
def clip() -> PromptTokenizer:
    return PromptTokenizer.clip()


def picture(caption: str, name: str = "a.png") -> TrainingImage:
    return TrainingImage(Path(name), 64, 64, caption)


def test_every_built_in_template_holds_the_token() -> None:
    assert set(BUILT_IN) == {"object", "style", "captions"}
    for lines in BUILT_IN.values():
        assert len(set(lines)) == len(lines) and all(NAME in line for line in lines)


@pytest.mark.parametrize(
    ("template", "caption", "prompt"),
    [
        ("a photo of [name], [filewords]", "snow, coat", "a photo of [name], snow, coat"),
        ("a photo of [name], [filewords]", "", "a photo of [name]"),
        ("[filewords], [name]", "", "[name]"),
        ("[name], [filewords], night", "", "[name], night"),
    ],
)
def test_a_template_is_filled_without_dangling_commas(template: str, caption: str, prompt: str) -> None:
    assert fill(template, caption) == prompt


def test_a_template_file_is_read_and_a_line_without_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("# mine\n\na photo of [name], [filewords]\n{} at night\n")
    assert load_templates("mine.txt", tmp_path) == ("a photo of [name], [filewords]", "[name] at night")
    file.write_text("a photo of [name]\na photo of a cat\n")
    with pytest.raises(TemplateError) as caught:
        load_templates("mine.txt", tmp_path)
    assert str(caught.value).startswith(f"{file}:2: the line has no [name]")
    with pytest.raises(TemplateError, match="there is no template file"):
        load_templates("none.txt", tmp_path)


def test_the_shipped_vocabulary_gives_clips_ids(clip: PromptTokenizer) -> None:
    assert clip.size == 49408
    assert clip.words("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert clip.words("*") == [265]
    assert (clip.start, clip.end) == (49406, 49407)


MARKS = ("<|startoftext|>", "<|endoftext|>")


@given(st.text(max_size=60).filter(lambda text: not any(mark in text.lower() for mark in MARKS)))
def test_ids_are_those_of_transformers_own_tokenizer(text: str) -> None:
    ours, reference = both_tokenizers()
    assert ours.words(text) == reference(text)["input_ids"][1:-1]


@pytest.mark.parametrize("mark", MARKS)
def test_the_marks_in_a_prompt_are_text(mark: str, clip: PromptTokenizer) -> None:
    assert not {clip.start, clip.end} & set(clip.words(mark))


@cache
def both_tokenizers() -> tuple[PromptTokenizer, Any]:
    from transformers import CLIPTokenizer

    ours = PromptTokenizer.clip()
    merges = json.loads(ours._tokenizer.to_str())["model"]["merges"]
    return ours, CLIPTokenizer(vocab=ours._vocab, merges=[tuple(pair) for pair in merges])


def test_the_token_becomes_its_vectors(clip: PromptTokenizer) -> None:
    encoded = clip.encode("a photo of [name], snow", 3, 49408)
    assert encoded.ids[:10] == (49406, 320, 1125, 539, 49408, 49409, 49410, 267, 2583, 49407)
    assert len(encoded.ids) == 77 and set(encoded.ids[10:]) == {49407}
    assert encoded.used == 8 and not encoded.cut and encoded.whole_token


def test_open_clip_pads_with_exclamation_marks() -> None:
    encoded = PromptTokenizer.clip(pad="!").encode("[name]", 1, 49408)
    assert encoded.ids[:4] == (49406, 49408, 49407, 0)


def test_a_long_prompt_is_cut_and_says_so(clip: PromptTokenizer) -> None:
    encoded = clip.encode("[name] " + "snow " * 80, 4, 49408)
    assert encoded.cut and encoded.used == 84 and encoded.whole_token and encoded.ids[76] == 49407
    assert not clip.encode("snow " * 73 + "[name]", 4, 49408).whole_token


@given(st.text(max_size=200), st.integers(1, 20))
def test_encoding_always_has_77_ids_and_keeps_vectors_in_order(text: str, vectors: int) -> None:
    encoded = both_tokenizers()[0].encode(f"[name] {text.replace('[name]', '')}", vectors, 49408)
    assert len(encoded.ids) == 77
    assert [i for i in encoded.ids if i >= 49408] == list(range(49408, 49408 + vectors))


def test_the_token_as_a_word_is_the_token(clip: PromptTokenizer) -> None:
    assert name_token("zkz at the beach, zkzs, (zkz)", "zkz") == "[name] at the beach, zkzs, ([name])"


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("zkz", "[name]"),
        ("a zkz's hat, (zkz:1.2), zkz-like, zkz.", "a [name]'s hat, ([name]:1.2), [name]-like, [name]."),
        ("zkzs, azkz, zkz1, 1zkz, zkz_2, _zkz, zkzé", "zkzs, azkz, zkz1, 1zkz, zkz_2, _zkz, zkzé"),
        ("ZKZ", "ZKZ"),
        ("zkz zkz", "[name] [name]"),
        ("a [name]", "a [name]"),
    ],
)
def test_a_token_inside_a_word_is_left_alone(prompt: str, named: str) -> None:
    assert name_token(prompt, "zkz") == named


def test_the_characters_of_a_token_are_meant_literally() -> None:
    assert name_token("a+b aab a+bc", "a+b") == "[name] aab a+bc"
    assert name_token("(x) and x", "(x)") == "[name] and x"


@pytest.mark.parametrize(
    ("prompt", "word", "plain"),
    [
        ("a photo of a [name] at night", "", "a photo of at night"),
        ("the [name], snow", "", "snow"),
        ("an [name] and zkz zkzs", "", "and zkzs"),
        ("The ZKZ, A [name], zkzs", "", "The ZKZ, zkzs"),
        ("drama [name]", "", "drama"),
        ("a photo of a zkz, zkzs", "woman", "a photo of a woman, zkzs"),
    ],
)
def test_a_prompt_without_its_token_loses_the_article_too(prompt: str, word: str, plain: str) -> None:
    assert without_name(prompt, "zkz", word) == plain


def test_a_token_that_is_a_word_is_refused_with_another_name(clip: PromptTokenizer) -> None:
    assert not check_token("zkz", 4, clip)
    (problem,) = check_token("cat", 4, clip)
    assert problem.severity == "error" and "already a word" in problem.message and "cat-" in problem.remedy
    (problem,) = check_token("zkz", 75, clip)
    assert "no room for words" in problem.message


@pytest.mark.parametrize(
    ("token", "special"),
    [("z(kz", "("), ("{zkz}", "{"), ("--help", "-"), ("-zkz", "-"), ("AND", "AND"), ("__metadata__", "__metadata__")],
)
def test_a_token_that_no_prompt_can_call_is_refused(token: str, special: str, clip: PromptTokenizer) -> None:
    (problem,) = check_token(token, 4, clip)
    assert problem.severity == "error" and problem.field == "embedding.token" and repr(special) in problem.message
    assert not check_token("zkz-AND_2", 4, clip)


@pytest.mark.parametrize("token", ["📷", "café", "CAFÉ"])
def test_a_word_of_the_model_is_known_in_any_script(token: str, clip: PromptTokenizer) -> None:
    (problem,) = check_token(token, 4, clip)
    assert problem.severity == "error" and "already a word" in problem.message


@pytest.mark.parametrize("token", ["zkz🫠", "zkz!", "z'kz"])
def test_a_token_of_other_characters_than_those_of_words_is_warned_about(token: str, clip: PromptTokenizer) -> None:
    (problem,) = check_token(token, 4, clip)
    assert problem.severity == "warning" and problem.field == "embedding.token"
    assert not check_token("zköz_2-ж", 4, clip)


def test_captions_that_hold_the_token_or_a_word_around_it_are_told() -> None:
    found = check_captions(
        [picture("a zkz in snow", "1.png"), picture("zkzs house", "2.png")], "zkz", ["[name], [filewords]"]
    )
    text = [problem.message for problem in found]
    assert "the captions of 1.png contain the token 'zkz'" in text[0]
    assert "part of another word in the caption of 2.png" in text[1]


@pytest.mark.parametrize(
    ("caption", "fields"),
    [
        ("zkz", ["contain"]),
        ("a ZKZ, snow", ["contain"]),
        ("(zkz) snow", ["contain"]),
        ("zkzs", ["part of another word"]),
        ("azkz", ["part of another word"]),
        ("zkz_1 in snow", ["part of another word"]),
        ("a Zkzs and a zkz", ["contain"]),
        ("snow", []),
        ("z k z", []),
    ],
)
def test_a_token_in_a_caption_is_told_from_one_inside_a_word(caption: str, fields: list[str]) -> None:
    found = list(check_captions([picture(caption)], "zkz", ["[name], [filewords]"]))
    assert [problem.severity for problem in found] == ["warning"] * len(fields)
    assert all(word in problem.message for word, problem in zip(fields, found, strict=True))


def test_missing_and_unused_captions_are_told() -> None:
    pictures = [picture("snow", "1.png"), picture("", "2.png")]
    assert "1 of 2 images have no caption (2.png)" in str(
        next(iter(check_captions(pictures, "zkz", ["[name], [filewords]"])))
    )
    assert "captions (1) are not used" in str(next(iter(check_captions(pictures, "zkz", ["a [name]"]))))


def test_prompts_that_are_cut_are_named_before_the_start(clip: PromptTokenizer) -> None:
    long, short = picture("snow " * 80, "long.png"), picture("snow", "short.png")
    (problem,) = check_prompt_lengths([long, short], ["[name], [filewords]"], 4, clip, 49408)
    assert problem.severity == "warning" and "long.png" in problem.message and "85 of 75 places" in problem.message
    (problem,) = check_prompt_lengths([long, short], ["[filewords], [name]"], 4, clip, 49408)
    assert problem.severity == "error" and "is too long for the token's 4 vectors" in problem.message


def test_kohyas_prompt_options_are_read() -> None:
    prompt = parse_sample_prompt("a photo of [name], well-lit --n ugly, bad --w 520 --h 768 --d 7 --l 5.5 --s 30 --g 3")
    assert prompt == SamplePrompt("a photo of [name], well-lit", "ugly, bad", 520, 768, 7, 5.5, 30, ("g",))
    assert parse_sample_prompt("x").steps == 20


@pytest.mark.parametrize("line", ["", "  --w 512", "a --w big", "a --s 0", "a --l -1", "a --d 1.5", "a --w 4"])
def test_a_bad_preview_prompt_is_refused(line: str) -> None:
    with pytest.raises(SamplePromptError):
        parse_sample_prompt(line)


plain = (
    st.text("abc ,.()[]:-", min_size=1, max_size=30)
    .map(lambda t: " ".join(t.split()))
    .filter(lambda t: t and "--" not in t)
)


@given(
    st.builds(
        SamplePrompt,
        text=plain,
        negative=plain | st.just(""),
        width=st.none() | st.integers(1, 512).map(lambda n: n * 8),
        height=st.none() | st.integers(1, 512).map(lambda n: n * 8),
        seed=st.none() | st.integers(0, 2**63 - 1),
        guidance=st.floats(0, 100),
        steps=st.integers(1, 1000),
    )
)
def test_preview_prompts_round_trip(prompt: SamplePrompt) -> None:
    assert parse_sample_prompt(format_sample_prompt(prompt)) == prompt


def test_preview_prompts_are_checked(clip: PromptTokenizer) -> None:
    found = check_sample_prompts(
        ["a [name] --ss ddim", "a cat", "a --s no", "[name] " + "snow " * 90], "zkz", 2, clip, 49408
    )
    assert [problem.severity for problem in found] == ["warning", "info", "error", "warning"]


def test_a_models_own_tokenizer_is_used_and_a_wrong_one_refused(models: dict[str, Path], tmp_path: Path) -> None:
    own = PromptTokenizer.from_folder(models["sd1"] / "tokenizer")
    assert find_tokenizer(models["sd1"], None, vocabulary=own.size).size == own.size
    with pytest.raises(TokenizerError, match=r"vocab\.json and merges\.txt"):
        find_tokenizer(models["sd1.safetensors"], None, vocabulary=own.size)
    with pytest.raises(TokenizerError, match=f"has {own.size} tokens, the model's text encoder 49408"):
        find_tokenizer(models["sd1"], None, vocabulary=49408)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(TokenizerError, match="contains no tokenizer"):
        find_tokenizer(models["sd1"], tmp_path, vocabulary=own.size)
    assert find_tokenizer(models["sd1.safetensors"], None, vocabulary=49408).size == 49408


@pytest.mark.parametrize("token", ["ohwx", "sks"])
def test_rare_words_that_many_people_use_are_only_warned_about(token: str) -> None:
    (problem,) = check_token(token, 4, PromptTokenizer.clip())
    assert problem.severity == "warning" and "rare word of the model" in problem.message
