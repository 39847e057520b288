"""Templates: prompt patterns with [name] (the token) and [filewords] (the caption), as in A1111."""

from __future__ import annotations

import re
from pathlib import Path

from ti_tui import bounded
from ti_tui.errors import UserError
from ti_tui.paths import user_path

MAX_BYTES = 1_000_000
NAME = "[name]"
FILEWORDS = "[filewords]"

_SUBJECT = (
    "a photo of a [name]", "a good photo of a [name]", "a cropped photo of the [name]", "a close-up of a [name]",
    "a bright photo of the [name]", "a dark photo of the [name]", "a clean photo of a [name]",
    "a dirty photo of a [name]",
    "a photo of one [name]", "a photo of my [name]", "a photo of the cool [name]", "a photo of a nice [name]",
    "a photo of a small [name]", "a photo of a large [name]", "a photo of the weird [name]",
    "a bad photo of the [name]",
    "a sharp photo of a [name]", "a blurry photo of a [name]", "a picture of a [name]", "a picture of the [name]",
    "a snapshot of a [name]", "a portrait of a [name]", "a rendering of a [name]", "an image of the [name]",
    "the [name] in a photo", "a [name]", "the [name]",
)  # fmt: skip
_STYLE = (
    "a painting in the style of [name]", "a picture in the style of [name]", "an image in the style of [name]",
    "a rendering in the style of [name]", "a drawing in the style of [name]", "a close-up in the style of [name]",
    "a large painting in the style of [name]", "a small painting in the style of [name]",
    "a bright painting in the style of [name]", "a dark painting in the style of [name]",
    "a clean painting in the style of [name]", "a cropped painting in the style of [name]",
    "a good painting in the style of [name]", "a nice painting in the style of [name]",
    "a cool painting in the style of [name]", "a weird painting in the style of [name]",
    "a detail of a painting in the style of [name]", "art by [name]", "a work by [name]", "in the style of [name]",
)  # fmt: skip

BUILT_IN: dict[str, tuple[str, ...]] = {
    "object": _SUBJECT,
    "style": _STYLE,
    "captions": ("a photo of [name], [filewords]",),
}


class TemplateError(UserError):
    """A template that cannot be used."""


def load_templates(name: str, folder: Path) -> tuple[str, ...]:
    """The templates that `dataset.template` means: a built-in set, or a text file with one per line.

    Empty lines and lines that begin with # are skipped; `{}` is read as [name].
    Raises TemplateError for a missing file, and for a line without [name], which would train nothing.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    path = user_path(name)
    path = path if path.is_absolute() else folder / path
    if path.exists() and not path.is_file():
        raise TemplateError(f"{path} is not a text file of at most {MAX_BYTES // 1000} KB")
    try:
        text = bounded.read_text(path, MAX_BYTES)
    except bounded.TooLarge:
        raise TemplateError(f"{path} is not a text file of at most {MAX_BYTES // 1000} KB") from None
    except FileNotFoundError:
        choices = ", ".join(BUILT_IN)
        raise TemplateError(
            f"there is no template file {path}", remedy=f"Use {choices}, or the path of a file."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise TemplateError(f"{path} cannot be read: {reason}") from None
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip().replace("{}", NAME)
        if not line or line.startswith("#"):
            continue
        if NAME not in line:
            raise TemplateError(
                f"the line has no {NAME} and would train nothing",
                where=f"{path}:{number}",
                remedy=f"Add {NAME}: {line!r}",
            )
        lines.append(line)
    if not lines:
        raise TemplateError(
            f"{path} contains no template", remedy=f"Write one per line, such as `a photo of {NAME}, {FILEWORDS}`."
        )
    return tuple(lines)


def fill(template: str, caption: str) -> str:
    """The prompt of an image: [filewords] replaced by its caption, [name] kept for the tokenizer.

    Without a caption, [filewords] is removed together with the comma before it.
    """
    prompt = template.replace(FILEWORDS, caption.strip())
    prompt = re.sub(r"\s+", " ", prompt)
    prompt = re.sub(r"\s*,(\s*,)+", ",", prompt)
    return prompt.strip(" ,")


def name_token(prompt: str, token: str) -> str:
    """`prompt` with the token, typed as a word of its own, replaced by [name]."""
    return re.sub(rf"(?<!\w){re.escape(token)}(?!\w)", NAME, prompt)


def without_name(prompt: str, token: str, word: str = "") -> str:
    """`prompt` for the model without the embedding: [name] and the token are replaced by `word`, or removed."""
    named = name_token(prompt, token)
    if not word:
        # The article is removed with it.
        named = re.sub(rf"\b(?:an?|the)\s+(?={re.escape(NAME)})", "", named, flags=re.IGNORECASE)
    return fill(named.replace(NAME, word), "")
