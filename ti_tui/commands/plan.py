"""`ti-tui plan`: what a run will do, and what `auto` decided and why."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.formatting import start_in_words
from ti_tui.results.run_settings import named_reasons
from ti_tui.run.events import EventReader
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import find_hardware
from ti_tui.run.plan import Plan, make_plan
from ti_tui.run.scheme import Scheme, SchemeError, format_scheme, step_rules
from ti_tui.setup.check import Checked, check_run
from ti_tui.setup.check_machine import disk_need


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Show what RUN will do: steps, epochs, checkpoints, time and memory, and what `auto` decided and why."""
    folder = RunFolder.find(run)
    checked = check_run(folder, decode=False)
    show.problems(checked.problems)
    checked.raise_errors()
    recipe = checked.run
    embedding = recipe.embedding
    start = start_in_words(embedding.init, embedding.start)
    terminal.line(f"{embedding.token}: {show.number(embedding.vectors, 'vector')} from {start}")
    if checked.facts is None or checked.pictures is None:
        terminal.line(f"The model {recipe.model.base} is downloaded when training starts; the plan is made then.")
        return
    plan = make_plan(recipe, checked.facts, checked.images, find_hardware(recipe.training.device))
    terminal.line(f"model: {checked.facts.describe()}")
    terminal.line(f"prediction type: {checked.facts.truth.in_words()}")
    _show_steps(checked, plan)
    terminal.line("decided:")
    show.table(named_reasons(plan.reasons))
    _show_scheme(plan.scheme)


def _show_steps(checked: Checked, plan: Plan) -> None:
    per_epoch = plan.epoch_steps
    epochs = plan.total_steps / per_epoch
    samples = plan.samples() * len(checked.run.sample.prompts)
    where = show.location(checked.folder.root)
    rows = [
        ("images", f"{plan.images}, trained at {checked.run.dataset.resolution} pixels{_held_out(checked)}"),
        (
            "steps",
            f"{plan.total_steps} in one run = {epochs:g} epochs of {per_epoch:g} step{'' if per_epoch == 1 else 's'}",
        ),
        ("saves", f"{show.number(plan.saves(), 'checkpoint')}, {show.number(samples, 'sample')}"),
        (
            "disk",
            f"about {show.size(disk_need(checked.run, checked.pictures, checked.facts))} in {where}",
        ),
        ("time", _time(checked.folder, plan)),
    ]
    if done := checked.folder.checkpoints():
        rows.append(("resumes", f"from the checkpoint at step {done[-1]}"))
    show.table(rows)


def _held_out(checked: Checked) -> str:
    """Names of the held-out images."""
    if not checked.held_out or checked.pictures is None:
        return ""
    names = [checked.pictures.pictures[place].path.name for place in checked.held_out]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"; held out for the eval loss: {', '.join(names[:3])}{more}"


def _time(folder: RunFolder, plan: Plan) -> str:
    seconds = [event.get("seconds") for event in EventReader(folder.events).read_all() if event.kind == "step"]
    known = [value for value in seconds[-200:] if isinstance(value, (int, float))]
    if not known:
        return "known after the first steps"
    each = median(known)
    left = max(0, plan.total_steps - (folder.checkpoints() or [0])[-1])
    return f"about {show.seconds(each * left)} for {left} steps ({each:.2g} s each, measured in this run)"


def _show_scheme(scheme: Scheme) -> None:
    terminal.line(f"scheme: {format_scheme(scheme.segments)}  (for N steps each)")
    terminal.line(f"        {format_scheme(scheme.segments, 'until')}  (until step N, as in A1111)")
    try:
        rules = step_rules(scheme)
        rate = scheme.segments[0].learning_rate
        terminal.line(
            f"        kohya: learning_rate {rate:g}, max_train_steps {scheme.total_steps}, step_rules={rules}"
        )
    except SchemeError:
        terminal.line(f"        shape {scheme.shape}, {scheme.warmup_steps} steps of warm-up")
