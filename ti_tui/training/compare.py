"""`python -m ti_tui.training.compare`: pictures drawn with a run's checkpoints, and judged; the parent is `comparing`.

One line of JSON on stdin says what to do (`Work`); one a line on stdout tells of it: said, drawn, judged, among, and at
the end finished or refused. The end of stdin ends the process.
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
"""Pixels that a training picture is reduced to before the judge, which wants 224 to 336, gets it."""


def carry_out(work: CompareWork, answer: Callable[..., None], stopped: Callable[[], bool]) -> None:
    """Draw, then judge. Raises UserError for whatever keeps it from being done."""
    device = work.device
    if work.draw:
        device = _draw(work, answer, stopped)
    if work.judge is not None and not stopped():
        _judge(work, work.judge, device, answer, stopped)


def _draw(work: CompareWork, answer: Callable[..., None], stopped: Callable[[], bool]) -> str:
    """Draw everything; returns the device that it was drawn on."""
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
                drawer.take(wanted.step)
                taken = wanted.step
        except CheckpointError as error:
            # A trainer that keeps only the last few drops the others while it goes on.
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
    from ti_tui.training.clip_scores import AT_ONCE, among_themselves

    answer("said", text=f"judging on {_in_words(str(judge.device))}")
    known = judge.embed([_picture(path) for path in work.references])
    if (alike := among_themselves(known)) is not None:
        answer("among", likeness=alike)
    for start in range(0, len(work.pictures), AT_ONCE):
        if stopped():
            return
        places = range(start, min(start + AT_ONCE, len(work.pictures)))
        # What could not be drawn cannot be judged.
        there = [(place, work.pictures[place]) for place in places if work.pictures[place].file.is_file()]
        found = judge.scores([_picture(one.file) for _, one in there], [one.words for _, one in there], known)
        for (place, _), scores in zip(there, found, strict=True):
            answer("judged", number=place, likeness=scores.likeness, following=scores.following)


def _open_judge(folder: Path, wanted: str, answer: Callable[..., None]) -> ImageJudge:
    """The judge on the device, or on the CPU where the card has no room for it."""
    from ti_tui.out_of_memory import is_out_of_memory
    from ti_tui.training.clip_scores import ImageJudge
    from ti_tui.training.device import choose_device, make_accelerator

    device = choose_device(make_accelerator(wanted), wanted)
    try:
        return ImageJudge(folder, device)
    except Exception as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
    answer("said", text="the card's memory is too small for the CLIP model: it works on the CPU")
    return ImageJudge(folder, "cpu")


def _picture(path: Path) -> Image.Image:
    """The picture upright in RGB, at most LONG_SIDE pixels long. Raises ComparingError."""
    from PIL import Image

    from ti_tui.dataset.crop import load_upright
    from ti_tui.dataset.scan import DatasetError

    try:
        upright = load_upright(path)
    except DatasetError as error:
        raise ComparingError(f"{path} {error.message}", remedy=error.remedy) from None
    upright.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return upright


def _in_words(device: str) -> str:
    return "the CPU" if device == "cpu" else f"the card ({device})"


def work_for(pipe: Pipe) -> None:
    """Do what stdin says."""
    work = CompareWork.from_line(next(pipe.requests()))
    pipe.watch()
    carry_out(work, pipe.answer, pipe.stopped)


if __name__ == "__main__":
    run(work_for)
