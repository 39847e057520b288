"""Writes the settings of a run for another trainer, and says what it has no field for.

What is lost is found by reading back what was written: every field that comes out different is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ti_tui import atomic
from ti_tui.errors import UserError
from ti_tui.exchange.export_source import ExportSource
from ti_tui.exchange.foreign_file import ForeignField, ForeignSettings
from ti_tui.exchange.importing import convert
from ti_tui.exchange.mapping import Program
from ti_tui.exchange.to_diffusers import to_diffusers
from ti_tui.exchange.to_kohya import to_kohya
from ti_tui.exchange.to_onetrainer import to_onetrainer
from ti_tui.exchange.values import shown
from ti_tui.exchange.written import WrittenSettings
from ti_tui.run.file import toml_text
from ti_tui.run.folder import RunFolder
from ti_tui.run.sample_prompts import SamplePrompt, SamplePromptError, parse_sample_prompt
from ti_tui.setup.fields import recipe_fields

WRITERS: dict[str, Callable[[ExportSource, Path], WrittenSettings]] = {
    "kohya": to_kohya, "onetrainer": to_onetrainer, "diffusers": to_diffusers,
}  # fmt: skip
DECIDED = "written as decided for this device and these images"
WHY = {
    "training.batch_size": DECIDED,
    "training.accumulation": DECIDED,
    "training.precision": DECIDED,
    "training.attention": DECIDED,
    "model.prediction": "written as read from the model",
    "model.tokenizer": "the model's own is used there",
    "dataset.template": "only object, style and captions are there",
    "dataset.masks": "masks lie in a folder of their own there",
    "dataset.mask_outside": "masks lie in a folder of their own there",
    "embedding.init": "initial words are read differently there",
    "embedding.start": "the vectors start from the words, one after the other, there",
    "embedding.norm": "the norm of the vectors is free there",
    "scheme.segments": "its scheduler has no such segments",
    "scheme.shape": "its scheduler has no such shape",
    "scheme.warmup_steps": "its scheduler has no such warm-up",
    "scheme.earlier": "rates before a change cannot be told apart there",
    "training.timesteps": "timesteps are drawn at random there",
    "sample.prompts": "its samples have no such options",
}
"""Why a field comes back different; others have no counterpart."""


WHY_OF = {
    (
        "onetrainer",
        "dataset.template",
    ): "its prompts are in onetrainer-prompts.txt, without captions",
    ("diffusers", "dataset.template"): "only object and style are there",
}


@dataclass(frozen=True)
class LostField:
    """A field that the other trainer cannot be told. value: as in the run file. why: in a sentence."""

    name: str
    value: str
    why: str


@dataclass(frozen=True)
class ExportedSettings:
    """Files by path, what is lost, the command that trains from them, and whether import restores what is lost."""

    files: dict[Path, str]
    lost: tuple[LostField, ...]
    command: str
    restored: bool


def export_settings(folder: RunFolder, program: str, place: Path) -> ExportedSettings:
    """The settings of a run for `program`, as files in the folder `place`; nothing is written. Raises UserError."""
    source = ExportSource.of(folder)
    written = WRITERS[program](source, place)
    lost = _lost(source, program, written)
    files = dict(written.files)
    if written.comments_in is not None and lost:
        name = written.comments_in
        lines = [f"# ti_tui: {each.name} = {_on_one_line(source.value(each.name))}" for each in lost]
        said = "# What that program has no field for. `ti-tui import` reads it; change or delete a line to change it."
        files[name] = "\n".join([files[name].rstrip("\n"), "", said, *lines, ""])
    named = {place / name: text for name, text in files.items()}
    return ExportedSettings(named, lost, written.command, restored=written.comments_in is not None)


def write_exported(found: ExportedSettings, *, force: bool = False) -> None:
    """Write the files. Raises UserError if one of them is there and `force` is not set."""
    there = [path for path in found.files if path.exists() or path.is_symlink()]
    if there and not force:
        names = ", ".join(path.name for path in there)
        raise UserError(f"{names} is there already", where=str(there[0].parent), remedy="Use --force to replace it.")
    for path, text in found.files.items():
        atomic.write_text(path, text)


def _lost(source: ExportSource, program: str, written: WrittenSettings) -> tuple[LostField, ...]:
    known: Program = "kohya" if program == "kohya" else "onetrainer" if program == "onetrainer" else "diffusers"
    fields: tuple[ForeignField, ...] = written.fields
    back = convert(ForeignSettings(source.folder.root / "export", known, "export", fields)).fields
    lost = []
    usual = {name: spec.default for name, spec in recipe_fields().items() if name != "dataset.images"}
    for name, default in {**usual, "scheme.earlier": []}.items():
        ours = source.value(name)
        theirs = back.get(name, default)
        if name == "sample.prompts":
            alike = [_whole(source, line) for line in theirs] == [_whole(source, line) for line in ours]
        else:
            alike = theirs == ours
        if not alike or (written.comments_in is not None and theirs != ours):
            why = WHY_OF.get((program, name)) or WHY.get(name, "there is no such field")
            lost.append(LostField(name, shown(ours) if name != "scheme.segments" else source.scheme_text, why))
    return tuple(lost)


def _whole(source: ExportSource, line: str) -> SamplePrompt | str:
    """A sample prompt with what the run fills in."""
    try:
        prompt = parse_sample_prompt(line)
    except SamplePromptError:
        return line
    side, seed = source.run.dataset.resolution, source.run.training.seed
    return replace(
        prompt,
        width=prompt.width or side,
        height=prompt.height or side,
        seed=seed if prompt.seed is None else prompt.seed,
    )


def _on_one_line(value: Any) -> str:
    """`toml_text` without line ends, since it stands in a comment."""
    if isinstance(value, list):
        return "[" + ", ".join(_on_one_line(item) for item in value) + "]"
    if isinstance(value, str):
        # What JSON escapes, TOML reads.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict) and value:
        return "{ " + ", ".join(f"{json.dumps(key)} = {_on_one_line(item)}" for key, item in value.items()) + " }"
    return toml_text(value)
