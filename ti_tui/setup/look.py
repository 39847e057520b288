"""Looking at what a draft names - pictures, model, device - and judging it. Slow: the wizard calls it in a thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ti_tui.dataset.checks import sharpness
from ti_tui.dataset.scan import Picture, Scan, choose, name_in, scan
from ti_tui.errors import UserError
from ti_tui.run import file as run_file
from ti_tui.run.file import RunFileError
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import find_hardware
from ti_tui.run.plan import make_plan
from ti_tui.run.problems import Problem, Problems
from ti_tui.run.recipe import FORMAT, RunFile
from ti_tui.run.scheme import SchemeError, parse
from ti_tui.setup.check import check_recipe, disk_need
from ti_tui.setup.create import is_taken, picture_folder
from ti_tui.setup.draft import DEFAULT_RUNS, Draft
from ti_tui.setup.fields import recipe_fields
from ti_tui.setup.findings import Findings, Seen
from ti_tui.setup.words import location

FEWEST, FEW, MOST = 3, 5, 30
"""Below FEW or above MOST a set is unusual; below FEWEST it rarely teaches anything."""

LARGEST_RATE = 0.5

REQUIRED = {
    "photographs": "choose the folder with the photographs",
    "embedding.token": "choose the word that will call the subject",
    "model.base": "choose the model",
}


class PictureDesk:
    """Looks at folders of photographs and remembers what it saw, as long as the files stay as they are."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], float | None] = {}

    def look(self, folder: Path, each: Callable[[Seen], bool]) -> Scan:
        """Scan `folder`; `each` is told of every file and says whether to go on. Raises DatasetError."""

        def told(path: Path, picture: Picture | None, wrong: str) -> bool:
            measured = self._sharpness(path) if picture is not None else None
            return each(Seen(name_in(folder, path), path, picture, wrong, measured))

        return scan(folder, field="photographs", each=told)

    def _sharpness(self, path: Path) -> float | None:
        try:
            status = path.stat()
        except OSError:
            return None
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in self._known:
            self._known[key] = sharpness(path)
        return self._known[key]


def judge(draft: Draft, found: Scan | None, *, runs_folder: str = DEFAULT_RUNS) -> Findings:
    """Everything that can be said about `draft` now. `found` is what its folder of photographs holds, if known.

    Goes on where a field is missing or wrong, with its default in its place, so that all problems show at once.
    """
    problems = _missing(draft) + [_mistyped(name, text) for name, text in draft.mistyped.items()]
    folder, folder_problems = _folder(draft, runs_folder)
    problems += folder_problems
    pictures = _chosen(draft, found, problems)
    run, complete = _run(draft, folder, problems)
    hardware = find_hardware(run.training.device)
    checked = plan = None
    if folder is not None:
        checked = check_recipe(run, folder, pictures=pictures or Scan(folder.images, (), Problems()), decode=False)
        unset = {problem.field for problem in problems if problem.severity == "error"}
        problems += [problem for problem in map(_renamed, checked.problems) if problem.field not in unset]
        if checked.facts is not None and pictures is not None and pictures.pictures:
            plan = make_plan(run, checked.facts, pictures.count, hardware)
    problems += _sizes(run, pictures)
    whole = run if complete and not any(problem.severity == "error" for problem in problems) else None
    disk = disk_need(run, pictures, checked.facts if checked else None)
    return Findings(whole, folder, pictures, checked, plan, hardware, disk, judged=True, problems=tuple(problems))


def tree(draft: Draft, findings: Findings) -> list[str]:
    """The folders that will be made, as lines of a tree: kohya's layout."""
    if findings.folder is None:
        return ["nothing yet: the run folder is no path"]
    token = str(draft.value("embedding.token") or "token")
    repeats = sorted({picture.repeats for picture in findings.pictures.pictures}) if findings.pictures else []
    name = picture_folder(token, draft.class_word or str(draft.value("embedding.init") or ""))
    count = len(findings.pictures.pictures) if findings.pictures else 0
    captions = sum(bool(picture.caption) for picture in findings.pictures.pictures) if findings.pictures else 0
    described = f"{count} pictures" + (f", {captions} with captions" if captions else "") if count else "the pictures"
    lines = [f"{location(findings.folder.root)}/", "├ run.toml                 all that is needed to repeat it"]
    for number in repeats or [draft.repeats or 1]:
        folder = f"├ img/{number}_{name}/"
        lines.append((folder if len(folder) <= 26 else f"{folder[:25]}…").ljust(26) + f" {described}")
        described = "those of another repeat count"
    lines += [
        f"├ model/{token}.safetensors".ljust(26) + " the embedding; one of each save",
        "├ sample/                  preview pictures",
        "├ state/                   exact checkpoints",
        "└ log/                     what happened",
    ]
    return lines


def _missing(draft: Draft) -> list[Problem]:
    return [
        Problem("error", message, name)
        for name, message in REQUIRED.items()
        if not draft.text(name).strip() and name not in draft.mistyped
    ]


def _accepts(name: str) -> str:
    from ti_tui.setup.fields import field as spec_of

    if name == "embedding.token":
        return "one word of letters, digits, - and _, of at most 40"
    return spec_of(name).accepts


def _mistyped(name: str, text: str) -> Problem:
    if name == "scheme.segments":
        try:
            parse(text, "for")
        except SchemeError as error:
            return Problem("error", error.message, name, error.remedy)
        return Problem("error", f"{text.strip()!r} cannot be read until step N: the numbers must grow", name)
    return Problem("error", f"{text.strip()!r} is not {_accepts(name)}", name)


def _sizes(run: RunFile, pictures: Scan | None) -> list[Problem]:
    """Pictures that have to be enlarged, and rates that no embedding is trained with."""
    found = []
    side = run.dataset.resolution
    small = [p for p in (pictures.pictures if pictures else ()) if min(p.width, p.height) < side]
    if small:
        worst = min(small, key=lambda picture: min(picture.width, picture.height))
        times = side / min(worst.width, worst.height)
        text = f"{len(small)} smaller than {side} pixels: enlarged, {worst.path.name} {times:.2g} times"
        found.append(Problem("warning" if times > 1.5 else "info", text, "photographs"))
    top = max(item.learning_rate for item in run.scheme.segments)
    if top > LARGEST_RATE:
        text = f"a learning rate of {top:g} will spoil the vectors at once"
        found.append(Problem("warning", text, "scheme.segments", "0.05 is large already."))
    return found


def _folder(draft: Draft, runs_folder: str) -> tuple[RunFolder | None, list[Problem]]:
    try:
        folder = RunFolder(draft.folder(runs_folder))
        source = draft.source()
    except UserError as error:
        return None, [Problem("error", error.message, "run_folder", error.remedy)]
    if is_taken(folder.root):
        return folder, [Problem("error", f"{folder.root} exists and is not empty", "run_folder", "Choose another.")]
    if source is not None and (source == folder.root or source in folder.root.parents):
        return folder, [
            Problem(
                "error", "it lies inside the photographs' folder, which is only read", "run_folder", "Choose another."
            )
        ]
    return folder, []


def _chosen(draft: Draft, found: Scan | None, problems: list[Problem]) -> Scan | None:
    if found is None:
        return None
    left_out, captions = draft.choices()
    chosen = choose(found, leave_out=left_out, captions=captions, repeats=draft.repeats)
    # A picture that cannot be read stays behind by itself: that is said, and stops nothing.
    out = tuple(f"{name.rpartition('/')[2]} " for name in left_out)
    problems += [
        Problem("warning" if chosen.pictures else "error", problem.message, "photographs", problem.remedy)
        for problem in found.problems
        if "share one caption" not in problem.message and not (out and problem.message.startswith(out))
    ]
    if found.pictures and not chosen.pictures:
        problems.append(Problem("error", f"all {len(found.pictures)} pictures are left out", "photographs"))
    elif len(chosen.pictures) > MOST:
        text = f"{len(chosen.pictures)} pictures: 5 to {MOST} good ones usually teach more than many"
        problems.append(Problem("info", text, "photographs"))
    elif FEWEST <= len(chosen.pictures) < FEW:
        text = f"{len(chosen.pictures)} pictures: 5 or more hold likeness better"
        problems.append(Problem("info", text, "photographs"))
    return chosen


def _run(draft: Draft, folder: RunFolder | None, problems: list[Problem]) -> tuple[RunFile, bool]:
    """The run file of a draft, defaults where something is missing or wrong, and whether nothing was."""
    path = folder.file if folder else Path("run.toml")
    values: dict[str, Any] = {"format": FORMAT, **draft.values()}
    values["dataset"] = {**values.get("dataset", {}), "images": "img"}
    complete = True
    if missing := [name for name in REQUIRED if "." in name and name not in draft.fields]:
        complete = False
        stand_ins = {"embedding.token": "token", "model.base": "not/chosen"}
        for name in missing:
            table, _, key = name.partition(".")
            values.setdefault(table, {})[key] = stand_ins[name]
    try:
        return run_file.from_values(values, path), complete
    except RunFileError as error:
        known = {problem.field for problem in problems}
        problems += [
            Problem("error", problem.message.rstrip("."), problem.field, problem.remedy)
            for problem in error.problems
            if problem.field not in known
        ]
        for problem in error.problems:
            table, _, key = problem.field.partition(".")
            if problem.field in recipe_fields() and not recipe_fields()[problem.field].required:
                values.get(table, {}).pop(key, None)
    try:
        return run_file.from_values(values, path), False
    except RunFileError:
        stand_in = {"images": "img"}
        plain = {
            "format": FORMAT,
            "model": {"base": "not/chosen"},
            "dataset": stand_in,
            "embedding": {"token": "token"},
        }
        return run_file.from_values(plain, path), False


def _renamed(problem: Problem) -> Problem:
    """A problem of the run file's pictures is one of the photographs here."""
    if problem.field != "dataset.images":
        return problem
    return Problem(problem.severity, problem.message, "photographs", problem.remedy)
