"""`python -m ti_tui.training.compare`: draws samples with a run's checkpoints and scores them, for `jobs.comparing`.

It reads one line of JSON from stdin (`CompareWork`) and answers with lines of JSON on stdout: said, drawn, judged,
among, and at the end finished or refused. The end of stdin ends the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ti_tui.jobs.child import Pipe, run
from ti_tui.jobs.comparing import CompareWork, ComparingError, checked_for_drawing
from ti_tui.run.folder import RunFolder

if TYPE_CHECKING:
    from PIL import Image

    from ti_tui.training.clip_scores import ImageJudge

LONG_SIDE = 1024
"""Pixels that a training image is reduced to before it is scored; CLIP models take 224 to 336."""


def carry_out(work: CompareWork, answer: Callable[..., None], stopped: Callable[[], bool]) -> None:
    """Draw, then score. Raises UserError if something prevents it."""
    device = work.device
    if work.draw:
        device = _draw(work, answer, stopped)
    if work.judge is not None and not stopped():
        _judge(work, work.judge, device, answer, stopped)


def _draw(work: CompareWork, answer: Callable[..., None], stopped: Callable[[], bool]) -> str:
    """Draw all samples; returns the device that they were drawn on."""
    checked = checked_for_drawing(RunFolder(work.run))
    from ti_tui.training.checkpoints import CheckpointError
    from ti_tui.training.device import free_memory
    from ti_tui.training.drawing import Drawer

    drawer = Drawer(checked, work.device, stopped)
    answer("said", text=f"drawing on {_in_words(str(drawer.device))}")
    taken, lost = -1, -1
    for number, wanted in enumerate(work.draw):
        if wanted.step == lost:
            continue
        try:
            if wanted.step != taken:
                drawer.use_checkpoint(wanted.step)
                taken = wanted.step
        except CheckpointError as error:
            # A trainer with `save.keep` deletes old checkpoints while it runs.
            answer("said", text=f"left out: {error.message}")
            lost = wanted.step
            continue
        began = time.monotonic()
        if not drawer.draw(wanted.prompt, wanted.file, wanted.step):
            break
        answer("drawn", number=number, seconds=time.monotonic() - began)
    device = drawer.device
    del drawer
    free_memory(device)
    return str(device)


def _judge(
    work: CompareWork, folder: Path, device: str, answer: Callable[..., None], stopped: Callable[[], bool]
) -> None:
    judge = _open_judge(folder, device, answer)
    from ti_tui.training.clip_scores import BATCH_SIZE, mutual_likeness

    answer("said", text=f"judging on {_in_words(str(judge.device))}")
    known = judge.embed([_image(path) for path in work.references])
    if (alike := mutual_likeness(known)) is not None:
        answer("among", likeness=alike)
    for start in range(0, len(work.score), BATCH_SIZE):
        if stopped():
            return
        places = range(start, min(start + BATCH_SIZE, len(work.score)))
        # A sample that could not be drawn cannot be scored.
        there = [(place, work.score[place]) for place in places if work.score[place].file.is_file()]
        found = judge.scores([_image(one.file) for _, one in there], [one.words for _, one in there], known)
        for (place, _), scores in zip(there, found, strict=True):
            answer("judged", number=place, likeness=scores.likeness, following=scores.following)


def _open_judge(folder: Path, wanted: str, answer: Callable[..., None]) -> ImageJudge:
    """The CLIP model on the device, or on the CPU if the card has no room for it."""
    from ti_tui.out_of_memory import is_out_of_memory
    from ti_tui.training.clip_scores import ImageJudge
    from ti_tui.training.device import choose_device, make_accelerator

    device = choose_device(make_accelerator(wanted), wanted)
    try:
        return ImageJudge(folder, device)
    except Exception as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
    answer("said", text="the CLIP model does not fit into the card's memory and runs on the CPU")
    return ImageJudge(folder, "cpu")


def _image(path: Path) -> Image.Image:
    """The image, upright and in RGB, with a long side of at most LONG_SIDE pixels. Raises ComparingError."""
    from ti_tui.dataset.crop import load_reduced
    from ti_tui.dataset.picture_file import DatasetError

    try:
        return load_reduced(path, LONG_SIDE)
    except DatasetError as error:
        raise ComparingError(f"{path} {error.message}", remedy=error.remedy) from None


def _in_words(device: str) -> str:
    return "the CPU" if device == "cpu" else f"the card ({device})"


def work_for(pipe: Pipe) -> None:
    """Do the work that stdin describes."""
    work = CompareWork.from_line(next(pipe.requests()))
    pipe.watch()
    carry_out(work, pipe.answer, pipe.stopped)


if __name__ == "__main__":
    run(work_for)
