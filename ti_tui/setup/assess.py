"""Checks everything that a draft names: photographs, model, device. Slow: the wizard calls it in a thread."""

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
from ti_tui.dataset.scan import Scan, TrainingImage, choose, name_in
from ti_tui.dataset.survey import Survey, SurveyCache, survey
from ti_tui.errors import UserError
from ti_tui.formatting import listed, location, number, printable
from ti_tui.run import file as run_file
from ti_tui.run.file import RunFileError
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import find_hardware
from ti_tui.run.plan import Plan, make_plan
from ti_tui.run.problems import Problem, Problems, worst_first
from ti_tui.run.recipe import FORMAT, RunFile
from ti_tui.run.scheme import SchemeError, parse
from ti_tui.setup.check import check_recipe
from ti_tui.setup.check_machine import disk_need
from ti_tui.setup.create import is_taken, picture_folder
from ti_tui.setup.crop_desk import CropDesk
from ti_tui.setup.draft import DEFAULT_RUNS, Draft, in_tables
from ti_tui.setup.fields import field as spec_of
from ti_tui.setup.fields import recipe_fields
from ti_tui.setup.findings import Findings
from ti_tui.setup.photographs import OF_PICTURES, SurveySettings, in_short

REQUIRED = {
    "photographs": "choose the folder with the photographs",
    "embedding.token": "choose the word that will stand for the subject",
    "model.base": "choose the model",
}
STAND_INS = {"embedding.token": "token", "model.base": "not/chosen"}
"""Used for required fields of the run file until they are filled in."""


class Surveyor:
    """Surveys folders of photographs. memory: what it found, valid as long as the files do not change."""

    def __init__(self) -> None:
        self.memory: SurveyCache = {}

    def survey(self, folder: Path, settings: SurveySettings, each: Callable[[SurveyedFile], bool]) -> Survey:
        """Survey every photograph in `folder`; `each` is called with every file and returns whether to go on.

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
    """Everything that is known about `draft` now. `found` is the survey of its folder of photographs, if there is one.

    A missing or wrong field is replaced by its default, so that all problems show at once.
    """
    problems = _missing(draft) + [_mistyped(name, text) for name, text in draft.mistyped.items()]
    folder, folder_problems = _folder(draft, runs_folder)
    problems += folder_problems
    pictures, masks = _chosen(draft, found, problems)
    if pictures is not None:
        draft = replace(draft, captioned=pictures.captions > 0)
    run, complete = _run(draft, folder, problems)
    if pictures is not None and pictures.pictures:
        problems += _of_masks(draft.choices.masks, masks, len(pictures.pictures), used=run.dataset.masks)
    hardware = find_hardware(run.training.device)
    checked = plan = None
    if folder is not None:
        checked = check_recipe(run, folder, pictures=pictures or Scan(folder.images, (), Problems()), decode=False)
        unset = {problem.field for problem in problems if problem.severity == "error"}
        problems += [problem for problem in map(_renamed, checked.problems) if problem.field not in unset]
        if checked.facts is not None and pictures is not None and pictures.pictures:
            plan = make_plan(run, checked.facts, checked.images, hardware)
            problems += _uneven_batches(plan)
    whole = run if complete and not any(problem.severity == "error" for problem in problems) else None
    disk = disk_need(run, pictures, checked.facts if checked else None)
    return Findings(
        whole, folder, pictures, masks, checked, plan, hardware, disk, judged=True, problems=tuple(problems)
    )


def tree(draft: Draft, findings: Findings) -> list[str]:
    """The folders that will be made, as lines of a tree, in kohya's layout."""
    if findings.folder is None:
        return ["nothing yet: the run folder is not a valid path"]
    token = str(draft.value("embedding.token") or "token")
    repeats = sorted({image.repeats for image in findings.images})
    name = picture_folder(token, draft.class_word or str(draft.value("embedding.init") or ""))
    count, captions = len(findings.images), findings.pictures.captions if findings.pictures else 0
    described = f"{count} images" + (f", {captions} with captions" if captions else "") if count else "the images"
    lines = [f"{location(findings.folder.root)}/", "├ run.toml                 the complete recipe of the run"]
    for times in repeats or [draft.repeats or 1]:
        folder = f"├ img/{times}_{name}/"
        lines.append((folder if len(folder) <= 26 else f"{folder[:25]}…").ljust(26) + f" {described}")
        described = "images with other repeats"
    lines += [
        f"├ model/{token}.safetensors".ljust(26) + " the embedding, also of each save",
        "├ sample/                  samples",
        "├ state/                   checkpoints to resume from",
        "└ log/                     events and messages",
    ]
    return lines


def _missing(draft: Draft) -> list[Problem]:
    return [
        Problem("error", message, name)
        for name, message in REQUIRED.items()
        if not draft.text(name).strip() and name not in draft.mistyped
    ]


def _mistyped(name: str, text: str) -> Problem:
    if name == "scheme.segments":
        try:
            parse(text, "for")
        except SchemeError as error:
            return Problem("error", error.message, name, error.remedy)
        return Problem("error", f"{text.strip()!r} cannot be read as `until step N`: the steps must increase", name)
    word = "one word of letters, digits, - and _, of at most 40"
    accepted = word if name == "embedding.token" else spec_of(name).accepted
    return Problem("error", f"{text.strip()!r} is not {accepted}", name)


def _uneven_batches(plan: Plan) -> list[Problem]:
    """A note if the number of images is not a multiple of the batch size."""
    whole, rest = divmod(plan.images, plan.batch_size)
    if not rest:
        return []
    last = f"and {rest}" if whole == 1 else f"with {rest} in the last"
    text = f"{plan.images} images in batches of {plan.batch_size} {last}"
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
                "error", "it is inside the folder of photographs, which is only read", "run_folder", "Choose another."
            )
        ]
    return folder, []


def _chosen(draft: Draft, found: Survey | None, problems: list[Problem]) -> tuple[Scan | None, tuple[MaskOrigin, ...]]:
    """The images that will be trained, and their masks; problems of the whole folder are added to `problems`."""
    if found is None:
        return None, ()
    choices = draft.choices
    desk = CropDesk(draft, found.files)
    usable = choose(found.scan, choices)
    crop_problems = {name: desk.problems(name) for name in desk.names}
    pictures: list[TrainingImage] = []
    masks: list[MaskOrigin] = []
    for picture in usable.pictures:
        name = name_in(found.folder, picture.path)
        if not crop_problems[name].errors:
            pieces = len(desk.crops(name))
            pictures += [picture] * pieces
            masks += [mask] * pieces if (mask := desk.mask(name)) else []
    # A photograph that cannot be used is left out with a warning; that is no error while others remain.
    hard = not pictures
    for problem in found.general:
        softer = problem.severity == "error" and not hard
        problems.append(replace(problem, severity="warning") if softer else problem)
    files = [file for file in (*found.files, *found.strays) if file.name not in choices.left_out]
    problems += _of_pictures(files, crop_problems, hard=hard)
    if found.scan.pictures and not usable.pictures:
        problems.append(Problem("error", f"all {len(found.scan.pictures)} photographs are left out", "photographs"))
    return replace(usable, pictures=tuple(pictures)), tuple(masks)


def _of_masks(masks: Masks, origins: Sequence[MaskOrigin], images: int, *, used: bool) -> list[Problem]:
    """Problems with the masks of the images that will be trained, and a note if masks are not used."""
    if masks == "faces" and not faces_installed():
        missing = no_finder()
        return [Problem("error", missing.message, "photographs", missing.remedy)]
    without = images - len(origins)
    if masks == "faces" and not origins:
        text = "no face was found to draw a mask around"
        return [Problem("error" if used else "info", text, "photographs", "Press m in the first step for other masks.")]
    if used and not origins:
        remedy = "Turn Masks off, or press m in the first step to draw masks around faces."
        return [Problem("error", "no image has a mask", MASKS_FIELD, remedy)]
    if used and without:
        text = f"{without} of {number(images, 'image')} without a mask, learned as a whole"
        return [Problem("info", text, MASKS_FIELD)]
    if origins and not used:
        text = f"{number(len(origins), 'mask')} found but not used"
        return [Problem("info", text, MASKS_FIELD, "Turn Masks on to learn only what they show.")]
    return []


def _of_pictures(files: Sequence[SurveyedFile], crop_problems: Mapping[str, Problems], *, hard: bool) -> list[Problem]:
    """The problems of single photographs, summed up: the first step shows those of each beside it."""
    refused = [file for file in files if file.picture is None or crop_problems[file.name].errors]
    odd = Counter(
        in_short(problem)
        for file in files
        if file not in refused
        for problem in (*file.problems, *crop_problems[file.name])
        if problem.severity != "info"
    )
    found = []
    if refused:
        names = listed([printable(file.path.name) for file in refused])
        reason = worst_first((*refused[0].problems, *crop_problems.get(refused[0].name, ())))[0].message if hard else ""
        found.append(Problem("error" if hard else "warning", f"cannot be used: {names}", "photographs", reason))
    if odd:
        text = ", ".join(f"{count} {what}" if count > 1 else f"one {what}" for what, count in odd.most_common())
        found.append(Problem("warning", f"{text}: the first step shows which", "photographs"))
    return [replace(problem, kind=OF_PICTURES) for problem in found]


def _run(draft: Draft, folder: RunFolder | None, problems: list[Problem]) -> tuple[RunFile, bool]:
    """The run file of a draft, with defaults for what is missing or wrong; and whether it needed none of them."""
    path = folder.file if folder else Path("run.toml")
    values: dict[str, Any] = {"format": FORMAT, **draft.values()}
    values["dataset"] = {**values.get("dataset", {}), "images": "img"}
    missing = [name for name in STAND_INS if name not in draft.fields]
    for name in missing:
        table, _, key = name.partition(".")
        values.setdefault(table, {})[key] = STAND_INS[name]
    try:
        return run_file.from_values(values, path), not missing
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
        values = {"format": FORMAT, **in_tables({**STAND_INS, "dataset.images": "img"})}
        return run_file.from_values(values, path), False


def _renamed(problem: Problem) -> Problem:
    """In the wizard, a problem of the field dataset.images belongs to the photographs."""
    if problem.field != "dataset.images":
        return problem
    return Problem(problem.severity, problem.message, "photographs", problem.remedy)
