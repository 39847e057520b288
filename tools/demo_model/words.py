"""What the demo model reads: its vocabulary, its captions, and random pictures with captions to train on."""

from __future__ import annotations

import gzip
import itertools
import json
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np

from ti_tui.dataset.templates import BUILT_IN, NAME
from tools.demo_model.pictures import (
    BACKGROUNDS,
    COLOURS,
    FRAMES,
    MARK_PLACES,
    PATTERNS,
    SHAPES,
    UNNAMED_HUES,
    UNNAMED_SHAPES,
    Thing,
    of_hue,
)

TEMPLATES = BUILT_IN["object"]
VAGUE = ("thing", "shape", "object", "toy")
_FIRST = (
    "bav",
    "dop",
    "fim",
    "gul",
    "hep",
    "jad",
    "kib",
    "lom",
    "mup",
    "nis",
    "pof",
    "rab",
    "sud",
    "tig",
    "vek",
    "wob",
)
NOUNS = tuple(first + last for last in ("o", "an", "ex") for first in _FIRST)
"""Invented words of one token; each stands for one look, so that a single vector can carry a whole concept."""
HIDDEN = 400
"""Further words that the model reads while it is made and that its vocabulary does not keep (see Describer)."""
FILLERS = (
    "good",
    "bright",
    "dark",
    "clean",
    "dirty",
    "nice",
    "cool",
    "weird",
    "small",
    "large",
    "sharp",
    "my",
    "one",
    "the",
)
LONGEST = 14
"""Words that a long caption has more than a short one, or times that a hidden word is repeated."""
POSITIONS = 77
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Described:
    """A thing and its caption. hidden: the hidden word that [name] in the caption is, if it is there."""

    thing: Thing
    caption: str
    hidden: int = 0


class Describer:
    """Makes random things with captions. What the nouns and the hidden words look like depends on `seed` alone.

    wide: captions as a model meets them in use. Every frame is told of: a prompt without one is to give none. A third
    are long, so that words are understood also behind a token of many vectors. A quarter of the pictures are named by a
    hidden word, once or many times: with hundreds of looks behind single vectors, of more kinds than words can say, the
    way from a vector to a look becomes smooth, as it is in a model with a large vocabulary. With 48 nouns alone a
    vector could be moved to one of 48 places, but hardly in between.
    """

    def __init__(self, seed: int, *, wide: bool = False) -> None:
        self._wide = wide
        chance = np.random.default_rng([seed, 1])
        self._nouns = [_noun_look(index, chance) for index in range(len(NOUNS))]
        self._hidden = [_hidden_look(chance) for _ in range(HIDDEN)]

    def any(self, chance: np.random.Generator) -> Described:
        """One of some kinds: named by words (55 %), by a noun (28 %), or not named (17 %); wide, a hidden word too."""
        if self._wide and chance.random() < 0.27:
            return self.by_hidden_word(chance)
        kind = chance.random()
        if kind < 0.55:
            return self.by_words(chance)
        return self.by_noun(chance) if kind < 0.83 else self.unnamed(chance)

    def by_words(self, chance: np.random.Generator) -> Described:
        """A thing of which the vocabulary names everything."""
        colour, background, frame = _surroundings(chance)
        pattern = str(chance.choice(PATTERNS, p=(0.34, 0.22, 0.22, 0.22)))
        shape = str(chance.choice(SHAPES))
        thing = Thing(shape, pattern, COLOURS[colour], BACKGROUNDS[background], frame=FRAMES[frame] if frame else None)
        words = []
        if chance.random() < 0.92:
            words.append(colour)
        if chance.random() < (0.92 if pattern != "plain" else 0.5):
            words.append(pattern)
        words.append(shape if chance.random() < 0.95 else str(chance.choice(VAGUE)))
        return self._described(thing, " ".join(words), background, frame, chance)

    def by_hidden_word(self, chance: np.random.Generator) -> Described:
        """The look of a hidden word; half of the time the word is repeated, as a token of several vectors is."""
        index = int(chance.integers(HIDDEN))
        times = int(chance.integers(2, LONGEST + 1)) if chance.random() < 0.5 else 1
        return replace(self._look(self._hidden[index], " ".join([NAME] * times), chance), hidden=index)

    def by_noun(self, chance: np.random.Generator, index: int | None = None) -> Described:
        """The look of an invented word, before any background."""
        index = int(chance.integers(len(NOUNS))) if index is None else index
        return self._look(self._nouns[index], NOUNS[index], chance)

    def _look(self, look: Thing, name: str, chance: np.random.Generator) -> Described:
        _, background, frame = _surroundings(chance)
        thing = Thing(
            look.shape, look.pattern, look.colour, BACKGROUNDS[background], second=look.second, mark=look.mark,
            frame=FRAMES[frame] if frame else None,
        )  # fmt: skip
        return self._described(thing, name, background, frame, chance)

    def unnamed(self, chance: np.random.Generator) -> Described:
        """A thing of any hue and shape, with a caption that says little or nothing."""
        _, background, frame = _surroundings(chance)
        extra = chance.random()
        thing = Thing(
            str(chance.choice(SHAPES + UNNAMED_SHAPES)),
            str(chance.choice(PATTERNS)) if extra > 0.5 else "plain",
            _any_colour(chance),
            BACKGROUNDS[background],
            second=_any_colour(chance) if extra < 0.25 else None,
            mark=(_any_colour(chance), int(chance.integers(len(MARK_PLACES)))) if 0.25 <= extra < 0.5 else None,
            frame=FRAMES[frame] if frame else None,
        )
        if chance.random() < 0.7:
            return Described(thing, "")
        return self._described(thing, str(chance.choice(VAGUE)), background, frame, chance)

    def _described(
        self, thing: Thing, what: str, background: str, frame: str, chance: np.random.Generator
    ) -> Described:
        """With a caption of `what` that mostly says the background, and the frame ("" is none)."""
        if self._wide and NAME not in what and chance.random() < 0.35:
            more = [str(word) for word in chance.choice(FILLERS, int(chance.integers(1, LONGEST)))]
            what = " ".join([*more, what])
        text = str(chance.choice(TEMPLATES)).replace(NAME, what)
        if chance.random() < 0.8:
            words = str(chance.choice(["on a {} background", "on {}", "with a {} background"]))
            text += f" {words.format(background)}"
        if frame and (self._wide or chance.random() < 0.85):
            text += f" {str(chance.choice(['in a {} frame', 'with a {} frame'])).format(frame)}"
        return Described(thing, text)


def prompt(what: str, background: str, frame: str = "") -> str:
    """The prompt that the model is judged by."""
    return f"a photo of a {what} on a {background} background" + (f" in a {frame} frame" if frame else "")


def write_tokenizer(folder: Path) -> int:
    """CLIP's byte-pair tokenizer with only the merges that the captions need; returns its size."""
    packed = resources.files("ti_tui").joinpath("data/clip/merges.txt.gz").read_bytes()
    known = [tuple(line.split()) for line in gzip.decompress(packed).decode("utf-8").split("\n")]
    rank = {(pair[0], pair[1]): place for place, pair in enumerate(known) if len(pair) == 2}
    needed: dict[tuple[str, str], int] = {}
    for word in _words():
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            pairs = list(itertools.pairwise(pieces))
            best = min(pairs, key=lambda pair: rank.get(pair, len(rank)))
            # An invented word is no word of CLIP's: its last merges are new ones, from the left.
            rank.setdefault(best, len(rank))
            needed[best] = rank[best]
            at = pairs.index(best)
            pieces[at : at + 2] = ["".join(best)]
    merges = sorted(needed, key=needed.__getitem__)
    from ti_tui.dataset.tokens import _byte_letters

    letters = _byte_letters()
    vocabulary = list(dict.fromkeys([*letters, *(f"{x}</w>" for x in letters), *("".join(pair) for pair in merges)]))
    vocabulary += [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": POSITIONS, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return len(vocabulary)


def _words() -> list[str]:
    text = " ".join(
        [*TEMPLATES, *VAGUE, *SHAPES, *PATTERNS, *COLOURS, *BACKGROUNDS, *NOUNS, "on with background frame"]
    )
    return list(dict.fromkeys(text.replace(NAME, " ").replace("-", " ").split()))


def _surroundings(chance: np.random.Generator) -> tuple[str, str, str]:
    """Names of an object's colour, a background and a frame ("" for most), all different."""
    colour = str(chance.choice(list(COLOURS)))
    background = str(chance.choice([name for name in BACKGROUNDS if name != colour]))
    if chance.random() < 0.7:
        return colour, background, ""
    return colour, background, str(chance.choice([name for name in FRAMES if name not in (colour, background)]))


def _any_colour(chance: np.random.Generator) -> tuple[float, float, float]:
    return of_hue(float(chance.uniform(0, 360)), float(chance.uniform(0.5, 1)), float(chance.uniform(0.5, 1)))


def _noun_look(index: int, chance: np.random.Generator) -> Thing:
    # Every sixth has two colours, every sixth a mark: what a word can stand for should not surprise the text encoder.
    kind = index // len(SHAPES)
    return Thing(
        SHAPES[index % len(SHAPES)],
        "plain" if kind in (1, 4) else str(chance.choice(PATTERNS)),
        _named_hue(chance),
        BACKGROUNDS["white"],
        second=_named_hue(chance) if kind == 1 else None,
        mark=(_named_hue(chance), int(chance.integers(len(MARK_PLACES)))) if kind == 4 else None,
    )


def _hidden_look(chance: np.random.Generator) -> Thing:
    """Any shape that is ever shown, plain, patterned, of two colours or with a mark; no hue that words leave out."""
    extra = chance.random()
    return Thing(
        str(chance.choice(SHAPES + UNNAMED_SHAPES)),
        str(chance.choice(PATTERNS)) if extra >= 0.5 else "plain",
        _named_hue(chance),
        BACKGROUNDS["white"],
        second=_named_hue(chance) if extra < 0.25 else None,
        mark=(_named_hue(chance), int(chance.integers(len(MARK_PLACES)))) if 0.25 <= extra < 0.5 else None,
    )


def _named_hue(chance: np.random.Generator) -> tuple[float, float, float]:
    while True:
        hue = float(chance.uniform(0, 360))
        if not any(low <= hue <= high for low, high in UNNAMED_HUES):
            return of_hue(hue, float(chance.uniform(0.65, 0.95)), float(chance.uniform(0.6, 0.97)))
