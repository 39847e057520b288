"""`ti-tui compare`: the same prompts and seeds at several checkpoints, as one image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.commands.columns import lines_of, natural_widths
from ti_tui.commands.output import output_file
from ti_tui.dataset.prompt_checks import check_sample_prompts
from ti_tui.errors import UserError
from ti_tui.formatting import printable
from ti_tui.jobs.clip_model import Scores, check_judge
from ti_tui.jobs.comparing import (
    CompareWork,
    ImageDrawn,
    ImageScored,
    ReferenceLikeness,
    ToDraw,
    ToScore,
    carry_out,
    checked_for_drawing,
)
from ti_tui.jobs.runner import ProcessNote
from ti_tui.paths import is_there, user_path
from ti_tui.results.comparison import Comparison, gain_at, read_history, recorded_samples, thinned, training_pictures
from ti_tui.results.gallery import Gallery, ScoreBook, made_of, mean_scores, spread_out, subject_word, to_judge
from ti_tui.results.grid import Heading, Words, draw_grid, save_grid
from ti_tui.results.ranking import checkpoint_ranks, why_best
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import find_hardware
from ti_tui.run.history import RunHistory
from ti_tui.run.recipe import RunFile
from ti_tui.run.sample_prompts import SamplePromptError
from ti_tui.setup.check import Checked

MOST_COLUMNS = 10
MOST_DRAWN = 6
"""How many checkpoints are drawn, besides step 0, where --steps is not given."""
MOST_NAMED = 12


@dataclass(frozen=True)
class PendingImage:
    """An image to draw, the gallery that keeps it, and a fingerprint of what it is made from."""

    work: ToDraw
    gallery: Gallery
    made_of: str


@dataclass(frozen=True)
class ComparePlan:
    """What is shown and what has to be drawn for it.

    everything: all images that are used, including those still to be drawn; steps: the columns that are shown.
    """

    everything: Comparison
    steps: tuple[int, ...]
    draw: tuple[PendingImage, ...] = ()

    @property
    def base(self) -> int:
        """The step that scores are compared with: step 0 if there is one, else the first that is shown."""
        return self.everything.steps[0] if 0 in self.everything.steps else self.steps[0]

    def finished(self) -> ComparePlan:
        """The same plan with the images that exist."""
        there = {key: path for key, path in self.everything.pictures.items() if is_there(path)}
        return replace(self, everything=replace(self.everything, pictures=there), draw=())


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--steps", "steps_text", default="", metavar="LIST", help="The steps to show, such as 0,100,300.")
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="TEXT",
    help="A prompt to draw, with [name] for the token and kohya's options (--d seed --l cfg --s steps); "
    "repeat as needed.",
)
@click.option("--clip", default="", metavar="FOLDER", help="A CLIP model that scores likeness and prompt-following.")
@click.option("-o", "--output", default="", metavar="FILE", help="The PNG to write; by default inside the run folder.")
@click.option("--device", default="", help="Device for drawing and scoring: auto, cpu, cuda; by default the run's.")
def command(
    run: Path, steps_text: str, prompts: tuple[str, ...], clip: str, output: str, device: str
) -> None:  # fmt: skip
    """Put the samples of RUN into one image: a row for each prompt, a column for each step, training images at the
    right.

    With --prompt, new samples are drawn with the run's checkpoints, always with the same seed; --steps selects the
    checkpoints. They are kept in RUN/sample/compare and reused. After Ctrl+C, the same command continues. RUN may be
    training meanwhile: it is only read.

    With --clip, two scores are shown for each step, and their difference from step 0 (the initial words): likeness to
    the training images, and prompt (how well the image matches the rest of the prompt).
    """
    folder = RunFolder.find(run)
    recipe, history = run_file.load(folder.file), read_history(folder)
    judge = check_judge(user_path(clip).absolute()).path if clip else None
    target = output_file(output, folder.samples / "compare.png", ".png")
    device = _device(device or recipe.training.device)
    wanted, training = _steps(steps_text), training_pictures(folder.path(recipe.dataset.images))
    plan = _plan_drawn(folder, prompts, wanted, history) if prompts else _plan_recorded(folder, wanted, history)
    book = None if judge is None else _book(folder, judge, training)
    plan = _carry_out(folder, recipe, plan, device, judge, book, spread_out(training))
    shown = plan.everything.at(plan.steps)
    headings = _headings(recipe, history, plan, book)
    notes = (*_star_notes(history, plan), *_notes(recipe, plan, headings, book))
    title = f"{recipe.embedding.token}   {printable(folder.name)}   the same prompts and seeds at each step"
    image = draw_grid(shown, headings, training, Words(title, subject_word(recipe), notes))
    save_grid(image, target, _about(folder, recipe, shown, headings))
    _print_table(folder, shown, headings)
    for note in notes:
        terminal.line(note)
    terminal.line(f"Wrote {target}")


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise UserError(f"there is no device {text!r}", where="--device", remedy="Give auto, cpu, cuda or cuda:1.")
    return text


def _steps(text: str) -> list[int]:
    """The steps in `text`, ascending; none if it is empty."""
    parts = text.replace(",", " ").split()
    if bad := [part for part in parts if not (part.isascii() and part.isdigit())]:
        raise UserError(f"{bad[0]!r} is not a step", where="--steps", remedy="Give numbers, such as 0,100,300.")
    return sorted({int(part) for part in parts})


def _chosen(wanted: Sequence[int], known: Sequence[int], what: str) -> tuple[int, ...]:
    """`wanted`, if all of them are in `known`. Raises UserError."""
    if missing := [step for step in wanted if step not in known]:
        named = [str(step) for step in known]
        if len(named) > MOST_NAMED:
            named = [*named[: MOST_NAMED - 2], "...", named[-1]]
        listed = ", ".join(named)
        raise UserError(f"there is no {what} of step {missing[0]}", where="--steps", remedy=f"Steps are {listed}.")
    return tuple(wanted)


def _plan_recorded(folder: RunFolder, wanted: Sequence[int], history: RunHistory) -> ComparePlan:
    """The samples that the run drew. Raises UserError if there are none."""
    found = recorded_samples(folder, history)
    there = {key: path for key, path in found.pictures.items() if is_there(path)}
    steps = sorted({step for _, step in there})
    if not steps:
        raise UserError(
            f"{folder.root} has no samples to compare",
            remedy='Draw some with --prompt "a photo of [name]"; repeat it for more prompts.',
        )
    few = thinned(steps, MOST_COLUMNS, keep=(history.best_step,))
    chosen = _chosen(wanted, steps, "sample") or tuple(few)
    used = sorted({*chosen, *(step for step in steps if step == 0)})
    return ComparePlan(replace(found, pictures=there).at(used), chosen)


def _plan_drawn(folder: RunFolder, prompts: Sequence[str], wanted: Sequence[int], history: RunHistory) -> ComparePlan:
    """Images of `prompts` at the existing checkpoints; only those that were not drawn before are drawn."""
    checked = checked_for_drawing(folder)
    prompts = tuple(dict.fromkeys(prompts))
    galleries = [_gallery(folder, checked.run, prompt) for prompt in prompts]
    facts, embedding = checked.facts, checked.run.embedding
    assert facts is not None
    found = check_sample_prompts(prompts, embedding.token, embedding.vectors, checked.tokenizers[0], facts.vocabulary)
    show.problems([replace(problem, field="--prompt") for problem in found], err=True)
    saved = folder.checkpoints()
    few = [0, *thinned(saved, MOST_DRAWN, keep=(history.best_step,))]
    steps = _chosen(wanted, [0, *saved], "checkpoint") or tuple(few)
    made = {step: _made_of(checked, step) for step in {0, *steps}}
    pictures, draw = {}, []
    for step in sorted(made):
        for gallery in galleries:
            holds = gallery.holds(step, made[step])
            # Scores are compared with step 0, but step 0 is not drawn for that alone.
            if holds or step in steps:
                pictures[gallery.line, step] = gallery.picture(step)
            if not holds and step in steps:
                draw.append(PendingImage(ToDraw(gallery.prompt, step, gallery.picture(step)), gallery, made[step]))
    used = tuple(sorted({step for _, step in pictures}))
    rows = tuple(dict.fromkeys(gallery.line for gallery in galleries))
    return ComparePlan(Comparison(used, rows, pictures), steps, tuple(draw))


def _gallery(folder: RunFolder, run: RunFile, prompt: str) -> Gallery:
    try:
        return Gallery(folder, run, prompt)
    except SamplePromptError as error:
        raise UserError(error.message, where="--prompt", remedy=error.remedy) from None


def _made_of(checked: Checked, step: int) -> str:
    try:
        return made_of(checked, step)
    except OSError:
        raise UserError(
            f"the checkpoint of step {step} is gone",
            remedy="The run keeps only its last ones; choose others with --steps.",
        ) from None


def _book(folder: RunFolder, judge: Path, training: Sequence[Path]) -> ScoreBook:
    if not training:
        raise UserError("there are no training images to compare with", where="--clip")
    return ScoreBook(folder, judge, spread_out(training))


def _carry_out(
    folder: RunFolder, recipe: RunFile, plan: ComparePlan, device: str, judge: Path | None, book: ScoreBook | None,
    references: Sequence[Path],
) -> ComparePlan:  # fmt: skip
    """Draw and score what is missing; returns the plan with the images that exist then."""
    todo: list[ToScore] = []
    if book is not None:
        new = {keep.work.file for keep in plan.draw}
        pictures = to_judge(plan.everything, recipe).values()
        todo = [one for one in pictures if one.file in new or book.get(one) is None]
    if not plan.draw and not todo and (book is None or book.knows_references):
        return plan.finished()
    if folder.trainer() is not None and find_hardware(device).kind == "cuda":
        terminal.line(
            "A trainer is working on this run, and this needs GPU memory too; --device cpu needs none.", err=True
        )
    work = CompareWork(
        folder.root,
        device,
        tuple(keep.work for keep in plan.draw),
        judge,
        tuple(todo),
        tuple(references if judge else ()),
    )
    try:
        for message in carry_out(work):
            match message:
                case ProcessNote():
                    terminal.line(message.text, err=True)
                case ImageDrawn():
                    kept = plan.draw[message.number]
                    kept.gallery.note(kept.work.step, kept.made_of)
                    terminal.line(_drawn_line(message, len(plan.draw), kept))
                case ImageScored() if book is not None:
                    book.put(todo[message.number], message.scores)
                case ReferenceLikeness() if book is not None:
                    book.put_among(message.likeness)
    except KeyboardInterrupt:
        terminal.line("Stopped. Images drawn so far are kept; run the same command to continue.", err=True)
        raise
    finally:
        if book is not None:
            book.save()
    return plan.finished()


def _drawn_line(message: ImageDrawn, total: int, kept: PendingImage) -> str:
    place = f"{message.number + 1:>{len(str(total))}}/{total}"
    return f"{place}  step {kept.work.step}: {printable(kept.gallery.line)}  ({message.seconds:.1f} s)"


def _headings(recipe: RunFile, history: RunHistory, plan: ComparePlan, book: ScoreBook | None) -> list[Heading]:
    """A heading for each step that is shown."""
    pictures = to_judge(plan.everything, recipe)

    def scores_at(step: int) -> Scores | None:
        if book is None:
            return None
        return mean_scores(book.get(picture) for (_, at), picture in pictures.items() if at == step)

    base, ranked = scores_at(plan.base), checkpoint_ranks(history)
    return [
        Heading(
            step,
            best=step == history.best_step,
            gain=gain_at(history, step) if step else None,
            rank=ranked[step].value if step in ranked else None,
            scores=scores_at(step),
            against=None if step == plan.base else base,
        )
        for step in plan.steps
    ]


def _star_notes(history: RunHistory, plan: ComparePlan) -> tuple[str, ...]:
    """Why the best step is the best, if it is shown."""
    why = why_best(history) if history.best_step in plan.steps else ""
    return (f"best: step {history.best_step}: {why}.",) if why else ()


def _notes(recipe: RunFile, plan: ComparePlan, headings: Sequence[Heading], book: ScoreBook | None) -> tuple[str, ...]:
    """An explanation of each score, one line each."""
    if book is None or all(heading.scores is None for heading in headings):
        return ()
    word = subject_word(recipe)
    start = (
        f'those of "{word}"'
        if plan.base == 0 and word
        else "those of step 0"
        if plan.base == 0
        else f"step {plan.base}"
    )
    among = f"; among the training images: {book.among:.3f}" if book.among is not None else ""
    plain = f'"{word}" in the token\'s place' if word else "the token left out"
    return (
        f"likeness: CLIP cosine with the training images, and its difference from {start}{among}.",
        f"prompt: CLIP cosine with the prompt, {plain}; it falls where the token drowns the other words.",
    )


def _about(folder: RunFolder, recipe: RunFile, shown: Comparison, headings: Sequence[Heading]) -> dict[str, object]:
    """A description of the image, for its metadata."""
    columns = [
        {
            "step": heading.step,
            "best": heading.best,
            **({} if heading.gain is None else {"eval_gain": round(heading.gain, 4)}),
            **(
                {}
                if heading.scores is None
                else {"likeness": heading.scores.likeness, "prompt": heading.scores.following}
            ),
        }
        for heading in headings
    ]
    return {"run": folder.name, "token": recipe.embedding.token, "prompts": list(shown.prompts), "columns": columns}


def _print_table(folder: RunFolder, shown: Comparison, headings: Sequence[Heading]) -> None:
    """Print a line for each step: its scores, and where its images are."""
    rows = [("step", "gain", "rank", "likeness", "prompt", "images")]
    for heading in headings:
        paths = [shown.pictures[key] for prompt in shown.prompts if (key := (prompt, heading.step)) in shown.pictures]
        step, place = f"{heading.step}{' best' if heading.best else ''}", _place_of(folder, paths)
        rows.append((step, heading.gained, heading.ranked, heading.likeness, heading.following, place))
    used = [column for column in range(6) if any(row[column] for row in rows[1:])]
    shown_cells = [[row[column] for column in used] for row in rows]
    for line in lines_of(shown_cells, natural_widths(shown_cells), right=(0,)):
        terminal.line(line)


def _place_of(folder: RunFolder, paths: Sequence[Path]) -> str:
    """Where images are, relative to the run folder: a file, their folder, or a pattern for all of them."""
    if not paths:
        return ""
    names = {path.name for path in paths}
    folders = {path.parent for path in paths}
    if len(paths) == 1:
        place = paths[0]
    elif len(folders) == 1:
        place = paths[0].parent
    else:
        place = paths[0].parent.parent / "*" / (names.pop() if len(names) == 1 else "*.png")
    return str(place.relative_to(folder.root)) if place.is_relative_to(folder.root) else str(place)
