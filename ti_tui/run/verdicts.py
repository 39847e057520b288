"""The verdict on a run: whether the subject is learned, whether the vectors get worse, whether anything is learned.

Pure functions of the evaluations, so that the trainer, the screens and the reports agree, and a resumed run gets the
same verdicts as an uninterrupted one.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ti_tui.formatting import percent
from ti_tui.run.evaluations import Evaluation


class VerdictName(StrEnum):
    """The possible verdicts; the values are written to the event log."""

    LEARNING = "learning"
    LEARNED = "learned"
    OVERTRAINING = "overtraining"
    NOT_LEARNING = "not learning"
    DIVERGING = "diverging"


class Cause(StrEnum):
    """The cause of a verdict, where one can be named; the values are written to the event log."""

    RATE_TOO_HIGH = "rate too high"
    RATE_TOO_LOW = "rate too low"
    NOTHING_IN_COMMON = "nothing in common"
    PROMPT_DROWNED = "prompt drowned"
    TOO_LONG = "vectors too long"
    LEARNED_BY_HEART = "learned by heart"


WINDOW = 8
"""Number of evaluations that a trend is computed from."""
STILL_VARIANCE = 0.15
"""DVAR (Voronov et al. 2023, arXiv 2302.04841): a run has learned when the variance of the eval loss within the window
is less than this share of its variance over the whole run. Their window is 310 evaluations, one per step; ours are
further apart."""
STILL_GAIN = 0.02
"""And when, by the trend over the window, doubling the number of steps would add less gain than this."""
LEAST_GAIN = 0.03
"""The smallest gain that counts as having learned something."""
NOISES = 3.0
"""A change counts when it is this many times the noise: what evaluations differ by from one to the next."""
HELD_FALL, LEAST_FALL = 0.05, 0.015
"""Overtraining: the gain on held-out images must have fallen by this share of its best value, and by this gain."""
WORSE_GAIN = -0.02
"""Gain below which the vectors are worse than the initial vectors."""
RUNAWAY = 100.0
"""No useful vector has a norm above this, as a multiple of the median word's. Steps of 0.05 take CLIP-L's vectors (norm
0.38, 0.014 per component) to 80 in 50 steps at most, if every step has the same direction. The loss need not show it:
the text encoder's layer norms hide it (demo model, rates x100: a norm of 300, and still a gain of 29 %)."""
PATIENT_STEPS, PATIENT_EVALUATIONS = 50, 4
"""A run is not called "not learning" before this many steps and evaluations."""
SMALL_GAIN, SMALL_MOVE = 0.02, 0.2
LONG_PATIENCE = 3
"""Vectors that do move are given this many times as long."""
LONGEST = 50.0
"""Norm, as a multiple of the median word's, at which prompts are known to be ignored (Kim et al. 2025, arXiv
2512.13672: from 0.4 to 20)."""

LEAST_FOLLOWING = 0.67
"""Below this prompt-following the demo model lost every second background (docs/loss.md)."""
ENOUGH_FOLLOWING = 0.75
"""Above this prompt-following, prompts are followed fully; below it, about that share of the samples follow them."""
FOLLOWED_TIMES = 2
"""Prompt-following must be low this many times in a row: the first steps are rough."""


@dataclass(frozen=True)
class Verdict:
    """The verdict after `step` steps, and the reason for it."""

    step: int
    name: VerdictName
    reason: str
    cause: Cause | None = None

    @property
    def ends(self) -> bool:
        """Whether training on is not worth it as things stand."""
        return self.name != VerdictName.LEARNING

    @property
    def has_result(self) -> bool:
        """Whether a run that ends with this verdict has a useful embedding."""
        return self.name not in (VerdictName.DIVERGING, VerdictName.NOT_LEARNING)

    def values(self) -> dict[str, Any]:
        """For the event log."""
        found = {"step": self.step, "verdict": str(self.name), "reason": self.reason}
        return found if self.cause is None else {**found, "cause": str(self.cause)}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Verdict | None:
        """The inverse of `values()`, for a log that anyone may have written; None if these values are not a verdict."""
        step, reason = values.get("step"), values.get("reason")
        try:
            name = VerdictName(str(values.get("verdict")))
        except ValueError:
            return None
        if type(step) is not int:
            return None
        cause = next((one for one in Cause if one == values.get("cause")), None)
        return cls(step, name, reason if isinstance(reason, str) else "", cause)


_Found = tuple[str, Cause | None] | None
"""The reason and the cause that a rule gives; None if the rule does not apply."""


def judge(history: Sequence[Evaluation], initial: str, before: Verdict | None = None) -> Verdict | None:
    """The verdict after the last evaluation of `history` (ascending); None while it is too early for one.

    initial: the initial vectors in words, such as `"woman"`.
    before:  the verdict so far: a run that has learned keeps this verdict until another rule applies.
    """
    if len(history) < 2 or history[-1].gain is None:
        return None
    rules: tuple[tuple[VerdictName, Callable[[], _Found]], ...] = (
        (VerdictName.DIVERGING, lambda: _diverging(history, initial)),
        (VerdictName.NOT_LEARNING, lambda: _not_learning(history, initial)),
        (VerdictName.OVERTRAINING, lambda: _overtraining(history, initial, before)),
        (VerdictName.LEARNED, lambda: _learned(history, initial, before)),
    )
    for name, rule in rules:
        if found := rule():
            reason, cause = found
            same = before is not None and (before.name, before.reason) == (name, reason)
            return before if same else Verdict(history[-1].step, name, reason, cause)
    return Verdict(history[-1].step, VerdictName.LEARNING, f"{percent(history[-1].gain)} less error than {initial}")


@dataclass(frozen=True)
class Rank:
    """What a checkpoint is ranked by: its gain times prompt-following.

    gain:        of trained and held-out images (`Evaluation.score`), averaged with the evaluations beside it, so that
                 one lucky evaluation does not make a best checkpoint.
    evaluations: how many of them it is averaged over.
    follows:     prompt-following as last measured; None before.
    """

    step: int
    gain: float
    evaluations: int = 1
    follows: float | None = None

    @property
    def factor(self) -> float:
        """How prompt-following counts: fully from ENOUGH_FOLLOWING on."""
        return 1.0 if self.follows is None else min(1.0, self.follows / ENOUGH_FOLLOWING)

    @property
    def value(self) -> float:
        return self.gain * self.factor if self.gain > 0 else self.gain


def best_of(history: Sequence[Evaluation], steps: Sequence[int]) -> int | None:
    """The step, of the checkpoints at `steps`, whose evaluation ranks highest; None if none of them was evaluated."""
    wanted = set(steps)
    ranked = [(rank.value, rank.step) for rank in ranks(history) if rank.step in wanted]
    return max(ranked)[1] if ranked else None


def ranks(history: Sequence[Evaluation]) -> Iterator[Rank]:
    """The rank of each evaluation that has a gain, in order."""
    known = [one for one in history if one.score is not None]
    followed: float | None = None
    for place, one in enumerate(known):
        followed = followed if one.follows is None else one.follows
        near = [other.score or 0.0 for other in known[max(0, place - 1) : place + 2]]
        yield Rank(one.step, statistics.fmean([*near, one.score or 0.0]), len(near), followed)


def _diverging(history: Sequence[Evaluation], initial: str) -> _Found:
    last, before = history[-1], history[-2]
    if (last.longest or 0.0) > RUNAWAY:
        reason = f"the longest vector has {last.longest:.0f} times the norm of the median word: the rate is too high"
        return reason, Cause.RATE_TOO_HIGH
    limit = min(WORSE_GAIN, -2 * (last.gain_error or 0.0))
    if max(last.gain or 0.0, before.gain or 0.0) >= limit:
        return None
    reason = f"{percent(-(last.gain or 0.0))} more error than {initial}, twice in a row: the rate is too high"
    return reason, Cause.RATE_TOO_HIGH


def _not_learning(history: Sequence[Evaluation], initial: str) -> _Found:
    last, after = history[-1], len(history) - 1
    highest = max(one.gain or 0.0 for one in history)
    if last.step < PATIENT_STEPS or after < PATIENT_EVALUATIONS or highest >= SMALL_GAIN:
        return None
    moved = last.moved or 0.0
    if moved < SMALL_MOVE:
        far = percent(moved, digits=None)
        reason = f"after {last.step} steps the vectors have moved by {far} of their norm: the rate is too low"
        return reason, Cause.RATE_TOO_LOW
    if after < LONG_PATIENCE * PATIENT_EVALUATIONS:
        return None
    reason = (
        f"the vectors have moved, but the gain over {initial} is still below {percent(SMALL_GAIN)}: "
        "the images may have nothing in common, or the rate is too high to settle"
    )
    return reason, Cause.NOTHING_IN_COMMON


def _overtraining(history: Sequence[Evaluation], initial: str, before: Verdict | None) -> _Found:
    last = history[-1]
    # Taken back only when half of what was lost has been regained: a verdict must not flicker.
    again = before is not None and before.name == VerdictName.OVERTRAINING
    followed = [one.follows for one in history if one.follows is not None]
    least = (1 + LEAST_FOLLOWING) / 2 if again else LEAST_FOLLOWING
    if len(followed) > FOLLOWED_TIMES and max(followed[-FOLLOWED_TIMES:]) < least:
        reason = (
            f"prompt-following is down to {percent(followed[-1])} of what it is with {initial}: "
            "the vectors drown the other words of a prompt"
        )
        return reason, Cause.PROMPT_DROWNED
    if (last.longest or 0.0) > LONGEST and (last.gain or 0.0) >= LEAST_GAIN:
        reason = (
            f"the longest vector has {last.longest:.0f} times the norm of the median word: "
            "it may drown the other words of a prompt"
        )
        return reason, Cause.TOO_LONG
    held = [(one.step, one.held_gain) for one in history if one.held_gain is not None]
    own = [one.gain or 0.0 for one in history]
    if len(held) != len(history) or len(held) < 2 * WINDOW:
        return None
    held_means, own_means = _means([gain for _, gain in held]), _means(own)
    best = max(range(len(held_means)), key=held_means.__getitem__)
    if held_means[best] < LEAST_GAIN:
        return None
    fall = held_means[best] - held_means[-1]
    noise = _noise([gain for _, gain in held]) / WINDOW**0.5
    enough = 0.5 if again else 1.0
    if (
        fall < enough * max(HELD_FALL * held_means[best], LEAST_FALL, NOISES * noise)
        or own_means[-1] < enough * own_means[best]
    ):
        return None
    since = held[best + WINDOW - 1][0]
    reason = (
        f"since step {since} the gain on held-out images fell from {percent(held_means[best], digits=1)} to "
        f"{percent(held_means[-1], digits=1)}, "
        f"while that on the trained images went from {percent(own_means[best], digits=1)} to "
        f"{percent(own_means[-1], digits=1)}"
    )
    return reason, Cause.LEARNED_BY_HEART


def _learned(history: Sequence[Evaluation], initial: str, before: Verdict | None) -> _Found:
    gain = history[-1].gain or 0.0
    followed = [one.follows for one in history if one.follows is not None]
    if followed and followed[-1] < LEAST_FOLLOWING:
        # The vectors show the subject, but may be useless in a prompt.
        return None
    if (
        before is not None
        and before.name == VerdictName.LEARNED
        and _risen_since(history, before.step) < 2 * STILL_GAIN
    ):
        # Taken back only for gain since then, not for a trend: a verdict must not flicker.
        return before.reason, None
    # Later in the run a trend is slower, so it is computed from more evaluations.
    window = max(WINDOW, len(history) // 4)
    if len(history) <= window or gain < LEAST_GAIN:
        return None
    losses = [one.loss for one in history]
    share = statistics.pvariance(losses[-window:]) / max(statistics.pvariance(losses), 1e-18)
    steps = history[-1].step - history[-window].step
    more = _trend([one.score or 0.0 for one in history[-window:]]) / steps * history[-1].step
    if share >= STILL_VARIANCE or more >= STILL_GAIN:
        return None
    reason = (
        f"{percent(gain)} less error than {initial}; at the pace of the last {steps} steps, "
        f"{history[-1].step} more steps would add {max(0.0, more) * 100:.1f} points"
    )
    return reason, None


def _risen_since(history: Sequence[Evaluation], step: int) -> float:
    """How much the score has risen since `step`: the difference of the means over a window then and now."""
    then = [one.score or 0.0 for one in history if one.step <= step][-WINDOW:]
    now = [one.score or 0.0 for one in history][-WINDOW:]
    return statistics.fmean(now) - statistics.fmean(then) if then else 0.0


def _means(values: Sequence[float]) -> list[float]:
    """Mean of each full window of neighbours."""
    return [statistics.fmean(values[end - WINDOW : end]) for end in range(WINDOW, len(values) + 1)]


def _noise(values: Sequence[float]) -> float:
    """Standard deviation of the noise in a value, estimated from the median difference between neighbours."""
    steps = [abs(later - earlier) for earlier, later in itertools.pairwise(values)]
    return statistics.median(steps) / 0.954 if steps else 0.0


def _trend(values: Sequence[float]) -> float:
    """How much the straight line through `values` rises from the first to the last."""
    middle = (len(values) - 1) / 2
    weights = [place - middle for place in range(len(values))]
    slope = sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(w * w for w in weights)
    return slope * (len(values) - 1)
