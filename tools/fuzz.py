"""Feeds damaged files to every reader: `python -m tools.fuzz [--count N] [--seed N] [READER ...]`.

Whatever a file holds, a reader gives a value or raises a UserError, within two seconds and 300 MB. Each reader has
valid samples; a mutation flips, cuts, doubles and splices bytes, or puts in what parsers stumble over. A file that
breaks a reader is kept in --keep.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ti_tui.errors import UserError

SLOW_SECONDS = 2.0
ODD = [
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"9" * 5000,
    b"1e400",
    b"-1",
    b"0",
    b"[" * 3000,
    b"{" * 3000,
    b'{"a":' * 2000,
    b"\x1b]0;x\x07",
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "\u202e".encode(),
    b"''",
    b'"""',
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\r",
    b"\n",
    b"../../x",
    b"/etc/passwd",
    b"\x80\x04",
    b"r\xff\xff\xff\x7f",
    b"18446744073709551616",
    b"#",
    b"=",
    b"1979-13-41T25:61:61",
    b"x=[[[" * 500,
]


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    read: reads a file, or a folder that holds it.
    samples: valid contents. wrap: builds the file around a mutated content, such as a zip file.
    """

    name: str
    read: Callable[[Path], object]
    samples: list[bytes]
    file: str
    wrap: Callable[[bytes], bytes] = bytes


@dataclass
class Result:
    """What became of a reader's files. broke: (error, file) of each kind of failure."""

    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    broke: dict[str, Path] = field(default_factory=dict)


def mutated(content: bytes, samples: list[bytes], chance: random.Random) -> bytes:
    """A damaged copy."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 2, 4, 8, 64, 1024)))
        match chance.randrange(9):
            case 0 if data and at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(data):
                data[at] = chance.randrange(256)
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end] * chance.choice((1, 2, 50))
            case 4:
                data[at:at] = chance.choice(ODD)
            case 5:
                data[at:end] = chance.choice(ODD)
            case 6:
                other = chance.choice(samples)
                start = chance.randrange(len(other) + 1)
                data[at:end] = other[start : start + chance.choice((4, 64, 1024))]
            case 7:
                del data[at:]
            case 8:
                data[at:end] = chance.choice((b"\xff", b"\x00", b"\x7f")) * (end - at)
    return bytes(data)


def fuzz(reader: Reader, count: int, seed: int, keep: Path) -> Result:
    """Feed `count` damaged files to a reader."""
    result, chance = Result(), random.Random(f"{reader.name} {seed}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / reader.file
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            content = chance.choice(reader.samples)
            # The first shows that the sample itself can be read.
            payload = content if number < len(reader.samples) else mutated(content, reader.samples, chance)
            if number < len(reader.samples):
                payload = reader.samples[number]
            path.write_bytes(reader.wrap(payload))
            began = time.perf_counter()
            broke = ""
            try:
                reader.read(path)
                result.read += 1
            except UserError as error:
                result.refused += 1
                if number < len(reader.samples):
                    broke = f"the sample itself is refused: {error}"
            except Exception as error:
                broke = f"{type(error).__name__}: {str(error)[:80]}"
            seconds = time.perf_counter() - began
            result.slowest = max(result.slowest, seconds)
            if seconds > SLOW_SECONDS:
                broke = f"took more than {SLOW_SECONDS:g} s"
            kind = broke.partition(":")[0]
            if broke and kind not in result.broke:
                kept = keep / f"{reader.name}-{seed}-{number}{path.suffix}"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(path.read_bytes())
                result.broke[kind] = kept
                print(f"  {broke}\n  {kept}", file=sys.stderr, flush=True)
    return result


def _zip(member: str) -> Callable[[bytes], bytes]:
    def wrap(content: bytes) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(member, content)
            archive.writestr("archive/version", b"3\n")
            archive.writestr("archive/byteorder", b"little")
            archive.writestr("archive/data/0", bytes(6144))
        return made.getvalue()

    return wrap


def _pickles() -> list[bytes]:
    """The pickles inside two .pt files."""
    import torch

    found = []
    for value in (
        {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.zeros(2, 768)}, "name": "zkz"},
        {"state_dict": {"a.weight": torch.zeros(2, 768)}},
    ):
        made = io.BytesIO()
        torch.save(value, made)
        with zipfile.ZipFile(made) as archive:
            found.append(archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl"))))
    return found


def _safetensors() -> list[bytes]:
    header = json.dumps(
        {
            "__metadata__": {"token": "zkz", "step": "3"},
            "emb_params": {"dtype": "F32", "shape": [2, 768], "data_offsets": [0, 6144]},
        }
    ).encode()
    half = json.dumps(
        {
            "clip_l": {"dtype": "F16", "shape": [1, 768], "data_offsets": [0, 1536]},
            "clip_g": {"dtype": "BF16", "shape": [1, 1280], "data_offsets": [1536, 4096]},
        }
    ).encode()
    return [struct.pack("<Q", len(header)) + header + bytes(6144), struct.pack("<Q", len(half)) + half + bytes(4096)]


def _safetensors_header(content: bytes) -> bytes:
    """A file whose header is `content`, with its right length: mutations then reach the parser."""
    return struct.pack("<Q", len(content)) + content + bytes(6144)


def _pngs() -> list[bytes]:
    import base64

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    made, info = io.BytesIO(), PngInfo()
    value = {"string_to_token": {"*": 265}, "string_to_param": {"*": {"TORCHTENSOR": [[0.5] * 768]}}, "name": "zkz"}
    info.add_text("sd-ti-embedding", base64.b64encode(json.dumps(value).encode()).decode())
    Image.new("RGB", (64, 64), (3, 4, 5)).save(made, "PNG", pnginfo=info)
    return [made.getvalue()]


def _png_text(content: bytes) -> bytes:
    import base64

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    made, info = io.BytesIO(), PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(content).decode())
    Image.new("RGB", (8, 8), (3, 4, 5)).save(made, "PNG", pnginfo=info)
    return made.getvalue()


RUN_FILE = b"""format = 1
[model]
base = "sd1"
[dataset]
images = "img"
resolution = 64
template = "object"
[embedding]
token = "zkz"
init = "woman"
vectors = 2
[scheme]
segments = [{ learning_rate = 0.05, steps = 10 }, { learning_rate = 0.01, steps = 20 }]
[sample]
prompts = ["a photo of [name] --d 1 --s 2"]
"""
EVENT_VALUES: list[dict[str, Any]] = [
            {"kind": "run", "step": 0, "total_steps": 30, "epoch_steps": 1, "images": 4, "family": "sd1",
             "plan": {"batch_size": 4, "accumulation": 1, "device_name": "CPU", "precision": "fp32"}, "reasons": {}},
            {"kind": "phase", "phase": "loading", "message": "x"},
            {"kind": "step", "step": 1, "loss": 0.2, "rate": 0.01, "gradient_norm": 0.1, "seconds": 0.3},
            {"kind": "eval", "step": 1, "loss": 0.2, "gain": 0.1, "gain_error": 0.01, "bands": [0.1, 0.2, 0.3, 0.4]},
            {"kind": "verdict", "step": 1, "verdict": "learned", "reason": "x"},
            {"kind": "checkpoint", "step": 1, "state": "state/step00000001", "files": ["model/zkz.safetensors"],
             "loss": 0.2, "eval_loss": 0.2, "best": 1, "norms": [[0.4, 0.4]], "health": {"norms": [0.4]}},
            {"kind": "sample", "step": 1, "files": ["sample/step00000001/00.png"], "prompts": ["[name]"]},
            {"kind": "memory", "used_bytes": 1, "peak_bytes": 2, "step": 1},
            {"kind": "end", "outcome": "done", "step": 1, "message": "", "seconds": 3.5},
]  # fmt: skip
EVENTS = b"\n".join(json.dumps({"t": 1795000000.5, **values}).encode() for values in EVENT_VALUES)
STATUS = json.dumps(
    {"pid": 7, "process_started": "b:1:2", "host": "h", "phase": "training", "step": 1, "total_steps": 2,
     "started": 1.0, "updated": 2.0, "message": ""}
).encode()  # fmt: skip


def _show_events(path: Path) -> None:
    """All that commands and screens do with a log."""
    from ti_tui.commands.follow import PlainLines
    from ti_tui.monitoring.event_text import EventTail
    from ti_tui.results.outcome import outcome_of
    from ti_tui.run.events import EventReader, as_one_run
    from ti_tui.run.folder import RunFolder
    from ti_tui.run.history_reader import HistoryReader

    lines = PlainLines()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for event in EventReader(path).read_all():
            lines.show(event)
    assert "\x1b" not in printed.getvalue(), "an escape code was printed"
    as_one_run(EventReader(path).read_all())
    EventTail(path).read()
    reader = HistoryReader(path)
    while reader.read(10):
        pass
    outcome = outcome_of(RunFolder(path.parents[1]))
    _ = (outcome.length, outcome.message, outcome.seconds, outcome.verdict, outcome.best_step, outcome.gain)


def _import_settings(path: Path) -> None:
    from ti_tui.exchange.importing import import_settings

    import_settings(path).draft().to_toml()


KOHYA = json.dumps(
    {"pretrained_model_name_or_path": "a/b", "token_string": "zkz", "init_word": "woman", "learning_rate": "1e-3",
     "max_train_steps": 100, "lr_scheduler": "cosine", "lr_warmup": 10, "optimizer_args": "betas=0.9,0.99",
     "sample_prompts": "zkz --w 64", "additional_parameters": "--noise_offset 0.1", "max_resolution": "512,768"}
).encode()  # fmt: skip
COMMAND = b"""A=x
accelerate launch train_textual_inversion.py \\
  --token_string="zkz" --learning_rate $A --optimizer_args "a=1" b=2
"""
JOB = b"""config:
  process:
    - embedding: &e {trigger: zkz, tokens: 4}
      train: {steps: 10, lr: 5e-5, optimizer_params: {<<: *e, weight_decay: 1e-2}}
      sample: {prompts: ["[trigger]"], width: 64}
"""


def _show_run_file(path: Path) -> None:
    from ti_tui.run import file as run_file

    run_file.parse_run_file(run_file.to_toml(run_file.load(path)), path)


def _own(variable: str, read: Callable[[], object]) -> Callable[[Path], object]:
    """A reader of one of the user's own folders."""

    def run(path: Path) -> object:
        os.environ[variable] = str(path.parent)
        return read()

    return run


def readers() -> list[Reader]:
    """Every reader of a file that others may have written."""
    from ti_tui.dataset import caption_history
    from ti_tui.dataset.caption_files import read_caption
    from ti_tui.dataset.manifest import read_manifest
    from ti_tui.dataset.picture_file import load_pixels, open_picture
    from ti_tui.dataset.templates import load_templates
    from ti_tui.dataset.tokens import PromptTokenizer
    from ti_tui.embeddings import files
    from ti_tui.run import lease, requests
    from ti_tui.run.folder import RunFolder
    from ti_tui.run.scheme import readings
    from ti_tui.run.weight_shapes import read_shapes
    from ti_tui.settings import known_runs, load_settings, shipped_themes_folder
    from ti_tui.setup.draft import load_draft
    from ti_tui.themes import load_themes

    def photograph(path: Path) -> None:
        with open_picture(path) as image:
            load_pixels(image)

    tensors, pickles = _safetensors(), _pickles()
    vocab = {"a": 0, "b</w>": 3, "ab</w>": 4, "<|startoftext|>": 1, "<|endoftext|>": 2}
    headers = [content[8 : 8 + struct.unpack("<Q", content[:8])[0]] for content in tensors]
    change = {"batch": "a", "picture": "0001.png", "old": "x", "new": "y", "how": "typed", "t": 1.5}
    return [
        Reader("run-file", _show_run_file, [RUN_FILE], "run.toml"),
        Reader("settings-of-others", _import_settings, [KOHYA, COMMAND, JOB], "settings"),
        Reader("events", _show_events, [EVENTS], "log/events.jsonl"),
        Reader("status", lambda path: RunFolder(path.parent).current_status(), [STATUS], "status.json"),
        Reader(
            "lock",
            lambda path: lease.holder(path),
            [b'{"pid": 7, "started": "b:1:2", "host": "h", "since": 1.5}'],
            "lock.json",
        ),
        Reader(
            "request",
            lambda path: requests.take(RunFolder(path.parents[1])),
            [b'{"kind": "save", "t": 1.5}'],
            "requests/1-save-1.json",
        ),
        Reader("manifest", lambda path: read_manifest(path.parent), _manifests(), "dataset.json"),
        Reader(
            "caption",
            lambda path: read_caption(path.with_suffix(".png")),
            [b"a cup on a table", "é".encode("utf-16")],
            "0001.txt",
        ),
        Reader("caption-history", caption_history.read, [json.dumps(change).encode() + b"\n"], "captions.jsonl"),
        Reader(
            "template",
            lambda path: load_templates(str(path), path.parent),
            [b"a photo of [name], [filewords]"],
            "t.txt",
        ),
        Reader(
            "scheme", lambda path: readings(path.read_text("utf-8", "replace")), [b"0.05:10, 0.02:20, 0.01:30"], "s.txt"
        ),
        Reader(
            "theme",
            lambda path: load_themes([path.parent]),
            [(shipped_themes_folder() / "quiet.toml").read_bytes()],
            "own.toml",
        ),
        Reader(
            "settings",
            _own("TI_TUI_CONFIG", load_settings),
            [b'theme = "quiet"\nmouse = true\n[keys]\n'],
            "config.toml",
        ),
        Reader("remembered", _own("TI_TUI_STATE", known_runs), [b'["/tmp/run"]'], "runs.json"),
        Reader(
            "draft",
            _own("TI_TUI_STATE", load_draft),
            [b'[draft]\nphotographs = "/x"\n[embedding]\ntoken = "zkz"\n'],
            "draft.toml",
        ),
        Reader("safetensors", files.read, tensors, "x.safetensors"),
        Reader("safetensors-header", files.read, headers[:1], "x.safetensors", _safetensors_header),
        Reader("pickle", files.read, pickles[:1], "x.pt", _zip("archive/data.pkl")),
        Reader("pt", files.read, [_zip("archive/data.pkl")(content) for content in pickles[:1]], "x.pt"),
        Reader("png", files.read, _pngs(), "x.png"),
        Reader(
            "png-text",
            files.read,
            [b'{"string_to_param": {"*": {"TORCHTENSOR": [[0.5, 1]]}}, "name": "zkz"}'],
            "x.png",
            _png_text,
        ),
        Reader("weights", read_shapes, tensors, "x.safetensors"),
        Reader("weights-header", read_shapes, headers[:1], "x.safetensors", _safetensors_header),
        Reader("checkpoint", read_shapes, pickles, "x.ckpt", _zip("archive/data.pkl")),
        Reader(
            "tokenizer",
            lambda path: PromptTokenizer.from_folder(path.parent),
            [json.dumps({"model": {"vocab": vocab, "merges": ["a b</w>"]}}).encode()],
            "tokenizer.json",
        ),
        Reader("photograph", photograph, _photographs(), "x.jpg"),
    ]


def _manifests() -> list[bytes]:
    """The record of a small prepared folder."""
    from ti_tui.dataset.manifest import NAME
    from ti_tui.dataset.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        source, run = Path(folder) / "in", Path(folder) / "run"
        source.mkdir()
        for number, content in enumerate(_photographs()[:2]):
            (source / f"{number}.{'jpg' if number else 'png'}").write_bytes(content)
        prepare(source, run / "img", name="zkz", resolution=32, record=run)
        return [(run / NAME).read_bytes()]


def _photographs() -> list[bytes]:
    from PIL import Image

    found = []
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        made = io.BytesIO()
        Image.linear_gradient("L").convert("RGB").resize((96, 64)).save(made, form)
        found.append(made.getvalue())
    return found


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    options.add_argument("readers", nargs="*", help="names of readers (all)")
    options.add_argument("--count", type=int, default=100_000, help="damaged files for each reader")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "ti_tui-fuzz")
    given = options.parse_args()
    # Libraries warn of what they then refuse.
    warnings.simplefilter("ignore")
    broken = 0
    for reader in readers():
        if given.readers and reader.name not in given.readers:
            continue
        began = time.perf_counter()
        result = fuzz(reader, given.count, given.seed, given.keep)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        broken += len(result.broke)
        print(
            f"{reader.name:<20} {given.count} files: {result.read} read, {result.refused} refused,"
            f" {len(result.broke)} kinds of failure, slowest {result.slowest:.2f} s, peak {peak:.0f} MB,"
            f" {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
