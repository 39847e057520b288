"""Looking at what a draft names - pictures, model, device - and judging it. Slow: the wizard calls it in a thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ti_tui.dataset.faces import installed as faces_installed
from ti_tui.dataset.manifest import MaskOrigin
from ti_tui.dataset.mask_planning import FIELD as MASKS_FIELD
from ti_tui.dataset.mask_planning import no_finder
from ti_tui.dataset.photograph_checks import SurveyedFile
from ti_tui.dataset.picture_choices import Masks
from ti_tui.dataset.scan import Picture, Scan, choose, name_in
from ti_tui.dataset.survey import Survey, SurveyCache, survey
from ti_tui.errors import UserError
from ti_tui.formatting import location, number, printable
from ti_tui.run import file as run_file
from ti_tui.run.file import RunFileError
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import find_hardware
from ti_tui.run.plan import Plan, make_plan
from ti_tui.run.problems import Problem, Problems, worst_first
from ti_tui.run.recipe import FORMAT, RunFile
from ti_tui.run.scheme import SchemeError, parse
from ti_tui.setup.check import check_recipe, disk_need
from ti_tui.setup.create import is_taken, picture_folder
from ti_tui.setup.crop_desk import CropDesk
from ti_tui.setup.draft import DEFAULT_RUNS, Draft
from ti_tui.setup.fields import recipe_fields
from ti_tui.setup.findings import Findings
from ti_tui.setup.photographs import OF_PICTURES, SurveySettings, in_short

LARGEST_RATE = 0.5
MOST_NAMED = 3

REQUIRED = {
    "photographs": "choose the folder with the photographs",
    "embedding.token": "choose the word that will call the subject",
    "model.base": "choose the model",
}


class Surveyor:
    """Looks at folders of photographs. memory: what it found, valid as long as the files stay as they are."""

    def __init__(self) -> None:
        self.memory: SurveyCache = {}

    def survey(self, folder: Path, settings: SurveySettings, each: Callable[[SurveyedFile], bool]) -> Survey:
        """Look at every picture in `folder`; `each` is told of every file and says whether to go on.

        Raises DatasetError.
        """
        return survey(
            folder,
            resolution=settings.resolution,
            buckets=settings.buckets,
            field="photographs",
            subfolders=settings.subfolders,
            person=settings.person,
            leave_out=settings.left_out,
            force=settings.forced,
            memory=self.memory,
            each=each,
        )


def judge(draft: Draft, found: Survey | None, *, runs_folder: str = DEFAULT_RUNS) -> Findings:
    """Everything that can be said about `draft` now. `found` is what its folder of photographs holds, if known.

    Goes on where a field is missing or wrong, with its default in its place, so that all problems show at once.
    """
    problems = _missing(draft) + [_mistyped(name, text) for name, text in draft.mistyped.items()]
    folder, folder_problems = _folder(draft, runs_folder)
    problems += folder_problems
    pictures, masks = _chosen(draft, found, problems)
    run, complete = _run(draft, folder, problems)
    if pictures is not None and pictures.pictures:
        problems += _of_masks(draft.choices.masks, masks, pictures.pictures, used=run.dataset.masks)
    hardware = find_hardware(run.training.device)
    checked = plan = None
    if folder is not None:
        checked = check_recipe(run, folder, pictures=pictures or Scan(folder.images, (), Problems()), decode=False)
        unset = {problem.field for problem in problems if problem.severity == "error"}
        problems += [problem for problem in map(_renamed, checked.problems) if problem.field not in unset]
        if checked.facts is not None and pictures is not None and pictures.pictures:
            plan = make_plan(run, checked.facts, checked.images, hardware)
            problems += _last_of_epoch(plan)
    problems += _rates(run)
    whole = run if complete and not any(problem.severity == "error" for problem in problems) else None
    disk = disk_need(run, pictures, checked.facts if checked else None)
    return Findings(
        whole, folder, pictures, masks, checked, plan, hardware, disk, judged=True, problems=tuple(problems)
    )


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
    for times in repeats or [draft.repeats or 1]:
        folder = f"├ img/{times}_{name}/"
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
    return spec_of(name).accepted


def _mistyped(name: str, text: str) -> Problem:
    if name == "scheme.segments":
        try:
            parse(text, "for")
        except SchemeError as error:
            return Problem("error", error.message, name, error.remedy)
        return Problem("error", f"{text.strip()!r} cannot be read until step N: the numbers must grow", name)
    return Problem("error", f"{text.strip()!r} is not {_accepts(name)}", name)


def _rates(run: RunFile) -> list[Problem]:
    """Rates that no embedding is trained with."""
    top = max(item.learning_rate for item in run.scheme.segments)
    if top <= LARGEST_RATE:
        return []
    text = f"a learning rate of {top:g} will spoil the vectors at once"
    return [Problem("warning", text, "scheme.segments", "0.05 is large already.")]


def _last_of_epoch(plan: Plan) -> list[Problem]:
    """Pictures that are not a multiple of those that are shown to the model at once."""
    rest = plan.images % plan.batch_size
    if not rest:
        return []
    text = f"{plan.images} images, {plan.batch_size} at once: the last time in an epoch has {rest}"
    return [Problem("info", text, "photographs")]


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


def _chosen(draft: Draft, found: Survey | None, problems: list[Problem]) -> tuple[Scan | None, tuple[MaskOrigin, ...]]:
    """The pictures that will be trained, and their masks; what concerns the whole folder is added to `problems`."""
    if found is None:
        return None, ()
    choices = draft.choices
    desk = CropDesk(draft, found.files)
    usable = choose(found.scan, choices)
    told = {name: desk.problems(name) for name in desk.names}
    pictures: list[Picture] = []
    masks: list[MaskOrigin] = []
    for picture in usable.pictures:
        name = name_in(found.folder, picture.path)
        if not told[name].errors:
            pieces = len(desk.crops(name))
            pictures += [picture] * pieces
            masks += [mask] * pieces if (mask := desk.mask(name)) else []
    # A picture that cannot be used stays behind by itself: that is said, and stops nothing.
    hard = not pictures
    problems += [_softer(problem, hard=hard) for problem in found.general]
    looks = [look for look in (*found.files, *found.strays) if look.name not in choices.left_out]
    problems += _of_pictures(looks, told, hard=hard)
    if found.scan.pictures and not usable.pictures:
        problems.append(Problem("error", f"all {len(found.scan.pictures)} pictures are left out", "photographs"))
    return replace(usable, pictures=tuple(pictures)), tuple(masks)


def _of_masks(masks: Masks, origins: Sequence[MaskOrigin], pictures: Sequence[Picture], *, used: bool) -> list[Problem]:
    """What there is to say about the masks of the pictures that will be trained, and whether they are used."""
    if masks == "faces" and not faces_installed():
        missing = no_finder()
        return [Problem("error", missing.message, "photographs", missing.remedy)]
    without = len(pictures) - len(origins)
    if masks == "faces" and not origins:
        text = "no face was found that a mask could be drawn around"
        return [Problem("error" if used else "info", text, "photographs", "m in the first step takes other masks.")]
    if used and not origins:
        remedy = "Turn Masks off, or have them drawn around faces: m in the first step."
        return [Problem("error", "no picture has a mask", MASKS_FIELD, remedy)]
    if used and without:
        text = f"{number(without, 'image')} of {len(pictures)} without a mask, learned as a whole"
        return [Problem("info", text, MASKS_FIELD)]
    if origins and not used:
        text = f"{number(len(origins), 'mask')} found and not used"
        return [Problem("info", text, MASKS_FIELD, "Turn Masks on to have only that learned which they show.")]
    return []


def _of_pictures(looks: Sequence[SurveyedFile], told: Mapping[str, Problems], *, hard: bool) -> list[Problem]:
    """What was found about single pictures, summed up: each has its own words beside it in the first step."""
    refused = [look for look in looks if look.picture is None or told[look.name].errors]
    odd = Counter(
        in_short(problem)
        for look in looks
        if look not in refused
        for problem in (*look.problems, *told[look.name])
        if problem.severity != "info"
    )
    found = []
    if refused:
        names = ", ".join(printable(look.path.name) for look in refused[:MOST_NAMED])
        more = f" and {len(refused) - MOST_NAMED} more" if refused[MOST_NAMED:] else ""
        reason = worst_first((*refused[0].problems, *told.get(refused[0].name, ())))[0].message if hard else ""
        found.append(Problem("error" if hard else "warning", f"cannot be used: {names}{more}", "photographs", reason))
    if odd:
        text = ", ".join(f"{count} {what}" if count > 1 else f"one {what}" for what, count in odd.most_common())
        found.append(Problem("warning", f"{text}: the first step shows which", "photographs"))
    return [replace(problem, kind=OF_PICTURES) for problem in found]


def _softer(problem: Problem, *, hard: bool) -> Problem:
    return problem if hard or problem.severity != "error" else replace(problem, severity="warning")


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
