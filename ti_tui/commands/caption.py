"""`ti-tui caption`: captions for images, written by a captioner or taken from file names."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import click

from ti_tui import terminal
from ti_tui.captions.endpoint import KEY, Endpoint
from ti_tui.captions.models import check_captioner, find_captioner
from ti_tui.commands import show
from ti_tui.dataset import caption_history
from ti_tui.dataset.caption_files import read_caption
from ti_tui.dataset.caption_text import CaptionMode, CaptionRules
from ti_tui.dataset.scan import Scan, name_in, scan
from ti_tui.dataset.templates import FILEWORDS, load_templates
from ti_tui.embeddings.files import READABLE
from ti_tui.errors import UserError
from ti_tui.formatting import printable
from ti_tui.jobs.captioning import (
    Captioned,
    Captioner,
    CaptionFailed,
    CaptioningFinished,
    Device,
    Engine,
    Loaded,
    caption_by_names,
    caption_images,
    wanted,
)
from ti_tui.jobs.endpoint import INSTRUCTION, PARALLEL, EndpointCaptioner
from ti_tui.jobs.runner import ProcessNote
from ti_tui.paths import is_there, user_path
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder
from ti_tui.run.lease import RunLocked
from ti_tui.run.problems import nearest


@dataclass(frozen=True)
class CaptionFolder:
    """The images to caption. home: the folder with the caption history; run: the run that the images belong to."""

    images: Path
    home: Path
    run: RunFolder | None = None


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--model",
    default="",
    metavar="FOLDER",
    help="The captioner: a folder with BLIP, BLIP-2, GIT or Florence-2, or the hub id of one in the local cache; with "
    "--endpoint the name of a model there.",
)
@click.option(
    "--endpoint",
    default="",
    metavar="URL",
    help="A captioner behind an address that speaks OpenAI's chat form (ollama, llama.cpp, vLLM, also through ssh -R), "
    f"such as http://localhost:11434/v1. A key is read from ${KEY} only.",
)
@click.option(
    "--instruction",
    default=INSTRUCTION,
    metavar="TEXT",
    help="What a captioner behind an address is told; {subject} becomes the run's class word.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 16),
    default=PARALLEL,
    show_default=True,
    help="Requests at once to --endpoint.",
)
@click.option("--yes", is_flag=True, help="Do not ask before images are sent to another machine.")
@click.option(
    "--engine",
    type=click.Choice(["model", "filename"]),
    default="model",
    help="model uses the captioner; filename uses the words of the file names and needs no model.",
)
@click.option(
    "--mode",
    type=click.Choice(["missing", "replace", "prepend", "append"]),
    default="missing",
    show_default=True,
    help="Images that already have a caption: skip them (missing), replace it, or add the new one before or after it.",
)
@click.option(
    "--prefix",
    default="",
    metavar="TEXT",
    help="Text before each new caption; never added twice.",
)
@click.option(
    "--first-words",
    default="",
    metavar="TEXT",
    help='The beginning of each caption, such as "a photo of"; the captioner continues it.',
)
@click.option("--leave-out", multiple=True, metavar="NAME", help="An image to skip; repeat as needed.")
@click.option("--write-beside", is_flag=True, help="Allow writing caption files into a folder of your own photographs.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="auto uses the GPU if it has enough free memory.",
)
def command(
    folder: Path, model: str, engine: str, mode: CaptionMode, prefix: str, first_words: str, leave_out: tuple[str, ...],
    write_beside: bool, device: Device, endpoint: str, instruction: str, parallel: int, yes: bool,
) -> None:  # fmt: skip
    """Write a caption file beside each image in DIR, which is a run or its image folder.

    The captioner is a helper process that ends with the command. Ctrl+C stops it; captions written so far are kept,
    and running the same command again continues with the images that have none. Replaced captions are kept in
    captions.jsonl.

    Folders outside a run are only written to with --write-beside.
    """
    place = find_place(folder, write_beside=write_beside)
    if place.run is not None and (trainer := place.run.trainer()):
        raise RunLocked(
            f"a trainer (process {trainer.pid}) is using the captions in {place.home}",
            remedy=f"Stop it first with `ti-tui stop {quote(str(place.home))}`.",
        )
    found = scan(place.images, field="", decode=False)
    show.problems(found.problems.errors, err=True)
    images = _by_name(found, leave_out)
    rules = CaptionRules(mode, prefix, first_words)

    def current(name: str) -> str:
        return read_caption(images[name]).caption

    to_caption = wanted(images, current, rules)
    if not to_caption:
        if images:
            terminal.line(f"{_counted(images)} in {place.images}: all have captions. Use --mode to change them.")
        sys.exit(2 if found.problems.errors else 0)
    engine_of: Engine
    with contextlib.ExitStack() as stack:
        address = Endpoint.of(endpoint, model) if endpoint else find_captioner(model) if engine == "model" else None
        server = None
        if isinstance(address, Endpoint):
            subject = _subject(place.run)
            server = EndpointCaptioner(address, subject=subject, instruction=instruction, parallel=parallel)
            _ask_before_sending(server, len(to_caption), yes=yes)
            stack.enter_context(_stopped_by_signals(server.cancel))
            engine_of, how = server.caption, server.endpoint.model
        else:
            engine_of, how = _engine(address, device, stack)
        finished = _caption(engine_of, how, place, images, current, rules)
    _sum_up(finished, place, rules, len(images) - len(to_caption))
    if server is not None and server.tokens:
        terminal.line(f"The endpoint counted {server.tokens} tokens.")
    if engine == "filename" and place.run is not None and not finished.captioned:
        terminal.line(
            "Images in a run are named by number: use --engine filename on the photographs, before `ti-tui init`.",
            err=True,
        )
    finished.raise_if_failed()
    if finished.outcome == "cancelled":
        sys.exit(130)
    if finished.failed or found.problems.errors:
        sys.exit(2)


def find_place(given: Path, *, write_beside: bool) -> CaptionFolder:
    """Find the images to caption: those of a run, or a folder of photographs if `write_beside` allows writing there.

    Raises UserError if it does not.
    """
    path = user_path(given).absolute()
    if not is_there(path):
        raise UserError(f"there is no folder {path}")
    if is_there(path / "run.toml") or path.name == "run.toml":
        run = RunFolder.find(path)
        images = run.path(run_file.load(run.file).dataset.images)
    else:
        images = path
        homes = (RunFolder(parent) for parent in path.parents if is_there(parent / "run.toml"))
        run = next((home for home in homes if _is_within(path, home.images)), RunFolder(path))
    if _is_within(images, run.images):
        return CaptionFolder(images, run.root, run)
    if write_beside:
        return CaptionFolder(images, images)
    subject = f"{run.root} trains on {images}, which" if images != path else f"{images}"
    raise UserError(
        f"{subject} is not inside a run: your own photographs are only read",
        remedy="Make a run with `ti-tui init` and caption its images, which are cropped as they will be trained.\n"
        "Or give --write-beside: NAME.txt is written beside each image, and captions.jsonl keeps replaced captions.",
    )


def _is_within(path: Path, folder: Path) -> bool:
    """Whether `path` is `folder` or inside it. Links are followed: a link that leaves the run is not inside it."""
    try:
        path, inside = path.resolve(), folder.parent.resolve() / folder.name
    except (OSError, RuntimeError):
        # Links in a circle; the scan reports what is wrong with the folder.
        return False
    return path == inside or inside in path.parents


def _by_name(found: Scan, leave_out: Collection[str]) -> dict[str, Path]:
    """Images to caption, by name. Where several share a caption file, only the first. Raises UserError."""
    named = {name_in(found.folder, picture.path): picture.path for picture in found.pictures}
    if unknown := [name for name in leave_out if name not in named]:
        meant = nearest(unknown[0], named)
        raise UserError(
            f"there is no image {unknown[0]!r} in {found.folder}",
            where="--leave-out",
            remedy=f"Did you mean {meant}?" if meant else "",
        )
    first: dict[Path, str] = {}
    for name, path in named.items():
        first.setdefault(path.with_suffix(""), name)
    return {name: named[name] for name in first.values() if name not in leave_out}


def _subject(run: RunFolder | None) -> str:
    """What the run teaches, in its initial words: a captioner is told to leave it out."""
    if run is None:
        return ""
    try:
        words = run_file.load(run.file).embedding.init
    except UserError:
        return ""
    return "" if words.lower().endswith(READABLE) else f"the {words}"


def _ask_before_sending(server: EndpointCaptioner, count: int, *, yes: bool) -> None:
    """Name the endpoint, and ask before images leave this machine. Raises UserError where nobody can be asked."""
    terminal.line(server.endpoint.describe())
    warning = server.endpoint.warning(count)
    if not warning or yes:
        return
    if not sys.stdin.isatty():
        raise UserError(warning.removesuffix("."), remedy="Give --yes if that is what you want.")
    if not click.confirm(f"{warning} Go on?"):
        raise click.Abort


def _engine(folder: Path | None, device: Device, stack: contextlib.ExitStack) -> tuple[Engine, str]:
    """The function that makes captions, and its name for the history; None: file names. Raises CaptionerError."""
    if folder is None:
        return caption_by_names, "file name"
    facts = check_captioner(folder)
    terminal.line(f"{facts.describe()}: {facts.path}")
    captioner = stack.enter_context(Captioner.start(facts, device=device))
    stack.enter_context(_stopped_by_signals(captioner.cancel))
    return captioner.caption, facts.kind.name


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl+C and SIGTERM call `stop`; a second signal ends the command."""
    received: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        # On a thread: the interrupted code may be writing to the captioner right now.
        threading.Thread(target=stop, daemon=True).start()

    before = {name: signal.signal(name, on_signal) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _caption(
    engine: Engine,
    how: str,
    place: CaptionFolder,
    images: dict[str, Path],
    current: Callable[[str], str],
    rules: CaptionRules,
) -> CaptioningFinished:
    """Write captions as they arrive, and print each."""
    history, batch = caption_history.history_file(place.home), caption_history.new_batch()

    def write(name: str, caption: str) -> None:
        caption_history.change_caption(history, images[name], caption, batch=batch, how=how)

    finished = CaptioningFinished("done")
    for message in caption_images(engine, images, current, rules, write):
        match message:
            case Loaded():
                terminal.line(f"on {message.device}, loaded in {show.seconds(message.seconds)}")
            case ProcessNote():
                terminal.line(message.text, label="note", colour="cyan", err=True)
            case Captioned():
                left = f", {show.seconds(message.seconds_left)} left" if message.seconds_left >= 1 else ""
                took = f"  ({message.seconds:.1f} s{left})" if message.seconds else ""
                terminal.line(f"{_place_of(message)}  {printable(message.caption)}{took}")
            case CaptionFailed():
                terminal.line(f"{_place_of(message)}: {message.reason}", err=True)
            case CaptioningFinished():
                finished = message
    return finished


def _place_of(message: Captioned | CaptionFailed) -> str:
    return f"{message.done:>{len(str(message.total))}}/{message.total}  {printable(message.name)}"


def _sum_up(finished: CaptioningFinished, place: CaptionFolder, rules: CaptionRules, skipped: int) -> None:
    terminal.line(
        f"{_counted(finished.captioned)} captioned in {place.images}"
        + (f", {skipped} already had a caption" if skipped else "")
        + (f", {finished.failed} could not be captioned" if finished.failed else "")
        + (". Stopped; run the same command to continue." if finished.outcome == "cancelled" else ".")
    )
    if finished.captioned and rules.mode != "missing":
        terminal.line(f"The previous captions are kept in {caption_history.history_file(place.home)}")
    if finished.captioned and place.run is not None and not _uses_captions(place.run):
        terminal.line('The run\'s template does not use captions: set `template = "captions"` in run.toml.')


def _uses_captions(run: RunFolder) -> bool:
    try:
        templates = load_templates(run_file.load(run.file).dataset.template, run.root)
    except UserError:
        # `ti-tui check` reports what is wrong with it.
        return True
    return any(FILEWORDS in template for template in templates)


def _counted(images: int | Collection[str]) -> str:
    return show.number(images if isinstance(images, int) else len(images), "image")
