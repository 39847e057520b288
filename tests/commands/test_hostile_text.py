"""Texts from strangers' files never reach the terminal as escape codes, whichever command shows them."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import MakeRun
from ti_tui import cli
from ti_tui.embeddings import files
from ti_tui.embeddings.files import Embedding
from ti_tui.run.folder import RunFolder, Status
from ti_tui.run.process import ProcessId

EVIL = "a\x1b]0;title\x07b\x1b[2Jc\u202ed\x9b31me\rf"
"""A title, a cleared screen, text from right to left, an 8-bit sequence and a carriage return."""
BAD = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
Say = Callable[..., str]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Runs a command in this process; returns all it printed, after checking that it is harmless and no crash."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ti-tui", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as ended:
            assert ended.code in (0, 2, 3, None)
        printed = "".join(capfd.readouterr())
        assert BAD.findall(printed) == [], printed
        assert "has crashed" not in printed, printed
        return printed

    return run


@pytest.fixture
def embedding(tmp_path: Path) -> Path:
    """An embedding whose every text is evil."""
    made = Embedding.from_rows([np.ones((2, 768), np.float32)], token=EVIL)
    path = tmp_path / "evil.safetensors"
    files.write(made, path, "safetensors")
    return path


def test_embeddings(say: Say, embedding: Path, tmp_path: Path) -> None:
    assert "\\x1b]0;title" in say("embeddings", "inspect", embedding)
    say("embeddings", "convert", embedding, tmp_path / "out.pt")
    say("embeddings", "inspect", tmp_path / EVIL)
    header = json.dumps({EVIL: {"dtype": EVIL, "shape": [1, 768], "data_offsets": [0, 3072]}}).encode()
    odd = tmp_path / "odd.safetensors"
    odd.write_bytes(len(header).to_bytes(8, "little") + header + bytes(3072))
    say("embeddings", "inspect", odd)
    say("embeddings", "convert", odd, tmp_path / "odd.pt")


def test_watch_and_runs(say: Say, make_run: MakeRun) -> None:
    folder = make_run()
    folder.create()
    values = dict.fromkeys(("message", "phase", "request", "verdict", "reason", "outcome", "installed"), EVIL)
    kinds = ("run", "phase", "verdict", "checkpoint", "sample", "warning", "error", "request", "eval", "memory", EVIL)
    plan = {"device_name": EVIL, "batch_size": EVIL}
    lines = [{"t": 1, "kind": kind, "step": 1, "files": [EVIL], "plan": plan} | values for kind in kinds]
    lines += [
        {"t": 2, "kind": "phase", "phase": "loading", "message": EVIL},
        {"t": 2, "kind": "step"},
        {"t": 2, "kind": "step", "step": 1, "rate": 0.1, "loss": 1},
        {"t": 3, "kind": "end", "outcome": EVIL},
    ]
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    me = ProcessId.mine()
    status = Status(me.pid, me.started + EVIL, EVIL, "failed", 1, 2, 1.0, 1.0, EVIL)
    folder.write_status(status)
    shown = say("watch", "--plain", folder.root)
    assert "title" in shown and shown.count("\\x1b") > 8
    say("runs", folder.root.parent)
    say("report", folder.root)
    folder.write_status(replace(status, phase="training"))
    folder.lock_file.write_text(json.dumps({"pid": 1, "started": EVIL, "host": EVIL}))
    say("train", "--plain", "--take-over", folder.root.parent / "nothing")
    say("stop", "--wait", "0", folder.root)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model.base", EVIL), ("embedding.init", EVIL), ("embedding.token", EVIL), ("dataset.template", EVIL),
     ("save.install_to", EVIL), ("sample.prompts", [EVIL]), ("training.optimizer", EVIL), ("training.device", EVIL)],
    ids=lambda value: value if value != EVIL and isinstance(value, str) else "",
)  # fmt: skip
def test_run_files(say: Say, make_run: MakeRun, field: str, value: object) -> None:
    folder = make_run()
    table, name = field.split(".")
    before, head, rest = folder.file.read_text().partition(f"[{table}]\n")
    assert head
    written = f"{name} = {json.dumps(value)}"
    rest, replaced = re.subn(rf"(?m)^#? ?{name} = .*$", lambda _line: written, rest, count=1)
    folder.file.write_text(before + head + (rest if replaced else f"{written}\n{rest}"))
    say("check", folder.root)
    say("plan", folder.root)


def test_a_run_folder_with_an_evil_name(say: Say, make_run: MakeRun) -> None:
    folder = make_run(name=EVIL.replace("/", ""))
    assert isinstance(folder, RunFolder)
    for command in ("check", "plan", "watch --plain", "stop", "report", "runs", "prepare"):
        say(*command.split(), folder.root)
    with (folder.root / "run.toml").open("a") as file:
        file.write(f"\n[{json.dumps(EVIL, ensure_ascii=True).replace(chr(0x7F), '')}]\nx = 1\n")
    say("check", folder.root)


def test_photographs_with_evil_names(say: Say, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, photo in enumerate(sorted(photos.glob("*.jpg"))):
        (folder / f"{number}{EVIL}.jpg").write_bytes(photo.read_bytes())
        (folder / f"{number}{EVIL}.txt").write_text(EVIL)
    (folder / f"broken{EVIL}.jpg").write_bytes(b"nothing")
    os.mkfifo(folder / f"pipe{EVIL}.png")
    say("check", folder)
    say("caption", folder, "--from-names")
    say("init", tmp_path / "run", "--images", folder, "--model", tmp_path / EVIL, "--token", "zkz", "--init", "woman")
    say("prepare", folder, tmp_path / "run2", "--resolution", "64")
