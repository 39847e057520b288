"""The search for a learning rate: which rates to try, how to judge the trials, which scheme to propose.

`training.probe` runs the trials. A trial is a short training at one rate. All trials of a probe start with the same
vectors and see the same images, noise and timesteps, so that only the rate differs. Smith's range test (2017, arXiv
1506.01186), one ramp through all rates, was tried and rejected: when its rate gets high, everything has been learned
already, so it misses the harm that a high rate does to fresh vectors (docs/training.md has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ti_tui.formatting import percent
from ti_tui.run.scheme import Scheme, Segment
from ti_tui.run.verdicts import LEAST_FOLLOWING

STEPS, FEWEST_STEPS, MOST_STEPS = 120, 48, 5000
"""Default steps of a probe, and the fewest and most that are allowed."""
TRIALS = 6
"""The steps are divided by this: usually four or five rates, and one of them again with a warm-up."""
MOST_RATES = 9
USUAL_STEP = 0.3
"""The first rate to try, as a multiple of the spread of the vocabulary's components: 0.02 on the demo model, 0.005 on
CLIP-L, which is the rate of A1111 and the paper (arXiv 2208.01618)."""
CLOSE = 0.9
"""A rate with this share of the best gain is about as good: trials of neighbouring rates differ by that much."""
LEAST_GAIN, LEAST_GAIN_LATER = 0.01, 0.03
"""Smaller gains cannot tell rates apart: from the initial vectors, and from vectors that have learned already. The gain
of the latter goes up and down by a percent or two from step to step, at any rate."""
LONGEST = 4.0
"""The largest norm in a trial, as a multiple of the median word's. A whole scheme takes vectors up to five times as
far, and from 20 on prompts are known to suffer (Kim et al. 2025, arXiv 2512.13672)."""
HOLD = 4
"""The first rate is held this many times as long as its trial took to gain: hard things are learned after easy ones."""
HOLD_SHARE = 4
"""But for at most one in this many of all steps."""
LOWEST_SHARE = 50
"""The last rate is at least the first one divided by this, as in the guide's scheme."""
WARMUP_SHARE = 4
"""A warm-up is tried over one in this many of a trial's steps."""
WARMUP_MATTERS = 0.15
"""A warm-up matters if it changes the gain by this share."""

Flaw = Literal["", "not a number", "too long", "drowns prompt"]
Effect = Literal["helps", "costs", "none"]


@dataclass(frozen=True)
class TrialReading:
    """Measurements of the vectors after `steps` steps of a trial.

    gain:    relative drop of the error from the vectors that all trials start with (0.3 is 30 %).
    length:  median norm of the vectors, longest: the largest, both relative to the median word's norm.
    follows: prompt-following relative to the initial vectors of the run (see run.evaluations).
    """

    steps: int
    gain: float
    length: float
    longest: float
    follows: float


@dataclass(frozen=True)
class Trial:
    """A trial of a rate: at least one reading, ascending by steps. warmup: steps of a ramp to the rate.

    finite: False if the trial ended early because a number was not finite; the readings are those before.
    """

    rate: float
    readings: tuple[TrialReading, ...]
    warmup: int = 0
    finite: bool = True

    @property
    def last(self) -> TrialReading:
        return self.readings[-1]

    @property
    def gain(self) -> float:
        return self.last.gain

    @property
    def follows(self) -> float:
        """The lowest prompt-following of all readings: what is lost in the first steps may not come back."""
        return min(reading.follows for reading in self.readings)

    def values(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Trial:
        """The inverse of `values`."""
        readings = tuple(TrialReading(**reading) for reading in values["readings"])
        return cls(**{**values, "readings": readings})


@dataclass(frozen=True)
class Warmup:
    """The effect of a warm-up: `plain` and `ramped` differ only by it."""

    plain: Trial
    ramped: Trial
    effect: Effect

    def describe(self) -> str:
        """One sentence with the numbers."""
        plain, ramped = self.plain.last, self.ramped.last
        says = {
            "helps": "Warm-up helps here, and the proposal has one",
            "costs": "Warm-up does harm here",
            "none": "Warm-up makes no difference here",
        }[self.effect]
        return (
            f"{says}: after {plain.steps} steps the gain is {percent(plain.gain, digits=None)} without it and "
            f"{percent(ramped.gain, digits=None)} with a ramp over {self.ramped.warmup} steps "
            f"(norm {plain.length:.1f} and {ramped.length:.1f}, "
            f"prompt-following {self.plain.follows:.2f} and {self.ramped.follows:.2f})."
        )


def steps_each(steps: int) -> int:
    """Steps of each trial of a probe of about `steps` steps."""
    return max(steps // TRIALS, 1)


def readings_at(steps: int) -> tuple[int, ...]:
    """Steps of a trial after which it is measured: early, half-way and at the end."""
    return tuple(sorted({max(steps // 4, 1), max(steps // 2, 1), steps}))


def warmup_steps(steps: int) -> int:
    """Steps of the ramp that is tried within a trial of `steps` steps."""
    return max(steps // WARMUP_SHARE, 1)


def rung(place: int) -> float:
    """A ladder of round rates: ..., 0.01, 0.02, 0.05, 0.1, ...; place 0 is 1."""
    return float(f"{(1, 2, 5)[place % 3]}e{place // 3}")


def rung_near(rate: float) -> int:
    """The place of the rung that is nearest by ratio. Raises ValueError for a rate that is not above 0."""
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"{rate} is not a rate")
    guess = 3 * math.floor(math.log10(rate))
    return min(range(guess - 1, guess + 5), key=lambda place: abs(math.log(rung(place) / rate)))


def flaw_of(trial: Trial, before: TrialReading) -> Flaw:
    """What makes a rate unusable, whatever its gain. `before`: measurements of the initial vectors of all trials."""
    if not trial.finite:
        return "not a number"
    # The vectors of a resumed run may be beyond either limit already.
    if trial.last.longest > max(LONGEST, 2 * before.longest):
        return "too long"
    if trial.follows < min(LEAST_FOLLOWING, CLOSE * before.follows):
        return "drowns prompt"
    return ""


def next_rate(trials: Sequence[Trial], before: TrialReading, spread: float) -> float | None:
    """The rate to try after `trials`; None when enough is known.

    From the first rate upwards until a rate is flawed or gains less, then downwards until a rate gains less.
    spread: of the components of the vocabulary's vectors, or of the initial vectors if that is larger.
    """
    if not trials:
        return rung(rung_near(USUAL_STEP * spread))
    if len(trials) >= MOST_RATES:
        return None
    ordered = sorted(trials, key=lambda trial: trial.rate)
    lowest, highest = ordered[0], ordered[-1]
    best = _best_gain(trials, before)
    if not flaw_of(highest, before) and _is_near(highest, best):
        return rung(rung_near(highest.rate) + 1)
    if flaw_of(lowest, before) or _is_near(lowest, best):
        return rung(rung_near(lowest.rate) - 1)
    return None


def choose(trials: Sequence[Trial], before: TrialReading, *, goes_on: bool = False) -> Trial | None:
    """The trial whose rate the scheme starts with; None if no trial has a significant gain.

    goes_on: whether the trials started with vectors that were trained already.

    Of the trials that are about equally good, the middle one: lower rates are slow where learning is hard, higher rates
    are close to where vectors grow too long or drown the prompt.
    """
    best = _best_gain(trials, before)
    if best < (LEAST_GAIN_LATER if goes_on else LEAST_GAIN):
        return None
    good = [trial for trial in trials if not flaw_of(trial, before) and trial.gain >= CLOSE * best]
    return sorted(good, key=lambda trial: trial.rate)[len(good) // 2]


def judge_warmup(plain: Trial, ramped: Trial, before: TrialReading) -> Warmup:
    """Whether a warm-up changes the result of a rate."""
    enough = max(WARMUP_MATTERS * max(plain.gain, ramped.gain), LEAST_GAIN)
    more = ramped.gain - plain.gain
    effect: Effect = "none"
    if flaw_of(ramped, before) or more < -enough:
        effect = "costs"
    elif more > enough:
        effect = "helps"
    return Warmup(plain, ramped, effect)


def propose(chosen: Trial, total_steps: int, warmup: Warmup | None = None) -> Scheme:
    """A scheme of `total_steps` steps that starts with the chosen trial's rate.

    The first segment is as long as the speed of the trial's gain suggests. Each next one has the next lower rung and
    twice as many steps, so that the vectors can move about as far in each segment, as in the guide's scheme. Raises
    ValueError without steps.
    """
    if total_steps < 1:
        raise ValueError("a scheme needs at least one step")
    steps = min(_in_fives(HOLD * steps_to_gain(chosen)), max(total_steps // HOLD_SHARE, 1))
    segments: list[Segment] = []
    place, left = rung_near(chosen.rate), total_steps
    lowest = rung(place) / LOWEST_SHARE
    while left:
        is_last = rung(place - 1) < lowest * (1 - 1e-9)
        count = left if is_last else min(steps, left)
        segments.append(Segment(rung(place), count))
        left, place, steps = left - count, place - 1, 2 * steps
    ramp = warmup.ramped.warmup if warmup is not None and warmup.effect == "helps" else 0
    return Scheme(tuple(segments), min(ramp, segments[0].steps))


def steps_to_gain(trial: Trial) -> float:
    """Steps until the trial had most of its gain, interpolated linearly between its readings."""
    wanted, before, gained = CLOSE * trial.gain, 0, 0.0
    for reading in trial.readings:
        if reading.gain >= wanted:
            share = (wanted - gained) / (reading.gain - gained) if reading.gain > gained else 1.0
            return before + max(share, 0.0) * (reading.steps - before)
        before, gained = reading.steps, reading.gain
    return float(trial.last.steps)


def _best_gain(trials: Sequence[Trial], before: TrialReading) -> float:
    """The best gain of the usable trials; minus infinity if there are none."""
    return max((trial.gain for trial in trials if not flaw_of(trial, before)), default=-math.inf)


def _is_near(trial: Trial, best: float) -> bool:
    return trial.gain >= best - (1 - CLOSE) * max(best, LEAST_GAIN)


def _in_fives(steps: float) -> int:
    return max(5 * round(steps / 5), 5)
