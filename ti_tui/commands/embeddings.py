"""`ti-tui embeddings`: look into, convert and install embedding files."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from ti_tui.commands import show
from ti_tui.embeddings import files
from ti_tui.embeddings.files import FORMS, EmbeddingError, Form
from ti_tui.embeddings.install import install as install_file
from ti_tui.errors import UserError

ENDINGS: dict[Form, tuple[str, ...]] = {
    "safetensors": (".safetensors",),
    "a1111-pt": (".pt", ".bin"),
    "diffusers": (".safetensors",),
}
FILE = click.Path(path_type=Path)


@click.group(
    short_help="Look into, convert and install embedding files.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def command() -> None:
    """Embedding files of A1111, Forge, ComfyUI, InvokeAI, kohya, OneTrainer and diffusers, SD 1, 2 and XL."""


@command.command(short_help="Say what is in an embedding file.")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=FILE)
def inspect(paths: tuple[Path, ...]) -> None:
    """Say what is in each FILE: form, token, vectors, the models that it fits, lengths of its vectors, metadata."""
    failed: list[UserError] = []
    for path in paths:
        try:
            embedding = files.read(path)
        except UserError as error:
            failed.append(error)
            continue
        norms = [float(norm) for rows in embedding.in_order() for norm in np.linalg.norm(rows, axis=1)]
        rows = [
            ("form", embedding.form),
            ("token", embedding.token or "not said; the file's name is used"),
            (
                "vectors",
                f"{embedding.count} of width {' + '.join(map(str, embedding.widths))}: {embedding.family}",
            ),
            (
                "length",
                f"{min(norms):.3g} to {max(norms):.3g} (words of SD 1 have about 0.4)",
            ),
        ]
        if embedding.step is not None:
            rows.append(("step", str(embedding.step)))
        rows += [
            (key, value)
            for key, value in sorted(embedding.metadata.items())
            if key not in {"token", "step", "vectors", "format"}
        ]
        click.echo(path)
        show.table(rows)
        if not all(np.isfinite(rows).all() for rows in embedding.in_order()):
            click.echo("  warning: some of its numbers are not finite: it is spoiled")
        for note in embedding.notes:
            click.echo(f"  note: {note}")
    if failed:
        raise EmbeddingError("\n".join(str(error) for error in failed))


@command.command(short_help="Write an embedding in another form.")
@click.argument("source", type=FILE)
@click.argument("target", required=False, type=FILE)
@click.option("--to", "form", type=click.Choice(FORMS), help="The form; by default what TARGET's ending says.")
@click.option("--token", help="The token to write into the file.")
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
def convert(source: Path, target: Path | None, form: Form | None, token: str | None, force: bool) -> None:
    """Write the embedding SOURCE as TARGET, by default beside it with the ending of the form."""
    if form is None and target is None:
        raise click.UsageError("give TARGET, or the form with --to")
    form = form or _form_of(target or source)
    if target is not None and not target.name.endswith(ENDINGS[form]):
        endings = " or ".join(ENDINGS[form])
        raise EmbeddingError(f"{target} should end in {endings} for the form {form}")
    if token == "__metadata__":
        raise EmbeddingError("a token of that name cannot stand in a safetensors file")
    target = target or files.with_suffix(source, form)
    if target.exists() and not force:
        raise EmbeddingError(f"{target} exists", remedy="Give --force to replace it, or another TARGET.")
    read = files.read(source)
    name = token or read.token or files.with_suffix(source, "safetensors").stem
    renamed = files.Embedding(
        read.vectors, name, read.step, {key: value for key, value in read.metadata.items() if key != "format"}
    )
    files.write(renamed, target, form)
    click.echo(f"Wrote {target} ({form}, {show.number(renamed.count, 'vector')}, token {name})")


@command.command(short_help="Copy an embedding to where a program looks for it.")
@click.argument("source", type=FILE)
@click.argument("folder", type=FILE)
@click.option("--name", default="", help="Its name there: the word that calls it in prompts.")
@click.option("--force", is_flag=True, help="Replace a different file of that name.")
def install(source: Path, folder: Path, name: str, force: bool) -> None:
    """Copy SOURCE into FOLDER: an embeddings folder, or the folder of A1111, Forge or ComfyUI itself."""
    files.read(source)
    target = install_file(source, folder, name=name, force=force)
    click.echo(f"Installed {target}")


def _form_of(target: Path) -> Form:
    if target.name.endswith(files.SUFFIXES["diffusers"]):
        return "diffusers"
    return "a1111-pt" if target.suffix in {".pt", ".bin"} else "safetensors"
