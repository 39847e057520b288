"""The numbers of an evaluation: the trainer writes them, verdicts are made from them, the screens show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

BANDS = 4
"""The 1000 timesteps are split into this many equal bands, the one with the least noise first."""


@dataclass(frozen=True)
class Evaluation:
    """The vectors after `step` steps, measured on the eval set: fixed items of (image, noise, timestep).

    loss:       mean squared error over the trained images; usually 0.03 to 0.3, which by itself says little.
    gain:       relative drop of the error from the initial vectors (0.3 is 30 %): the geometric mean over the items, so
                that all items count the same, whatever their timestep.
    held_gain:  the gain on the held-out images; None without any.
    *_error:    their standard errors. Each item is compared with itself, so most of the noise cancels out.
    bands:      for each band of timesteps the error relative to that of an empty prompt; None for a band without items.
    length:     median norm of the vectors, and `longest`: the largest, both relative to the median word's norm.
    moved:      distance of the vectors from the initial vectors, relative to the norm of those.
    rank:       how many vectors they behave like (effective rank of the change).
    follows:    prompt-following: how much the other words of a prompt still change the prediction, relative to the
                initial vectors; None where it was not measured. See `evaluation.scene_effects`.
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
        """As plain values for the event and the checkpoint's state: rounded, without those that are not known."""
        known = {name: value for name, value in asdict(self).items() if value is not None and value != ()}
        return {name: _rounded(value) for name, value in known.items()}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Evaluation | None:
        """From an event or a checkpoint's state; None without a step or a loss. Other invalid values are ignored."""
        step, loss = values.get("step"), number_or_none(values.get("loss"))
        if type(step) is not int or loss is None:
            return None
        names = [one.name for one in fields(cls) if one.name not in ("step", "loss", "bands")]
        bands = values.get("bands")
        return cls(
            step,
            loss,
            bands=tuple(number_or_none(one) for one in bands[:BANDS]) if isinstance(bands, list | tuple) else (),
            **{name: number_or_none(values.get(name)) for name in names},
        )

    def rounded(self) -> Evaluation:
        """As it will be read back, so that an uninterrupted and a resumed run see the same numbers."""
        return Evaluation.from_values(self.values()) or self

    @property
    def score(self) -> float | None:
        """What checkpoints are ranked by: the mean of the gains on trained and on held-out images.

        The two are weighted by their errors: the gain on few held-out images is mostly chance.
        """
        if self.gain is None or self.held_gain is None:
            return self.gain
        own, held = ((self.gain_error or 0.0) ** 2 + 1e-9, (self.held_gain_error or 0.0) ** 2 + 1e-9)
        return (self.gain / own + self.held_gain / held) / (1 / own + 1 / held)


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(one) for one in value]
    # Six significant digits, whatever the size of the loss.
    return float(f"{value:.6g}") if isinstance(value, float) else value


def number_or_none(value: Any) -> float | None:
    """`value` if it is a number small enough that sums of it stay finite, otherwise None."""
    return float(value) if type(value) in (float, int) and abs(value) < 1e300 else None
