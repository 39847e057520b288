"""What a training learns, not only its loss: likeness and prompt-following on concepts that no caption named.

    python -m benchmarks.quality --short      # the defaults on six concepts, three minutes on two cores
    python -m benchmarks.quality              # schemes, vectors, timesteps, norms, captions: twelve minutes
    python -m benchmarks.quality --short --set embedding.vectors=2    # a row of its own, beside the defaults

Each row trains each concept with each seed by the program's own trainer, then draws pictures with the embedding and
lets the judge (tools/demo_model/judge.py) say of each what it shows:
  parts     how many of the concept's shape, pattern, colour and second colour or mark are there
  like      all of them are
  follows   the background is the prompt's, and the frame, if it asks for one: what overgrown vectors lose first
  all       like and follows
The first rows are what to measure against: the word that the vectors start from, the model's own words (its ceiling),
and the training pictures themselves. Rates are means over runs +- their standard error; "to defaults" is the mean
difference in `all` to the same concepts and seeds with the defaults +- its standard error. Seconds are those of the
training steps, one process on one thread, with as many at a time as there are cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

MODEL = Path(__file__).parent.parent / "ti_tui" / "data" / "demo" / "demo-model"
PICTURES = MODEL.parent / "pictures"
STEPS = 200
DRAWN = 36
"""Pictures that are judged for each run."""
GUIDANCE = 2.0
TOKEN, WORD = "zkz", "thing"
EASY, HARD = ("teal-ring", "lime-star", "magenta-heart"), ("orange-drop", "two-tone-cross", "marked-square")


@dataclass(frozen=True)
class Row:
    """A line of the table: what differs from the defaults. values: of the run file, by dotted name."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    steps: int = STEPS


class Rates(NamedTuple):
    """Shares of judged pictures, see above; of `parts` the mean share."""

    parts: float
    like: float
    follows: float
    all: float


@dataclass(frozen=True)
class Outcome:
    """One training, or one thing to measure against, judged."""

    row: str
    concept: str
    seed: int
    rates: Rates
    eval_start: float = math.nan
    eval_end: float = math.nan
    seconds: float = math.nan
    norm: float = math.nan


def rows_of(steps: int) -> list[Row]:
    """The rows of the full table, the defaults first."""
    from ti_tui.run.scheme import PRESETS

    presets = [Row(f"scheme {name}", {"scheme": name}, steps) for name in PRESETS if name != "faces"]
    return [
        Row("defaults", {}, steps),
        *presets,
        Row("1 vector", {"embedding.vectors": 1}, steps),
        Row("4 vectors", {"embedding.vectors": 4}, steps),
        Row("uniform timesteps", {"training.timesteps": "uniform"}, steps),
        Row("norm match", {"embedding.norm": "match"}, steps),
        Row("norm direction", {"embedding.norm": "direction"}, steps),
        Row("with captions", {"dataset.template": "captions"}, steps),
    ]


def train_and_judge(row: Row, concept: str, seed: int, place: str) -> Outcome:
    """Train one run in this process and judge it. Raises RuntimeError if the trainer does not end well."""
    _one_thread()
    from ti_tui.embeddings.files import read
    from ti_tui.run.events import EventReader
    from ti_tui.setup.create import create_run
    from ti_tui.training.__main__ import train
    from ti_tui.training.reporter import Reporter

    root = Path(tempfile.mkdtemp(dir=place)) / "run"
    made = create_run(root, PICTURES / concept, run_values(row, seed))
    if train(made.folder, Reporter(made.folder), threading.Event()):
        raise RuntimeError(f"{row.name}, {concept}, seed {seed}: the training failed")
    events = list(EventReader(made.folder.events).read_all())
    losses = [event["loss"] for event in events if event.kind == "eval"]
    seconds = sum(event["seconds"] for event in events if event.kind == "step")
    vectors = read(made.folder.embedding(TOKEN, None)).in_order()[0]
    rates = judge_vectors(vectors, concept, seed)
    shutil.rmtree(root.parent)
    norm = float((vectors**2).sum(axis=1).mean() ** 0.5)
    return Outcome(row.name, concept, seed, rates, losses[0], losses[-1], seconds, norm)


def run_values(row: Row, seed: int) -> dict[str, dict[str, Any]]:
    """The run file's tables: the program's defaults, but for what keeps a short training on small pictures short."""
    from ti_tui.run.file import with_value
    from ti_tui.run.scheme import DEFAULT_SCHEME, PRESETS, parse

    values: dict[str, dict[str, Any]] = {
        "model": {"base": str(MODEL)},
        "dataset": {"resolution": 48},
        "embedding": {"token": TOKEN, "init": WORD},
        "training": {"seed": seed, "device": "cpu", "cache_latents": "memory"},
        "save": {"every_steps": 0, "formats": ["safetensors"]},
        "sample": {"every_steps": 0},
        "evaluation": {"every_steps": 10 * row.steps},
    }
    scheme = DEFAULT_SCHEME
    for name, value in row.values.items():
        if name == "scheme":
            scheme = PRESETS[value] if value in PRESETS else parse(value, "for")
        elif isinstance(value, str):
            with_value(values, name, value)
        else:
            table, _, key = name.partition(".")
            values[table][key] = value
    values.setdefault("scheme", {})["segments"] = [
        {"learning_rate": rate, "steps": count} for rate, count in _cut(scheme.segments, row.steps)
    ]
    return values


def judge_vectors(vectors: Any, concept: str, seed: int) -> Rates:
    """Of pictures drawn with an embedding of these vectors [n, width]; None is the plain word."""
    import torch
    from torch import nn

    from ti_tui.training.text import TextSide
    from tools.demo_model.gate import load_parts
    from tools.demo_model.stages import sample

    unet, vae, encoder, tokenizer = load_parts(MODEL)
    ids = encoder.get_input_embeddings().weight[tokenizer.words(WORD)] if vectors is None else torch.from_numpy(vectors)
    rows = nn.Parameter(ids.detach().clone().float())
    text = TextSide([encoder], [tokenizer], [rows], family="sd1", token=TOKEN, clip_skip=1)
    prompts, asked = prompts_for(concept, DRAWN)
    with torch.no_grad():
        hidden, empty = text.encode(text.ids(prompts)).hidden, text.encode(text.ids([""])).hidden
    # The same noise for every row, so that rows differ by their training only.
    return _rates(sample(unet, vae, hidden, empty, guidance=GUIDANCE, seed=1000 + seed), asked)


def prompts_for(concept: str, count: int) -> tuple[list[str], list[Any]]:
    """Prompts that put the concept before each background, every second time in a frame; and what they ask for."""
    from tools.demo_model.concepts import CONCEPTS
    from tools.demo_model.judge import Asked
    from tools.demo_model.pictures import BACKGROUNDS, FRAMES
    from tools.demo_model.words import prompt

    look = next(one.look for one in CONCEPTS if one.name == concept)
    prompts, asked = [], []
    for index in range(count):
        background = list(BACKGROUNDS)[index % len(BACKGROUNDS)]
        frames = [name for name in FRAMES if name != background]
        frame = frames[index % len(frames)] if index // len(BACKGROUNDS) % 2 else ""
        prompts.append(prompt("[name]", background, frame))
        asked.append(Asked(look, background, frame))
    return prompts, asked


def baselines(concept: str, seed: int) -> list[Outcome]:
    """The initial word, and the training images themselves."""
    _one_thread()
    import numpy as np
    from PIL import Image

    from tools.demo_model.concepts import CONCEPTS
    from tools.demo_model.judge import Asked

    one = next(one for one in CONCEPTS if one.name == concept)
    paths = sorted((PICTURES / concept).glob("*.png"))
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    real = _rates(images, [Asked(one.look, one.background(index)) for index in range(len(paths))])
    word = judge_vectors(None, concept, seed)
    return [Outcome(f'the word "{WORD}"', concept, seed, word), Outcome("real pictures", concept, seed, real)]


def ceiling(seed: int) -> list[Outcome]:
    """The model's own words, of the same kinds of prompt: with and without frames."""
    _one_thread()
    from tools.demo_model.gate import own_words
    from tools.demo_model.judge import load_judge

    outcomes = []
    for frames in (False, True):
        rates = own_words(MODEL, load_judge(), count=48, guidance=GUIDANCE, frames=frames, seed=50 + seed)
        parts = statistics.mean(rates[name] for name in ("shape", "pattern", "colour"))
        shares = Rates(parts, rates["like"], rates["follows"], rates["everything"])
        outcomes.append(Outcome("its own words", f"frames {frames}", seed, shares))
    return outcomes


def print_table(outcomes: list[Outcome]) -> None:
    """One line a row, then the defaults by concept."""
    print(f"{'':<22}{'easy concepts':^40}{'hard concepts':^40}{'all, to':^14}{'eval loss':^18}{'':>6}{'':>7}")
    heads = f"{'parts':>7}{'like':>7}{'follows':>9}{'all':>14}   "
    print(f"{'row':<22}{heads}{heads}{'defaults':^14}{'start > end':^18}{'norm':>6}{'s/run':>7}{'n':>5}")
    reference = {(one.concept, one.seed): one.rates.all for one in outcomes if one.row == "defaults"}
    for name in dict.fromkeys(one.row for one in outcomes):
        mine = [one for one in outcomes if one.row == name]
        easy = [one.rates for one in mine if one.concept not in HARD]
        hard = [one.rates for one in mine if one.concept in HARD]
        pairs = [
            one.rates.all - reference[one.concept, one.seed] for one in mine if (one.concept, one.seed) in reference
        ]
        trained = not math.isnan(mine[0].seconds)
        line = f"{name:<22}{_cells(easy)}{_cells(hard)}"
        line += f"{_mean(pairs, sign=True):^14}" if trained and name != "defaults" and pairs else " " * 14
        if trained:
            ends = [statistics.mean(getattr(one, key) for one in mine) for key in ("eval_start", "eval_end")]
            line += f"{f'{ends[0]:.4f} > {ends[1]:.4f}':^18}{statistics.mean(one.norm for one in mine):>6.2f}"
            line += f"{statistics.mean(one.seconds for one in mine):>7.1f}"
        else:
            line += " " * 31
        print(f"{line}{len(mine):>5}", flush=True)
    print("\nthe defaults, by concept")
    for concept in dict.fromkeys(one.concept for one in outcomes if one.row == "defaults"):
        mine = [one for one in outcomes if one.row == "defaults" and one.concept == concept]
        print(f"{concept:<22}{_cells([one.rates for one in mine])}{len(mine):>5}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the defaults only")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of each training ({STEPS})")
    parser.add_argument("--seeds", type=int, help="trainings of each concept in each row (1; 2 with --short)")
    parser.add_argument("--only", nargs="+", metavar="ROW", default=[], help="rows of the full table by name")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.FIELD=VALUE",
        help='a row of your own; several with commas between form one row; scheme="0.01:100" sets the scheme',
    )  # fmt: skip
    parser.add_argument("--concepts", nargs="+", default=[*EASY, *HARD])
    parser.add_argument("--out", type=Path, help="also write every outcome as JSON")
    given = parser.parse_args()
    every = rows_of(given.steps)
    wanted = [] if given.short else given.only or [row.name for row in every]
    rows = [row for row in every if row.name in ("defaults", *wanted)]
    rows += [Row(text, dict(_settings(text)), given.steps) for text in given.set]
    started = time.perf_counter()
    outcomes = measure(rows, given.concepts, range(given.seeds or (2 if given.short else 1)))
    seconds = time.perf_counter() - started
    print(f"{given.steps} steps of 12 pictures; {DRAWN} pictures judged a run; {seconds:.0f} s in all")
    print_table(outcomes)
    if given.out:
        given.out.write_text(json.dumps([asdict(one) | {"rates": one.rates._asdict()} for one in outcomes], indent=1))


def measure(rows: Sequence[Row], concepts: Sequence[str], seeds: Sequence[int]) -> list[Outcome]:
    """Every row with every concept and seed, as many at a time as there are cores; in the order of the table."""
    os.environ["OMP_NUM_THREADS"] = "1"
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as place, ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        os.environ |= {f"TI_TUI_{name}": f"{place}/{name.lower()}" for name in ("CONFIG", "CACHE", "STATE")}
        first = [pool.submit(baselines, concept, seed) for concept in concepts for seed in seeds[:1]]
        first += [pool.submit(ceiling, seed) for seed in seeds[:1]]
        jobs = [
            pool.submit(train_and_judge, row, concept, seed, place)
            for row in rows
            for concept in concepts
            for seed in seeds
        ]
        for number, _ in enumerate(as_completed(jobs), start=1):
            if sys.stderr.isatty():
                print(f"\r{number} of {len(jobs)} trainings ", end="", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        known = [one for job in first for one in job.result()]
        return sorted(known, key=lambda one: one.row, reverse=True) + [job.result() for job in jobs]


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """Run-file fields from `a.b=1;c.d=2`."""
    for part in text.split(";"):
        name, _, value = part.partition("=")
        yield name.strip(), value.strip()


def _cut(segments: Sequence[Any], steps: int) -> Iterator[tuple[float, int]]:
    """The first `steps` steps; the last rate goes on where a scheme is shorter."""
    left = steps
    for index, segment in enumerate(segments):
        count = left if index == len(segments) - 1 else min(left, segment.steps)
        if count:
            yield segment.learning_rate, count
        left -= count


def _rates(images: Any, asked: list[Any]) -> Rates:
    from tools.demo_model.judge import judge_pictures, load_judge

    verdicts = judge_pictures(load_judge(), images, asked)
    return Rates(*(statistics.mean(getattr(one, name) for one in verdicts) for name in Rates._fields))


def _cells(rates: list[Rates]) -> str:
    if not rates:
        return f"{'':<40}"
    parts, like, follows = (statistics.mean(getattr(one, name) for one in rates) for name in Rates._fields[:3])
    return f"{parts:>7.2f}{like:>7.2f}{follows:>9.2f}{_mean([one.all for one in rates]):>14}   "


def _mean(values: list[float], *, sign: bool = False) -> str:
    mean = statistics.mean(values)
    shown = f"{mean:+.2f}" if sign else f"{mean:.2f}"
    return f"{shown} ±{statistics.stdev(values) / math.sqrt(len(values)):.2f}" if len(values) > 1 else shown


def _one_thread() -> None:
    """Set up a process of the pool: one core, no output."""
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(1)
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()


if __name__ == "__main__":
    main()
