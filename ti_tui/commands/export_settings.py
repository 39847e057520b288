"""`ti-tui export`: the settings and captions of a run for another trainer."""

from __future__ import annotations

from pathlib import Path

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.commands.columns import terminal_width
from ti_tui.dataset.caption_export import CAPTION_FORMS, CaptionForm, export_captions
from ti_tui.dataset.scan import scan
from ti_tui.errors import UserError
from ti_tui.exchange.exporting import WRITERS, export_settings, write_exported
from ti_tui.paths import leads_out, user_path
from ti_tui.run.file import load
from ti_tui.run.folder import RunFolder


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--to", "program", type=click.Choice(list(WRITERS)), help="The program to write the settings for.")
@click.option(
    "--captions",
    "form",
    type=click.Choice(CAPTION_FORMS),
    help="Write the captions: a .txt or .caption file for each image, metadata.jsonl or .csv as Hugging Face's "
    "imagefolder has it, or sd-scripts' meta_cap.json.",
)
@click.option("--output", default="", help="Folder for the files; RUN/export otherwise.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def command(run: Path, program: str | None, form: CaptionForm | None, output: str, force: bool) -> None:
    """Write the settings of RUN for another trainer, and say what it has no field for; or its captions.

    kohya gets a config and a dataset TOML, OneTrainer a JSON with its concepts and samples, diffusers a shell script.
    The files name the run's own images. An exported kohya config, imported again, gives the same run.
    """
    if program is None and form is None:
        raise click.UsageError("give --to, --captions or both")
    folder = RunFolder.find(run)
    place = user_path(output).absolute() if output else folder.exports.absolute()
    if not output and leads_out(folder.exports, folder.root):
        remedy = "Give another folder with --output."
        raise UserError("it is a link that leads out of the run folder", where=str(folder.exports), remedy=remedy)
    if form is not None:
        images = scan(folder.path(load(folder.file).dataset.images), decode=False)
        written = export_captions(images, form, place, force=force)
        what = str(written[0]) if len(written) == 1 else f"{len(written)} files in {place}"
        terminal.line(f"Wrote the captions: {what}")
    if program is None:
        return
    found = export_settings(folder, program, place)
    write_exported(found, force=force)
    for path in found.files:
        terminal.line(f"Wrote {path}")
    if found.lost:
        kept = "; ti-tui import reads them from comments" if found.restored else ""
        terminal.line(f"Not carried over: {show.number(len(found.lost), 'field')}{kept}")
        show.table([(f"{each.name} = {each.value}", each.why) for each in found.lost])
    show.paragraph(f"To train: {found.command}", terminal_width())
