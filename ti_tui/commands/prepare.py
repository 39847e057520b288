"""`ti-tui prepare`: crop and resize photographs into a run folder, or bring its images up to date."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.embeddings.run_files import clear_leftovers
from ti_tui.errors import UserError
from ti_tui.formatting import printable
from ti_tui.paths import user_path
from ti_tui.run.file import change_field, load
from ti_tui.run.folder import RunFolder, RunFolderError

if TYPE_CHECKING:
    from ti_tui.dataset.crop_boxes import CropChoice, CropMode, Framing
    from ti_tui.dataset.manifest import Manifest
    from ti_tui.dataset.photograph_checks import SurveyedFile
    from ti_tui.dataset.picture_choices import Masks
    from ti_tui.dataset.prepare import Prepared

RESOLUTION = 512
MODES = ("auto", "face", "centre", "whole", "keep", "split")
FRAMINGS = ("close-up", "head", "waist")
MASKS = ("none", "found", "faces")


@click.command()
@click.argument("images", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="How photographs are cropped: by face, else by detail (auto); around the face; the centre; whole, with "
    "padding; kept as they are; split into several.",
)
@click.option("--framing", type=click.Choice(FRAMINGS), help="How much around the face, for --mode face.")
@click.option(
    "--crop",
    "crops",
    multiple=True,
    metavar="NAME=HOW",
    help="The crop of one photograph: a mode, or LEFT,TOP,WIDTH,HEIGHT in its pixels; repeat as needed.",
)
@click.option("--leave-out", multiple=True, metavar="NAME", help="A photograph to leave out; repeat as needed.")
@click.option(
    "--take-back",
    multiple=True,
    metavar="NAME",
    help="A photograph that was left out, to use again.",
)
@click.option(
    "--force",
    multiple=True,
    metavar="NAME",
    help="Use a photograph that is too small or a copy.",
)
@click.option("--force-all", is_flag=True, help="Use all photographs that are too small or copies.")
@click.option(
    "--masks",
    type=click.Choice(MASKS),
    help="Loss masks, cropped like their images: none; those found beside the photographs (a-mask.png) or in their "
    "transparency (found); also, for photographs without one, a mask around the face (faces). [found]",
)
@click.option(
    "--resolution", type=click.IntRange(16, 4096), help="For a new folder: side of the square images in pixels. [512]"
)
@click.option("--buckets", is_flag=True, help="For a new folder: keep the aspect ratio of each photograph.")
@click.option("--name", help="For a new folder: name of the image folder, such as `zkz woman`.")
@click.option("--repeats", type=click.IntRange(1, 999), help="For a new folder: how often an epoch uses each image.")
@click.option("--subfolders", is_flag=True, help="For a new folder: include sub-folders.")
def command(
    images: Path, run: Path, mode: str | None, framing: str | None, crops: tuple[str, ...],
    leave_out: tuple[str, ...], take_back: tuple[str, ...], force: tuple[str, ...], force_all: bool,
    masks: str | None, resolution: int | None, buckets: bool, name: str | None, repeats: int | None, subfolders: bool,
) -> None:  # fmt: skip
    """Prepare the photographs in DIR as training images in the folder RUN.

    If RUN is a run, its images are brought up to date: only what changed is made again; file numbers and edited
    captions are kept. If RUN does not exist, it is made, with img/ and dataset.json. DIR is only read.
    """
    from ti_tui.dataset.crop_boxes import CropChoice
    from ti_tui.dataset.manifest import read_manifest
    from ti_tui.dataset.prepare import prepare

    if framing is not None and mode != "face":
        raise UserError("--framing goes with --mode face")
    folder = RunFolder(run)
    known = read_manifest(folder.root)
    if known is None:
        wanted = _new(folder, resolution, name, repeats, buckets=buckets, subfolders=subfolders)
    else:
        wanted = _again(folder, known, resolution, name, repeats, buckets=buckets, subfolders=subfolders)
    before = known.entries if known is not None else {}
    single = dict(_crop(text) for text in crops)
    known_choices = wanted.choices
    choices = replace(
        known_choices,
        left_out={*known_choices.left_out, *leave_out} - {*take_back},
        forced="all" if force_all else force,
        crop_all=CropChoice(cast("CropMode", mode), framing=cast("Framing", framing or "head"))
        if mode is not None
        else known_choices.crop_all,
        crops=single,
        masks=cast("Masks", masks or known_choices.masks),
    )

    # The images must not change while a trainer uses them.
    say = partial(terminal.line, err=True)
    lock = folder.lock(say=say) if folder.file.is_file() else contextlib.nullcontext()
    with lock, show.waiting_for(str(images)) as alive:
        named = [*leave_out, *take_back, *force, *single]
        _raise_if_unknown(user_path(images), named, before, subfolders=wanted.subfolders)

        def each(look: SurveyedFile) -> bool:
            alive()
            return True

        def progress(done: int, total: int) -> None:
            alive()
            if done == total or done % 10 == 0:
                terminal.line(f"  made {done} of {total}", err=True)

        made = prepare(
            images,
            folder.images,
            choices,
            name=wanted.name,
            resolution=wanted.resolution,
            buckets=wanted.buckets,
            step=wanted.step,
            record=folder.root,
            each=each,
            progress=progress,
        )
        if folder.file.is_file():
            clear_leftovers(folder)
        if masks == "faces" and made.face_masks and folder.file.is_file():
            change_field(folder.file, "dataset.masks", True)
    show.problems(made.problems, err=True)
    _print_summary(folder, made)
    if made.masks:
        _print_mask_use(folder, made)


def _new(
    folder: RunFolder, resolution: int | None, name: str | None, repeats: int | None, *, buckets: bool, subfolders: bool
) -> Manifest:
    """Settings for all images of a new folder. Raises UserError if the folder is already in use."""
    from ti_tui.dataset.manifest import NAME, Manifest
    from ti_tui.setup.create import is_taken

    if folder.file.is_file():
        raise RunFolderError(
            f"{folder.root} has no {NAME}: its images were made by an older version or by another program",
            remedy="Make a new run with `ti-tui init`.",
        )
    if is_taken(folder.root):
        raise RunFolderError(f"{folder.root} exists and is not empty", remedy="Choose another folder.")
    called = folder.root.name if name is None else name.strip()
    if not called or "/" in called or "\\" in called or not called.isprintable():
        raise UserError(f"{called!r} cannot be the name of a folder", remedy="Give another name with --name.")
    side = resolution or RESOLUTION
    if side % 8:
        raise UserError(f"{side} is not a multiple of 8", remedy="512 is usual; multiples of 64 work with every model.")
    return Manifest("", called, side, buckets=buckets, repeats=repeats, subfolders=subfolders)


def _again(
    folder: RunFolder, known: Manifest, resolution: int | None, name: str | None, repeats: int | None,
    *, buckets: bool, subfolders: bool,
) -> Manifest:  # fmt: skip
    """Settings for all images of an existing run: those of the run file, else those used before."""
    if folder.file.is_file():
        dataset = load(folder.file).dataset
        known = replace(known, resolution=dataset.resolution, buckets=dataset.buckets)
    given = {
        "--resolution": (resolution, known.resolution),
        "--name": (name, known.name),
        "--repeats": (repeats, known.repeats),
        "--buckets": (buckets or None, known.buckets),
    }
    for option, (value, is_now) in given.items():
        if value is not None and value != is_now:
            current = "the folders' own numbers" if is_now is None else is_now
            remedy = "Change it in run.toml." if option in ("--resolution", "--buckets") else ""
            raise UserError(
                f"{option} {value}: {folder.root} has {current}", remedy=remedy or "Prepare into another folder."
            )
    return replace(known, subfolders=known.subfolders or subfolders)


def _crop(text: str) -> tuple[str, CropChoice]:
    """Parse NAME=HOW. Raises UserError."""
    from ti_tui.dataset.crop_boxes import CropChoice, box_from

    name, equals, how = text.rpartition("=")
    if not equals or not name:
        raise UserError(f"--crop {text}: `=` is missing", remedy="Write --crop a.jpg=centre, or a.jpg=100,50,800,800.")
    if how in MODES:
        return name, CropChoice(cast("CropMode", how))
    try:
        box = box_from([float(number) for number in how.split(",")])
    except ValueError:
        box = None
    if box is None:
        raise UserError(
            f"--crop {text}: {how!r} is neither a mode nor LEFT,TOP,WIDTH,HEIGHT",
            remedy=f"Modes are {', '.join(MODES)}.",
        )
    return name, CropChoice("manual", box)


def _raise_if_unknown(images: Path, names: list[str], known: Mapping[str, object], *, subfolders: bool) -> None:
    """Raise UserError for a name on the command line that no photograph has."""
    from ti_tui.dataset.listing import names_in, raise_unless_folder
    from ti_tui.run.problems import nearest

    if not names:
        return
    raise_unless_folder(images)
    there = {*names_in(images, subfolders=subfolders), *known}
    for name in names:
        if name not in there:
            guess = nearest(name, there)
            raise UserError(
                f"there is no photograph {name!r} in {images}", remedy=f"Did you mean {guess}?" if guess else ""
            )


def _print_summary(folder: RunFolder, made: Prepared) -> None:
    """Print a line for each image that was cropped, padded or enlarged, and a summary."""
    for picture in made.pictures:
        for file, crop in zip(picture.files, picture.crops, strict=True):
            if picture.again and (picture.mask or not crop.trivial):
                notes: list[str] = [] if crop.trivial else [crop.rule]
                notes += [f"face {crop.face + 1}"] if crop.face else []
                notes += ["padded"] if crop.padded else []
                notes += [f"enlarged {crop.upscale:.2f} x"] if crop.upscale > 1 else []
                notes += [f"mask from its {picture.mask}"] if picture.mask else []
                terminal.line(f"  {file.name}  {printable(picture.name)}: {', '.join(notes)}")
    again = sum(picture.again for picture in made.pictures)
    parts = [f"made {again}"]
    parts += [f"{len(made.pictures) - again} as before"] if again < len(made.pictures) else []
    parts += [f"{len(made.left_out)} left out"] if made.left_out else []
    parts += [f"{made.captions} with captions"] if made.captions else []
    parts += [f"{made.masks} with masks"] if made.masks else []
    where = ", ".join(show.location(path) for path in made.folders)
    terminal.line(f"{where}: {show.number(made.images, 'image')} ({', '.join(parts)}).")
    if not folder.file.is_file():
        terminal.line(f"The record of how they were made is {show.location(folder.root)}/dataset.json.")


def _print_mask_use(folder: RunFolder, made: Prepared) -> None:
    """Print whether the masks are used, or how to use them."""
    if not folder.file.is_file():
        terminal.line("A run uses the masks if its run file has masks = true in [dataset].")
    elif load(folder.file).dataset.masks:
        terminal.line("dataset.masks is true in run.toml: the loss is weighted by the masks.")
    else:
        terminal.line("To weight the loss by the masks, set masks = true in [dataset] of run.toml.")
