"""Makes a new run: its folder, prepared images and run file. `ti-tui init` and the wizard use it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui import atomic
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.prepare import Prepared, prepare
from ti_tui.dataset.survey import SurveyCache
from ti_tui.embeddings.files import READABLE
from ti_tui.embeddings.run_files import clear_leftovers
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder, RunFolderError
from ti_tui.run.model import ModelFacts, find_model, inspect_model, with_prediction
from ti_tui.run.problems import Problems
from ti_tui.run.recipe import FORMAT, RunFile
from ti_tui.settings import remember_run
from ti_tui.setup.check import CheckFailed, find_tokenizers, judge_token

HALF_MADE = ".half-made"
"""A file in a run folder that is being made."""


@dataclass(frozen=True)
class Created:
    """A new run, its images, its model (None: a hub id that is not downloaded yet), and what is odd about them."""

    folder: RunFolder
    run: RunFile
    prepared: Prepared
    facts: ModelFacts | None
    problems: Problems


def create_run(
    root: Path,
    images: Path,
    values: dict[str, dict[str, Any]],
    choices: PictureChoices | None = None,
    *,
    class_word: str | None = None,
    memory: SurveyCache | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Created:
    """Make the run folder `root` from photographs in `images` and the run file's `values` (nested tables).

    values["dataset"]["images"] is filled in here: images are written to `img/<repeats>_<token> <class word>`, at the
    size they are trained at. Without a class word the initial words are used. For `memory` and `progress` see
    `prepare`. If anything fails, nothing is left behind; if the process is killed, the same call goes on from there.
    Raises UserError.
    """
    folder = RunFolder(root)
    if is_taken(folder.root):
        raise RunFolderError(f"{folder.root} exists and is not empty", remedy="Choose another folder for the run.")
    embedding = values.get("embedding", {})
    token = str(embedding.get("token", ""))
    name = picture_folder(token, str(embedding.get("init", "")) if class_word is None else class_word)
    dataset = {**values.get("dataset", {}), "images": "img"}
    run = run_file.from_values({"format": FORMAT, **values, "dataset": dataset}, folder.file)
    path = find_model(run.model.base, folder.root)
    facts = with_prediction(inspect_model(path), run.model.prediction) if path is not None else None
    problems = _judge_token(run, folder, facts)
    existed, resumed = folder.root.exists(), is_half_made(folder.root)
    try:
        with folder.lock():
            # Until the end it says that what is there is ours, and not yet a run.
            atomic.write_bytes(folder.root / HALF_MADE, b"")
            folder.create()
            prepared = prepare(
                images,
                folder.images,
                choices or PictureChoices(),
                name=name,
                resolution=run.dataset.resolution,
                buckets=run.dataset.buckets,
                step=facts.multiple if facts else 64,
                record=folder.root,
                memory=memory,
                progress=progress,
            )
            if prepared.face_masks:
                # Face masks were asked for, so they are used unless the values say otherwise.
                dataset.setdefault("masks", True)
            if len(prepared.folders) == 1:
                # A single folder is named in full, so that kohya's trainer and a reader see what is in it.
                dataset["images"] = f"img/{prepared.folders[0].name}"
            run = run_file.from_values({"format": FORMAT, **values, "dataset": dataset}, folder.file)
            run_file.save(run, folder.file)
            clear_leftovers(folder)
            try:
                (folder.root / HALF_MADE).unlink()
            except OSError as error:
                raise atomic.cannot_write(folder.root / HALF_MADE, error) from error
    except BaseException:
        if not resumed:
            _undo(folder, existed=existed)
        raise
    remember_run(folder.root)
    problems.add(prepared.problems)
    return Created(folder, run, prepared, facts, problems)


def _judge_token(run: RunFile, folder: RunFolder, facts: ModelFacts | None) -> Problems:
    """Problems with the token, after which the run's folders are named. Raises CheckFailed if it cannot be used."""
    # A tokenizer that cannot be read is reported by the check of the run.
    problems = judge_token(run, find_tokenizers(run, folder, facts, Problems()))
    if problems.errors:
        raise CheckFailed(problems.errors)
    return problems


def is_taken(root: Path) -> bool:
    """Whether no run can be made at `root`: it is a file, or a folder that is not empty."""
    try:
        return root.exists() and (not root.is_dir() or (any(root.iterdir()) and not is_half_made(root)))
    except OSError:
        return True


def is_half_made(root: Path) -> bool:
    """Whether a process was killed while it made a run at `root`."""
    names = {entry.name for entry in root.iterdir()} if root.is_dir() else set()
    # The lock comes first, then the mark.
    return HALF_MADE in names or (
        bool(names) and all(re.fullmatch(r"lock\.json|\.(lock|\.half-made)\.\w+\.tmp", name) for name in names)
    )


def picture_folder(token: str, class_word: str) -> str:
    """kohya's name for the folder of images, without the repeats: `zkz woman`."""
    # Initial words may name an embedding file instead.
    words = [] if class_word.lower().endswith(READABLE) else re.findall(r"[\w-]+", class_word)
    return f"{token} {' '.join(words)[:40].strip()}".rstrip()


def _undo(folder: RunFolder, *, existed: bool) -> None:
    """Remove what was written to a run folder that could not be finished; it was empty before."""
    if not existed:
        shutil.rmtree(folder.root, ignore_errors=True)
        return
    for entry in folder.root.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
