"""All checks that need no GPU: `check`, `plan`, the wizard and the trainer use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ti_tui.dataset.hold_out import choose_held_out
from ti_tui.dataset.masks import load_mask
from ti_tui.dataset.picture_file import DatasetError
from ti_tui.dataset.prompt_checks import (
    check_captions,
    check_prompt_lengths,
    check_sample_prompts,
    check_token,
)
from ti_tui.dataset.scan import Scan, scan
from ti_tui.dataset.survey import check_count
from ti_tui.dataset.templates import load_templates
from ti_tui.dataset.tokens import PromptTokenizer, find_tokenizer
from ti_tui.embeddings import files as embedding_files
from ti_tui.embeddings.install import embeddings_folder
from ti_tui.embeddings.subprocess_reader import read_in_subprocess
from ti_tui.errors import UserError
from ti_tui.formatting import listed
from ti_tui.paths import is_there
from ti_tui.run.file import lines_of, load
from ti_tui.run.folder import RunFolder
from ti_tui.run.model import ModelFacts, check_vae, families, find_model, inspect_model, with_prediction
from ti_tui.run.original_layout import check_file, check_vae_file
from ti_tui.run.problems import Problems, ProblemsError
from ti_tui.run.recipe import RunFile
from ti_tui.run.whole_model import check_folder as check_model_folder
from ti_tui.run.whole_model import check_vae_folder
from ti_tui.setup.check_machine import check_folder, check_machine, disk_need
from ti_tui.setup.check_optimizer import check_optimizer, check_rates

Made = TypeVar("Made")

SDXL_LEAST = 640


class CheckFailed(ProblemsError):
    """A run that cannot start; `problems` says why."""


@dataclass(frozen=True)
class Checked:
    """A run file with everything that it names, found and checked.

    held_out: indices in `pictures` of the held-out images.
    """

    folder: RunFolder
    run: RunFile
    problems: Problems
    pictures: Scan | None
    regularisation: Scan | None
    templates: tuple[str, ...]
    facts: ModelFacts | None
    tokenizers: tuple[PromptTokenizer, ...]
    init: embedding_files.Embedding | None
    held_out: tuple[int, ...] = ()

    @property
    def images(self) -> int:
        """Images of one epoch, with their repeats; without the held-out ones."""
        pictures = self.pictures.pictures if self.pictures else ()
        return sum(one.repeats for place, one in enumerate(pictures) if place not in self.held_out)

    def raise_errors(self) -> None:
        """Raises CheckFailed if anything keeps the run from starting."""
        if self.problems.errors:
            raise CheckFailed(self.problems.errors)


def check_run(folder: RunFolder, *, decode: bool = True) -> Checked:
    """Check everything that the run file in `folder` names, and collect every problem, each with its line.

    decode: also decode each image, the only way to find a truncated one. Raises RunFileError if the run file itself
    cannot be used.
    """
    checked = check_recipe(load(folder.file), folder, decode=decode)
    return replace(checked, problems=checked.problems.placed(folder.file, lines_of(folder.file)))


def check_recipe(run: RunFile, folder: RunFolder, *, pictures: Scan | None = None, decode: bool = True) -> Checked:
    """`check_run` for a recipe that may not be in a file yet, for a folder that may not exist yet.

    pictures: the photographs that the run will be made from, if they are known; else the images that dataset.images
    names are checked. Photographs are not cropped yet, so their masks are not checked here.
    """
    problems = Problems()
    facts = _check_model(run, folder, problems)
    tokenizers = find_tokenizers(run, folder, facts, problems)
    if pictures is None:
        pictures = _scan(run.dataset.images, folder, "dataset.images", problems, decode=decode)
        if pictures is not None and run.dataset.masks:
            _check_masks(run, pictures, problems)
    reg = run.dataset.regularisation
    regularisation = _scan(reg, folder, "dataset.regularisation", problems, decode=decode) if reg else None
    templates = _tried(lambda: load_templates(run.dataset.template, folder.root), "dataset.template", problems) or ()
    init = _init(run, folder, facts, problems)
    _check_start(run, problems)
    held_out: tuple[int, ...] = ()
    if pictures is not None:
        problems.add(check_count(len(pictures.pictures)))
        held_out = _held_out(run, len(pictures.pictures), problems)
    if facts is not None and run.dataset.resolution % facts.multiple:
        problems.error(
            f"{run.dataset.resolution} is not a multiple of {facts.multiple}, which this model needs",
            field="dataset.resolution",
        )
    if facts is not None and facts.family == "sdxl" and run.dataset.resolution < SDXL_LEAST:
        problems.warning(
            f"SDXL is made for 1024 pixels; at {run.dataset.resolution} it learns little",
            field="dataset.resolution", remedy="Write 1024, or 768 if memory is short.",
        )  # fmt: skip
    problems.add(judge_token(run, tokenizers))
    if tokenizers and facts is not None:
        words = len(tokenizers[0].words(run.embedding.init)) if init is None else 0
        if words > run.embedding.vectors and run.embedding.start != "mean":
            problems.info(
                f"the initial words have {words} tokens, of which {run.embedding.vectors} start a vector",
                field="embedding.init",
            )
        arguments = (run.embedding.vectors, tokenizers[0], facts.vocabulary)
        if pictures is not None and templates:
            problems.add(check_captions(pictures.pictures, run.embedding.token, templates))
            shown = (*pictures.pictures, *(regularisation.pictures if regularisation else ()))
            problems.add(check_prompt_lengths(shown, templates, *arguments))
        problems.add(check_sample_prompts(run.sample.prompts, run.embedding.token, *arguments))
    if run.save.install_to:
        _tried(lambda: embeddings_folder(folder.path(run.save.install_to)), "save.install_to", problems)
    check_rates(run, problems)
    check_optimizer(run.training, problems)
    check_machine(run, problems)
    check_folder(folder, disk_need(run, pictures, facts), problems)
    return Checked(folder, run, problems, pictures, regularisation, templates, facts, tokenizers, init, held_out)


def _held_out(run: RunFile, count: int, problems: Problems) -> tuple[int, ...]:
    """Indices of the held-out images; none if there is no eval loss."""
    wanted = run.evaluation.hold_out if run.evaluation.every_steps != 0 else "off"
    if isinstance(wanted, int) and wanted >= count > 0:
        problems.error(
            f"{wanted} of {count} images are held out, which leaves none to train on",
            field="evaluation.hold_out", remedy="auto holds out one in eight.",
        )  # fmt: skip
    return choose_held_out(count, wanted, run.training.seed)


def _check_masks(run: RunFile, pictures: Scan, problems: Problems) -> None:
    """Read every mask as the trainer will; images without one are learned as a whole."""
    side, without = run.dataset.resolution, []
    for picture in pictures.pictures:
        try:
            if load_mask(picture.path, (side, side)) is None:
                without.append(picture.path.name)
        except DatasetError as error:
            problems.error(error.message, field="dataset.masks", remedy=error.remedy, subject=picture.path)
    if without and len(without) == len(pictures.pictures):
        problems.error(
            "no image has a mask", field="dataset.masks",
            remedy="Put 0001-mask.png beside 0001.png, white in the parts to learn, or write masks = false.",
        )  # fmt: skip
    elif without:
        problems.info(f"without a mask, learned as a whole: {listed(without)}", field="dataset.masks")


def _check_model(run: RunFile, folder: RunFolder, problems: Problems) -> ModelFacts | None:
    try:
        path = find_model(run.model.base, folder.root)
        if path is None:
            problems.info(
                f"{run.model.base} is not on this machine: it will be downloaded at the start", field="model.base",
                remedy="Name a file or folder to train without a network.",
            )  # fmt: skip
            return None
        facts = with_prediction(inspect_model(path), run.model.prediction)
    except UserError as error:
        problems.error(error.message, field="model.base", remedy=error.remedy)
        return None
    for note in _tried(lambda: _check_parts(facts, vae=not run.model.vae), "model.base", problems) or ():
        problems.info(note, field="model.base")
    for doubt in facts.truth.doubts:
        problems.warning(
            doubt, field="model.prediction",
            remedy="If samples stay noise or grey, train with the other prediction type: epsilon or v_prediction.",
        )  # fmt: skip
    if run.model.vae:
        _tried(lambda: _check_own_vae(folder.path(run.model.vae), facts), "model.vae", problems)
    if run.model.clip_skip > facts.layers:
        problems.error(
            f"this model's text encoder has only {facts.layers} layers", field="model.clip_skip", remedy="Write 1 or 2."
        )
    if not facts.has_vae and not run.model.vae:
        problems.error(
            "the model has no VAE",
            field="model.vae",
            remedy="Name a VAE file, such as vae-ft-mse-840000.safetensors.",
        )
    if facts.family == "sdxl" and run.model.clip_skip != 1:
        problems.error("SDXL always uses the same text encoder layer", field="model.clip_skip", remedy="Write 1.")
    return facts


def _check_parts(facts: ModelFacts, *, vae: bool) -> list[str]:
    """Look at the headers of the whole model, vae: with its VAE. Returns notes; raises UserError."""
    if not facts.single_file:
        return check_model_folder(facts, vae=vae)
    check_file(facts, vae=vae and facts.has_vae)
    return []


def _check_own_vae(path: Path, facts: ModelFacts) -> None:
    check_vae(path)
    if path.is_dir():
        check_vae_folder(path)
    else:
        check_vae_file(path, facts)


def judge_token(run: RunFile, tokenizers: tuple[PromptTokenizer, ...]) -> Problems:
    """Problems with the token and the number of its vectors; judged by CLIP's vocabulary if no tokenizer is known."""
    return check_token(run.embedding.token, run.embedding.vectors, (*tokenizers, PromptTokenizer.clip())[0])


def find_tokenizers(
    run: RunFile, folder: RunFolder, facts: ModelFacts | None, problems: Problems
) -> tuple[PromptTokenizer, ...]:
    """The tokenizer of each text encoder; none while the model is not known, or after a problem."""
    if facts is None:
        return ()
    encoders = families()[facts.family]["text_encoders"]

    def find() -> tuple[PromptTokenizer, ...]:
        given = folder.path(run.model.tokenizer) if run.model.tokenizer else None
        return tuple(
            find_tokenizer(
                facts.path,
                given,
                vocabulary=facts.vocabulary,
                second=index == 1,
                length=facts.positions,
                pad=encoder["pad_token"],
            )
            for index, encoder in enumerate(encoders)
        )

    return _tried(find, "model.tokenizer", problems) or ()


def _scan(text: str, folder: RunFolder, field: str, problems: Problems, *, decode: bool) -> Scan | None:
    found = _tried(lambda: scan(folder.path(text), field=field, decode=decode), field, problems)
    if found is not None:
        problems.add(found.problems)
    return found


def _tried(make: Callable[[], Made], field: str, problems: Problems) -> Made | None:
    """The result of `make`; None after a UserError, which becomes a problem of `field`."""
    try:
        return make()
    except UserError as error:
        where = f"{error.where}: " if error.where else ""
        problems.error(f"{where}{error.message}", field=field, remedy=error.remedy)
        return None


def _init(
    run: RunFile, folder: RunFolder, facts: ModelFacts | None, problems: Problems
) -> embedding_files.Embedding | None:
    text = run.embedding.init
    if not text.lower().endswith(embedding_files.READABLE):
        if ("/" in text or "\\" in text) and _is_there(folder, text):
            remedy = f"Give words, or a file that ends in {', '.join(embedding_files.READABLE)}."
            problems.error(
                f"{text} is not an embedding file; its name would be read as words",
                field="embedding.init",
                remedy=remedy,
            )
        return None
    init = _tried(lambda: read_in_subprocess(folder.path(text)), "embedding.init", problems)
    if init is None:
        return None
    if init.count != run.embedding.vectors:
        problems.error(
            f"{text} has {init.count} vectors, the run has {run.embedding.vectors}", field="embedding.vectors",
            remedy=f"Write {init.count}.",
        )  # fmt: skip
    if facts is not None and init.widths != facts.widths:
        problems.error(f"{text} is for {init.family}, the model is {facts.family_name}", field="embedding.init")
    return init


def _check_start(run: RunFile, problems: Problems) -> None:
    """`mean` and `cross` need words: vectors from a file are used as they are, and random ones do not use words."""
    init, start = run.embedding.init, run.embedding.start
    if start == "words":
        return
    if not init.strip():
        problems.error(
            f"{start} needs words to start from", field="embedding.start",
            remedy='Give words in embedding.init, such as woman, or write start = "words".',
        )  # fmt: skip
    elif init.lower().endswith(embedding_files.READABLE):
        problems.error(
            f"{start} is for words; the vectors of a file are used as they are", field="embedding.start",
            remedy='Write start = "words", or give words in embedding.init.',
        )  # fmt: skip


def _is_there(folder: RunFolder, text: str) -> bool:
    try:
        return is_there(folder.path(text))
    except UserError:
        return False
