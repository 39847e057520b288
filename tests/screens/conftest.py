"""What the screens' tests share: a home of one's own, a device that does not change, a run with a known history."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from textual.css.stylesheet import Stylesheet

from ti_tui.dataset.parallel import Room
from ti_tui.dataset.picture_quality import Measured, measure
from ti_tui.run.device_monitor import DeviceMonitor, DeviceReading
from ti_tui.run.evaluations import Evaluation
from ti_tui.run.file import from_values, save
from ti_tui.run.folder import RunFolder, Status
from ti_tui.run.hardware import GIB, Hardware
from ti_tui.run.process import ProcessId
from ti_tui.run.verdicts import best_of

BEGAN = 1_700_000_000.0
CARD = Hardware("cuda", "RTX 2060", 6 * GIB, int(5.6 * GIB), bf16=False)


@pytest.fixture(autouse=True, scope="package")
def seldom_collected() -> Iterator[None]:
    """A screen is thousands of objects that refer to each other; at Python's pace all are gone through all the time."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.fixture(autouse=True, scope="package")
def measured_once() -> Iterator[None]:
    """The same photographs are measured by many tests: pixels and faces are looked at once for each content."""
    known: dict[tuple[str, bytes, bool], Measured] = {}

    def measure_once(path: Path, *, find_faces: Any = None, room: Room | None = None) -> Measured:
        searched = find_faces is not None and find_faces.faces == "all" and find_faces.finder.available
        if not path.is_file() or not (searched or find_faces is None):
            return measure(path, find_faces=find_faces, room=room)
        key = (path.suffix, hashlib.sha256(path.read_bytes()).digest(), searched)
        if key not in known:
            known[key] = measure(path, find_faces=find_faces, room=room)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ti_tui.dataset.survey.measure", measure_once)
        yield


@pytest.fixture(autouse=True, scope="package")
def styles_parsed_once() -> Iterator[None]:
    """Each app parses the same styles anew, several times; the rules do not depend on the app."""
    known: dict[tuple[Any, ...], Any] = {}
    parse = Stylesheet._parse_rules

    def parse_once(self: Stylesheet, css: str, *given: Any, **named: Any) -> Any:
        key = (css, given, *named.items(), *self._variables.items())
        if key not in known:
            known[key] = parse(self, css, *given, **named)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", parse_once)
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder: paths in it are shown with ~, the same on every machine."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return home


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Hardware:
    """A card of 6 GB in place of this machine's."""
    monkeypatch.setattr("ti_tui.setup.assess.find_hardware", lambda wanted="auto": CARD)
    reading = DeviceReading("cuda", "RTX 2060", 6 * GIB, int(4.4 * GIB), int(4.1 * GIB), int(0.3 * GIB), 0.97, 71, 86)
    monkeypatch.setattr(DeviceMonitor, "read", lambda self: reading)
    return CARD


@pytest.fixture
def photographs(home: Path) -> Path:
    """Five plain pictures in the home folder, one of them with a caption that looks like markup."""
    folder = home / "photos"
    for number, name in enumerate(("beach", "garden", "kitchen", "portrait", "street")):
        four_colours(folder / f"{name}.png", number, side=512 + 64 * number)
    (folder / "garden.txt").write_text("a [v1] (x:1.2) [/b], standing in a garden")
    return folder


@pytest.fixture
def model(home: Path, models: dict[str, Path]) -> Path:
    """A model in the home folder."""
    folder = home / "models"
    folder.mkdir()
    (folder / "tiny-sd1").symlink_to(models["sd1"])
    return folder / "tiny-sd1"


def four_colours(path: Path, turn: int, side: int = 64) -> None:
    """A picture of four plain squares: it looks the same whatever draws it."""
    colours = [(200, 60, 60), (60, 160, 80), (70, 90, 200), (220, 200, 90)]
    image, half = Image.new("RGB", (side, side)), side // 2
    for i in range(4):
        left, top = (i % 2) * half, (i // 2) * half
        image.paste(colours[(i + turn) % 4], (left, top, left + half, top + half))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


MakeHistory = Callable[..., RunFolder]

REASONS = {
    "learned": '37 % less error than "woman"; at the pace of the last 140 steps, 280 more steps would add 0.6 points',
    "overtraining": "since step 160 the gain on held-out images fell from 33.1 % to 29.8 %, while that on the "
    "trained images went from 36.0 % to 36.8 %",
    "diverging": "the longest vector has 269 times the norm of the median word: the rate is too high",
}


def evaluated(step: int) -> dict[str, Any]:
    """What an evaluation finds in a run that learns."""
    done = 1 - math.exp(-step / 120)
    return {
        "step": step, "loss": 0.17 - 0.07 * done, "gain": 0.4 * done, "gain_error": 0.02 * done,
        "held_gain": 0.35 * done * (1 - step / 4000), "held_gain_error": 0.05 * done,
        "bands": [1.01 - 0.2 * done, 1.04 - 0.35 * done, 1.0 - 0.45 * done, 0.98 - 0.5 * done],
        "length": 1 + 2.2 * done, "longest": 1 + 2.9 * done, "moved": 4 * done, "rank": 1 + 8 * done,
    } | ({"follows": 1 - 0.2 * done} if step % 100 == 0 else {})  # fmt: skip


def health(step: int) -> dict[str, Any]:
    """What is found of twelve vectors, with the words nearest to each."""
    norms = [round(0.6 + step / 1000 + place / 40, 3) for place in range(12)]
    return {
        "norms": norms, "mean_cosine": 0.31, "closest": [1, 2, 0.87], "effective_rank": 10.1,
        "percentiles": [99.0 + place / 20 for place in range(12)], "word_norms": [0.33, 0.36, 0.38, 0.44, 0.48],
        "start_cosines": [round(0.9 - place / 12, 2) for place in range(12)], "effective_rank_of_change": 9.8,
        "nearest": [["woman 0.61", "lady [b] 0.55", "portrait 0.41"]] * 12,
    }  # fmt: skip


@pytest.fixture
def history(home: Path) -> MakeHistory:
    """Makes a run folder with the log of a run that was trained: `history(steps=340, phase="training")`."""

    def make(
        steps: int = 340, phase: str = "training", *, warning: str = "", verdict: str = "", name: str = "zkz"
    ) -> RunFolder:
        folder = RunFolder(home / "runs" / name)
        folder.create()
        values: dict[str, Any] = {
            "format": 1,
            "model": {"base": "~/models/realisticVision.safetensors"},
            "dataset": {"images": "img/1_zkz woman"},
            "embedding": {"token": "zkz", "init": "woman"},
        }
        total = 3790
        if phase == "done":
            total = steps
            values["scheme"] = {"segments": [{"learning_rate": 0.002, "steps": steps}]}
        save(from_values(values, folder.file), folder.file)
        four_colours(folder.images / "1_zkz woman" / "0001.png", 0)
        noise = random.Random(1)
        events: list[dict[str, Any]] = []
        found: list[Evaluation] = []

        def add(t: float, kind: str, **values: Any) -> None:
            events.append({"t": BEGAN + t, "kind": kind, **values})

        def evaluate(t: float, step: int) -> None:
            add(t, "eval", **evaluated(step))
            found.append(Evaluation.from_values(evaluated(step)))  # type: ignore[arg-type]

        plan = {
            "device": "cuda", "device_name": "RTX 2060", "precision": "fp16", "batch_size": 4, "accumulation": 6,
            "effective_batch": 23, "predicted_bytes": int(4.4 * GIB),
        }  # fmt: skip
        add(0, "phase", phase="loading", message="checking the model")
        add(1, "run", step=0, total_steps=total, epoch_steps=1.0, images=23, family="sd1", plan=plan, reasons={})
        evaluate(1.5, 0)
        for step in range(1, steps + 1):
            loss = 0.08 + 0.09 * math.exp(-step / 120) + noise.random() * 0.05
            add(step * 0.5, "step", step=step, loss=loss, rate=0.002, gradient_norm=0.1, seconds=0.48)
            if step % 20 == 0:
                evaluate(step * 0.5, step)
            if step == 20:
                add(step * 0.5, "verdict", step=step, verdict="learning", reason='6 % less error than "woman"')
            if step == 280 and verdict:
                add(step * 0.5, "verdict", step=step, verdict=verdict, reason=REASONS[verdict])
            if step % 100 == 0:
                file = folder.embedding("zkz", step)
                file.write_bytes(b"an embedding")
                folder.state(step).mkdir()
                four_colours(folder.sample(step) / "01.png", step // 100)
                sample = f"sample/{folder.sample(step).name}/01.png"
                add(step * 0.5, "sample", step=step, files=[sample], prompts=["a photo of [name] --d 1"])
                add(
                    step * 0.5, "checkpoint", step=step, state="", files=[f"model/{file.name}"], loss=loss,
                    eval_loss=evaluated(step)["loss"], norms=[[0.6 + step / 1000]],
                    best=best_of(found, range(100, step + 1, 100)), health=[health(step)],
                )  # fmt: skip
        add(steps * 0.5, "memory", used_bytes=int(4.1 * GIB), peak_bytes=int(4.4 * GIB), step=steps)
        if warning:
            add(steps * 0.5, "warning", message=warning, step=steps)
        if phase in {"done", "stopped", "failed"}:
            add(steps * 0.5 + 1, "end", outcome=phase, step=steps, message="", seconds=170.0)
        if phase == "done":
            folder.embedding("zkz", None).write_bytes(b"an embedding")
        folder.events.write_text("".join(json.dumps(event) + "\n" for event in events))
        me = ProcessId.mine()
        message = "the disk is full" if phase == "failed" else ""
        # A trainer that was heard of just now, or one that ended long ago.
        updated = BEGAN + steps * 0.5 if phase in {"done", "stopped", "failed"} else time.time()
        status = Status(me.pid, me.started, me.host, phase, steps, total, BEGAN, updated, message)  # type: ignore[arg-type]
        folder.write_status(status)
        if status.going:
            # This very process stands for the trainer.
            folder.lock_file.write_text(json.dumps({"pid": me.pid, "started": me.started, "host": me.host}))
        return folder

    return make
