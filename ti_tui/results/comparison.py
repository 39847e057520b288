"""The samples of a run by prompt and step, for the dashboard's grid and `ti-tui compare`. No torch, no textual."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ti_tui.run.folder import RunFolder
from ti_tui.run.history import RunHistory
from ti_tui.run.history_reader import HistoryReader


@dataclass(frozen=True)
class Comparison:
    """Images of the same prompts and seeds at several steps.

    steps:    the columns, ascending; step 0 shows the initial vectors.
    prompts:  the rows, in kohya's notation.
    pictures: files by (prompt, step), without those that were not drawn.
    """

    steps: tuple[int, ...]
    prompts: tuple[str, ...]
    pictures: Mapping[tuple[str, int], Path] = field(default_factory=dict)

    def at(self, steps: Sequence[int]) -> Comparison:
        """The comparison with these columns only, without rows that become empty."""
        pictures = {key: path for key, path in self.pictures.items() if key[1] in steps}
        drawn = {prompt for prompt, _ in pictures}
        return Comparison(tuple(steps), tuple(prompt for prompt in self.prompts if prompt in drawn), pictures)


def recorded_samples(folder: RunFolder, history: RunHistory) -> Comparison:
    """The samples of the run. Prompts are in the order of the newest samples, then those that the run no longer has."""
    pictures: dict[tuple[str, int], Path] = {}
    for step, files in history.samples.items():
        for index, sample in enumerate(files):
            # A log may lack the prompt of a sample; samples at the same position then belong together.
            pictures[sample.prompt or f"prompt {index + 1}", step] = folder.root / sample.file
    steps = tuple(sorted(history.samples))
    newest_first = sorted(pictures, key=lambda key: -key[1])
    return Comparison(steps, tuple(dict.fromkeys(prompt for prompt, _ in newest_first)), pictures)


def thinned(steps: Sequence[int], most: int, *, keep: Collection[int | None] = ()) -> list[int]:
    """At most `most` (2 or more) of ascending `steps`: the first, the last, those in `keep`, the rest evenly spread."""
    if len(steps) <= most:
        return list(steps)
    chosen = [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]
    for step in [step for step in steps if step in keep and step not in chosen]:
        # It replaces the nearest chosen step that is neither an end nor in `keep`.
        free = [other for other in chosen[1:-1] if other not in keep]
        if free:
            chosen[chosen.index(min(free, key=lambda other: abs(other - step)))] = step
    return sorted(chosen)


def gain_at(history: RunHistory, step: int) -> float | None:
    """The gain on training images at the last evaluation up to `step`, as a share of 1; None if unknown.

    In an older log, which has no gains, it follows from the eval loss.
    """
    found = history.evaluation_at(step)
    if found is None:
        return None
    if found.gain is not None:
        return found.gain
    at, start = history.evals[0]
    return 1 - found.loss / start if step and at == 0 and start > 0 else None


def read_history(folder: RunFolder) -> RunHistory:
    """The whole history in the event log of a run."""
    reader = HistoryReader(folder.events)
    while reader.read(1.0):
        pass
    return reader.history


def training_pictures(images: Path) -> list[Path]:
    """The images in a run's folder of images, in natural order, without masks."""
    from ti_tui.dataset.listing import pictures_in, places
    from ti_tui.run.problems import Problems

    try:
        return [path for place in places(images) for path in pictures_in(place.folder, Problems(), "")]
    except OSError:
        # Comparisons work without them.
        return []
