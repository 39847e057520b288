"""What there is to compare in a run: prompts, steps, and the picture of each prompt at each step. No torch, no textual.

The dashboard's grid and `ti-tui compare` show the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ti_tui.run.folder import RunFolder
from ti_tui.run.history import RunHistory


@dataclass(frozen=True)
class Comparison:
    """Pictures of the same prompts and seeds at several steps.

    steps:    the columns, ascending; step 0 is what the vectors started from.
    prompts:  the rows, as lines in kohya's notation.
    pictures: files by (prompt, step); one that was not drawn is not there.
    """

    steps: tuple[int, ...]
    prompts: tuple[str, ...]
    pictures: Mapping[tuple[str, int], Path] = field(default_factory=dict)

    def at(self, steps: Sequence[int]) -> Comparison:
        """The same with these columns only, and without the rows that are empty then."""
        pictures = {key: path for key, path in self.pictures.items() if key[1] in steps}
        drawn = {prompt for prompt, _ in pictures}
        return Comparison(tuple(steps), tuple(prompt for prompt in self.prompts if prompt in drawn), pictures)


def previews(folder: RunFolder, history: RunHistory) -> Comparison:
    """The previews that the run drew. The prompts are in the order of the newest; of older ones that it has no more,
    the pictures follow."""
    pictures: dict[tuple[str, int], Path] = {}
    for step, files in history.samples.items():
        for index, sample in enumerate(files):
            # A log may not say from what a picture was drawn; then its place tells which belong together.
            pictures[sample.prompt or f"prompt {index + 1}", step] = folder.root / sample.file
    steps = tuple(sorted(history.samples))
    newest_first = sorted(pictures, key=lambda key: -key[1])
    return Comparison(steps, tuple(dict.fromkeys(prompt for prompt, _ in newest_first)), pictures)


def thinned(steps: Sequence[int], most: int, *, keep: Collection[int | None] = ()) -> list[int]:
    """At most `most` (from 2 on) of ascending `steps`: the first, the last, those in `keep`, the rest evenly spread."""
    if len(steps) <= most:
        return list(steps)
    chosen = [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]
    for step in [step for step in steps if step in keep and step not in chosen]:
        # The nearest between the ends makes room, unless that is to be kept as well.
        free = [other for other in chosen[1:-1] if other not in keep]
        if free:
            chosen[chosen.index(min(free, key=lambda other: abs(other - step)))] = step
    return sorted(chosen)


def gain_at(history: RunHistory, step: int) -> float | None:
    """How much less the error was than at the start, as a share of 1, when last evaluated up to `step`; None: unknown.

    That on the pictures that are trained on, as the dashboard shows it.
    """
    found = history.evaluation_at(step)
    if step == 0 or found is None:
        return None
    if found.gain is not None:
        return found.gain
    at, start = history.evals[0]
    return 1 - found.loss / start if at == 0 and start > 0 else None


def training_pictures(images: Path) -> list[Path]:
    """The pictures in a run's folder of pictures, in natural order; masks beside them are none."""
    from ti_tui.dataset.listing import pictures_in, places
    from ti_tui.run.problems import Problems

    try:
        return [path for place in places(images) for path in pictures_in(place.folder, Problems(), "")]
    except OSError:
        # Looking on needs none of them.
        return []
