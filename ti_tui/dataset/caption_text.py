"""Cleans the captions that a captioner made, and combines them with existing captions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from unicodedata import category

CaptionMode = Literal["missing", "replace", "prepend", "append"]
"""If an image has a caption already: it is skipped, or the new caption replaces it, or is put before or after it."""

LONGEST_PHRASE = 6
"""Repeated phrases of up to this many words are taken for a captioner's stutter."""

_ARAFED = re.compile(r"(?i)\b(?:(a)n? +)?araf+e?[ds]?\b[ ,]*(?=([aeiou])?)")
_NAME_DIGITS = re.compile(r"^[-\d]+\s*")
_WORD_END = ",.;:!?"


@dataclass(frozen=True)
class CaptionRules:
    """How the captions that a captioner makes are used.

    mode:        for images that have a caption.
    prefix:      put before the whole caption, only once however often captions are made.
    first_words: the captioner continues from these words, such as "a photo of".
    """

    mode: CaptionMode = "missing"
    prefix: str = ""
    first_words: str = ""

    def wants(self, old: str) -> bool:
        """Whether an image with the caption `old` ("" for none) is to be captioned."""
        return self.mode != "missing" or not old

    def combined(self, old: str, made: str) -> str:
        """The new caption of an image that had the caption `old`, when the captioner made `made`.

        Doing this twice gives the same caption as doing it once.
        """
        prefix, old, made = (" ".join(text.split()) for text in (self.prefix, old, made))
        old, made = _without(old, prefix), _without(made, prefix)
        if self.mode == "prepend":
            made = old if begins_with(old, made) else _joined(made, old)
        elif self.mode == "append":
            made = old if ends_with(old, made) else _joined(old, made)
        return f"{prefix} {made}".strip()


def clean_caption(text: str) -> str:
    """A captioner's text as a person would write it.

    Removes BLIP-large's non-words "arafed" and "araffe", repeated words and phrases, the spaces that its tokenizer puts
    around hyphens and apostrophes and before commas, and a full stop at the end. "" if nothing is left.
    """
    text = _ARAFED.sub(lambda found: f"{found[1]}{'n' if found[2] else ''} " if found[1] else "", _one_line(text))
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"(\w) (['’-]) (?=\w)", r"\1\2", text)
    text = " ".join(_without_stutter(text.split()))
    return text.strip(" ,;:-").rstrip(".").rstrip(" ,;:-")


def words_of_name(stem: str) -> str:
    """A caption from a file's name, as A1111 makes it: no leading digits and dashes, underscores as spaces."""
    return _one_line(_NAME_DIGITS.sub("", stem).replace("_", " "))


def _one_line(text: str) -> str:
    """`text` on one line, spaces collapsed, without control characters, invisible and broken characters."""
    text = text.replace("\ufffd", "")
    letters = (letter if letter.isprintable() else "" if category(letter) == "Cf" else " " for letter in text)
    return " ".join("".join(letters).split())


def _without_stutter(words: list[str]) -> list[str]:
    """Drop repeated words and phrases; the last of them stays."""
    kept = list(words)
    for length in range(1, LONGEST_PHRASE + 1):
        at = 0
        while at + 2 * length <= len(kept):
            if _same(kept[at : at + length], kept[at + length : at + 2 * length]):
                del kept[at : at + length]
            else:
                at += 1
    return kept


def _same(first: list[str], second: list[str]) -> bool:
    def plain(words: list[str]) -> list[str]:
        return [word.rstrip(_WORD_END).lower() for word in words]

    return plain(first) == plain(second) and any(map(str.isalnum, "".join(first)))


def _joined(first: str, second: str) -> str:
    return f"{first.rstrip(',')}, {second}" if first and second else first or second


def begins_with(text: str, start: str) -> bool:
    """Whether `text` begins with `start`, and `start` ends where a word does."""
    after = r"(?!\w)" if start[-1:].isalnum() else ""
    return bool(start) and re.match(re.escape(start) + after, text) is not None


def ends_with(text: str, end: str) -> bool:
    """Whether `text` ends with `end`, and `end` begins where a word does."""
    before = r"(?<!\w)" if end[:1].isalnum() else ""
    return bool(end) and re.search(f"{before}{re.escape(end)}$", text) is not None


def _without(text: str, prefix: str) -> str:
    return text[len(prefix) :].strip() if begins_with(text, prefix) else text
