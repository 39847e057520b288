"""`ti-tui probe`: try learning rates, and propose a scheme for this model, these images and these vectors."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.commands.output import on_terminal
from ti_tui.formatting import percent, printable, start_in_words
from ti_tui.jobs.probing import (
    ProbeOpened,
    TrialDone,
    TrialProgress,
    apply,
    checked_for_probing,
    refuse_beside_trainer,
    steps_ahead,
    try_rates,
)
from ti_tui.jobs.runner import ProcessNote
from ti_tui.run.folder import RunFolder
from ti_tui.run.rate_search import (
    FEWEST_STEPS,
    MOST_STEPS,
    STEPS,
    TRIALS,
    Trial,
    TrialReading,
    Warmup,
    choose,
    flaw_of,
    judge_warmup,
    propose,
    steps_each,
)
from ti_tui.run.scheme import Scheme, format_scheme

WIDTH = 80


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--steps",
    type=click.IntRange(FEWEST_STEPS, MOST_STEPS),
    default=STEPS,
    show_default=True,
    help="About how many steps to spend; it takes more if the best rate is far from the usual one.",
)
@click.option("--apply", "applying", is_flag=True, help="Write the proposed scheme into run.toml.")
def command(run: Path, steps: int, applying: bool) -> None:
    """Try learning rates on RUN in short trainings, and propose a scheme.

    Each trial starts from the same vectors (the initial vectors, or the newest checkpoint) and uses the same images
    and noise. RUN is not changed, except that --apply replaces the part of [scheme] that is not trained yet. Ctrl+C
    stops it.
    """
    folder = RunFolder.find(run)
    refuse_beside_trainer(folder)
    checked = checked_for_probing(folder)
    ahead = steps_ahead(folder, (folder.checkpoints() or [0])[-1])
    opened, trials = _try(folder, steps)
    recipe = checked.run
    start = start_in_words(recipe.embedding.init, recipe.embedding.start)
    _print_trials(opened, trials, f"step {opened.step}" if opened.step else f"the start, {start}")
    plain, ramped = _parted(trials)
    chosen = choose(plain, opened.before, goes_on=opened.step > 0)
    if chosen is None:
        terminal.line()
        show.paragraph(
            f"No proposal: after {show.number(opened.steps, 'step')} no rate had a gain that differs from chance. "
            + (
                "The remaining rates refine too little for such a short trial: keep them, or try --steps 600."
                if opened.step
                else "Try --steps 600; or the images may have too little in common."
            )
        )
        return
    warmup = judge_warmup(chosen, ramped[-1], opened.before) if ramped else None
    scheme = propose(chosen, ahead, warmup)
    _print_proposal(recipe.scheme.scheme(), scheme, opened.step, warmup)
    if applying or _confirmed(folder):
        whole = apply(folder, scheme, opened.step)
        show.paragraph(f"Written into {folder.file}: {whole.total_steps} steps in all.")
    else:
        show.paragraph(
            f"To use it: `ti-tui probe {quote(str(run))} --apply` (this repeats the trials), or paste it into the "
            "scheme field of the wizard or the dashboard, read as for N steps."
        )


def _confirmed(folder: RunFolder) -> bool:
    """Ask at the terminal whether to write it; False without a terminal."""
    if not on_terminal(sys.stdin, sys.stdout):
        return False
    terminal.line()
    return click.confirm(f"Write it into {printable(str(folder.file))}?", default=False)


def _try(folder: RunFolder, steps: int) -> tuple[ProbeOpened, list[Trial]]:
    """Try the rates and show progress. Raises UserError."""
    opened: ProbeOpened | None = None
    trials: list[Trial] = []
    with _one_line() as line:
        try:
            for message in try_rates(folder, steps):
                match message:
                    case ProcessNote():
                        line.say(message.text)
                    case ProbeOpened():
                        opened = message
                    case TrialProgress():
                        line.replace(_progress(message, steps_each(steps) * TRIALS))
                    case TrialDone():
                        trials.append(message.trial)
                        line.say(_tried(message.trial, len(trials)))
        except KeyboardInterrupt:
            line.say("Stopped. The run is unchanged.")
            raise
    assert opened is not None
    return opened, trials


class _Line(terminal.RewrittenLine):
    """Progress on stderr: lines that stay and, on a terminal, one line that is overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self._live = on_terminal(sys.stderr)

    def say(self, text: str) -> None:
        self.clear()
        show.paragraph(text, err=True)

    def replace(self, text: str) -> None:
        if self._live:
            self.draw(text[: WIDTH - 1])


@contextlib.contextmanager
def _one_line() -> Iterator[_Line]:
    line = _Line()
    try:
        yield line
    finally:
        line.clear()


def _progress(trial: TrialProgress, planned: int) -> str:
    left = max(planned - trial.steps, 0) * trial.seconds_each
    ramp = f", warm-up {trial.warmup}" if trial.warmup else ""
    until = f", about {show.seconds(left)} left" if left and trial.steps > 3 else ""
    return f"rate {trial.rate:g}{ramp}: step {trial.done} of {trial.of}{until}"


def _tried(trial: Trial, number: int) -> str:
    ramp = f", warm-up {trial.warmup}" if trial.warmup else ""
    gain = percent(trial.gain, digits=None)
    return f"{number}. rate {trial.rate:g}{ramp}: {gain} gain after {trial.last.steps} steps"


def _parted(trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """The trials without and those with a warm-up."""
    return [trial for trial in trials if not trial.warmup], [trial for trial in trials if trial.warmup]


def _print_trials(opened: ProbeOpened, trials: Sequence[Trial], start: str) -> None:
    plain, ramped = _parted(trials)
    chosen = choose(plain, opened.before, goes_on=opened.step > 0)
    steps = [reading.steps for reading in max(plain, key=lambda trial: len(trial.readings)).readings]
    terminal.line(f"From {printable(start)}; each rate for {opened.steps} steps, on the same images and noise:")
    terminal.line()
    heads = "".join(f"{step:>9}" for step in steps)
    terminal.line(f"  {'':<15}{'gain after steps':>{9 * len(steps)}}")
    terminal.line(f"  {'rate':<15}{heads}{'norm':>9}{'prompt':>8}")
    for trial in [*sorted(plain, key=lambda trial: trial.rate), *ramped]:
        note = flaw_of(trial, opened.before)
        mark = ">" if trial is chosen else " "
        terminal.line(f"{mark} {_row(trial, steps)}  {note or ('chosen' if trial is chosen else '')}".rstrip())
    terminal.line()
    show.paragraph(
        "gain: how much smaller the eval loss is than before the trial. norm: of the median vector, relative to the "
        "median word. prompt: prompt-following; 1 is as with the initial vectors."
    )


def _row(trial: Trial, steps: Sequence[int]) -> str:
    name = f"{trial.rate:g}{f', warm-up {trial.warmup}' if trial.warmup else ''}"
    read = {reading.steps: reading for reading in trial.readings}
    gains = "".join(f"{_gain(read.get(step)):>9}" for step in steps)
    return f"{name:<15}{gains}{trial.last.length:>9.1f}{trial.follows:>8.2f}"


def _gain(reading: TrialReading | None) -> str:
    return "-" if reading is None else percent(reading.gain, digits=None)


def _print_proposal(now: Scheme, scheme: Scheme, step: int, warmup: Warmup | None) -> None:
    terminal.line()
    where = f" from step {step} on" if step else ""
    terminal.line(f"Proposed{where}, {show.number(scheme.total_steps, 'step')} in all, as many as the run has now:")
    terminal.line()
    terminal.line(f"  {format_scheme(scheme.segments)}")
    if scheme.warmup_steps:
        terminal.line(f"  with a warm-up of {show.number(scheme.warmup_steps, 'step')}")
    terminal.line()
    show.paragraph(f"The run now has {format_scheme(now.segments)}.")
    if warmup is not None:
        show.paragraph(warmup.describe())
