"""`ti-tui report`: the page of a run, on runs that were trained and on logs of every kind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import MakeRun
from tests.run.test_history import anything, values
from tests.screens.conftest import MakeHistory, history, home  # noqa: F401
from ti_tui.cli import cli
from ti_tui.embeddings import files
from ti_tui.embeddings.files import Embedding, EmbeddingForm
from ti_tui.formatting import printable
from ti_tui.results.report import chart, curves
from ti_tui.results.report.markup import VOID, tag
from ti_tui.results.report.page import page, read_report
from ti_tui.results.report.thumbnails import thumbnails
from ti_tui.results.report.usage import diffusers_lines
from ti_tui.run import file as run_file
from ti_tui.run.evaluations import Evaluation
from ti_tui.run.events import KINDS
from ti_tui.run.folder import RunFolder
from ti_tui.run.verdicts import VerdictName

MOST_BYTES = 3_000_000
NASTY = "</script><script>alert('x')</script> \"quoted\" & <b onclick=go()>"


class Parsed(HTMLParser):
    """A page taken apart; a tag that is not closed, or closed twice, fails.

    elements: (name, attributes) in their order; texts: (name of the innermost element, text).
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for element, attributes in self.elements if element == name]

    @property
    def text(self) -> str:
        """What a reader sees, without the style sheet."""
        return " ".join(text for name, text in self.texts if name != "style")


def checked(text: str) -> Parsed:
    """A page that parses, loads nothing, runs nothing, and can be heard as well as seen."""
    parsed = Parsed(text)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {name for name, _ in parsed.elements}
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for name, attributes in parsed.elements:
        assert not [key for key in attributes if key.startswith("on")], (name, attributes)
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            assert re.match(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+$|#\w+$", attributes.get(key, "#a"))
        assert "url(" not in attributes.get("style", "")
    assert "url(" not in text.partition("</style>")[0] and "@import" not in text.partition("</style>")[0]
    assert all(attributes.get("alt") for attributes in parsed.all("img"))
    drawn = [attributes for attributes in parsed.all("svg") if "aria-hidden" not in attributes]
    for attributes in drawn:
        assert attributes["role"] == "img" and set(attributes["aria-labelledby"].split()) <= set(ids)
    assert all(attributes.get("scope") for attributes in parsed.all("th"))
    assert {attributes["href"][1:] for attributes in parsed.all("a")} <= set(ids)
    return parsed


def report(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def page_of(folder: RunFolder) -> Parsed:
    """The page as it would be written."""
    return checked(page(read_report(folder)))


def log(folder: RunFolder, *events: dict[str, Any]) -> None:
    """Add events to a run's log, without a trainer."""
    folder.create()
    with folder.events.open("a") as file:
        for event in events:
            file.write(json.dumps({"t": 1_700_000_100.0, **event}, separators=(",", ":")) + "\n")


def plain_run(root: Path, **tables: Any) -> RunFolder:
    """A run folder with nothing but a run file."""
    folder = RunFolder(root)
    folder.create()
    values_: dict[str, Any] = {
        "format": 1,
        "model": {"base": "m.safetensors"},
        "dataset": {"images": "img"},
        "embedding": {"token": "zkz", "init": "woman"},
    }
    run_file.save(run_file.from_values(values_ | tables, folder.file), folder.file)
    return folder


@pytest.fixture
def trained(make_run: MakeRun, train: Callable[..., int]) -> RunFolder:
    """A run of 6 steps that was really trained, evaluated at each, with previews of a prompt that looks like markup."""
    folder = make_run(
        **{
            "sample.every_steps": 3,
            "sample.prompts": ["a photo of [name] --d 1 --s 2", f"[name] {NASTY} --d 2 --s 2"],
            "evaluation.every_steps": 1,
            "evaluation.hold_out": 1,
        }
    )
    assert train(folder) == 0
    return folder


def test_a_trained_run_becomes_one_page_that_needs_nothing_else(trained: RunFolder) -> None:
    before = {path: path.read_bytes() for path in trained.root.rglob("*") if path.is_file()}
    code = "import sys; from ti_tui.cli import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    command = [sys.executable, "-c", code, "report", str(trained.root)]
    *told, modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert not set(modules.split()) & {"torch", "textual", "transformers", "diffusers", "matplotlib", "jinja2"}
    written = trained.root / "report.html"
    assert written.stat().st_size < MOST_BYTES
    after = {path: path.read_bytes() for path in trained.root.rglob("*") if path.is_file() and path != written}
    assert after == before

    assert len(told) <= 15 and all(len(line) <= 80 or str(trained.root) in line for line in told)
    short = {part.split()[0]: " ".join(part.split()) for part in re.split(r"\n(?! )", "\n".join(told))}
    assert short["token"].endswith('zkz: 2 vectors from "woman"')
    assert "trained to its end: 6 steps in" in short["run"]
    assert re.search(r"-?\d+( ± \d+)? % on training images, -?\d+( ± \d+)? % on held-out images", short["gain"])
    assert "model/zkz-best.safetensors" in short["best"] and "model/zkz.safetensors" in short["final"]
    assert re.search(r"rank -?\d+\.\d %, the highest|gain -\d+\.\d % \(.*, the highest", short["best"])
    assert "report.html" in short["page"]

    parsed = checked(written.read_text())
    titles = [text for name, text in parsed.texts if name == "h3"]
    assert titles[:5] == ["Gain over the start", "Loss", "Learning rate", "Loss by timestep", "Norm of the vectors"]
    # Three steps of two prompts, and the training pictures: beside the grid and below it.
    assert len(parsed.all("img")) == 6 + 4
    for words in (
        "step 3",
        "nearest words",
        "sdpa",
        "embedding:zkz",
        str(trained.best("zkz")),
        "0.01:6",
        "training.seed",
    ):
        assert words in parsed.text, words


def test_the_lines_for_diffusers_draw_with_the_embedding(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = page_of(trained)
    (lines,) = [text for name, text in parsed.texts if name == "code" and text.startswith("from diffusers")]
    monkeypatch.chdir(tmp_path)
    exec(lines.replace("'a photo of zkz'", "'a photo of zkz', num_inference_steps=1"), {})
    with Image.open(tmp_path / "zkz.png") as image:
        assert image.size[0] > 0


@pytest.mark.parametrize("form", ["safetensors", "a1111-pt"])
def test_the_lines_for_sdxl_give_each_text_encoder_its_vectors(
    tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, form: EmbeddingForm
) -> None:
    from transformers import CLIPTextConfig

    widths = [
        CLIPTextConfig.from_pretrained(models["sdxl"] / name).hidden_size for name in ("text_encoder", "text_encoder_2")
    ]
    folder = plain_run(tmp_path / "xl", model={"base": str(models["sdxl"]), "clip_skip": 1})
    rows = [np.ones((2, width), np.float32) for width in widths]
    path = folder.embedding("zkz", None, files.SUFFIXES[form])
    files.write(Embedding.from_rows(rows, token="zkz", step=1, metadata={}), path, form)
    lines = diffusers_lines(path, folder, run_file.load(folder.file), "sdxl")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(lines.replace("'a photo of zkz'", "'a photo of zkz', num_inference_steps=1"), names)
    pipe = names["pipe"]
    for encoder, tokenizer in ((pipe.text_encoder, pipe.tokenizer), (pipe.text_encoder_2, pipe.tokenizer_2)):
        ids = tokenizer.convert_tokens_to_ids(["zkz", "zkz_1"])
        assert (encoder.get_input_embeddings().weight[ids] == 1).all()


def test_nothing_of_the_users_becomes_markup(history: MakeHistory) -> None:  # noqa: F811
    folder = history(200, "failed", warning=NASTY)
    recipe = run_file.load(folder.file)
    odd = recipe.model_copy(
        update={
            "embedding": recipe.embedding.model_copy(update={"token": "z'k&z", "init": NASTY}),
            "model": recipe.model.model_copy(update={"base": f"/models/{NASTY}"}),
            "sample": recipe.sample.model_copy(update={"prompts": [NASTY]}),
        }
    )
    run_file.save(odd, folder.file)
    picture = next(folder.images.rglob("*.png"))
    picture.with_suffix(".txt").write_text(NASTY)
    name = f"sample/step00000200/{'01'}.png"
    log(
        folder,
        {"kind": "sample", "step": 200, "files": [name], "prompts": [NASTY]},
        {"kind": "error", "step": 200, "message": f"{NASTY}\nsecond line\x1b[31m\u202e"},
        {"kind": "verdict", "step": 200, "verdict": "learned", "reason": NASTY},
        {"kind": "checkpoint", "step": 200, "files": [f"model/{NASTY}.pt"], "installed": NASTY, "best": 200},
        {"kind": "run", "step": 200, "total_steps": 300, "plan": {"device_name": NASTY}, "reasons": {NASTY: NASTY}},
    )
    text = page(read_report(folder))
    parsed = checked(text)
    assert "alert('x')" not in text and parsed.text.count(NASTY) > 8
    assert f"training image 0001.png: {NASTY}" in [attributes["alt"] for attributes in parsed.all("img")]
    assert "\nsecond line" in parsed.text and "\x1b" not in text and "\u202e" not in text
    assert report(folder.root).exit_code == 0


@given(st.text(), st.text(alphabet=st.characters(codec=None)))
def test_any_text_comes_out_of_the_page_as_it_went_in(text: str, said: str) -> None:
    made = tag("p", text, tag("b", said), title=said, data_x=text)
    parsed = Parsed(made)
    seen = "\n".join(printable(line) for line in said.splitlines())
    assert [name for name, _ in parsed.elements] == ["p", "b"]
    assert parsed.elements[0][1]["title"] == seen
    assert "".join(text for name, text in parsed.texts if name == "b") == seen
    made.encode("utf-8")


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        ("done", "Trained to its end"),
        ("stopped", "Stopped"),
        ("failed", "the disk is full"),
        ("training", "This page shows the run as of"),
    ],
)
def test_a_run_in_any_state_has_its_page(history: MakeHistory, phase: str, says: str) -> None:  # noqa: F811
    folder = history(240, phase)
    assert says in page_of(folder).text
    told = report(folder.root)
    assert told.exit_code == 0 and len(told.stdout.splitlines()) <= 15
    assert "step 240 of 3790" in told.stdout or "240 steps" in told.stdout


@pytest.mark.parametrize("verdict", ["learned", "overtraining", "diverging"])
def test_the_verdict_stands_at_the_top_with_its_reason_and_its_time(history: MakeHistory, verdict: str) -> None:  # noqa: F811
    folder = history(340, "done", verdict=verdict)
    report_ = read_report(folder)
    text = page_of(folder).text
    assert report_.history.verdict is not None
    place = text.index(report_.history.verdict.reason[1:])
    assert place < text.index("Curves") and re.search(r"Given at step \d+, 2023-11-1[45]", text)


def test_a_run_that_was_never_trained_is_told_and_no_page_is_written(tmp_path: Path) -> None:
    folder = plain_run(tmp_path / "new")
    told = report(folder.root)
    assert told.exit_code and "was never trained" in str(told.exception)
    assert not (folder.root / "report.html").exists()


def test_a_run_that_failed_before_its_first_step_still_says_why(tmp_path: Path) -> None:
    folder = plain_run(tmp_path / "failed")
    log(
        folder,
        {"kind": "phase", "phase": "loading", "message": "checking the model"},
        {"kind": "error", "message": "there is no such model", "step": 0},
        {"kind": "end", "outcome": "failed", "step": 0, "message": "there is no such model", "seconds": 1.0},
    )
    parsed = page_of(folder)
    assert parsed.text.count("there is no such model") == 2
    assert "before the first step" in parsed.text and "There is no embedding file yet" in parsed.text
    assert next(text for name, text in parsed.texts if name == "h3") == "Learning rate"


def test_without_evaluations_and_previews_the_page_says_so(tmp_path: Path) -> None:
    folder = plain_run(tmp_path / "bare")
    steps = [{"kind": "step", "step": step, "loss": 0.1, "rate": 0.01, "seconds": 0.5} for step in range(1, 30)]
    log(folder, {"kind": "run", "step": 0, "total_steps": 40, "images": 4, "epoch_steps": 1.0}, *steps)
    parsed = page_of(folder)
    assert "No verdict" in parsed.text and "The run drew no samples" in parsed.text
    assert [text for name, text in parsed.texts if name == "h3"][:2] == ["Loss", "Learning rate"]


def test_a_long_run_is_thinned(tmp_path: Path) -> None:
    folder = plain_run(tmp_path / "long")
    log(folder, {"kind": "run", "step": 0, "total_steps": 60_000})
    step = '{{"t":1700000200,"kind":"step","step":{0},"loss":0.1,"rate":0.01,"seconds":1}}\n'
    found = '{{"t":1700000200,"kind":"eval","step":{0},"loss":0.1,"gain":0.3,"length":1.5,"longest":2.0}}\n'
    with folder.events.open("a") as file:
        file.writelines((step + found if at % 50 == 0 else step).format(at) for at in range(1, 60_001))
    text = page(read_report(folder))
    checked(text)
    assert len(text) < 250_000 and "60 000" in text


NAMES_TOO = (*(field.name for field in fields(Evaluation)), "verdict", "reason", "health", "best")
more_values = st.dictionaries(st.sampled_from(NAMES_TOO), st.integers(0, 9) | st.floats() | anything, max_size=6)
verdicts = st.fixed_dictionaries({"step": st.integers(0, 9), "verdict": st.sampled_from(sorted(VerdictName))})
odd_health = {"norms": [None, 1e308], "effective_rank": 0, "word_norms": [0] * 5, "nearest": [[{}], None]}
healths = st.just({"step": 3, "health": [odd_health], "files": [3], "best": 7})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(sorted(KINDS)), values | more_values | verdicts | healths), max_size=12))
def test_no_value_in_a_log_can_spoil_the_page(tmp_path: Path, events: list[tuple[str, dict[str, Any]]]) -> None:
    folder = plain_run(tmp_path / "odd")
    folder.events.unlink(missing_ok=True)
    log(folder, {"kind": "run", "step": 0, "total_steps": 9})
    log(folder, *({**found, "kind": kind} for kind, found in events))
    page_of(folder)


numbers = st.floats(-1e9, 1e9, allow_nan=False)


@given(numbers, numbers, st.integers(2, 9))
def test_ticks_lie_on_the_axis_and_are_few(one: float, other: float, most: int) -> None:
    low, high = sorted((one, other))
    if high - low > abs(high) * 1e-6 and high - low > 1e-6:
        ticks = chart.nice_steps(low, high, most)
        room = (high - low) * 1e-6
        assert len(ticks) <= most and ticks == sorted(set(ticks))
        assert all(low - room <= tick <= high + room for tick in ticks)


@given(st.floats(1e-8, 1e6), st.floats(1.05, 1e6))
def test_ticks_of_a_logarithmic_axis_too(low: float, times: float) -> None:
    ticks = chart.log_steps(low, low * times, 6)
    assert len(ticks) <= 7 and ticks == sorted(set(ticks))
    assert all(low * 0.99 <= tick <= low * times * 1.01 for tick in ticks)


@given(st.integers(1, 5000), st.integers(2, 400))
def test_thinned_points_keep_both_ends(count: int, most: int) -> None:
    places = chart.thinned_points([(step, 0.0) for step in range(count)], most)
    assert len(places) <= most and places == sorted(set(places)) and places[0] == 0 and places[-1] == count - 1


def test_curves_stay_inside_the_drawing_whatever_their_values(history: MakeHistory) -> None:  # noqa: F811
    folder = history(100, "done")
    log(
        folder,
        *({"kind": "step", "step": 100 + step, "loss": value, "rate": 1e-30, "seconds": 1.0} for step, value in
          enumerate((1e200, -1e200, 0.0, 5e-324), start=1)),
        {"kind": "eval", "step": 104, "loss": -5.0, "gain": -1e9, "held_gain": 1e9, "bands": [1e9, -1e9, 0, 1],
         "length": 1e-9, "longest": 1e9, "follows": 1e12},
    )  # fmt: skip
    parsed = page_of(folder)
    for attributes in parsed.all("path"):
        for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", attributes["d"]):
            assert -8 <= float(x) <= chart.WIDTH and -8 <= float(y) <= chart.HEIGHT, attributes


def test_the_marks_of_all_charts_are_those_of_the_run(history: MakeHistory) -> None:  # noqa: F811
    report_ = read_report(history(340, "done", verdict="learned"))
    marks = curves.marks_of(report_.history)
    assert list(marks.checkpoints) == [100, 200, 300] and marks.best == report_.history.best_step
    assert [name for _, name in marks.verdicts][-1] == "learned"


def test_pictures_stay_within_their_budget(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(noise.integers(0, 255, (400, 300, 3), np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    paths = sorted(tmp_path.glob("*.png"))
    small = thumbnails(paths, budget_bytes=200_000)
    assert len(small) == 12 and sum(len(one.uri) for one in small.values()) <= 200_000
    assert all(one.width < one.height < 320 for one in small.values())
    # Where even the smallest are too much, as many as fit.
    assert 0 < len(thumbnails(paths, budget_bytes=9_000)) < 12
    one = thumbnails(paths[:1])[paths[0]]
    assert one.height == 320


def test_the_page_can_go_elsewhere_and_replaces_an_older_one(history: MakeHistory, tmp_path: Path) -> None:  # noqa: F811
    folder = history(100, "done")
    target = tmp_path / "a b" / "page.html"
    for _ in range(2):
        told = report(folder.root, "-o", target)
        assert told.exit_code == 0 and str(target) in told.stdout
    checked(target.read_text())
    assert list(target.parent.iterdir()) == [target] and not (folder.root / "report.html").exists()
    for wrong in (tmp_path, folder.file):
        assert report(folder.root, "-o", wrong).exit_code != 0
    assert run_file.load(folder.file).embedding.token == "zkz"
