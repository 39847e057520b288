"""`ti-tui runs`: what came out of runs, in a list and side by side."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len

from tests.commands.test_report import plain_run
from tests.conftest import MakeRun, edit
from tests.screens.conftest import MakeHistory, history, home  # noqa: F401
from ti_tui import settings
from ti_tui.cli import cli
from ti_tui.commands.columns import cut_front, lines_of
from ti_tui.errors import UserError
from ti_tui.formatting import percent, wrapped
from ti_tui.results.runs_table import compared, distinct_names, not_comparable, setting_rows
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder


def runs(*folders: Path) -> list[str]:
    """The lines that the command prints; none is wider than 80 columns."""
    told = CliRunner().invoke(cli, ["runs", *map(str, folders)], catch_exceptions=False)
    lines = told.stdout.splitlines()
    assert told.exit_code == 0 and all(cell_len(line) <= 80 for line in lines), told.stdout
    return lines


def pair(one: dict[str, Any], other: dict[str, Any], tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    return plain_run(tmp_path / "one", **one), plain_run(tmp_path / "other", **other)


def settings_that_differ(*folders: RunFolder) -> list[str]:
    from ti_tui.results.outcome import outcome_of

    told = compared([(folder, run_file.load(folder.file), outcome_of(folder)) for folder in folders])
    return [one.name for one in setting_rows(told)]


def test_the_list_says_what_came_out_of_each_run(history: MakeHistory, home: Path) -> None:  # noqa: F811
    history(340, "done", verdict="learned", name="anna")
    history(120, "failed", name="bert")
    plain_run(home / "runs" / "new")
    lines = runs(home / "runs")
    assert lines[0].split() == ["run", "state", "steps", "gain", "verdict", "best", "(rank)", "a", "step"]
    told = {line.split()[0].rpartition("/")[2]: line.split()[1:] for line in lines[1:]}
    assert told["anna"] == ["done", "340", "38", "%", "learned", "300", "(35.6", "%)", "0.48", "s"]
    assert told["bert"] == ["failed", "120", "of", "3790", "25", "%", "learning", "100", "(21.1", "%)", "0.48", "s"]
    assert told["new"] == ["not", "started"]


def test_long_paths_are_cut_at_their_front(tmp_path: Path) -> None:
    folder = plain_run(tmp_path / ("deep" * 20) / "below" / "zkz")
    settings.remember_run(folder.root)
    (line,) = runs()[1:]
    assert line.startswith("...") and "/zkz  not started" in line


def test_two_runs_stand_side_by_side_with_the_settings_that_differ(
    make_run: MakeRun, train: Callable[..., int]
) -> None:
    first = make_run(name="first", **{"evaluation.every_steps": 3})
    second = make_run(name="second", scheme="0.005:3", **{"evaluation.every_steps": 3, "training.seed": 7})
    assert train(first) == train(second) == 0
    lines = runs(first.root, second.root)
    assert lines[0].split() == ["first", "second"]
    assert next(line for line in lines if line.startswith("steps")).split() == ["steps", "6", "3"]
    for name in (
        "state",
        "time",
        "time per step",
        "eval loss",
        "gain",
        "verdict",
        "best step (rank)",
        "norm",
        "peak memory",
    ):
        assert any(line.startswith(f"{name}  ") for line in lines), name
    at = lines.index("Only scheme.segments and training.seed differ:")
    assert [line.split() for line in lines[at + 1 : at + 4]] == [
        ["scheme.segments", "0.01:6", "0.005:3"],
        ["training.seed", "42", "7"],
        [],
    ]
    said = " ".join(lines[at + 4 :])
    assert said == (
        "Eval losses cannot be compared: the runs differ in seed, hence in the noise. "
        "Gains can: each is relative to its own initial vectors."
    )


def test_runs_of_the_same_recipe_can_be_compared_wherever_their_files_are(
    make_run: MakeRun, train: Callable[..., int], tmp_path: Path
) -> None:
    folder = make_run(name="here", **{"evaluation.every_steps": 3})
    assert train(folder) == 0
    shutil.copytree(folder.root, tmp_path / "there")
    lines = runs(folder.root, tmp_path / "there")
    assert lines[-1] == "The run files are the same."
    # Another model is another by its content, not by its path.
    again = RunFolder(tmp_path / "there")
    link = tmp_path / "same-model"
    link.symlink_to(run_file.load(folder.file).model.base)
    edit(again, run_file.load(folder.file).model.base, str(link))
    assert not any("cannot be compared" in line for line in runs(folder.root, again.root))


def test_other_pictures_models_and_resolutions_are_told(history: MakeHistory, tmp_path: Path) -> None:  # noqa: F811
    first, second = history(100, "done", name="one"), history(100, "done", name="two")
    assert not any("cannot be compared" in line for line in runs(first.root, second.root))
    Image.new("RGB", (64, 64)).save(next(second.images.rglob("*.png")), compress_level=0)
    edit(second, "resolution = 512", "resolution = 768")
    edit(second, "realisticVision", "dreamshaper")
    edit(second, 'init = "woman"', 'init = "person"')
    said = " ".join(runs(first.root, second.root))
    assert "the runs differ in model, images or captions and resolution." in said
    assert 'The gains are relative to different initial vectors: "person" and "woman".' in said


def test_a_default_that_is_written_out_is_no_difference(tmp_path: Path) -> None:
    first, second = pair({}, {}, tmp_path)
    second.file.write_text(
        'format = 1\n[model]\nbase = "m.safetensors"\n[dataset]\nimages = "img"\n'
        '[embedding]\ntoken = "zkz"\ninit = "woman"\n'
    )
    assert settings_that_differ(first, second) == []
    assert runs(first.root, second.root)[-1] == "The run files are the same."


def test_two_ways_to_write_one_path_are_no_difference(tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    model.touch()
    first, second = pair({"model": {"base": str(model)}}, {"model": {"base": "../m.safetensors"}}, tmp_path)
    third = plain_run(tmp_path / "third", model={"base": "some/hub-id"})
    assert settings_that_differ(first, second) == []
    assert settings_that_differ(first, second, third) == ["model.base"]


def test_many_runs_stand_in_blocks(tmp_path: Path) -> None:
    folders = [plain_run(tmp_path / f"run{seed}", training={"seed": seed}) for seed in range(9)]
    lines = runs(*(folder.root for folder in folders))
    names = [name for line in lines if line.strip().startswith("run") for name in line.split()]
    assert names[:9] == [f"run{seed}" for seed in range(9)]
    seeds = [seed for line in lines if line.startswith("training.seed") for seed in line.split()[1:]]
    assert seeds == [str(seed) for seed in range(9)]


def test_what_is_no_run_is_told(history: MakeHistory, tmp_path: Path) -> None:  # noqa: F811
    folder = history(20, "done")
    with pytest.raises(UserError, match=r"holds no run\.toml"):
        runs(folder.root, tmp_path)


def test_runs_of_one_name_are_told_apart() -> None:
    paths = [Path("/a/x/run"), Path("/b/x/run"), Path("/b/other"), Path("/a/x/run")]
    assert distinct_names(paths) == ["a/x/run", "b/x/run", "other", "a/x/run"]


def test_a_single_run_has_nothing_to_be_compared_with(history: MakeHistory) -> None:  # noqa: F811
    from ti_tui.results.outcome import outcome_of

    folder = history(100, "done")
    assert not_comparable(compared([(folder, run_file.load(folder.file), outcome_of(folder))])) == []


def test_a_gain_is_written_with_its_error() -> None:
    assert percent(0.456, 0.08) == "46 ± 8 %" and percent(0.456) == "46 %" and percent(None, 0.1) == ""
    assert percent(-0.02, 0.0) == "-2 %" and len(percent(-1e300, 1e300)) < 12


cells = st.text(alphabet="ab 中é-", max_size=40)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=4), st.integers(2, 20), st.integers(2, 20))
def test_no_line_of_a_table_is_too_wide_and_no_letter_is_lost(
    rows: list[tuple[str, str]], first: int, second: int
) -> None:
    lines = lines_of(rows, [first, second], right=[1])
    assert all(cell_len(line) <= first + 2 + second for line in lines)
    for text, width in ((rows[0][0], first), (rows[0][1], second)):
        assert "".join(wrapped(text, width)).replace(" ", "") == text.replace(" ", "")


@given(cells, st.integers(4, 30))
def test_a_cut_path_fits_and_keeps_its_end(text: str, width: int) -> None:
    cut = cut_front(text, width)
    assert cell_len(cut) <= width and text.endswith(cut.removeprefix("..."))
