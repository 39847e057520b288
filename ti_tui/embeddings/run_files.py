"""The checkpoints and embedding files of a run folder, and what follows from a checkpoint. No torch.

A kill, a full disk or a lost machine may leave a checkpoint without what follows from it. `reconcile` makes that up,
from the checkpoints alone, so doing it twice is doing it once.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ti_tui import atomic, bounded
from ti_tui.embeddings import files
from ti_tui.embeddings.files import EARLIER_SUFFIXES, SUFFIXES, Embedding, EmbeddingForm, Vectors
from ti_tui.embeddings.health import Health
from ti_tui.embeddings.vocabulary import norms_of
from ti_tui.errors import UserError
from ti_tui.run import lease
from ti_tui.run.evaluations import Evaluation
from ti_tui.run.events import EventKind, EventWriter, last_events
from ti_tui.run.file import load
from ti_tui.run.folder import RunFolder
from ti_tui.run.hashes import file_hash
from ti_tui.run.recipe import RunFile
from ti_tui.run.verdicts import best_of

VECTORS, OPTIMIZER, REST = "vectors.safetensors", "optimizer.pt", "state.json"
SUMS = "SHA256SUMS"
"""Hashes of the other files, as `sha256sum --check` reads them."""


def reconcile_if_idle(folder: RunFolder) -> None:
    """`reconcile` a run that nobody trains, for those who look at it. What cannot be written is left as it is.

    Old checkpoints stay: somebody who looks at a run, perhaps after a change of `save.keep`, has not asked for less.
    """
    # The folder may be a stranger's, and its checkpoints anything.
    with contextlib.suppress(UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
        run = load(folder.file)
        if lease.holder(folder.lock_file) is None and not is_settled(folder, run):
            with folder.lock():
                folder.create()
                reconcile(folder, run)


def is_settled(folder: RunFolder, run: RunFile) -> bool:
    """Whether the newest checkpoint has its embedding files and its event: a run that was killed there lacks one."""
    steps = folder.checkpoints()
    if not steps:
        return True
    paths = [folder.embedding(run.embedding.token, steps[-1], SUFFIXES[form]) for form in run.save.formats]
    return all(path.exists() for path in paths) and is_reported(folder, "checkpoint", steps[-1])


def reconcile(folder: RunFolder, run: RunFile, report: Callable[[int | None], None] | None = None) -> int | None:
    """Make what follows from the checkpoints: embedding files, the best one, the event. Deletes what is half made.

    For the holder of the run's lease. Returns the best checkpoint's step. Raises UserError, OSError, ValueError.

    report: writes the event of the newest checkpoint, given the best one's step; by default only what the checkpoint
            says is written.
    """
    clear_leftovers(folder)
    atomic.recover_folders(folder.states)
    steps = folder.checkpoints()
    rest = None
    while steps and (rest := _read_sound(folder, steps[-1])) is None:
        steps.pop()
    if rest is None:
        return None
    step, token, forms = steps[-1], run.embedding.token, run.save.formats
    missing = [form for form in forms if not folder.embedding(token, step, SUFFIXES[form]).exists()]
    if missing:
        export(folder, embedding_of(folder, token, step, rest), step, missing)
    best = best_of(evaluations_in(rest), steps)
    if best is not None:
        keep_best(folder, token, best, forms)
    if not is_reported(folder, "checkpoint", step):
        if report is None:
            events = EventWriter(folder.events)
            events.write("checkpoint", **_event(folder, run, step, rest, best))
            events.close()
        else:
            report(best)
    return best


def _read_sound(folder: RunFolder, step: int) -> dict[str, Any] | None:
    """`read_rest` of a checkpoint; None if it is damaged, and so not what a run would resume from."""
    try:
        check_hashes(folder.state(step))
        return read_rest(folder, step)
    except (OSError, ValueError):
        return None


def read_rest(folder: RunFolder, step: int) -> dict[str, Any]:
    """What a checkpoint holds besides tensors. Raises OSError, ValueError."""
    # The loss of a run that diverged may be no number.
    rest = bounded.read_json(folder.state(step) / REST, finite=False)
    if not isinstance(rest, dict):
        raise ValueError(f"{REST} is not a checkpoint's")
    return rest


def evaluations_in(rest: dict[str, Any]) -> list[Evaluation]:
    """The evaluations up to a checkpoint, by its `read_rest`."""
    history = rest.get("evaluation", {}).get("history", [])
    return [one for values in history if (one := Evaluation.from_values(values)) is not None]


def checkpoint_event(
    folder: RunFolder,
    run: RunFile,
    step: int,
    *,
    rows: list[Vectors],
    loss: float | None,
    eval_loss: float | None,
    best: int | None,
) -> dict[str, Any]:
    """The values of a checkpoint's event, without what needs a model. rows: of each text encoder [n, width]."""
    paths = [folder.embedding(run.embedding.token, step, SUFFIXES[form]) for form in run.save.formats]
    return {
        "step": step,
        "state": folder.state(step).relative_to(folder.root).as_posix(),
        "files": [path.relative_to(folder.root).as_posix() for path in paths],
        "loss": loss,
        "eval_loss": eval_loss,
        "best": best,
        "norms": [[round(float(norm), 4) for norm in norms_of(row)] for row in rows],
    }


def _event(folder: RunFolder, run: RunFile, step: int, rest: dict[str, Any], best: int | None) -> dict[str, Any]:
    rows = embedding_of(folder, run.embedding.token, step, rest).in_order()
    evaluations = evaluations_in(rest)
    eval_loss = evaluations[-1].loss if evaluations else None
    values = checkpoint_event(folder, run, step, rows=rows, loss=rest.get("loss"), eval_loss=eval_loss, best=best)
    return {**values, "health": [Health.of(row).as_values() for row in rows]}


def embedding_of(folder: RunFolder, token: str, step: int, rest: dict[str, Any]) -> Embedding:
    """The embedding that a checkpoint holds, by its `read_rest`. Raises UserError, OSError, ValueError."""
    tensors, _ = files.read_safetensors(folder.state(step) / VECTORS)
    rows = [tensors[f"rows{index}"] for index in range(len(tensors))]
    metadata = {**rest.get("metadata", {}), "step": str(step)}
    return Embedding.from_rows(rows, token=token, step=step, metadata=metadata)


def check_hashes(path: Path) -> None:
    """Raise ValueError if a file of the checkpoint in the folder `path` is not as it was written.

    Older versions wrote no hashes; their checkpoints are taken as they are.
    """
    if not (path / SUMS).exists():
        return
    lines = bounded.read_text(path / SUMS, 10_000).splitlines()
    hashes = {name: content for content, _, name in (line.partition("  ") for line in lines)}
    for name in (VECTORS, OPTIMIZER, REST):
        if hashes.get(name) != file_hash(path / name):
            raise ValueError(f"{name} has changed since it was written")


def drop_old(folder: RunFolder, keep: int, token: str, *, best: int | None = None) -> None:
    """Delete all but the last `keep` checkpoints (0: keep all) and the one at step `best`, with their embeddings."""
    if not keep:
        return
    for step in folder.checkpoints()[:-keep]:
        if step != best:
            drop(folder, step, token)


def drop_after(folder: RunFolder, step: int, token: str) -> None:
    """Delete checkpoints after `step`: undone steps must neither be resumed from nor look like results."""
    for later in folder.checkpoints():
        if later > step:
            drop(folder, later, token)


def drop(folder: RunFolder, step: int, token: str) -> None:
    """Delete a checkpoint and its embedding files; what cannot be deleted now is with the next checkpoint."""
    # The state goes last: as long as it is there, the others are found again.
    try:
        for suffix in (*SUFFIXES.values(), *EARLIER_SUFFIXES):
            folder.embedding(token, step, suffix).unlink(missing_ok=True)
    except OSError:
        return
    shutil.rmtree(folder.state(step), ignore_errors=True)


def keep_best(folder: RunFolder, token: str, step: int, forms: Sequence[EmbeddingForm]) -> list[Path]:
    """Copy the embedding files of the checkpoint at `step` to `<token>-best`, in all `forms`. Raises CannotWrite."""
    paths = []
    for form in forms:
        source, target = folder.embedding(token, step, SUFFIXES[form]), folder.best(token, SUFFIXES[form])
        if source.is_file():
            content = source.read_bytes()
            if not target.is_file() or target.read_bytes() != content:
                atomic.write_bytes(target, content)
            paths.append(target)
    return paths


def export(folder: RunFolder, embedding: Embedding, step: int | None, forms: Sequence[EmbeddingForm]) -> list[Path]:
    """Write `embedding` in each form to RUN/model; step None: under the final name. Raises CannotWrite."""
    paths = []
    for form in forms:
        path = folder.embedding(embedding.token, step, SUFFIXES[form])
        files.write(embedding, path, form)
        paths.append(path)
    return paths


def is_reported(folder: RunFolder, kind: EventKind, step: int) -> bool:
    """Whether the log's end has the event of a checkpoint or of samples."""
    return any(event.kind == kind and event.get("step") == step for event in last_events(folder.events))


def clear_leftovers(folder: RunFolder) -> None:
    """Delete the temporary files of killed processes. Only the holder of the run's lease may."""
    for place in (folder.models, folder.samples, *folder.samples.glob("step*"), folder.cache, folder.events.parent):
        # A stranger's folder may have a link there, and nothing outside the run is deleted.
        if not place.is_symlink():
            atomic.recover_folders(place)
    with contextlib.suppress(OSError):
        for path in [*folder.root.glob(".*.tmp"), *folder.requests.glob(".*.taken")]:
            path.unlink(missing_ok=True)
