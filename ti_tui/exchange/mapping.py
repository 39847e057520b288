"""What a field of another trainer is here: the rows of the tables that import, docs and the wizard's search read.

Each program has one table, `FIELDS` in the module of its name; `ti_tui.exchange.programs` has them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Program = Literal["kohya", "onetrainer", "invoke-training", "ai-toolkit", "diffusers", "a1111", "ldm", "everydream"]
Convert = Callable[[Any], Any]
Part = Literal[
    "model", "vae", "resolution", "token", "output name", "class word", "words", "initial file", "photographs",
    "regularisation", "repeats", "repeats of an epoch", "mask folder", "template", "object templates",
    "style templates", "family", "clip skip", "batch", "accumulation", "processes", "rate", "steps", "epochs",
    "epochs before steps", "scheduler", "cycles", "power", "lowest rate", "lowest share", "scheduler arguments",
    "warm-up", "warm-up percent", "rate times batch", "optimizer", "optimizer arguments", "optimizer argument",
    "precision", "save every", "backup every", "backup unit", "save unit", "sample every", "sample unit",
    "keep steps", "prompts", "prompt file", "prompt enabled", "width", "height", "negative", "seed", "random seed",
    "guidance", "drawing steps", "samples of a prompt", "loss", "huber delta", "mse", "mae", "huber",
    "noise offset", "noise kind", "multires", "min-SNR", "min-SNR gamma",
]  # fmt: skip
"""What several fields of a program say together; see `Gathered`."""


class NoCounterpart(ValueError):
    """A value that the run file cannot hold; the message says why, or what happens instead."""


class _Unset:
    """Marks a value that sets nothing, such as `false` for a flag."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()


@dataclass(frozen=True)
class Counterpart:
    """A field of another trainer and what it is here.

    name:     its dotted name; `*` stands for any place in a list, `**` at the end for all else in that table.
    ours:     the run file field that it ends up in, or one of `setup.fields.OWN`; "" for none.
    part:     what it contributes, if several fields decide together.
    convert:  their value to ours; raises NoCounterpart. None: the same value, of the type that ours has.
    note:     how it changes, or why it is left out.
    harmless: values (in lower case) at which nothing is lost by leaving it out, besides those that are empty or off.
    always:   for fields without a counterpart: what it switches on is always done here.
    default:  what that program takes if the file does not say, where that is not our default; None if nothing.
    prior:    whether it goes before the other fields of its part.
    """

    name: str
    ours: str = ""
    part: Part | None = None
    convert: Convert | None = None
    note: str = ""
    harmless: tuple[str, ...] = ()
    always: bool = False
    default: Any = None
    prior: bool = False

    @property
    def left_out(self) -> bool:
        """Whether nothing here corresponds to it."""
        return not self.ours and self.part is None


def same(name: str, ours: str, *, default: Any = None) -> Counterpart:
    """A field that has the same meaning here."""
    return Counterpart(name, ours, default=default)


def changed(name: str, ours: str, convert: Convert, note: str, *, default: Any = None) -> Counterpart:
    """A field whose value is written differently here."""
    return Counterpart(name, ours, convert=convert, note=note, default=default)


def joins(
    name: str,
    part: Part,
    ours: str,
    convert: Convert | None = None,
    *,
    note: str = "",
    default: Any = None,
    prior: bool = False,
) -> Counterpart:
    """A field that decides together with others."""
    return Counterpart(name, ours, part, convert, note, default=default, prior=prior)


def lacks(names: str, note: str, *harmless: str) -> tuple[Counterpart, ...]:
    """Fields, separated by spaces, that have no counterpart; the note says what happens instead."""
    return tuple(Counterpart(name, note=note, harmless=harmless) for name in names.split())


def always(names: str, note: str) -> tuple[Counterpart, ...]:
    """Flags, separated by spaces, of what is always done here."""
    return tuple(Counterpart(name, note=note, always=True) for name in names.split())
