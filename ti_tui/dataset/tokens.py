"""CLIP's tokenizer for prompts with [name]: the learned vectors get ids after the end of the vocabulary."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from ti_tui import bounded
from ti_tui.dataset.templates import NAME
from ti_tui.errors import UserError

RARE_FROM = 40_000
START, END = "<|startoftext|>", "<|endoftext|>"

_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class TokenizerError(UserError):
    """There is no tokenizer, or it does not belong to the model."""


@dataclass(frozen=True)
class Encoded:
    """A prompt as ids, padded to the encoder's length.

    used: places that the whole prompt needs, without start and end mark; if that is more than `room`, it was cut.
    whole_token: whether all vectors of every [name] are still there.
    """

    ids: tuple[int, ...]
    used: int
    room: int
    whole_token: bool

    @property
    def cut(self) -> bool:
        return self.used > self.room


class PromptTokenizer:
    """Turns prompts into ids for one text encoder.

    vocabulary: rows of the encoder's token table; the ids of the learned vectors follow.
    length:     positions of the encoder (77).
    pad:        the padding mark: `<|endoftext|>` for CLIP-L, "!" for OpenCLIP (SD 2 and SDXL's second).
    """

    def __init__(
        self, vocab: dict[str, int], merges: list[tuple[str, str]], *, length: int = 77, pad: str = END
    ) -> None:
        self._vocab = vocab
        self._tokenizer = Tokenizer(
            BPE(
                vocab=vocab,
                merges=merges,
                end_of_word_suffix="</w>",
                continuing_subword_prefix="",
                unk_token=END,
            )
        )
        self._tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        self.length = length
        self.start, self.end = vocab[START], vocab[END]
        self.pad = vocab.get(pad, vocab.get(f"{pad}</w>", self.end))

    @classmethod
    def clip(cls, *, length: int = 77, pad: str = END) -> PromptTokenizer:
        """The tokenizer of every published SD 1, SD 2 and SDXL text encoder; it ships with ti_tui."""
        return _clip(length, pad)

    @classmethod
    def from_folder(cls, folder: Path, *, length: int = 77, pad: str = END) -> PromptTokenizer:
        """The tokenizer in a diffusers `tokenizer/` folder: vocab.json + merges.txt, or tokenizer.json.

        Raises TokenizerError, which names what is missing.
        """
        pair, whole = (folder / "vocab.json", folder / "merges.txt"), folder / "tokenizer.json"
        in_pair = all(path.is_file() for path in pair)
        if not in_pair and not whole.is_file():
            raise TokenizerError(
                f"{folder} contains no tokenizer",
                remedy=f"Copy vocab.json and merges.txt of the model into {folder}.",
            )
        try:
            if in_pair:
                vocab = bounded.read_json(pair[0])
                lines = bounded.read_text(pair[1]).split("\n")
                merges = [_pair(line) for line in lines if line.strip() and not line.startswith("#version")]
            else:
                model = bounded.read_json(whole)["model"]
                vocab = model["vocab"]
                merges = [_pair(pair) if isinstance(pair, str) else (pair[0], pair[1]) for pair in model["merges"]]
            return cls(vocab, merges, length=length, pad=_pad_of(folder) or pad)
        except Exception as error:
            raise TokenizerError(
                f"the tokenizer in {folder} cannot be read: {(str(error) or repr(error)).splitlines()[0][:120]}",
                remedy="Copy vocab.json and merges.txt again.",
            ) from None

    @property
    def size(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self._vocab)

    @property
    def room(self) -> int:
        """Places for a prompt, without start and end mark."""
        return self.length - 2

    def words(self, text: str) -> list[int]:
        """Ids of plain text, without marks and padding."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def text_of(self, number: int) -> str:
        """The text of the id `number`: `cat`, or `cat-` if it is only the beginning of words."""
        entry = self._tokenizer.id_to_token(number)
        if entry is None:
            return "?"
        text: str = decoders.ByteLevel().decode([entry.removesuffix("</w>")])
        return text if entry.endswith("</w>") or entry in (START, END) else f"{text}-"

    def is_word(self, text: str) -> bool:
        """Whether `text` is one entry of the vocabulary, as a word or as the beginning of a word."""
        # The vocabulary is written in byte letters, in which é and emoji look different.
        pieces = self._tokenizer.pre_tokenizer.pre_tokenize_str(self._tokenizer.normalizer.normalize_str(text))
        entry = pieces[0][0] if len(pieces) == 1 else ""
        return entry in self._vocab or f"{entry}</w>" in self._vocab

    def is_rare(self, text: str) -> bool:
        """Whether `text` is a word that hardly anybody means, such as ohwx and sks: one of the last in the vocabulary.

        CLIP's is ordered by how often its entries came up. diffusers refuses keys of it, which these are not.
        """
        return text not in self._vocab and self._vocab.get(f"{text.lower()}</w>", 0) >= RARE_FROM

    def encode(self, prompt: str, vectors: int, vocabulary: int) -> Encoded:
        """Ids of `prompt` with each [name] expanded into `vectors` ids from `vocabulary` on."""
        learned = list(range(vocabulary, vocabulary + vectors))
        ids: list[int] = []
        whole_token = True
        for index, piece in enumerate(prompt.split(NAME)):
            if index:
                ids += learned
                whole_token = whole_token and len(ids) <= self.room
            ids += self.words(piece)
        kept = ids[: self.room]
        padded = [self.start, *kept, self.end]
        padded += [self.pad] * (self.length - len(padded))
        return Encoded(tuple(padded), len(ids), self.room, whole_token)


@cache
def _clip(length: int, pad: str) -> PromptTokenizer:
    packed = resources.files("ti_tui").joinpath("data/clip/merges.txt.gz").read_bytes()
    merges = [_pair(line) for line in gzip.decompress(packed).decode("utf-8").split("\n")]
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    return PromptTokenizer({word: number for number, word in enumerate(words)}, merges, length=length, pad=pad)


def find_tokenizer(
    model: Path,
    given: Path | None,
    *,
    vocabulary: int,
    second: bool = False,
    length: int = 77,
    pad: str = END,
) -> PromptTokenizer:
    """The tokenizer for a model: the given folder, else the model's own, else CLIP's, which ships with ti_tui.

    second: SDXL's second encoder. Raises TokenizerError if its number of tokens differs from the text
    encoder's: with a wrong one the model would read other words than the prompt's.
    """
    name = "tokenizer_2" if second else "tokenizer"
    folder = given if given is not None else model / name
    if given is None and not folder.is_dir():
        if vocabulary == 49408:
            return PromptTokenizer.clip(length=length, pad=pad)
        raise TokenizerError(
            f"{model.name} has its own vocabulary ({vocabulary} tokens; CLIP's has 49408) and no tokenizer",
            remedy="Copy its vocab.json and merges.txt into a folder and name that folder in model.tokenizer.",
        )
    tokenizer = PromptTokenizer.from_folder(folder, length=length, pad=pad)
    if tokenizer.size != vocabulary:
        raise TokenizerError(
            f"the tokenizer in {folder} has {tokenizer.size} tokens, the model's text encoder {vocabulary}",
            remedy="Use the tokenizer that belongs to the model.",
        )
    return tokenizer


def _pair(line: str) -> tuple[str, str]:
    first, _, second = line.strip().partition(" ")
    return first, second


def _pad_of(folder: Path) -> str | None:
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file():
            pad = bounded.read_json(path).get("pad_token")
            if isinstance(pad, dict):
                pad = pad.get("content")
            if isinstance(pad, str):
                return pad
    return None


def _byte_letters() -> list[str]:
    """The 256 characters that stand for bytes, in the order of CLIP's vocabulary: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(hidden))]
