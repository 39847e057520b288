"""Pictures that are kept back from training: only on them does the eval loss tell learning from learning by heart."""

from __future__ import annotations

import random

ONE_IN = 8
LEAST_PICTURES = 10
"""With fewer each picture teaches more than it would tell."""


def kept_back(count: int, wanted: int | str, seed: int) -> tuple[int, ...]:
    """Places, ascending, of the pictures of `count` that are not trained on. The same seed takes the same ones.

    wanted: as in `evaluation.hold_out`: auto (one in eight where there are ten or more), off, or their number; at
    least one picture is always left.
    """
    if wanted == "off":
        return ()
    number = (count // ONE_IN if count >= LEAST_PICTURES else 0) if isinstance(wanted, str) else wanted
    number = min(number, max(0, count - 1))
    # A text seed is hashed in the same way by every Python and on every machine.
    return tuple(sorted(random.Random(f"hold out {seed}").sample(range(count), number)))
