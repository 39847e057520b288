"""Exact checkpoints: everything that the next step depends on, written completely or not at all."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ti_tui import atomic
from ti_tui.embeddings.run_files import OPTIMIZER, REST, SUMS, VECTORS, check_hashes, read_rest
from ti_tui.errors import UserError, first_line
from ti_tui.run.folder import RunFolder

FORM = 1


class CheckpointError(UserError):
    """A checkpoint is damaged or missing."""


@dataclass
class CheckpointState:
    """What the next step starts from. Random numbers and the order of images follow from the step (`randomness`).

    rows:        the learned vectors of each text encoder [n, width], float32, on the CPU.
    optimizer:   the optimizer's state dict.
    loss_scale:  LossScale.state().
    retry:       Progress.tries and Progress.failed_at.
    loss:        train loss of the last step, for the list of checkpoints.
    recipe:      identity.recipe(): the settings that must be unchanged for a resumed run to be exact.
    evaluation:  Evaluator.state(): the history that verdicts are made from.
    metadata:    of the embedding file; empty in checkpoints of older versions.
    scheme:      the rates so far and ahead, as the table [scheme]; empty in checkpoints of older versions.
    """

    step: int
    rows: list[Tensor]
    optimizer: dict[str, Any]
    loss_scale: dict[str, float]
    loss: float | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    retry: dict[str, int] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    scheme: dict[str, Any] = field(default_factory=dict)


IN_REST = [one.name for one in fields(CheckpointState) if one.name not in {"rows", "optimizer"}]
"""What stands in state.json."""


def save_state(folder: RunFolder, state: CheckpointState) -> Path:
    """Write `state` to RUN/state/step.../; a kill at any instant leaves older ones intact. Raises CannotWrite."""
    target = folder.state(state.step)
    optimizer = io.BytesIO()
    torch.save(state.optimizer, optimizer)
    rest = {"form": FORM, **{name: getattr(state, name) for name in IN_REST}}
    content = {
        VECTORS: save({f"rows{index}": row.contiguous() for index, row in enumerate(state.rows)}),
        OPTIMIZER: optimizer.getvalue(),
        REST: json.dumps(rest, default=str).encode(),
    }
    atomic.write_folder(target, {**content, SUMS: sums_of(content)})
    return target


def sums_of(content: Mapping[str, bytes]) -> bytes:
    """The hashes of files by name, as `sha256sum` writes them."""
    return "".join(f"{hashlib.sha256(one).hexdigest()}  {name}\n" for name, one in content.items()).encode()


def load_state(folder: RunFolder, step: int) -> CheckpointState:
    """Read the checkpoint at `step`. Raises CheckpointError if it is damaged."""
    path = folder.state(step)
    try:
        check_hashes(path)
        rest = read_rest(folder, step)
        tensors = load_file(path / VECTORS)
        optimizer = torch.load(path / OPTIMIZER, map_location="cpu", weights_only=True)
        rows = [tensors[f"rows{index}"] for index in range(len(tensors))]
        known = {name: rest[name] for name in IN_REST if name in rest}
        return CheckpointState(**known | {"step": int(rest["step"])}, rows=rows, optimizer=optimizer)
    except Exception as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: {first_line(error)}") from None


def load_rows(folder: RunFolder, step: int) -> list[Tensor]:
    """Only the vectors of the checkpoint at `step`. Raises CheckpointError if it is damaged or gone."""
    path = folder.state(step) / VECTORS
    try:
        check_hashes(path.parent)
        tensors = load_file(path)
        return [tensors[f"rows{index}"] for index in range(len(tensors))]
    except Exception as error:
        # safetensors raises several classes for a truncated file.
        reason = "is gone" if not path.exists() else f"is damaged: {first_line(error)}"
        raise CheckpointError(f"the checkpoint {path.parent} {reason}") from None


def latest_state(folder: RunFolder, *, repair: bool = True) -> tuple[CheckpointState | None, list[str]]:
    """(newest checkpoint that can be read, or None; messages about damaged ones that were skipped).

    repair: first clean up what a kill left half-written. Only the holder of the run's lock may do so: otherwise a
            trainer may be writing there. Raises CheckpointError if there are checkpoints and none can be read.
    """
    if repair:
        atomic.recover_folders(folder.states)
    notes: list[str] = []
    for step in reversed(folder.checkpoints()):
        try:
            return load_state(folder, step), notes
        except CheckpointError as error:
            notes.append(f"{error.message}; the one before it is used")
    if notes:
        steps = folder.checkpoints()
        raise CheckpointError(
            f"none of the {len(steps)} checkpoints in {folder.states} can be read",
            remedy="Delete that folder to start from the beginning; embedding.init can name a file in model/.",
        )
    return None, notes
