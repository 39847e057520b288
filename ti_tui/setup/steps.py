"""The wizard's six steps as plain objects: their fields, and the state of each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from ti_tui.formatting import number
from ti_tui.setup.draft import Draft
from ti_tui.setup.findings import Findings

StepId = Literal["dataset", "captions", "directories", "parameters", "scheme", "train"]
StepMark = Literal["done", "here", "needs", "ahead"]


@dataclass(frozen=True)
class WizardStep:
    """One step: its title and its fields, in order. `parameters` has all fields that no other step has."""

    id: StepId
    title: str
    fields: tuple[str, ...] = ()


STEPS: tuple[WizardStep, ...] = (
    WizardStep("dataset", "Dataset", ("photographs", "model.base")),
    WizardStep("captions", "Captions", ("dataset.template",)),
    WizardStep(
        "directories", "Directories", ("embedding.token", "class_word", "run_folder", "repeats", "save.install_to")
    ),
    WizardStep("parameters", "Parameters"),
    WizardStep("scheme", "LR scheme", ("scheme.segments", "scheme.warmup_steps", "scheme.shape")),
    WizardStep("train", "Train"),
)


@dataclass(frozen=True)
class StepState:
    """The state of a step. needs: its number of errors; summary: what was chosen, in a few words."""

    mark: StepMark
    needs: int
    summary: str


def step_of(name: str) -> StepId:
    """The step of the field `name`; problems without a field belong to the last step."""
    for step in STEPS:
        if name in step.fields:
            return step.id
    if name.startswith("scheme"):
        return "scheme"
    return "parameters" if "." in name else "train"


def state_of(step: WizardStep, draft: Draft, findings: Findings, *, here: StepId, seen: Collection[str]) -> StepState:
    """The state of `step`, with the wizard at `here` and the steps in `seen` already visited."""
    needs = sum(step_of(problem.field) == step.id for problem in findings.errors)
    mark: StepMark
    if step.id == here:
        mark = "here"
    elif needs and step.id in seen:
        mark = "needs"
    elif step.id == "train" or not findings.judged:
        # When the last step is done, the run is made and the wizard is left.
        mark = "ahead"
    else:
        mark = "done" if step.id in seen else "ahead"
    return StepState(mark, needs, f"needs {needs}" if needs and step.id in seen else _summary(step.id, draft, findings))


def _summary(step: StepId, draft: Draft, findings: Findings) -> str:
    # Uses only the draft's own values: loading the field table would slow down the first screen.
    count = len(findings.images)
    match step:
        case "dataset":
            return number(count, "image") if count else ""
        case "captions":
            return f"{findings.pictures.captions} of {count}" if findings.pictures and count else ""
        case "directories":
            return str(draft.fields.get("embedding.token", ""))
        case "parameters":
            if "model.base" not in draft.fields or not findings.judged:
                return ""
            return number(int(draft.value("embedding.vectors")), "vector")
        case "scheme":
            return number(sum(segment.steps for segment in draft.segments), "step")
        case _:
            return ""
