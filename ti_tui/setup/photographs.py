"""What the survey of a draft's photographs depends on, and its problems in a few words. Cheap to import."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ti_tui.run.problems import Problem, worst_first
from ti_tui.setup.draft import Draft

OF_PICTURES = "pictures"
"""Kind of the problems that sum up those of single photographs."""

RESOLUTION = 512
"""The run file's default; reading it from there would slow down the first screen."""

PEOPLE = frozenset(
    {"person", "people", "human", "face", "man", "woman", "boy", "girl", "child", "kid", "baby", "teenager"}
    | {"lady", "gentleman", "guy", "male", "female", "actor", "actress", "singer", "model", "bride", "groom"}
    | {"mother", "father", "daughter", "son", "sister", "brother", "grandmother", "grandfather"}
)
"""Class words for a person: in such photographs a face is looked for."""

SHORT = {
    "too-small": "too small",
    "same-file": "a copy",
    "small": "enlarged",
    "long": "long and narrow",
    "same-picture": "like another",
    "alike": "like another",
    "blurred": "blurred",
    "soft": "soft",
    "even": "all one colour",
    "dark": "almost black",
    "bright": "almost white",
    "grey": "black and white",
    "frames": "several frames",
    "ending": "wrong ending",
    "profile": "broken profile",
    "name": "odd name",
    "caption": "odd caption",
    "shared-stem": "shared caption",
    "mask": "odd mask",
    "faces": "check the face",
    "padded": "padded",
    "not-kept": "cropped, not kept",
}
"""Problems of a photograph in two or three words, by kind; for other kinds the message itself is used."""


@dataclass(frozen=True)
class SurveySettings:
    """Everything that a survey of the photographs depends on; when it changes, the survey has to be repeated."""

    photographs: str
    resolution: int
    buckets: bool
    person: bool
    left_out: frozenset[str]
    forced: frozenset[str]
    subfolders: bool

    @classmethod
    def of(cls, draft: Draft) -> SurveySettings:
        init = draft.class_word or str(draft.fields.get("embedding.init", ""))
        return cls(
            draft.photographs,
            int(draft.fields.get("dataset.resolution", RESOLUTION)),
            bool(draft.fields.get("dataset.buckets", False)),
            is_person(init),
            frozenset(draft.choices.left_out),
            frozenset(draft.choices.forced),
            draft.choices.subfolders,
        )


def is_person(init: str) -> bool:
    """Whether the class word, or one of several words, means a person."""
    return not PEOPLE.isdisjoint(re.findall(r"[a-z]+", init.lower()))


def remark(problems: Iterable[Problem]) -> str:
    """The worst problem of a photograph in a few words, and how many more there are; "" if there are only notes."""
    serious = [problem for problem in worst_first(problems) if problem.severity != "info"]
    if not serious:
        return ""
    return in_short(serious[0]) + (f" +{len(serious) - 1}" if serious[1:] else "")


def in_short(problem: Problem) -> str:
    """A problem of a photograph in a few words."""
    return SHORT.get(problem.kind) or without_name(problem).message.removeprefix("is ")


def without_name(problem: Problem) -> Problem:
    """A problem of a photograph without its name, for lists that show the name already."""
    name = problem.subject.name if problem.subject is not None else ""
    for start in (name, repr(name)):
        if name and problem.message.startswith(start):
            return replace(problem, message=problem.message.removeprefix(start).lstrip(": "))
    return problem
