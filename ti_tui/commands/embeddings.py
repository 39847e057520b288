"""`ti-tui embeddings`: look into, convert and install embedding files."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import click
from rich.cells import cell_len

from ti_tui.commands import show
from ti_tui.dataset.tokens import PromptTokenizer, TokenizerError, find_tokenizer
from ti_tui.embeddings import files
from ti_tui.embeddings.files import FORMS, Embedding, EmbeddingError, EmbeddingForm, Vectors
from ti_tui.embeddings.health import Health
from ti_tui.embeddings.install import install as install_file
from ti_tui.embeddings.vocabulary import Vocabulary, read_vocabularies
from ti_tui.errors import UserError
from ti_tui.formatting import printable
from ti_tui.run.model import ModelError, ModelFacts, find_model, inspect_model

ENDINGS: dict[EmbeddingForm, tuple[str, ...]] = {
    "safetensors": (".safetensors",),
    "a1111-pt": (".pt", ".bin"),
    "diffusers": (".safetensors",),
}
FILE = click.Path(path_type=Path)
WIDTH = 80
"""Columns that every line about vectors fits into."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Embedding files of A1111, Forge, ComfyUI, InvokeAI, kohya, OneTrainer and diffusers, SD 1, 2 and XL."""


@command.command(short_help="Say what is in an embedding file.")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option(
    "--model", metavar="MODEL", help="A .safetensors, a diffusers folder or a hub id, to compare with its words."
)
def inspect(paths: tuple[Path, ...], model: str | None) -> None:
    """Say what is in each FILE: form, token, metadata, and how sound its vectors are.

    With the model that it was trained on, or one of its family: which words each vector is near to, and whether it is
    as long as they are. Longer ones can drown the rest of the prompt.
    """
    facts = _find_model(model) if model is not None else None
    yardsticks: list[_Yardstick] = []
    failed: list[UserError] = []
    for path in paths:
        try:
            embedding = files.read(path)
            if facts is not None:
                _check_fit(path, embedding, facts)
        except UserError as error:
            failed.append(error)
            continue
        if facts is not None and not yardsticks:
            yardsticks = _read_yardsticks(facts)
        _show_file(path, embedding)
        for index, vectors in enumerate(embedding.in_order()):
            click.echo()
            if len(embedding.widths) > 1:
                click.echo(f"  text encoder {index + 1} of {len(embedding.widths)}, width {vectors.shape[1]}:")
            _show_health(vectors, yardsticks[index] if yardsticks else None)
    if failed:
        raise EmbeddingError("\n".join(str(error) for error in failed))


@command.command(short_help="Write an embedding in another form.")
@click.argument("source", type=FILE)
@click.argument("target", required=False, type=FILE)
@click.option("--to", "form", type=click.Choice(FORMS), help="The form; by default what TARGET's ending says.")
@click.option("--token", help="The token to write into the file.")
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
def convert(source: Path, target: Path | None, form: EmbeddingForm | None, token: str | None, force: bool) -> None:
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


def _form_of(target: Path) -> EmbeddingForm:
    if target.name.endswith(files.SUFFIXES["diffusers"]):
        return "diffusers"
    return "a1111-pt" if target.suffix in {".pt", ".bin"} else "safetensors"


@dataclass(frozen=True)
class _Yardstick:
    """The words of one text encoder; without a tokenizer, for which `missing` says why, they have no names."""

    vocabulary: Vocabulary
    tokenizer: PromptTokenizer | None
    missing: str = ""


def _find_model(base: str) -> ModelFacts:
    path = find_model(base, Path())
    if path is None:
        raise ModelError(f"{base} is not on this machine", remedy="Give a .safetensors or a diffusers folder.")
    return inspect_model(path)


def _check_fit(path: Path, embedding: Embedding, model: ModelFacts) -> None:
    if embedding.widths != model.widths:
        ours, theirs = (" + ".join(map(str, widths)) for widths in (embedding.widths, model.widths))
        raise EmbeddingError(
            f"{path} does not fit {model.path.name}: its vectors have width {ours}, the model's words {theirs}",
            remedy="Give a model of its family.",
        )


def _read_yardsticks(model: ModelFacts) -> list[_Yardstick]:
    found = []
    for index, vocabulary in enumerate(read_vocabularies(model)):
        try:
            tokenizer = find_tokenizer(model.path, None, vocabulary=vocabulary.size, second=index == 1)
            found.append(_Yardstick(vocabulary, tokenizer))
        except TokenizerError as error:
            found.append(_Yardstick(vocabulary, None, error.message))
    return found


def _show_file(path: Path, embedding: Embedding) -> None:
    width = " + ".join(map(str, embedding.widths))
    rows = [
        ("form", embedding.form),
        ("token", embedding.token or "not said; the file's name is used"),
        ("vectors", f"{embedding.count} of width {width}: {embedding.family}"),
    ]
    if embedding.step is not None:
        rows.append(("step", str(embedding.step)))
    told = {"token", "step", "vectors", "format"}
    rows += [(key, value) for key, value in sorted(embedding.metadata.items()) if key not in told]
    click.echo(path)
    show.table(rows)
    for note in embedding.notes:
        _note(note)


def _show_health(vectors: Vectors, yardstick: _Yardstick | None) -> None:
    health = Health.of(vectors, vocabulary=yardstick.vocabulary if yardstick else None)
    if yardstick is None:
        lengths = textwrap.wrap(" ".join(map(_length, health.norms)), WIDTH - 18)
        rows = [("lengths", lengths[0]), *(("", line) for line in lengths[1:])]
    else:
        _show_vectors(vectors, health, yardstick)
        _, low, usual, high, _ = yardstick.vocabulary.norms
        rows = [("words", f"{_length(usual)} long; 90 of 100 have {_length(low)} to {_length(high)}")]
        if yardstick.tokenizer is not None:
            chance = yardstick.vocabulary.chance
            rows.append(("by chance", f"a direction drawn at random has a word at {chance:.2f}"))
    if health.closest is not None:
        first, second, highest = health.closest
        pair = f"at most {highest:.2f} (vectors {first + 1} and {second + 1})"
        rows.append(("cosine", f"{health.mean_cosine:.2f} between two on average, {pair}"))
        rows.append(("effective rank", f"{health.effective_rank:.1f} of {len(health.norms)}"))
    show.table(rows)
    for finding in health.findings():
        _note(finding)
    if yardstick is not None and yardstick.missing:
        _note(f"the words cannot be named: {yardstick.missing}")


def _show_vectors(vectors: Vectors, health: Health, yardstick: _Yardstick) -> None:
    """One line for each vector, as many of its nearest words as the line can hold."""
    tokenizer = yardstick.tokenizer
    nearest = yardstick.vocabulary.nearest(vectors, tokenizer.text_of) if tokenizer else [[] for _ in vectors]
    click.echo("  vector  length  words shorter" + ("  nearest words, with their cosine" if tokenizer else ""))
    measured = zip(health.norms, health.percentiles or (), nearest, strict=True)
    for number, (norm, percentile, words) in enumerate(measured, start=1):
        line = f"  {number:>6}  {_length(norm):>6}  {percentile:>11.0f} %"
        for word, cosine in words:
            more = f"  {printable(word)} {cosine:.2f}"
            line += more if cell_len(line + more) <= WIDTH else ""
        click.echo(line)


def _length(norm: float) -> str:
    """Three digits, the last one too where it is 0."""
    return f"{norm:#.3g}".rstrip(".")


def _note(text: str) -> None:
    click.echo(textwrap.fill(f"note: {text}", WIDTH, initial_indent="  ", subsequent_indent="        "))
