"""Which rate: what to try, what the trials say, and the scheme that follows. `training.probe` runs the trials.

A trial is a short training at one rate. All trials of a probe begin with the same vectors and see the same pictures,
noise and timesteps, so that they differ by their rate alone. Smith's range test (2017, arXiv 1506.01186), one ramp
through all rates, was tried and left: by the time its rate is high everything is learned, and what a high rate does to
vectors that are only starting, where it does its harm, is not seen (docs/training.md has the figures).
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
"""Steps of a usual probe, and what can be asked for."""
TRIALS = 6
"""That the steps are divided by: usually four or five rates, and one of them once more with a warm-up."""
MOST_RATES = 9
USUAL_STEP = 0.3
"""The rate that is tried first, in spreads of the vocabulary's components: 0.02 on the demo model, 0.005 on CLIP-L,
which is what A1111 and the paper (arXiv 2208.01618) train at."""
CLOSE = 0.9
"""Share of the best gain from which on a rate does about as well: trials of neighbouring rates jump by so much."""
LEAST_GAIN, LEAST_GAIN_LATER = 0.01, 0.03
"""Less is nothing that one could tell rates apart by: from the start of a run, and where something is learned already.
Vectors that have learned jump up and down by a percent or two from step to step, at any rate."""
LONGEST = 4.0
"""Lengths of a usual word that a trial's vectors may get to. A whole scheme takes them up to five times as far, and
from 20 on a prompt is known to suffer (Kim et al. 2025, arXiv 2512.13672)."""
HOLD = 4
"""The first rate is held so many times as long as its trial took to its gain: what is hard comes after what is easy."""
HOLD_SHARE = 4
"""But for one in so many of all steps at most."""
LOWEST_SHARE = 50
"""The last rate is the first one divided by so much at most, as in the guide's scheme."""
WARMUP_SHARE = 4
"""A warm-up is tried over one in so many of a trial's steps."""
TELLING = 0.15
"""Share of the gain by which a warm-up must change it to matter."""

Flaw = Literal["", "not a number", "too long", "drowns prompt"]
Effect = Literal["helps", "costs", "none"]


@dataclass(frozen=True)
class TrialReading:
    """What the vectors come to after `steps` steps of a trial.

    gain:    how much less the error is than with the vectors that all trials begin with, as a share of 1.
    length:  median length of the vectors, longest: the greatest, in lengths of a usual word of the vocabulary.
    follows: prompt-following relative to the vectors that the run started from (see run.evaluations).
    """

    steps: int
    gain: float
    length: float
    longest: float
    follows: float


@dataclass(frozen=True)
class Trial:
    """A rate, tried: readings by steps, ascending, at least one. warmup: steps of a ramp to the rate.

    finite: whether it came to its end; without that the readings are those before a number was not finite.
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
        """The least of it: what was lost in the first steps may come back, or not."""
        return min(reading.follows for reading in self.readings)

    def values(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Trial:
        """What `values` was made from."""
        readings = tuple(TrialReading(**reading) for reading in values["readings"])
        return cls(**{**values, "readings": readings})


@dataclass(frozen=True)
class Warmup:
    """What a ramp to the rate did: `plain` and `ramped` differ by it alone."""

    plain: Trial
    ramped: Trial
    effect: Effect

    def describe(self) -> str:
        """One sentence with the numbers."""
        plain, ramped = self.plain.last, self.ramped.last
        says = {
            "helps": "Warm-up matters here, and the proposal has it",
            "costs": "Warm-up does no good here",
            "none": "Warm-up makes no difference here",
        }[self.effect]
        return (
            f"{says}: after {plain.steps} steps {percent(plain.gain, digits=None)} less error without it and "
            f"{percent(ramped.gain, digits=None)} with a ramp over {self.ramped.warmup} steps "
            f"(length {plain.length:.1f} and {ramped.length:.1f}, "
            f"prompt {self.plain.follows:.2f} and {self.ramped.follows:.2f})."
        )


def steps_each(steps: int) -> int:
    """Steps of each trial of a probe of about `steps` steps."""
    return max(steps // TRIALS, 1)


def readings_at(steps: int) -> tuple[int, ...]:
    """Steps of a trial after which it is read: early, half-way and at the end."""
    return tuple(sorted({max(steps // 4, 1), max(steps // 2, 1), steps}))


def warmup_steps(steps: int) -> int:
    """Steps of the ramp that is tried within a trial of `steps` steps."""
    return max(steps // WARMUP_SHARE, 1)


def rung(place: int) -> float:
    """Rates that people write: ..., 0.01, 0.02, 0.05, 0.1, ...; place 0 is 1."""
    return float(f"{(1, 2, 5)[place % 3]}e{place // 3}")


def rung_near(rate: float) -> int:
    """The place of the rung that is nearest by ratio. Raises ValueError for a rate that is not above 0."""
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"{rate} is no rate")
    guess = 3 * math.floor(math.log10(rate))
    return min(range(guess - 1, guess + 5), key=lambda place: abs(math.log(rung(place) / rate)))


def flaw_of(trial: Trial, before: TrialReading) -> Flaw:
    """What makes a rate unusable, whatever it gains; `before` is how the vectors were when all trials began."""
    if not trial.finite:
        return "not a number"
    # A run that goes on may be beyond either limit already.
    if trial.last.longest > max(LONGEST, 2 * before.longest):
        return "too long"
    if trial.follows < min(LEAST_FOLLOWING, CLOSE * before.follows):
        return "drowns prompt"
    return ""


def next_rate(trials: Sequence[Trial], before: TrialReading, spread: float) -> float | None:
    """The rate to try after `trials`; None when enough is known.

    From the usual rate upwards until one is flawed or gains less, then downwards until one gains less.
    spread: of the components of the vocabulary's vectors, or of those that the run started from where it is larger.
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
    """The trial whose rate is to be the first; None if none gained what one could tell.

    goes_on: whether the trials began with vectors that were trained already.

    Of those that do about as well the middle one: the lower ones are slow where learning is hard, the higher ones near
    to where vectors grow too long or drown the prompt.
    """
    best = _best_gain(trials, before)
    if best < (LEAST_GAIN_LATER if goes_on else LEAST_GAIN):
        return None
    good = [trial for trial in trials if not flaw_of(trial, before) and trial.gain >= CLOSE * best]
    return sorted(good, key=lambda trial: trial.rate)[len(good) // 2]


def judge_warmup(plain: Trial, ramped: Trial, before: TrialReading) -> Warmup:
    """Whether a ramp to the rate changes what comes of it."""
    enough = max(TELLING * max(plain.gain, ramped.gain), LEAST_GAIN)
    more = ramped.gain - plain.gain
    effect: Effect = "none"
    if flaw_of(ramped, before) or more < -enough:
        effect = "costs"
    elif more > enough:
        effect = "helps"
    return Warmup(plain, ramped, effect)


def propose(chosen: Trial, total_steps: int, warmup: Warmup | None = None) -> Scheme:
    """A scheme of `total_steps` steps that begins with the chosen trial's rate.

    The first rate lasts by how fast the trial gained; each following one is the next lower rung, for twice as many
    steps: so the vectors can go about as far at each rate, as in the guide's scheme. Raises ValueError without steps.
    """
    if total_steps < 1:
        raise ValueError("a scheme needs a step")
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
    """Steps until the trial had most of its gain, read off the straight lines between its readings."""
    wanted, before, gained = CLOSE * trial.gain, 0, 0.0
    for reading in trial.readings:
        if reading.gain >= wanted:
            share = (wanted - gained) / (reading.gain - gained) if reading.gain > gained else 1.0
            return before + max(share, 0.0) * (reading.steps - before)
        before, gained = reading.steps, reading.gain
    return float(trial.last.steps)


def _best_gain(trials: Sequence[Trial], before: TrialReading) -> float:
    """Of the usable ones; minus infinity if there is none."""
    return max((trial.gain for trial in trials if not flaw_of(trial, before)), default=-math.inf)


def _is_near(trial: Trial, best: float) -> bool:
    return trial.gain >= best - (1 - CLOSE) * max(best, LEAST_GAIN)


def _in_fives(steps: float) -> int:
    return max(5 * round(steps / 5), 5)
