"""Checks the token, the captions, the templates, and whether every prompt is short enough."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ti_tui.dataset.scan import TrainingImage
from ti_tui.dataset.templates import FILEWORDS, NAME, fill, name_token
from ti_tui.dataset.tokens import PromptTokenizer
from ti_tui.formatting import listed
from ti_tui.run.problems import Problems
from ti_tui.run.sample_prompts import SamplePromptError, parse_sample_prompt

SPECIAL = re.compile(r"[(){}]|^-|^(AND|BREAK|__metadata__)$")
"""Parts of a token that A1111, Forge and ComfyUI read as emphasis, alternatives or keywords, sample prompts as options
(`--d`), and the diffusers file as its header."""
UNUSUAL = re.compile(r"[^\w-]")


def check_token(token: str, vectors: int, tokenizer: PromptTokenizer) -> Problems:
    """Check that a prompt can call the token, which is none of the model's words, and has room for its vectors."""
    problems = Problems()
    if special := SPECIAL.search(token):
        problems.error(
            f"no prompt can call {token!r}: {special.group()!r} has a meaning of its own there",
            field="embedding.token",
            remedy="Use letters, digits, - and _, with a letter first.",
        )
    elif tokenizer.is_rare(token):
        # Such as ohwx and sks, which many people use.
        problems.warning(
            f"{token!r} is a rare word of the model, whose meaning the vectors replace",
            field="embedding.token",
            remedy=f"A new word, such as {_free_name(token, tokenizer)}, has none.",
        )
    elif tokenizer.is_word(token):
        problems.error(
            f"{token!r} is already a word of the model: it would be replaced in every prompt",
            field="embedding.token",
            remedy=f"Choose another, such as {_free_name(token, tokenizer)}.",
        )
    elif unusual := UNUSUAL.search(token):
        problems.warning(
            f"{token!r}: {unusual.group()!r} is not a letter, a digit, - or _",
            field="embedding.token",
            remedy="Some programs may not find such a token in a prompt.",
        )
    if vectors >= tokenizer.room:
        problems.error(
            f"{vectors} vectors leave no room for words: a prompt has {tokenizer.room} places",
            field="embedding.vectors",
            remedy="4 to 16 are usual.",
        )
    return problems


def check_captions(images: Sequence[TrainingImage], token: str, templates: Sequence[str]) -> Problems:
    """Report captions with the token in them, captions that no template uses, and missing captions."""
    problems = Problems()
    with_caption = [image for image in images if image.caption]
    uses_captions = any(FILEWORDS in template for template in templates)
    whole = re.compile(rf"(?<!\w){re.escape(token)}(?!\w)", re.IGNORECASE)
    holding = [image for image in with_caption if whole.search(image.caption)]
    within = [p for p in with_caption if token.lower() in p.caption.lower() and p not in holding]
    if holding:
        problems.warning(
            f"the captions of {_names(holding)} contain the token {token!r}, which the template adds",
            field="embedding.token", remedy="Remove it from the captions.",
        )  # fmt: skip
    if within:
        problems.warning(
            f"{token!r} is part of another word in the caption of {_names(within)}: some programs replace it there too",
            field="embedding.token", remedy="Choose a token that is not part of other words.",
        )  # fmt: skip
    if uses_captions and len(with_caption) < len(images):
        missing = [image for image in images if not image.caption]
        problems.warning(
            f"{len(missing)} of {len(images)} images have no caption ({_names(missing)}): "
            f"their prompts have no {FILEWORDS}",
            field="dataset.template",
        )
    if with_caption and not uses_captions:
        problems.info(
            f"captions ({len(with_caption)}) are not used: this template has no {FILEWORDS}",
            field="dataset.template",
            remedy='The template "captions" uses them.',
        )
    return problems


def check_prompt_lengths(
    images: Sequence[TrainingImage],
    templates: Sequence[str],
    vectors: int,
    tokenizer: PromptTokenizer,
    vocabulary: int,
) -> Problems:
    """Report prompts that are too long: a warning if words are cut off, an error if vectors are."""
    problems = Problems()
    too_long: list[tuple[int, TrainingImage]] = []
    without_token: list[TrainingImage] = []
    for image in images:
        encoded = [tokenizer.encode(fill(template, image.caption), vectors, vocabulary) for template in templates]
        if not all(one.whole_token for one in encoded):
            without_token.append(image)
        elif any(one.cut for one in encoded):
            too_long.append((max(one.used for one in encoded), image))
    if without_token:
        problems.error(
            f"the prompt of {_names(without_token)} is too long for the token's {vectors} vectors: "
            f"only {tokenizer.room} places are read",
            field="dataset.template", remedy="Put [name] before [filewords], or use fewer vectors.",
        )  # fmt: skip
    if too_long:
        longest = max(used for used, _ in too_long)
        problems.warning(
            f"{len(too_long)} prompts are too long, up to {longest} of {tokenizer.room} places "
            f"({_names([image for _, image in too_long])}): the end is not read",
            field="dataset.template", remedy="Shorten these captions.",
        )  # fmt: skip
    return problems


def check_sample_prompts(
    prompts: Sequence[str], token: str, vectors: int, tokenizer: PromptTokenizer, vocabulary: int
) -> Problems:
    """Report sample prompts that cannot be read, do not contain the token, or are too long."""
    problems = Problems()
    for number, line in enumerate(prompts, start=1):
        try:
            prompt = parse_sample_prompt(line)
        except SamplePromptError as error:
            problems.error(f"prompt {number}: {error.message}", field="sample.prompts")
            continue
        named = name_token(prompt.text, token)
        if prompt.unknown:
            options = ", ".join(f"--{name}" for name in prompt.unknown)
            problems.warning(f"prompt {number}: {options} is not used here", field="sample.prompts")
        if NAME not in named:
            problems.info(
                f"prompt {number} does not contain {NAME}: it shows the model without the embedding",
                field="sample.prompts",
            )
        if tokenizer.encode(named, vectors, vocabulary).cut:
            problems.warning(f"prompt {number} is too long: its end is not read", field="sample.prompts")
    return problems


def _names(images: Sequence[TrainingImage]) -> str:
    return listed([image.path.name for image in images])


def _free_name(token: str, tokenizer: PromptTokenizer) -> str:
    candidates = [f"{token}-x1", f"my-{token}", f"{token}-ti"]
    return next((name for name in candidates if not tokenizer.is_word(name)), f"{token}-embedding")
