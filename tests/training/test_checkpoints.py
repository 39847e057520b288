"""Checkpoints whose files changed on the disk: never resumed from, and the one before is used."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from ti_tui.run.folder import RunFolder
from ti_tui.training.checkpoints import (
    OPTIMIZER,
    REST,
    SUMS,
    VECTORS,
    CheckpointError,
    CheckpointState,
    latest_state,
    load_rows,
    load_state,
    save_state,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with checkpoints at steps 3 and 6."""
    made = RunFolder(tmp_path / "run")
    made.create()
    for step in (3, 6):
        row = torch.nn.Parameter(torch.full((2, 768), 0.1 * step))
        optimizer = torch.optim.AdamW([row])
        row.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        save_state(made, CheckpointState(step, [row.detach()], optimizer.state_dict(), {}, loss=float("nan")))
    return made


def test_one_flipped_bit_anywhere_is_seen(folder: RunFolder) -> None:
    chance = random.Random(5)
    assert load_state(folder, 6).step == 6
    for name in (VECTORS, OPTIMIZER, REST, SUMS):
        path = folder.state(6) / name
        content = path.read_bytes()
        for _ in range(25):
            changed = bytearray(content)
            # The blanks and the line end between hash and name may be lost without harm.
            at = chance.randrange(len(content)) if name != SUMS else chance.randrange(64)
            changed[at] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(CheckpointError, match="is damaged: "):
                load_state(folder, 6)
            with pytest.raises(CheckpointError, match="is damaged: "):
                load_rows(folder, 6)
            found, notes = latest_state(folder)
            assert found is not None and found.step == 3
            assert len(notes) == 1 and "the one before it is used" in notes[0]
        path.write_bytes(content)
    assert load_state(folder, 6).step == 6


def test_a_checkpoint_of_an_older_version_has_no_hashes_and_is_read(folder: RunFolder) -> None:
    (folder.state(6) / SUMS).unlink()
    assert load_state(folder, 6).step == 6 and torch.equal(load_rows(folder, 6)[0], load_state(folder, 6).rows[0])
