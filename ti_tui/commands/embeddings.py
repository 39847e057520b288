"""`ti-tui embeddings`: inspect, convert and install embedding files."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import click
from rich.cells import cell_len

from ti_tui import terminal
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
    "diffusers": (".bin", ".pt"),
    "onetrainer": (".safetensors",),
}
FILE = click.Path(path_type=Path)
WIDTH = 80
"""Longest line about vectors, in columns."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Work with embedding files of A1111, Forge, ComfyUI, InvokeAI, kohya, OneTrainer and diffusers (SD 1, 2, XL)."""


@command.command(short_help="Show what is in an embedding file.")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option(
    "--model",
    metavar="MODEL",
    help="A .safetensors file, a diffusers folder or a hub id, to compare with its words.",
)
def inspect(paths: tuple[Path, ...], model: str | None) -> None:
    """Show what is in each FILE: format, token, metadata, and the health of its vectors.

    With --model (the model that it was trained on, or one of its family): also the words nearest to each vector, and
    how its norm compares with theirs. Vectors with a large norm can drown the rest of the prompt.
    """
    facts = _find_model(model) if model is not None else None
    references: list[_Reference] = []
    failed: list[UserError] = []
    for path in paths:
        try:
            embedding = files.read(path)
            if facts is not None:
                _check_fit(path, embedding, facts)
        except UserError as error:
            failed.append(error)
            continue
        if facts is not None and not references:
            references = _read_references(facts)
        _show_file(path, embedding)
        for index, vectors in enumerate(embedding.in_order()):
            terminal.line()
            if len(embedding.widths) > 1:
                terminal.line(f"  text encoder {index + 1} of {len(embedding.widths)}, width {vectors.shape[1]}:")
            _show_health(vectors, references[index] if references else None)
    if failed:
        raise EmbeddingError("\n".join(str(error) for error in failed))


@command.command(short_help="Convert an embedding to another format.")
@click.argument("source", type=FILE)
@click.argument("target", required=False, type=FILE)
@click.option("--to", "form", type=click.Choice(FORMS), help="The format; by default taken from TARGET's ending.")
@click.option("--token", help="The token to write into the file.")
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
def convert(source: Path, target: Path | None, form: EmbeddingForm | None, token: str | None, force: bool) -> None:
    """Convert the embedding SOURCE to TARGET; by default beside SOURCE, with the ending of the format."""
    if form is None and target is None:
        raise click.UsageError("give TARGET, or the format with --to")
    form = form or _form_of(target or source)
    if target is not None and not target.name.endswith(ENDINGS[form]):
        endings = " or ".join(ENDINGS[form])
        raise EmbeddingError(f"{target} must end in {endings} for the format {form}")
    if token == "__metadata__":
        raise EmbeddingError("a safetensors file cannot hold a token of that name")
    target = target or files.with_suffix(source, form)
    if target.exists() and not force:
        raise EmbeddingError(f"{target} exists", remedy="Give --force to replace it, or another TARGET.")
    read = files.read(source)
    name = token or read.token or files.with_suffix(source, "safetensors").stem
    renamed = files.Embedding(
        read.vectors, name, read.step, {key: value for key, value in read.metadata.items() if key != "format"}
    )
    files.write(renamed, target, form)
    terminal.line(f"Wrote {target} ({form}, {show.number(renamed.count, 'vector')}, token {name})")


@command.command(short_help="Copy an embedding into a program's embeddings folder.")
@click.argument("source", type=FILE)
@click.argument("folder", type=FILE)
@click.option("--name", default="", help="The name to install it under: the word that calls it in prompts.")
@click.option("--force", is_flag=True, help="Replace a different file of the same name.")
def install(source: Path, folder: Path, name: str, force: bool) -> None:
    """Copy SOURCE into FOLDER: an embeddings folder, or the main folder of A1111, Forge or ComfyUI."""
    embedding = files.read(source)
    target = install_file(source, folder, name=name, force=force)
    terminal.line(f"Installed {target}")
    for note in embedding.notes:
        _note(note)


def _form_of(target: Path) -> EmbeddingForm:
    for form in ("diffusers", "onetrainer"):
        if target.name.endswith(files.SUFFIXES[form]):
            return form
    return "a1111-pt" if target.suffix in {".pt", ".bin"} else "safetensors"


@dataclass(frozen=True)
class _Reference:
    """The vocabulary of one text encoder. Without a tokenizer (`missing` says why) its words have no names."""

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


def _read_references(model: ModelFacts) -> list[_Reference]:
    found = []
    for index, vocabulary in enumerate(read_vocabularies(model)):
        try:
            tokenizer = find_tokenizer(model.path, None, vocabulary=vocabulary.size, second=index == 1)
            found.append(_Reference(vocabulary, tokenizer))
        except TokenizerError as error:
            found.append(_Reference(vocabulary, None, error.message))
    return found


def _show_file(path: Path, embedding: Embedding) -> None:
    width = " + ".join(map(str, embedding.widths))
    rows = [
        ("format", embedding.form),
        ("token", embedding.token or "not given; the file name is used"),
        ("vectors", f"{embedding.count} of width {width}: {embedding.family}"),
    ]
    if embedding.step is not None:
        rows.append(("step", str(embedding.step)))
    shown = {"token", "step", "vectors", "format"}
    rows += [(key, value) for key, value in sorted(embedding.metadata.items()) if key not in shown]
    terminal.line(path)
    show.table(rows)
    for note in embedding.notes:
        _note(note)


def _show_health(vectors: Vectors, reference: _Reference | None) -> None:
    health = Health.of(vectors, vocabulary=reference.vocabulary if reference else None)
    if reference is None:
        norms = textwrap.wrap(" ".join(map(_norm, health.norms)), WIDTH - 18)
        rows = [("norms", norms[0]), *(("", line) for line in norms[1:])]
    else:
        _show_vectors(vectors, health, reference)
        _, low, middle, high, _ = reference.vocabulary.norms
        rows = [("word norms", f"median {_norm(middle)}; 90 % are from {_norm(low)} to {_norm(high)}")]
        if reference.tokenizer is not None:
            chance = reference.vocabulary.chance
            rows.append(("by chance", f"the word nearest to a random direction has a cosine of {chance:.2f}"))
    if health.closest is not None:
        first, second, highest = health.closest
        pair = f"at most {highest:.2f} (vectors {first + 1} and {second + 1})"
        rows.append(("cosine", f"{health.mean_cosine:.2f} on average, {pair}"))
        rows.append(("effective rank", f"{health.effective_rank:.1f} of {len(health.norms)}"))
    show.table(rows)
    for finding in health.findings():
        _note(finding)
    if reference is not None and reference.missing:
        _note(f"the words cannot be named: {reference.missing}")


def _show_vectors(vectors: Vectors, health: Health, reference: _Reference) -> None:
    """Print a line for each vector, with as many of its nearest words as fit."""
    tokenizer = reference.tokenizer
    nearest = reference.vocabulary.nearest(vectors, tokenizer.text_of) if tokenizer else [[] for _ in vectors]
    terminal.line("  vector    norm  words shorter" + ("  nearest words, with their cosine" if tokenizer else ""))
    measured = zip(health.norms, health.percentiles or (), nearest, strict=True)
    for number, (norm, percentile, words) in enumerate(measured, start=1):
        line = f"  {number:>6}  {_norm(norm):>6}  {percentile:>11.0f} %"
        for word, cosine in words:
            more = f"  {printable(word)} {cosine:.2f}"
            line += more if cell_len(line + more) <= WIDTH else ""
        terminal.line(line)


def _norm(norm: float) -> str:
    """Three digits, including a last one that is 0."""
    return f"{norm:#.3g}".rstrip(".")


def _note(text: str) -> None:
    terminal.line(textwrap.fill(f"note: {text}", WIDTH, initial_indent="  ", subsequent_indent="        "))
