"""Sample prompts in kohya's notation."""

from __future__ import annotations

import pytest

from ti_tui.run.sample_prompts import SamplePrompt, SamplePromptError, format_sample_prompt, parse_sample_prompt


def test_a_prompt_alone_has_every_default() -> None:
    assert parse_sample_prompt("  a photo of [name] ") == SamplePrompt(
        "a photo of [name]", "", None, None, None, 7.5, 20
    )


def test_every_option_is_read_in_any_order_and_case() -> None:
    line = "a [name] --s 30 --L 4.5 --D 0 --H 768 --W 520 --n ugly, bad --fs 3 --g"
    expected = SamplePrompt("a [name]", "ugly, bad", 520, 768, 0, 4.5, 30, ("fs", "g"))
    assert parse_sample_prompt(line) == expected


def test_sizes_are_rounded_down_to_multiples_of_8() -> None:
    prompt = parse_sample_prompt("a --w 519 --h 8")
    assert (prompt.width, prompt.height) == (512, 8)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--w 7", "--w 7: a whole number from 8 to 4096"),
        ("--w 4097", "--w 4097: a whole number from 8 to 4096"),
        ("--h -8", "--h -8: a whole number from 8"),
        ("--h", "--h : a whole number"),
        ("--s 0", "--s 0: a whole number from 1 to 1000"),
        ("--s 1001", "--s 1001: a whole number from 1 to 1000"),
        ("--s 1e2", "--s 1e2: a whole number"),
        ("--d 9223372036854775808", "a whole number from 0 to 9223372036854775807"),
        ("--d -1", "a whole number from 0"),
        ("--l 100.1", "--l 100.1: a number from 0 to 100"),
        ("--l -0.1", "--l -0.1: a number from 0 to 100"),
        ("--l nan", "--l nan: a number from 0 to 100"),
        ("--l high", "--l high: a number from 0 to 100"),
        ("--w 512 --W 512", "--W is given twice"),
    ],
)
def test_an_option_without_a_usable_number_says_what_it_takes(option: str, says: str) -> None:
    with pytest.raises(SamplePromptError) as caught:
        parse_sample_prompt(f"a [name] {option}")
    assert says in caught.value.message


def test_the_ends_of_each_range_are_taken() -> None:
    prompt = parse_sample_prompt("a --w 4096 --h 8 --d 9223372036854775807 --l 100 --s 1000")
    assert prompt == SamplePrompt("a", "", 4096, 8, 2**63 - 1, 100.0, 1000)
    prompt = parse_sample_prompt("a --d 0 --l 0 --s 1")
    assert (prompt.seed, prompt.guidance, prompt.steps) == (0, 0.0, 1)


@pytest.mark.parametrize("line", ["", "   ", "--w 512", " --n ugly"])
def test_a_line_without_a_prompt_is_refused(line: str) -> None:
    with pytest.raises(SamplePromptError, match="empty"):
        parse_sample_prompt(line)


def test_dashes_within_a_prompt_are_words() -> None:
    assert parse_sample_prompt("a well--lit [name] -- 3 --4 x").text == "a well--lit [name] -- 3 --4 x"


def test_a_prompt_is_written_with_what_differs_from_the_run() -> None:
    assert format_sample_prompt(SamplePrompt("a [name]")) == "a [name] --l 7.5 --s 20"
    prompt = SamplePrompt("a [name]", "ugly", 512, 768, 0, 4.0, 30)
    assert format_sample_prompt(prompt) == "a [name] --n ugly --w 512 --h 768 --d 0 --l 4.0 --s 30"
