"""A process that is killed while it makes or prepares a run, at any of its writes: the same call makes the same run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fixtures.bad_pictures import photo
from ti_tui import atomic
from ti_tui.dataset.prepare import prepare
from ti_tui.dataset.survey import SurveyCache
from ti_tui.run.folder import RunFolderError
from ti_tui.setup.create import HALF_MADE, create_run, is_half_made, is_taken


class Killed(BaseException):
    """Ends a process as a kill does: nothing catches it, and nothing can be written after it."""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Four photographs with captions, one of them with a mask."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, name in enumerate(("astronaut", "coffee", "rocket", "chelsea")):
        photo(name, (300, 200)).save(folder / f"{name}.jpg", quality=92)
        (folder / f"{name}.txt").write_text(f"caption {number}")
    mask = Image.new("L", (300, 200), 255)
    mask.paste(0, (0, 0, 100, 200))
    mask.save(folder / "coffee-mask.png")
    return folder


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Lets the n-th replacement of a file be the last thing that happens; returns the names that were replaced."""
    real = os.replace

    def at(number: int) -> list[str]:
        written: list[str] = []

        def replaced(source: Any, target: Any) -> None:
            if len(written) >= number:
                raise Killed
            real(source, target)
            written.append(Path(target).name)

        monkeypatch.setattr(atomic.os, "replace", replaced)
        return written

    return at


def tree(root: Path) -> dict[str, Any]:
    """Every file; of dataset.json all but the times."""
    found: dict[str, Any] = {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(".tmp")
    }
    record = json.loads(found["dataset.json"], object_hook=lambda values: values | {"mtime_ns": 0})
    return found | {"dataset.json": record}


def test_init_killed_anywhere_is_finished_by_the_same_init(
    photographs: Path,
    tmp_path: Path,
    kill: Callable[[int], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    measured: SurveyCache,
) -> None:
    values = {"model": {"base": "owner/model"}, "dataset": {"resolution": 64}, "embedding": {"token": "zkz"}}
    values["scheme"] = {"segments": [{"learning_rate": 0.01, "steps": 5}]}

    def make(root: Path) -> None:
        create_run(root, photographs, values, memory=measured)

    written = kill(1000)
    make(tmp_path / "whole")
    whole = tree(tmp_path / "whole")
    assert {"0004.png", "0004.txt", "0003-mask.png", "dataset.json"} <= set(written[: written.index("run.toml")])
    for number in range(written.index("run.toml") + 1):
        root = tmp_path / f"killed-{number}" / "run"
        kill(number)
        with pytest.raises(Killed):
            make(root)
        monkeypatch.undo()
        assert is_half_made(root) == root.exists() and not is_taken(root), number
        make(root)
        assert tree(root) == whole, number
        assert not is_half_made(root) and is_taken(root)
    with pytest.raises(RunFolderError, match="exists and is not empty"):
        make(root)
    # Killed after its last write.
    (root / HALF_MADE).touch()
    make(root)
    assert tree(root) == whole


def test_prepare_killed_anywhere_is_finished_by_the_same_prepare(
    photographs: Path,
    tmp_path: Path,
    kill: Callable[[int], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    measured: SurveyCache,
) -> None:
    def prepared(root: Path) -> None:
        prepare(photographs, root / "img", name="zkz", resolution=64, record=root, memory=measured)

    prepared(tmp_path / "new")
    (photographs / "rocket.txt").write_text("another caption")
    (photographs / "chelsea.jpg").unlink()
    (photographs / "chelsea.txt").unlink()
    photo("coffee", (310, 210)).save(photographs / "late.jpg")
    photo("rocket", (200, 310)).save(photographs / "astronaut.jpg")
    (photographs / "late.txt").write_text("late")
    whole: dict[str, Any] = {}
    for number in range(-1, 100):
        root = tmp_path / f"run-{number}"
        for path in (tmp_path / "new").rglob("*"):
            if path.is_file():
                target = root / path.relative_to(tmp_path / "new")
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        (root / "img").mkdir(exist_ok=True)
        written = kill(1000 if number < 0 else number)
        if number < 0:
            prepared(root)
            whole, count = tree(root), len(written)
            assert count > 3
        elif number == count:
            break
        else:
            with pytest.raises(Killed):
                prepared(root)
            monkeypatch.undo()
            prepared(root)
            assert tree(root) == whole, number
        monkeypatch.undo()
