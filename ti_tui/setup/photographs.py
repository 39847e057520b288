"""What a look at a draft's photographs goes by, and what it found in a few words. Cheap to import."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ti_tui.run.problems import Problem, worst_first
from ti_tui.setup.draft import Draft

OF_PICTURES = "pictures"
"""Kind of the problems that sum up what was found about single pictures."""

RESOLUTION = 512
"""The run file's default; asking its table would load what the first screen must not wait for."""

PEOPLE = frozenset(
    {"person", "people", "human", "face", "man", "woman", "boy", "girl", "child", "kid", "baby", "teenager"}
    | {"lady", "gentleman", "guy", "male", "female", "actor", "actress", "singer", "model", "bride", "groom"}
    | {"mother", "father", "daughter", "son", "sister", "brother", "grandmother", "grandfather"}
)
"""Class words of a person, in whose pictures a face is looked for."""

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
    "ending": "another ending",
    "profile": "broken profile",
    "name": "odd name",
    "caption": "odd caption",
    "shared-stem": "shared caption",
    "mask": "odd mask",
    "faces": "look at its face",
    "padded": "padded",
    "not-kept": "cropped, not kept",
}
"""What was found about a picture in two or three words, by the kind of the problem; what is missing says itself."""


@dataclass(frozen=True)
class SurveySettings:
    """All that a look at the photographs depends on; where it is another, they have to be looked at again."""

    photographs: str
    resolution: int
    buckets: bool
    person: bool
    left_out: frozenset[str]
    forced: frozenset[str]
    subfolders: bool

    @classmethod
    def of(cls, draft: Draft) -> SurveySettings:
        """What `draft` says."""
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
    """Whether the class word, or one of several, means a person."""
    return not PEOPLE.isdisjoint(re.findall(r"[a-z]+", init.lower()))


def remark(problems: Iterable[Problem]) -> str:
    """The one thing to say about a picture, and how many more there are; "" if there are no more than notes."""
    said = [problem for problem in worst_first(problems) if problem.severity != "info"]
    if not said:
        return ""
    return in_short(said[0]) + (f" +{len(said) - 1}" if said[1:] else "")


def in_short(problem: Problem) -> str:
    """A problem of a picture in a few words."""
    return SHORT.get(problem.kind) or without_name(problem).message.removeprefix("is ")


def without_name(problem: Problem) -> Problem:
    """A problem of a picture as it is said where the picture's name stands beside it."""
    name = problem.subject.name if problem.subject is not None else ""
    for start in (name, repr(name)):
        if name and problem.message.startswith(start):
            return replace(problem, message=problem.message.removeprefix(start).lstrip(": "))
    return problem
