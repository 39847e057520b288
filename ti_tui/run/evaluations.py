"""What one evaluation found: the numbers that the trainer writes, the verdicts are made from, and the screens show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

BANDS = 4
"""Equal parts of the 1000 timesteps, the least noise first."""


@dataclass(frozen=True)
class Evaluation:
    """The vectors after `step` steps, asked about the fixed set of (image, noise, timestep).

    loss:       mean squared error over the pictures that are trained on; 0.03 to 0.3 is usual, and says little.
    gain:       how much less the error is than with the vectors that the run started from, as a share of 1: the
                geometric mean over the items, so that each counts alike, whatever its timestep.
    held_gain:  the same over the pictures that are kept back; None without any.
    *_error:    their standard errors. Items are compared one by one, so most of the noise is in none of them.
    bands:      for each band of timesteps the error relative to that of an empty prompt; None where nothing was asked.
    length:     median length of the vectors, and `longest`: the greatest, in lengths of a usual word of the vocabulary.
    moved:      how far the vectors are from where they started, relative to their length there.
    rank:       how many vectors they behave like (effective rank of what changed).
    follows:    prompt-following: how much other words of a prompt still move the model's answer, relative to the start
                vectors; None where it was not asked. See `evaluation.scene_effects`.
    """

    step: int
    loss: float
    gain: float | None = None
    gain_error: float | None = None
    held_gain: float | None = None
    held_gain_error: float | None = None
    bands: tuple[float | None, ...] = ()
    length: float | None = None
    longest: float | None = None
    moved: float | None = None
    rank: float | None = None
    follows: float | None = None

    def values(self) -> dict[str, Any]:
        """For the event and the checkpoint's state: rounded, without what is not known."""
        known = {name: value for name, value in asdict(self).items() if value is not None and value != ()}
        return {name: _rounded(value) for name, value in known.items()}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Evaluation | None:
        """From an event, or a checkpoint's state; None if there is no step or no loss. Odd values are passed over."""
        step, loss = values.get("step"), _number(values.get("loss"))
        if type(step) is not int or loss is None:
            return None
        names = [one.name for one in fields(cls) if one.name not in ("step", "loss", "bands")]
        bands = values.get("bands")
        return cls(
            step,
            loss,
            bands=tuple(_number(one) for one in bands[:BANDS]) if isinstance(bands, list | tuple) else (),
            **{name: _number(values.get(name)) for name in names},
        )

    def rounded(self) -> Evaluation:
        """As it will be read back: what goes on at once and what is resumed see the same numbers."""
        return Evaluation.from_values(self.values()) or self

    @property
    def score(self) -> float | None:
        """What checkpoints are ranked by: the gain on pictures that were kept back, where there are any.

        Where they are few their gain alone would be mostly chance, so the two are weighed by their errors.
        """
        if self.gain is None or self.held_gain is None:
            return self.gain
        own, held = ((self.gain_error or 0.0) ** 2 + 1e-9, (self.held_gain_error or 0.0) ** 2 + 1e-9)
        return (self.gain / own + self.held_gain / held) / (1 / own + 1 / held)


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(one) for one in value]
    # Six digits of the loss, whatever its size; the rest as well.
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (float, int) and abs(value) < 1e300 else None
