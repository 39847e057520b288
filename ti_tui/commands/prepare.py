"""`ti-tui prepare`: photographs into a run folder, cropped and resized; again at any time."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from ti_tui.commands import show
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
    help="How pictures are cropped: by face, else by detail (auto); around the face; the centre; the whole, padded; "
    "kept as they are; split into several.",
)
@click.option("--framing", type=click.Choice(FRAMINGS), help="How much around the face, for --mode face.")
@click.option(
    "--crop",
    "crops",
    multiple=True,
    metavar="NAME=HOW",
    help="One picture's own way: a mode, or LEFT,TOP,WIDTH,HEIGHT in its pixels; repeat as needed.",
)
@click.option("--leave-out", multiple=True, metavar="NAME", help="A picture that is not trained; repeat as needed.")
@click.option("--take-back", multiple=True, metavar="NAME", help="A picture that was left out before.")
@click.option("--force", multiple=True, metavar="NAME", help="Use a picture that is too small, or a copy of another.")
@click.option("--force-all", is_flag=True, help="Use all of them.")
@click.option(
    "--masks",
    type=click.Choice(MASKS),
    help="Loss masks, cut as their pictures: none; those found beside the pictures (a-mask.png) or in their "
    "transparency; for the others also one around the face, where one can be found (faces). [found]",
)
@click.option(
    "--resolution", type=click.IntRange(16, 4096), help="For a new folder: side of the square in pixels. [512]"
)
@click.option("--buckets", is_flag=True, help="For a new folder: keep each picture's shape.")
@click.option("--name", help="For a new folder: what the pictures' folder is called, such as `zkz woman`.")
@click.option("--repeats", type=click.IntRange(1, 999), help="For a new folder: how often an epoch uses each picture.")
@click.option("--subfolders", is_flag=True, help="For a new folder: take the pictures of sub-folders too.")
def command(
    images: Path, run: Path, mode: str | None, framing: str | None, crops: tuple[str, ...],
    leave_out: tuple[str, ...], take_back: tuple[str, ...], force: tuple[str, ...], force_all: bool,
    masks: str | None, resolution: int | None, buckets: bool, name: str | None, repeats: int | None, subfolders: bool,
) -> None:  # fmt: skip
    """Put the photographs in DIR into the folder RUN, at the size that they are trained at.

    RUN is a run, whose pictures are brought up to date: only what changed is made again, numbers stay, edited captions
    stay. Or it is a folder that is not there yet: then its img/ and dataset.json are made. DIR is only read.
    """
    from ti_tui.dataset.crop_boxes import CropChoice
    from ti_tui.dataset.manifest import read_manifest
    from ti_tui.dataset.prepare import prepare

    if framing is not None and mode != "face":
        raise UserError("--framing goes with --mode face")
    folder = RunFolder(run)
    known = read_manifest(folder.root)
    if known is None:
        asked = _new(folder, resolution, name, repeats, buckets=buckets, subfolders=subfolders)
    else:
        asked = _again(folder, known, resolution, name, repeats, buckets=buckets, subfolders=subfolders)
    before = known.entries if known is not None else {}
    single = dict(_crop(text) for text in crops)
    known_choices = asked.choices
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

    # A trainer must not find other pictures in the middle of its run.
    lock = folder.lock() if folder.file.is_file() else contextlib.nullcontext()
    with lock, show.waiting_for(str(images)) as heard:
        named = [*leave_out, *take_back, *force, *single]
        _raise_if_unknown(user_path(images), named, before, subfolders=asked.subfolders)

        def each(look: SurveyedFile) -> bool:
            heard()
            return True

        def progress(done: int, total: int) -> None:
            heard()
            if done == total or done % 10 == 0:
                click.echo(f"  made {done} of {total}", err=True)

        made = prepare(
            images,
            folder.images,
            choices,
            name=asked.name,
            resolution=asked.resolution,
            buckets=asked.buckets,
            step=asked.step,
            record=folder.root,
            each=each,
            progress=progress,
        )
        if masks == "faces" and made.face_masks and folder.file.is_file():
            change_field(folder.file, "dataset.masks", True)
    show.problems(made.problems, err=True)
    _tell(folder, made)
    if made.masks:
        _tell_of_masks(folder, made)


def _new(
    folder: RunFolder, resolution: int | None, name: str | None, repeats: int | None, *, buckets: bool, subfolders: bool
) -> Manifest:
    """What holds for all pictures of a folder that is made now. Raises UserError if there is something already."""
    from ti_tui.dataset.manifest import NAME, Manifest
    from ti_tui.setup.create import is_taken

    if folder.file.is_file():
        raise RunFolderError(
            f"{folder.root} holds no {NAME}: its pictures were not made by this program, or by an older one",
            remedy="Make a new run with `ti-tui init`.",
        )
    if is_taken(folder.root):
        raise RunFolderError(f"{folder.root} exists and is not empty", remedy="Choose another folder.")
    called = folder.root.name if name is None else name.strip()
    if not called or "/" in called or "\\" in called or not called.isprintable():
        raise UserError(f"{called!r} cannot be the name of a folder", remedy="Give another with --name.")
    side = resolution or RESOLUTION
    if side % 8:
        raise UserError(f"{side} is not a multiple of 8", remedy="512 is usual; 64 is a step that every model takes.")
    return Manifest("", called, side, buckets=buckets, repeats=repeats, subfolders=subfolders)


def _again(
    folder: RunFolder, known: Manifest, resolution: int | None, name: str | None, repeats: int | None,
    *, buckets: bool, subfolders: bool,
) -> Manifest:  # fmt: skip
    """What holds for all pictures of a run that has some: as the run file says, and as it was."""
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
            said = "the run's own numbers of the folders" if is_now is None else is_now
            remedy = "Change it in run.toml." if option in ("--resolution", "--buckets") else ""
            raise UserError(
                f"{option} {value}: {folder.root} has {said}", remedy=remedy or "Prepare into another folder."
            )
    return replace(known, subfolders=known.subfolders or subfolders)


def _crop(text: str) -> tuple[str, CropChoice]:
    """NAME=HOW. Raises UserError."""
    from ti_tui.dataset.crop_boxes import CropChoice, box_from

    name, equals, how = text.rpartition("=")
    if not equals or not name:
        raise UserError(f"--crop {text}: it has no `=`", remedy="Write --crop a.jpg=centre, or a.jpg=100,50,800,800.")
    if how in MODES:
        return name, CropChoice(cast("CropMode", how))
    try:
        box = box_from([float(number) for number in how.split(",")])
    except ValueError:
        box = None
    if box is None:
        raise UserError(
            f"--crop {text}: {how!r} is no mode and no LEFT,TOP,WIDTH,HEIGHT", remedy=f"Modes are {', '.join(MODES)}."
        )
    return name, CropChoice("manual", box)


def _raise_if_unknown(images: Path, names: list[str], known: Mapping[str, object], *, subfolders: bool) -> None:
    """Names on the command line that no picture has."""
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
                f"there is no picture {name!r} in {images}", remedy=f"Did you mean {guess}?" if guess else ""
            )


def _tell(folder: RunFolder, made: Prepared) -> None:
    """A line for each picture of which something was cut, filled in or enlarged, and a summary."""
    for picture in made.pictures:
        for file, crop in zip(picture.files, picture.crops, strict=True):
            if picture.again and (picture.mask or not crop.trivial):
                notes: list[str] = [] if crop.trivial else [crop.rule]
                notes += [f"face {crop.face + 1}"] if crop.face else []
                notes += ["padded"] if crop.padded else []
                notes += [f"enlarged {crop.upscale:.2f} x"] if crop.upscale > 1 else []
                notes += [f"mask from its {picture.mask}"] if picture.mask else []
                click.echo(f"  {file.name}  {printable(picture.name)}: {', '.join(notes)}")
    again = sum(picture.again for picture in made.pictures)
    parts = [f"made {again}"]
    parts += [f"{len(made.pictures) - again} as before"] if again < len(made.pictures) else []
    parts += [f"{len(made.left_out)} left out"] if made.left_out else []
    parts += [f"{made.captions} with captions"] if made.captions else []
    parts += [f"{made.masks} with masks"] if made.masks else []
    where = ", ".join(show.location(path) for path in made.folders)
    click.echo(f"{where}: {show.number(made.images, 'image')} ({', '.join(parts)}).")
    if not folder.file.is_file():
        click.echo(f"How they were made stands in {show.location(folder.root)}/dataset.json.")


def _tell_of_masks(folder: RunFolder, made: Prepared) -> None:
    """Whether the masks are used, or what to write to have them used."""
    if not folder.file.is_file():
        click.echo("A run uses the masks if its run file says masks = true in [dataset].")
    elif load(folder.file).dataset.masks:
        click.echo("dataset.masks is true in run.toml: the loss is weighed by the masks.")
    else:
        click.echo("Write masks = true in [dataset] of run.toml to have the loss weighed by the masks.")
