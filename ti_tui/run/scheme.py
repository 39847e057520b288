"""The learning-rate scheme: segments of (learning rate, steps), its notation and the rate at each step."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

from ti_tui.errors import UserError

SchemeReading = Literal["for", "until"]
SchemeShape = Literal["segments", "constant", "cosine", "linear"]

LONGEST_SHOWN = 30
MOST_STEPS = 1_000_000
"""The most steps of a segment."""
MOST_SEGMENTS, MOST_CHANGES = 1_000, 100
SMOOTH_PARTS = 4
"""In how many segments of fixed rates the rest of a smooth shape is proposed for a change."""


class SchemeError(UserError):
    """A scheme that cannot be read; the message names the part that is wrong."""


@dataclass(frozen=True)
class Segment:
    """A learning rate and for how many optimizer steps it holds."""

    learning_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise SchemeError(f"the learning rate {self.learning_rate:g} is not a number above 0")
        if self.steps < 1:
            raise SchemeError(f"a segment of {self.steps} steps: it needs at least 1")
        if self.steps > MOST_STEPS:
            raise SchemeError(f"a segment of {self.steps} steps: it can have {MOST_STEPS} at most")


@dataclass(frozen=True)
class Scheme:
    """Segments, a warm-up inside the first one, and a shape.

    The shape "segments" holds each rate for its steps. The other shapes go from the first rate over all steps to the
    last segment's rate (0 if there is only one segment).

    earlier: schemes that hold for the first steps instead, where a run was changed while it trained: each until its
             step, the oldest first. They make the rates behind a change the ones that were trained.
    """

    segments: tuple[Segment, ...]
    warmup_steps: int = 0
    shape: SchemeShape = "segments"
    earlier: tuple[EarlierScheme, ...] = ()

    def __post_init__(self) -> None:
        if not self.segments:
            raise SchemeError("the scheme is empty", remedy="Write at least one `rate:steps`.")
        for parts, most in ((self.segments, MOST_SEGMENTS), (self.earlier, MOST_CHANGES)):
            if len(parts) > most:
                raise SchemeError(f"a scheme of {len(parts)} parts: it can have {most} at most")
        if not 0 <= self.warmup_steps <= self.segments[0].steps:
            raise SchemeError(
                f"a warm-up of {self.warmup_steps} steps does not fit into the first segment "
                f"({self.segments[0].steps} steps)"
            )
        untils = [0, *(one.until for one in self.earlier)]
        if any(later <= before for before, later in pairwise(untils)) or untils[-1] > self.total_steps:
            raise SchemeError(
                f"earlier rates until the steps {', '.join(map(str, untils[1:]))}",
                remedy=f"These steps must grow, and be at most the scheme's {self.total_steps}.",
            )

    @cached_property
    def total_steps(self) -> int:
        return self.ends[-1]

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Step at which each segment ends (exclusive)."""
        ends, total = [], 0
        for segment in self.segments:
            total += segment.steps
            ends.append(total)
        return tuple(ends)

    def segment_at(self, step: int) -> int:
        """Index of the segment that optimizer step `step` (0-based) belongs to. Raises ValueError outside."""
        if 0 <= step < self.total_steps:
            return bisect_right(self.ends, step)
        raise ValueError(f"step {step} is outside 0..{self.total_steps - 1}")

    def rate_at(self, step: int) -> float:
        """Learning rate for optimizer step `step` (0-based), warm-up applied.

        Raises ValueError if `step` is outside [0, total_steps).
        """
        for one in self.earlier:
            if 0 <= step < one.until:
                return one.scheme.rate_at(step)
        rate = self._rate_without_warmup(step)
        if step < self.warmup_steps:
            rate *= (step + 1) / (self.warmup_steps + 1)
        return rate

    def next_change(self, step: int) -> tuple[int, float] | None:
        """(step, rate) of the next segment after `step`, or None in the last one and for smooth shapes."""
        for one in self.earlier:
            if 0 <= step < one.until:
                change = one.scheme.next_change(step)
                if change is None or change[0] >= one.until:
                    change = (one.until, self.rate_at(one.until)) if one.until < self.total_steps else None
                return change
        if self.shape != "segments":
            return None
        index = self.segment_at(step)
        if index + 1 >= len(self.segments):
            return None
        return self.ends[index], self.segments[index + 1].learning_rate

    def segments_after(self, step: int) -> tuple[Segment, ...]:
        """The remaining segments after `step` steps; the current one is shortened to the steps left in it."""
        return tuple(
            replace(segment, steps=min(segment.steps, end - step))
            for segment, end in zip(self.segments, self.ends, strict=True)
            if end > step
        )

    def proposal_after(self, step: int) -> tuple[Segment, ...]:
        """Segments for the steps after `step`, to be edited: those of the scheme, or a smooth shape in a few parts."""
        left = self.total_steps - step
        if self.shape == "segments" or left < 1:
            return self.segments_after(step)
        ends = [step + round(left * part / SMOOTH_PARTS) for part in range(SMOOTH_PARTS + 1)]
        return tuple(
            Segment(float(f"{max(self.rate_at((start + end) // 2), 1e-9):.2g}"), end - start)
            for start, end in pairwise(ends)
            if end > start
        )

    def continued(self, step: int, ahead: Sequence[Segment]) -> Scheme:
        """This scheme for its first `step` steps, to the same rates, then the segments `ahead`.

        Raises SchemeError if it has fewer steps.
        """
        if step > self.total_steps:
            raise SchemeError(
                f"the scheme ends at step {self.total_steps}, and the run is at step {step}",
                remedy="Lengthen [scheme] in run.toml first.",
            )
        past = [
            replace(segment, steps=min(segment.steps, step - end + segment.steps))
            for segment, end in zip(self.segments, self.ends, strict=True)
            if end - segment.steps < step
        ]
        if past and past[-1].learning_rate == ahead[0].learning_rate:
            ahead = (replace(ahead[0], steps=past.pop().steps + ahead[0].steps), *ahead[1:])
        segments = (*past, *ahead)
        return Scheme(segments, min(self.warmup_steps, segments[0].steps) if step else 0).after(self, step)

    def after(self, past: Scheme, step: int) -> Scheme:
        """This scheme from `step` on, with the rates of `past` before it. It must have at least `step` steps."""
        kept = tuple(one for one in past.earlier if one.until < step)
        later = tuple(one for one in self.earlier if one.until > step)
        last = next((one.scheme for one in past.earlier if one.until >= step), replace(past, earlier=()))
        for earlier in (self.earlier, (*kept, *later)):
            scheme = replace(self, earlier=earlier)
            if all(scheme.rate_at(at) == past.rate_at(at) for at in range(step)):
                return scheme
        return replace(self, earlier=(*kept, EarlierScheme(step, last), *later))

    def steered(self, typed_at: int, ahead: Sequence[Segment], step: int) -> Scheme:
        """`continued` at `step`, with segments that someone typed when the run was at step `typed_at`.

        They count from there, so steps since then use them up. Raises SchemeError if none are left.
        """
        start = max(step, typed_at)
        left = Scheme(tuple(ahead)).segments_after(start - typed_at)
        if not left:
            end = typed_at + sum(segment.steps for segment in ahead)
            raise SchemeError(
                f"these rates end at step {end}, and the run is at step {step}",
                remedy="Add steps, or stop the run to end it here.",
            )
        return self.continued(start, left)

    def points(self, most: int = 400) -> tuple[list[float], list[float]]:
        """Steps (from 1) and rates for a plot: both ends of each segment, and about `most` points between."""
        total = self.total_steps
        steps = {1, total, *self.ends, *(end + 1 for end in self.ends if end < total)}
        steps |= {min(total, max(1, round(total ** (i / most)))) for i in range(most + 1)}
        steps |= set(range(1, min(self.warmup_steps, most) + 2))
        steps |= {step for one in self.earlier for step in (one.until, one.until + 1)}
        ordered = sorted(step for step in steps if 1 <= step <= total)
        return [float(step) for step in ordered], [max(self.rate_at(step - 1), 1e-9) for step in ordered]

    def _rate_without_warmup(self, step: int) -> float:
        here = self.segments[self.segment_at(step)].learning_rate
        first = self.segments[0].learning_rate
        match self.shape:
            case "segments":
                return here
            case "constant":
                return first
            case "linear" | "cosine":
                last = self.segments[-1].learning_rate if len(self.segments) > 1 else 0.0
                done = step / self.total_steps
                left = 1 - done if self.shape == "linear" else (1 + math.cos(math.pi * done)) / 2
                return last + (first - last) * left


@dataclass(frozen=True)
class EarlierScheme:
    """A scheme that a run had before it was changed. until: number of the run's first steps that it holds for."""

    until: int
    scheme: Scheme

    def __post_init__(self) -> None:
        if self.scheme.total_steps < self.until:
            raise SchemeError(f"an earlier scheme of {self.scheme.total_steps} steps cannot hold until {self.until}")


def parse(text: str, reading: SchemeReading, *, total_steps: int | None = None) -> Scheme:
    """Read a scheme in A1111's notation, `rate:number, rate:number, ...`.

    reading:     "for": the number is how many steps the rate holds for (as the guide restarts A1111);
                 "until": the step that the rate holds until, counted from 0 (A1111).
    total_steps: length of the run. Needed if the last rate has no number or -1; in the "until" reading, segments
                 beyond it are cut off, as in A1111.

    Spaces, empty parts and scientific notation are allowed. Raises SchemeError.
    """
    parts = [part.strip() for part in text.replace("\n", ",").replace(";", ",").split(",")]
    parts = [part for part in parts if part]
    if not parts:
        raise SchemeError("the scheme is empty", remedy="Write it like `0.05:10, 0.02:20, 0.001:500`.")
    segments: list[Segment] = []
    done = 0
    for position, part in enumerate(parts, start=1):
        shown = part if len(part) <= LONGEST_SHOWN else f"{part[:LONGEST_SHOWN]}..."
        name = f"part {position} of the scheme, `{shown}`"
        if part.isdigit() and position < len(parts) and re.match(r"\d+:", parts[position]):
            meant = f"{part}.{parts[position]}"
            raise SchemeError(
                f"{name}, has no number of steps", remedy=f"Did you mean `{meant}`, with a decimal point?"
            )
        rate, number = _split(part, name)
        if number is None:
            if position != len(parts):
                raise SchemeError(f"{name}, has no number of steps", remedy="Only the last part may leave it out.")
            if total_steps is None:
                raise SchemeError(
                    f"{name}, does not say for how many steps",
                    remedy=f"Write `{rate:g}:500`, or give the total number of steps.",
                )
            steps = total_steps - done
            if steps < 1:
                raise SchemeError(f"{name}, starts at step {done}: nothing is left of {total_steps} steps")
        elif reading == "for":
            steps = number
        else:
            steps = number - done
            if steps < 1:
                raise SchemeError(
                    f"{name}, ends at step {number}, but the part before it ends at {done}",
                    remedy="Read until-step, the numbers must grow. Did you mean for-N-steps?",
                )
            if total_steps is not None and number > total_steps:
                steps = total_steps - done
        segments.append(Segment(rate, steps))
        done += steps
        if reading == "until" and total_steps is not None and done >= total_steps:
            break
    return Scheme(tuple(segments))


def format_scheme(segments: Sequence[Segment], reading: SchemeReading = "for") -> str:
    """The text of `segments`; `parse` with the same reading gives them back exactly."""
    parts, done = [], 0
    for segment in segments:
        done += segment.steps
        parts.append(f"{segment.learning_rate!r}:{segment.steps if reading == 'for' else done}")
    return ", ".join(parts)


def segment_values(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """`segments` as plain values: the `scheme.segments` of a run file or a draft."""
    return [{"learning_rate": segment.learning_rate, "steps": segment.steps} for segment in segments]


def segments_from_values(values: Iterable[Mapping[str, Any]]) -> tuple[Segment, ...]:
    """The segments that `segment_values` wrote. Raises SchemeError for a rate or a number of steps out of bounds."""
    return tuple(Segment(float(value["learning_rate"]), int(value["steps"])) for value in values)


@dataclass(frozen=True)
class SchemeReadings:
    """Both readings of a text; an impossible reading is None, and its error says why."""

    for_steps: Scheme | None
    until_step: Scheme | None
    for_error: str = ""
    until_error: str = ""

    @property
    def ambiguous(self) -> bool:
        return self.for_steps is not None and self.until_step is not None and self.for_steps != self.until_step

    def describe(self) -> str:
        """Both totals in one line, for the question which of them is meant."""
        until = f"{self.until_step.total_steps} in all" if self.until_step else f"not possible ({self.until_error})"
        for_ = f"{self.for_steps.total_steps} in all" if self.for_steps else f"not possible ({self.for_error})"
        return f"for N steps: {for_}; until step N: {until}"


def readings(text: str, *, total_steps: int | None = None) -> SchemeReadings:
    """Read `text` both ways. Raises SchemeError only if both are impossible."""
    found: dict[SchemeReading, Scheme | None] = {}
    errors: dict[SchemeReading, SchemeError | None] = {}
    both: tuple[SchemeReading, SchemeReading] = ("for", "until")
    for reading in both:
        try:
            found[reading], errors[reading] = parse(text, reading, total_steps=total_steps), None
        except SchemeError as error:
            found[reading], errors[reading] = None, error
    if found["for"] is None and found["until"] is None and errors["for"] is not None:
        raise errors["for"]
    return SchemeReadings(
        found["for"], found["until"], *(e.message if e else "" for e in (errors["for"], errors["until"]))
    )


def step_rules(scheme: Scheme) -> str:
    """The `step_rules` value of kohya's `--lr_scheduler piecewise_constant` for this scheme.

    Multiples of the first rate, each with the step that it holds until; the last has none. Use it with
    `learning_rate` = the first rate and `max_train_steps` = `total_steps`. Source: sd-scripts
    `library/train_util.py`, diffusers `get_piecewise_constant_schedule`.
    Raises SchemeError for a shape or warm-up that these rules cannot express.
    """
    if scheme.shape != "segments" or scheme.warmup_steps or scheme.earlier:
        raise SchemeError("kohya's step_rules can only express segments without warm-up or earlier schemes")
    first = scheme.segments[0].learning_rate
    rules = [
        f"{segment.learning_rate / first:.12g}:{end}"
        for segment, end in zip(scheme.segments[:-1], scheme.ends[:-1], strict=True)
    ]
    return ",".join([*rules, f"{scheme.segments[-1].learning_rate / first:.12g}"])


def _split(part: str, name: str) -> tuple[float, int | None]:
    rate_text, colon, number_text = (piece.strip() for piece in part.partition(":"))
    try:
        rate = float(rate_text)
    except ValueError:
        raise SchemeError(f"{name}: `{rate_text}` is not a number", remedy="Write it like `0.005:200`.") from None
    if not (math.isfinite(rate) and rate > 0):
        raise SchemeError(f"{name}: the learning rate must be a number above 0")
    if not colon or number_text == "-1":
        return rate, None
    try:
        number = int(number_text) if "e" not in number_text.lower() else int(float(number_text))
    except (ValueError, OverflowError):
        pieces = part.split()
        several = len(pieces) > 1 and all(":" in piece for piece in pieces)
        remedy = f"Put commas between the parts: `{', '.join(pieces)}`." if several else "Write it like `0.005:200`."
        raise SchemeError(f"{name}: `{number_text}` is not a whole number of steps", remedy=remedy) from None
    if number < 1:
        raise SchemeError(f"{name}: the number of steps must be at least 1")
    return rate, number


PRESETS: dict[str, Scheme] = {
    name: parse(text, "for")
    for name, text in {
        "faces": "0.05:10, 0.02:20, 0.01:60, 0.005:200, 0.002:500, 0.001:3000",
        "styles": "0.005:200, 0.0005:500, 0.00005:800, 0.000005:1000",
        "first look": "0.05:10, 0.02:20, 0.01:60, 0.005:200, 0.0005:500",
    }.items()
}
DEFAULT_SCHEME = PRESETS["faces"]
