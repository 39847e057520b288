"""`ti-tui init`: make a run from a folder of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.dataset.picture_choices import MASKS, Masks, PictureChoices
from ti_tui.paths import as_given
from ti_tui.run.file import RunFileError, with_value
from ti_tui.run.problems import Problem
from ti_tui.run.scheme import PRESETS, Scheme, SchemeError, SchemeReading, parse, readings, segment_values
from ti_tui.setup import last_run
from ti_tui.setup.check import check_run
from ti_tui.setup.create import create_run


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--images",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with the photographs; it is only read.",
)
@click.option("--model", required=True, help="A .safetensors or .ckpt file, a diffusers folder, or a hub id.")
@click.option("--token", required=True, help="The word that will call the subject in prompts.")
@click.option(
    "--init",
    "init_",
    default="",
    help="The initial words, such as woman, or an embedding file to start from.",
)
@click.option("--class", "class_word", help="Class word in the name of the image folder; by default the initial words.")
@click.option("--repeats", type=click.IntRange(1, 999), help="How often an epoch uses each image.")
@click.option("--leave-out", multiple=True, metavar="NAME", help="A photograph to leave out; repeat as needed.")
@click.option("--force", multiple=True, metavar="NAME", help="Use a photograph that is too small or a copy.")
@click.option("--force-all", is_flag=True, help="Use all photographs that are too small or copies.")
@click.option(
    "--masks",
    type=click.Choice(MASKS),
    default="found",
    help="Loss masks to use: none; those found beside the photographs or in their transparency (found); also, for "
    "photographs without one, a mask around the face (faces).",
)
@click.option("--subfolders", is_flag=True, help="Include sub-folders.")
@click.option("--vectors", type=int, help="Number of vectors of the token.")
@click.option("--scheme", help=f"Learning rates: {', '.join(PRESETS)}, or a text such as `0.05:10, 0.005:200`.")
@click.option(
    "--read-as",
    type=click.Choice(["for", "until"]),
    help="The numbers in --scheme mean: for N steps, or until step N (as in A1111).",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="TABLE.FIELD=VALUE",
    help="Any other field of the run file; repeat as needed.",
)
def command(
    run: Path, images: Path, model: str, token: str, init_: str, class_word: str | None, repeats: int | None,
    leave_out: tuple[str, ...], force: tuple[str, ...], force_all: bool, masks: Masks, subfolders: bool,
    vectors: int | None, scheme: str | None, read_as: SchemeReading | None, settings: tuple[str, ...],
) -> None:  # fmt: skip
    """Make the run folder RUN, with prepared images and a run file.

    The photographs are turned upright, cropped (around a face, else by detail) and resized. Their captions (a.txt
    beside a.jpg) and masks (a-mask.png) are copied with them. Next, check the run with `ti-tui plan RUN` and start it
    with `ti-tui train RUN`.
    """
    values: dict[str, Any] = {
        "model": {"base": as_given(model)},
        "embedding": {"token": token, "init": as_given(init_, file=True)},
    }
    if vectors is not None:
        values["embedding"]["vectors"] = vectors
    if scheme is not None:
        values["scheme"] = {"segments": segment_values(_scheme(scheme, read_as).segments)}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise RunFileError([Problem("error", f"{setting!r} has no value", "--set", "Write --set training.seed=7.")])
        with_value(values, name.strip(), text.strip())

    choices = PictureChoices(
        repeats=repeats, subfolders=subfolders, left_out=leave_out, forced="all" if force_all else force, masks=masks
    )
    make_run(run, images, values, choices, class_word=class_word)


def make_run(
    run: Path, images: Path, values: dict[str, dict[str, Any]], choices: PictureChoices, *, class_word: str | None
) -> None:
    """Make the run and print what was made, and what `ti-tui check` says of it; see `create_run`."""

    def progress(done: int, total: int) -> None:
        if done == total or done % 10 == 0:
            terminal.line(f"  prepared {done} of {total}", err=True)

    made = create_run(run, images, values, choices, class_word=class_word, progress=progress)
    last_run.remember(made.folder.root, values)
    # The images were decoded a moment ago.
    checked = check_run(made.folder, decode=False)
    said = {problem.message for problem in made.problems}
    show.problems([*made.problems, *(one for one in checked.problems if one.message not in said)], err=True)
    captions = f", {made.prepared.captions} with captions" if made.prepared.captions else ""
    terminal.line(f"Made {made.folder.root}: {show.number(made.prepared.images, 'image')}{captions}.")
    if made.prepared.masks:
        used = "dataset.masks is true" if made.run.dataset.masks else "set masks = true in [dataset] to use them"
        terminal.line(f"{show.number(made.prepared.masks, 'mask')} copied; {used}.")
    if made.facts is not None:
        terminal.line(f"Model: {made.facts.describe()}")
    if errors := len(checked.problems.errors):
        terminal.line(f"{show.number(errors, 'mistake')} to correct before this run can start; then ti-tui check {run}")
    else:
        terminal.line(f"Next: ti-tui plan {run}, then ti-tui train {run}")


def _scheme(text: str, read_as: SchemeReading | None) -> Scheme:
    """The scheme given by --scheme, as a preset or as text. Raises SchemeError."""
    if text in PRESETS:
        return PRESETS[text]
    if read_as:
        return parse(text, read_as)
    both = readings(text)
    if both.ambiguous:
        raise SchemeError(
            f"the scheme can be read in two ways: {both.describe()}",
            remedy="Say which: --read-as for, or --read-as until.",
        )
    return both.for_steps or parse(text, "for")
