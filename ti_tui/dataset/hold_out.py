"""Chooses the held-out images: only on them can the eval loss tell learning from learning by heart."""

from __future__ import annotations

import random

ONE_IN = 8
LEAST_IMAGES = 10
"""With fewer images, each of them is worth more for training."""


def choose_held_out(count: int, wanted: int | str, seed: int) -> tuple[int, ...]:
    """Places, ascending, of the held-out images among `count` images. The same seed chooses the same ones.

    wanted: as in `evaluation.hold_out`: auto (one in eight of ten or more), off, or a number. At least one image is
    left for training.
    """
    if wanted == "off":
        return ()
    number = (count // ONE_IN if count >= LEAST_IMAGES else 0) if isinstance(wanted, str) else wanted
    number = min(number, max(0, count - 1))
    # A seed that is a text gives the same numbers in every version of Python and on every machine.
    return tuple(sorted(random.Random(f"hold out {seed}").sample(range(count), number)))
