"""`ti-tui check`: every mistake before the GPU starts."""

from __future__ import annotations

from pathlib import Path

import click

from ti_tui.commands import show
from ti_tui.errors import UserError
from ti_tui.run.folder import RunFolder
from ti_tui.setup.check import check_run


@click.command(short_help="Look for every mistake before the GPU starts.")
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Look at RUN (a run folder or its run.toml): the run file, the model, every picture, every prompt.

    Exit status 2 if anything keeps the run from starting.
    """
    checked = check_run(RunFolder.find(run))
    show.problems(checked.problems)
    errors = len(checked.problems.errors)
    if errors:
        raise UserError(f"{show.number(errors, 'mistake')} to mend before this run can start")
    if checked.facts is not None:
        click.echo(f"model: {checked.facts.describe()}")
    click.echo("This run can start.")
