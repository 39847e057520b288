"""Preparing photographs in tests: choices that are not given stay as they were the last time."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ti_tui.dataset.manifest import read_manifest
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.prepare import Prepared, prepare


def prepare_run(source: Path, run: Path, *, resolution: int = 64, **more: Any) -> Prepared:
    """Prepares `source` into the run folder `run`; `more` are fields of PictureChoices, and what `prepare` takes."""
    known = read_manifest(run)
    chosen = {item.name: more.pop(item.name) for item in fields(PictureChoices) if item.name in more}
    choices = replace(known.choices if known is not None else PictureChoices(), **chosen)
    return prepare(source, run / "img", choices, name="zkz", resolution=resolution, record=run, **more)
