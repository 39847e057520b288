"""Several runs side by side: outcomes, settings that differ, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.dataset.caption_files import read_caption
from ti_tui.formatting import percent, seconds, start_in_words
from ti_tui.results.comparison import training_pictures
from ti_tui.results.outcome import Outcome, decimal, pace_in_words
from ti_tui.results.run_settings import SettingDifference, differences, resolved
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import GIB
from ti_tui.run.recipe import RunFile

QUESTIONS = "questions"
MOST_NAMED = 4
"""Settings that a sentence lists by name; if there are more, it gives their number."""


@dataclass(frozen=True)
class ComparedRun:
    """A run with a name that tells it apart from the others."""

    name: str
    folder: RunFolder
    recipe: RunFile
    outcome: Outcome


def compared(runs: Sequence[tuple[RunFolder, RunFile, Outcome]]) -> list[ComparedRun]:
    """The runs with names that tell them apart."""
    names = distinct_names([folder.root for folder, _, _ in runs])
    return [ComparedRun(name, *run) for name, run in zip(names, runs, strict=True)]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many parts before it as are needed to tell different paths apart."""
    names = []
    for path in paths:
        others = [other for other in paths if other != path]
        parts = path.parts
        taken = next(
            (n for n in range(1, len(parts)) if all(other.parts[-n:] != parts[-n:] for other in others)), len(parts)
        )
        names.append(str(Path(*parts[-taken:])))
    return names


def outcome_rows(runs: Sequence[ComparedRun]) -> list[SettingDifference]:
    """The outcome of each run, without rows that are empty for all."""
    rows: list[tuple[str, Callable[[ComparedRun], str]]] = [
        ("state", lambda run: run.outcome.phase),
        ("steps", lambda run: steps_in_words(run.outcome)),
        ("time", lambda run: "" if run.outcome.seconds is None else seconds(run.outcome.seconds)),
        ("time per step", lambda run: pace_in_words(run.outcome.seconds_per_step)),
        ("eval loss", lambda run: "" if run.outcome.evaluation is None else decimal(run.outcome.evaluation.loss)),
        ("gain", lambda run: percent(run.outcome.gain, _error(run, "gain_error"))),
        ("gain, held out", _held),
        ("verdict", _verdict),
        ("best step (rank)", lambda run: run.outcome.best_in_words),
        ("norm", lambda run: run.outcome.length),
        ("peak memory", lambda run: f"{run.outcome.peak_bytes / GIB:.1f} GiB" if run.outcome.peak_bytes else ""),
    ]
    filled = [SettingDifference(name, tuple(text(run) for run in runs)) for name, text in rows]
    return [row for row in filled if any(row.texts)]


def setting_rows(runs: Sequence[ComparedRun]) -> list[SettingDifference]:
    """The settings in which the run files differ."""
    return differences([(run.folder, run.recipe) for run in runs])


def differ_in_words(found: Sequence[SettingDifference]) -> str:
    """`Only scheme.segments and training.seed differ:`, or just the number of settings if there are many."""
    if not found:
        return "The run files are the same."
    if len(found) > MOST_NAMED:
        return f"{len(found)} settings differ:"
    names = _listed([one.name for one in found])
    return f"Only {names} differ{'s' if len(found) == 1 else ''}:"


def not_comparable(runs: Sequence[ComparedRun]) -> list[str]:
    """Sentences on what must not be compared, and why; empty if everything can be."""
    sentences = []
    evaluated = [run for run in runs if run.outcome.evaluation is not None]
    if different := _eval_set_differences(evaluated):
        sentences.append(
            f"Eval losses cannot be compared: the runs differ in {_listed(different)}. "
            "Gains can: each is relative to its own initial vectors."
        )
    starts = sorted({start_in_words(run.recipe.embedding.init, run.recipe.embedding.start) for run in evaluated})
    if len(starts) > 1:
        sentences.append(f"The gains are relative to different initial vectors: {_listed(starts)}.")
    return sentences


def steps_in_words(outcome: Outcome) -> str:
    """`120`, `340 of 3790`; "" for a run that was never started."""
    if not outcome.started:
        return ""
    return str(outcome.step) if outcome.step == outcome.total_steps else f"{outcome.step} of {outcome.total_steps}"


def _eval_set_differences(runs: Sequence[ComparedRun]) -> list[str]:
    """What differs between the runs that the eval loss depends on, besides the vectors."""
    if len(runs) < 2:
        return []
    saved = [_recipe_of_checkpoint(run.folder) for run in runs]
    found = []
    for name, of_checkpoint, of_file in _EVAL_SET:
        # A hash is more reliable than a path, but the two cannot be compared with each other.
        hashes = [one.get(of_checkpoint) for one in saved]
        values = hashes if all(hashes) else [of_file(run) for run in runs]
        if any(value != values[0] for value in values):
            found.append(name)
    questions = [one.get(QUESTIONS) for one in saved]
    if not found and all(questions) and len(set(questions)) > 1:
        found.append("the size of the eval set or the held-out images")
    return found


def _reading(run: ComparedRun) -> Any:
    model = run.recipe.model
    return resolved(run.folder, model.vae), model.clip_skip, model.prediction


def _pictures(run: ComparedRun) -> Any:
    pictures = training_pictures(run.folder.path(run.recipe.dataset.images))
    return [(path.name, path.stat().st_size, read_caption(path).caption) for path in pictures]


def _shapes(run: ComparedRun) -> Any:
    dataset = run.recipe.dataset
    return dataset.buckets, dataset.masks and dataset.mask_outside


_EVAL_SET: tuple[tuple[str, str, Callable[[ComparedRun], Any]], ...] = (
    ("model", "model", lambda run: resolved(run.folder, run.recipe.model.base)),
    ("VAE, clip_skip or prediction", "", _reading),
    ("images or captions", "dataset", _pictures),
    ("resolution", "", lambda run: run.recipe.dataset.resolution),
    ("shape or masks", "", _shapes),
    ("template", "templates", lambda run: run.recipe.dataset.template),
    ("range of timesteps", "", lambda run: (run.recipe.training.min_timestep, run.recipe.training.max_timestep)),
    ("seed, hence in the noise", "", lambda run: run.recipe.training.seed),
)
"""What the eval set depends on: its name, its key in a checkpoint's recipe, and its value from the run file."""


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _recipe_of_checkpoint(folder: RunFolder) -> dict[str, Any]:
    """The recipe in the last checkpoint, with hashes of model and images; empty if it cannot be read."""
    steps = folder.checkpoints()
    if not steps:
        return {}
    try:
        state = bounded.read_json(folder.state(steps[-1]) / "state.json", finite=False)
        # `questions` identifies the eval set.
        return {**state["recipe"], QUESTIONS: str(state["evaluation"].get("questions") or "")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _error(run: ComparedRun, name: str) -> float | None:
    found = run.outcome.evaluation
    return None if found is None else getattr(found, name)


def _held(run: ComparedRun) -> str:
    found = run.outcome.evaluation
    return "" if found is None else percent(found.held_gain, found.held_gain_error)


def _verdict(run: ComparedRun) -> str:
    verdict = run.outcome.verdict
    return "" if verdict is None else f"{verdict.name} at {verdict.step}"
