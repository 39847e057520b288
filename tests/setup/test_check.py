"""What `check` says before a run starts: values that no run can use, and a folder that others may change."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import MakeRun
from ti_tui.commands import check, plan
from ti_tui.run.file import load
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import missing_card
from ti_tui.run.problems import Problem, Problems
from ti_tui.setup import check_optimizer
from ti_tui.setup.check import check_run
from ti_tui.setup.check_machine import check_folder


def problems(folder: RunFolder) -> list[Problem]:
    """Without the notes, and without the warning that these runs have few images."""
    found = check_run(folder).problems
    return [problem for problem in found if problem.severity != "info" and problem.field != "dataset.images"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"betas": [9, 9]}, "Invalid beta parameter"),
        ({"nope": 1}, "unexpected keyword argument 'nope'"),
        ({"betas": [0.9, 0.99], "eps": 1e-6}, ""),
    ],
)
def test_the_optimizer_itself_says_what_it_does_not_take(
    make_run: MakeRun, forked_processes: None, arguments: dict[str, object], said: str
) -> None:
    found = problems(make_run(**{"training.optimizer_arguments": arguments}))
    if not said:
        assert not found
        return
    (problem,) = found
    assert problem.severity == "error" and said in problem.message
    assert problem.field == "training.optimizer_arguments" and problem.line is not None


def test_a_trial_that_cannot_start_keeps_no_run_from_starting(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_optimizer.sys, "executable", "/nowhere/python")
    assert not problems(make_run(**{"training.optimizer_arguments": {"eps": 2e-6}}))


@pytest.mark.parametrize("device", ["cuda", "cuda:99"])
def test_a_card_that_is_not_there_is_an_error_before_the_start(make_run: MakeRun, device: str) -> None:
    if device == "cuda" and not missing_card(device):
        pytest.skip("this machine has a card")
    (problem,) = problems(make_run(**{"training.device": device}))
    assert problem.severity == "error" and problem.field == "training.device" and device in problem.message


@pytest.mark.parametrize(("rate", "severity"), [("0.6", "warning"), ("10", "error"), ("1e9", "error")])
def test_rates_that_ruin_the_vectors_are_told(make_run: MakeRun, rate: str, severity: str) -> None:
    folder = make_run(**{"scheme.segments": [{"learning_rate": float(rate), "steps": 6}]})
    (problem,) = problems(folder)
    assert problem.severity == severity and "ruin the vectors" in problem.message


@pytest.mark.parametrize(
    ("place", "named"), [("/proc/x", "/proc"), ("/sys/a/b", "/sys"), ("/dev/x", "/dev"), ("/proc/self/cwd/x", "")]
)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux has these folders")
def test_no_run_is_kept_in_a_folder_of_the_system(place: str, named: str) -> None:
    found = Problems()
    check_folder(RunFolder(Path(place)), 0, found)
    if named:
        (problem,) = found
        assert problem.field == "run_folder" and f"no run can be kept in {named}" in problem.message
    else:
        assert not any("no run can be kept" in problem.message for problem in found)


def test_an_optimizer_that_does_not_step_by_the_rate_may_have_a_large_one(make_run: MakeRun) -> None:
    folder = make_run(**{"scheme.segments": [{"learning_rate": 30.0, "steps": 6}], "training.optimizer": "sgd"})
    assert not check_run(folder).problems.errors


def test_what_disagrees_about_the_prediction_type_is_told_by_check_and_plan(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(models["sd1"], tmp_path / "m")
    config = tmp_path / "m" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prediction_type": "v_prediction"}))
    folder = make_run(**{"model.base": str(tmp_path / "m"), "model.prediction": "epsilon"})
    (problem,) = problems(folder)
    assert problem.field == "model.prediction" and problem.line is not None
    assert "scheduler/scheduler_config.json says v_prediction" in problem.message
    for command in (check.command, plan.command):
        said = CliRunner().invoke(command, [str(folder.root)])
        assert "prediction type: epsilon, by model.prediction in the run file" in said.output


def test_a_model_of_another_kind_is_refused_before_the_start(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = make_run()
    shutil.copytree(models["sd1"], tmp_path / "m")
    config = tmp_path / "m" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler"}))
    file = folder.file.read_text()
    folder.file.write_text(file.replace(load(folder.file).model.base, str(tmp_path / "m")))
    (problem,) = problems(folder)
    assert problem.severity == "error" and problem.field == "model.base"
    assert "FlowMatchEulerDiscreteScheduler" in problem.message


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_folder_that_every_user_may_change_is_told(make_run: MakeRun) -> None:
    folder = make_run()
    folder.root.chmod(0o777)
    (problem,) = problems(folder)
    assert "every user of this machine" in problem.message and str(folder.root) in problem.message
    # A disk without permissions shows every file as open and executable, and cannot be changed.
    folder.file.chmod(0o777)
    assert not problems(folder)
