"""`ti-tui check`: find mistakes in a run or in a folder of photographs before training starts."""

from __future__ import annotations

from pathlib import Path

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.errors import UserError
from ti_tui.formatting import printable
from ti_tui.paths import user_path
from ti_tui.run.folder import RunFolder, RunFolderError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--resolution",
    type=click.IntRange(16, 4096),
    default=512,
    show_default=True,
    help="For a folder of photographs: the training resolution in pixels.",
)
@click.option("--person", is_flag=True, help="For photographs: the subject is a person, so check the faces too.")
@click.option("--subfolders", is_flag=True, help="For photographs: include sub-folders.")
def command(run: Path, resolution: int, person: bool, subfolders: bool) -> None:
    """Check RUN (a run folder or its run.toml): the run file, the model, every image, every prompt.

    RUN may also be a folder of photographs: then each photograph is checked. Nothing is changed.

    Exit status 2 if the run cannot start, or if a photograph cannot be used.
    """
    folder = user_path(run)
    with show.waiting_for(str(folder)):
        is_run = not folder.is_dir() or (folder / "run.toml").is_file()
        holds_pictures = not is_run and (subfolders or _holds_pictures(folder))
    if not is_run:
        if holds_pictures:
            _check_photographs(folder, resolution, person=person, subfolders=subfolders)
            return
        raise RunFolderError(
            f"{folder} has neither a run.toml nor photographs",
            remedy="Give a run folder, or a folder with photographs; --subfolders includes sub-folders.",
        )
    from ti_tui.setup.check import check_run

    checked = check_run(RunFolder.find(run))
    show.problems(checked.problems)
    errors = len(checked.problems.errors)
    if errors:
        raise UserError(f"{show.number(errors, 'mistake')} to correct before this run can start")
    if checked.facts is not None:
        terminal.line(f"model: {checked.facts.describe()}")
        terminal.line(f"prediction type: {checked.facts.truth.in_words()}")
    terminal.line("This run can start.")


def _holds_pictures(folder: Path) -> bool:
    """Whether `folder` contains anything that looks like a photograph; if not, it is treated as a run folder."""
    from ti_tui.dataset.listing import pictures_in, places
    from ti_tui.run.problems import Problems

    problems = Problems()
    return any(pictures_in(place.folder, problems, "", unreadable=True) for place in places(folder)) or bool(problems)


def _check_photographs(folder: Path, resolution: int, *, person: bool, subfolders: bool) -> None:
    from ti_tui.dataset.photograph_checks import SurveyedFile
    from ti_tui.dataset.survey import check_count, survey

    with show.waiting_for(str(folder)) as alive:

        def each(look: SurveyedFile) -> bool:
            alive()
            return True

        found = survey(folder, resolution=resolution, person=person, subfolders=subfolders, field="", each=each)
    usable = found.scan.pictures
    found.problems.add(check_count(len(usable), field=""))
    show.problems(found.problems)
    errors = len(found.problems.errors)
    captions = sum(bool(picture.caption) for picture in usable)
    parts = [f"{show.number(len(usable), 'photograph')} can be used"]
    parts += [f"{captions} with captions"] if captions else []
    masks = sum(look.picture is not None and look.mask != "" for look in found.files)
    parts += [f"{masks} with masks"] if masks else []
    refused = {problem.subject for problem in found.problems.errors} - {picture.path for picture in usable}
    parts += [f"{len(refused)} cannot"] if refused else []
    warnings = sum(problem.severity == "warning" for problem in found.problems)
    parts += [show.number(warnings, "warning")] if warnings else []
    terminal.line(f"{printable(show.location(folder))}: {', '.join(parts)}.")
    if errors:
        raise UserError(f"{show.number(errors, 'mistake')} to correct; otherwise these photographs are left out")
