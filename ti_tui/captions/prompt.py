"""The prompts that captions make, their length in tokens, and remarks about all captions together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ti_tui.dataset.templates import FILEWORDS, NAME, fill, load_templates
from ti_tui.errors import UserError
from ti_tui.formatting import number

if TYPE_CHECKING:
    from ti_tui.dataset.tokens import PromptTokenizer
    from ti_tui.setup.check import Checked
    from ti_tui.setup.draft import Draft

STEALING_SHARE = 0.8
"""Words in more than this share of the captions get a remark: what captions name, the token does not learn."""
FEWEST_CAPTIONS = 5
"""With fewer captions, a word in most of them means nothing."""
_SMALL = (
    "a an the this that these those some one two and or but with without in on at of to from by for over under near "
    "into onto up down behind beside between front back left right top side is are was be being has have it its his "
    "her their he she they there who which while as not no very"
)
STOP_WORDS = frozenset(_SMALL.split())

_WORD = re.compile(r"\w[\w'’-]*")


@dataclass(frozen=True)
class PromptReading:
    """A prompt as the model reads it.

    prompt: with [name] for the token; read, cut: the part that is read, and the rest.
    words, vectors: the places that they take, of `room`; each: the vectors of one [name].
    whole_token: no vector is cut off.
    """

    prompt: str
    read: str
    cut: str
    words: int
    vectors: int
    each: int
    room: int
    whole_token: bool

    @property
    def used(self) -> int:
        return self.words + self.vectors

    @property
    def too_long(self) -> bool:
        return self.used > self.room


@dataclass(frozen=True)
class PromptReader:
    """Makes the prompts of captions, and counts them. patterns: the template's; vectors: of the token."""

    patterns: tuple[str, ...]
    vectors: int
    tokenizer: PromptTokenizer

    @property
    def uses_captions(self) -> bool:
        """Whether the template has a place for the caption."""
        return any(FILEWORDS in pattern for pattern in self.patterns)

    def count(self, caption: str) -> int:
        """Places that the longest prompt of a caption takes."""
        return max((self._used(fill(pattern, caption)) for pattern in self.patterns), default=0)

    def read(self, caption: str) -> PromptReading:
        """The prompt of a caption: the first that holds it; the longest, if that is too long."""
        patterns = self.patterns or (NAME,)
        prompts = [fill(pattern, caption) for pattern in patterns]
        encodings = [self.tokenizer.encode(prompt, self.vectors, self.tokenizer.size) for prompt in prompts]
        at = next((at for at, pattern in enumerate(patterns) if FILEWORDS in pattern), 0)
        longest = max(range(len(prompts)), key=lambda number: encodings[number].used)
        at = longest if encodings[longest].cut else at
        prompt, encoded = prompts[at], encodings[at]
        vectors = self.vectors * prompt.count(NAME)
        words = encoded.used - vectors
        read, cut = self._parted(prompt) if encoded.cut else (prompt, "")
        return PromptReading(prompt, read, cut, words, vectors, self.vectors, encoded.room, encoded.whole_token)

    def _used(self, prompt: str) -> int:
        return self.tokenizer.encode(prompt, self.vectors, self.tokenizer.size).used

    def _parted(self, prompt: str) -> tuple[str, str]:
        """The prompt up to the last whole word that fits, and the rest."""
        # No word takes less than one place, so no more of them can be read than there are places.
        ends = [found.end() for found in islice(re.finditer(r"\S+", prompt), self.tokenizer.room + 1)]
        fits, too_many = 0, len(ends) + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self._used(prompt[: ends[middle - 1]]) <= self.tokenizer.room:
                fits = middle
            else:
                too_many = middle
        end = ends[fits - 1] if fits else 0
        return prompt[:end], prompt[end:].strip()


def reader_for(draft: Draft, checked: Checked | None) -> PromptReader:
    """The reader for what a draft has chosen: its template and model, as far as they are known.

    Without a model it counts with CLIP's vocabulary, which ships with ti_tui; loading that takes a tenth of a second.
    """
    from ti_tui.dataset.tokens import PromptTokenizer

    tokenizer = checked.tokenizers[0] if checked and checked.tokenizers else PromptTokenizer.clip()
    return PromptReader(patterns_of(draft), int(draft.value("embedding.vectors")), tokenizer)


def patterns_of(draft: Draft) -> tuple[str, ...]:
    """The patterns of the template that a draft has chosen; none if it cannot be used."""
    try:
        return load_templates(str(draft.value("dataset.template")), draft.source() or Path())
    except UserError:
        return ()


@dataclass(frozen=True)
class Remark:
    """A remark about all captions. To fix it, remove `word` from them, or use the template for captions."""

    text: str
    word: str = ""
    template: bool = False


def remarks(captions: Mapping[str, str], token: str, class_word: str, *, uses_captions: bool) -> list[Remark]:
    """Remarks about the captions (by name, "" for none), the most important first."""
    texts = [text for text in captions.values() if text]
    if not texts:
        return []
    said: list[Remark] = []
    called = token or "the new word"
    if not uses_captions:
        said.append(Remark("the template does not use the captions", template=True))
    if token and (count := _holding(texts, token)):
        captions_hold = f"{number(count, 'caption')} hold{'s' if count == 1 else ''}"
        said.append(Remark(f"{captions_hold} “{token}”: the template adds it already", token))
    if len(texts) > 1 and len(set(texts)) == 1:
        said.append(Remark(f"all {len(texts)} captions are the same: they distinguish nothing"))
    else:
        stealing = {word: count for word, count in stealing_words(texts) if word != token.casefold()}
        for word, count in stealing.items():
            share = f"{count} of {len(texts)} captions ({100 * count / len(texts):.0f} %)"
            said.append(Remark(f"“{word}” is in {share}: {called} will not learn it", word))
        if class_word and class_word.casefold() not in stealing and (count := _holding(texts, class_word)):
            verb = "names" if count == 1 else "name"
            text = f"{number(count, 'caption')} {verb} “{class_word}”, which {called} stands for"
            said.append(Remark(text, class_word))
    return said


def stealing_words(captions: Sequence[str]) -> list[tuple[str, int]]:
    """(word, number of captions) of those in more than STEALING_SHARE of the captions, the most frequent first."""
    if len(captions) < FEWEST_CAPTIONS:
        return []
    counts: Counter[str] = Counter()
    for caption in captions:
        # Each word once for a caption, in its order, so that words with equal counts keep the order of reading.
        counts.update(list(dict.fromkeys(_WORD.findall(caption.casefold()))))
    return [
        (word, count)
        for word, count in counts.most_common()
        if count > STEALING_SHARE * len(captions) and word not in STOP_WORDS and not word.isdecimal()
    ]


def _holding(captions: Sequence[str], word: str) -> int:
    whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    return sum(whole.search(caption) is not None for caption in captions)
