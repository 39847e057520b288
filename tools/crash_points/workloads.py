"""What is interrupted: how each is set up, run again to its end, and compared with an undisturbed one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

CAPTIONS = [f"caption number {number}" for number in range(4)]
STEPS = 12
LONG = 60
"""Operations for which a lasting failure lasts where the process is to wait until it has passed."""


@dataclass(frozen=True)
class Workload:
    """run(place) works in the folder `place`/work, which `setup(place)` makes, and returns its exit status.

    result(place) is what must be the same after any interruption and a second run.
    lost(place) says what was confirmed before the interruption and is gone after it.
    without_extra_saves(result) leaves out what a save on a full disk, which is deleted later, adds to the log.
    repeatable: it is run a second time although the first one ended well.
    waits: a disk that is full for a while must not end it.
    """

    name: str
    setup: Callable[[Path], None]
    run: Callable[[Path], int]
    result: Callable[[Path], Any]
    repeatable: bool = True
    waits: bool = False
    lost: Callable[[Path], str] = lambda place: ""
    without_extra_saves: Callable[[Any], Any] = lambda result: result


def all_workloads(base: Path) -> list[Workload]:
    """base: a folder with what they start from, made once: photographs, a tiny model, a run."""
    photographs, model, run = _make_base(base)

    def set_up_run(place: Path) -> None:
        shutil.copytree(run, place / "work", symlinks=True)

    def set_up_other_photographs(place: Path) -> None:
        set_up_run(place)
        shutil.copytree(photographs, place / "photographs")
        (place / "photographs" / "coffee.txt").write_text("another caption")
        (place / "photographs" / "rocket.jpg").unlink()

    return [
        Workload("init", lambda _place: None, partial(_init, photographs, model), _run_tree, repeatable=False),
        Workload("prepare", set_up_other_photographs, _prepare, _run_tree),
        Workload(
            "train",
            set_up_run,
            _train,
            _trained,
            repeatable=False,
            waits=True,
            without_extra_saves=_without_extra_saves,
        ),
        Workload("captions", _set_up_state, partial(_caption, photographs), _captions, lost=_lost_captions),
        Workload("settings", _set_up_state, _remember, _remembered),
    ]


def _make_base(base: Path) -> tuple[Path, Path, Path]:
    from tests.fixtures.bad_pictures import photo
    from tests.fixtures.tiny_models import make_folder
    from ti_tui.setup.create import create_run

    photographs, model, run = base / "photographs", base / "model", base / "run"
    if not run.exists():
        photographs.mkdir(parents=True)
        for number, name in enumerate(("astronaut", "coffee", "chelsea", "rocket")):
            photo(name, (96, 80)).save(photographs / f"{name}.jpg")
            (photographs / f"{name}.txt").write_text(f"caption {number}")
        make_folder("sd1", model)
        values: dict[str, dict[str, Any]] = {
            "model": {"base": str(model)},
            "dataset": {"resolution": 32},
            "embedding": {"token": "zkz", "init": "woman", "vectors": 2},
            "training": {"batch_size": 2, "accumulation": 1, "device": "cpu"},
            "save": {"every_steps": 2, "keep": 2, "formats": ["safetensors", "a1111-pt"]},
            "evaluation": {"every_steps": 2},
            "sample": {"every_steps": 6, "prompts": ["[name] --s 1", "a [name] --s 1"]},
            "scheme": {"segments": [{"learning_rate": 0.05, "steps": STEPS}]},
        }
        create_run(run, photographs, values)
    return photographs, model, run


def _command(*arguments: str | Path) -> int:
    """Run the command line in this process; its exit status."""
    import sys

    from ti_tui import cli

    sys.argv = ["ti-tui", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _init(photographs: Path, model: Path, place: Path) -> int:
    work = place / "work"
    if (work / "run.toml").exists() and not (work / ".half-made").exists():
        # The interruption came after all was done.
        return 0
    return _command("init", work, "--images", photographs, "--model", model, "--token", "zkz", "--init", "woman",
                    "--set", "dataset.resolution=32")  # fmt: skip


def _prepare(place: Path) -> int:
    return _command("prepare", place / "photographs", place / "work")


def _train(place: Path) -> int:
    from ti_tui.run import events
    from ti_tui.training import __main__, disk_room, reporter

    # What happens by the clock would make other operations the n-th each time.
    events.FLUSH_SECONDS, reporter.STATUS_SECONDS, disk_room.RETRY_SECONDS = 0.0, 1e9, 0.01
    return __main__.main(str(place / "work"))


def _set_up_state(place: Path) -> None:
    (place / "work").mkdir()


def _caption(photographs: Path, place: Path) -> int:
    """Type four captions, as in the review; each that was confirmed is noted outside the folder."""
    from ti_tui.captions.desk import CaptionDesk
    from ti_tui.captions.journal import history_of
    from ti_tui.dataset.survey import survey
    from ti_tui.errors import UserError
    from ti_tui.setup.draft import Draft, load_draft, save_draft

    os.environ["TI_TUI_STATE"] = str(place / "work")
    found = survey(photographs, resolution=32, buckets=False, field="photographs")
    draft = load_draft() or Draft()
    draft.set("photographs", str(photographs))
    try:
        desk = CaptionDesk(draft, found.files, save=lambda: save_draft(draft), history=history_of(photographs))
        with (place / "confirmed").open("a") as confirmed:
            for name, text in zip(desk.names, CAPTIONS, strict=True):
                desk.type(name, text)
                desk.finish(reviewed=name)
                confirmed.write(f"{name}\n")
                confirmed.flush()
    except UserError:
        return 2
    return 0


def _captions(place: Path) -> Any:
    """The captions that the next start finds."""
    from ti_tui.setup.draft import load_draft

    os.environ["TI_TUI_STATE"] = str(place / "work")
    draft = load_draft()
    return None if draft is None else (draft.captions, sorted(draft.reviewed))


def _lost_captions(place: Path) -> str:
    """The confirmed captions that the next start does not find."""
    confirmed = place / "confirmed"
    names = confirmed.read_text().splitlines() if confirmed.exists() else []
    found = _captions(place)
    kept = found[0] if found is not None else {}
    return ", ".join(name for name in names if name not in kept)


def _remember(place: Path) -> int:
    from ti_tui import settings
    from ti_tui.errors import UserError

    os.environ["TI_TUI_STATE"] = os.environ["TI_TUI_CONFIG"] = str(place / "work")
    try:
        settings.remember_choice("embeddings_folder", "/somewhere")
        settings.remember_folder(place)
        settings.remember_run(place)
        settings.remember_choice("theme", "quiet")
    except UserError:
        return 2
    return 0


def _remembered(place: Path) -> Any:
    from ti_tui import settings

    os.environ["TI_TUI_STATE"] = os.environ["TI_TUI_CONFIG"] = str(place / "work")
    choices = [settings.remembered_choice(name) for name in ("embeddings_folder", "theme")]
    # A half-written file that a kill left is deleted later, when it cannot be another process's any more.
    names = sorted(path.name for path in (place / "work").iterdir() if path.suffix != ".tmp")
    return choices, settings.recent_folders() == [place], names


def _run_tree(place: Path) -> dict[str, Any]:
    """Every file of a run but logs, its status, and times."""
    root = place / "work"
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        # The lease of a process that is gone counts for nothing.
        if path.is_file() and not name.startswith("log/") and name not in {"status.json", "lock.json"}:
            found[name] = path.read_bytes()
    with contextlib.suppress(KeyError, ValueError):
        text = found["dataset.json"].replace(str(place).encode(), b"PLACE")
        found["dataset.json"] = json.loads(text, object_hook=lambda values: values | {"mtime_ns": 0})
    return found


def _without_extra_saves(trained: dict[str, Any]) -> dict[str, Any]:
    return trained | {"events": [one for one in trained["events"] if one[0] != "checkpoint"]}


def _trained(place: Path) -> dict[str, Any]:
    """The tree, and what the log says was done."""
    from ti_tui.run.events import EventReader, as_one_run

    events = as_one_run(EventReader(place / "work" / "log" / "events.jsonl").read_all())
    told = [
        (event.kind, {key: value for key, value in event.values.items() if key != "seconds"})
        for event in events
        if event.kind in {"step", "eval", "checkpoint", "sample", "verdict"}
    ]
    # What follows from a state may be told after what comes later.
    return _run_tree(place) | {"events": sorted(told, key=str)}
