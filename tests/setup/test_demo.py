"""The demo's brain: what it can learn, the run that it means, its temporary folders and their removal."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest

from ti_tui import settings
from ti_tui.dataset.scan import scan
from ti_tui.dataset.survey import survey
from ti_tui.run.folder import RunFolder
from ti_tui.run.process import ProcessId
from ti_tui.setup import demo
from ti_tui.setup.assess import judge
from ti_tui.setup.create import create_run
from ti_tui.setup.draft import draft_path
from ti_tui.setup.start import make_run


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of one's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def filled() -> Path:
    """A demo's folder in which a run was made."""
    with demo.demo_folder() as folder:
        run = folder.run("orange-drop")
        run.create()
        run.file.write_text("0123456789")
        settings.remember_run(run.root)
    return folder.path


def test_every_concept_has_pictures_with_captions_and_the_easy_ones_come_first() -> None:
    assert [found.hard for found in demo.concepts().values()] == [False] * 3 + [True] * 3
    assert demo.CONCEPT in demo.concepts()
    for name in demo.concepts():
        pictures = scan(demo.pictures_of(name)).pictures
        assert len(pictures) == 12 and all(picture.caption for picture in pictures)
        assert {(picture.width, picture.height) for picture in pictures} == {(demo.RESOLUTION, demo.RESOLUTION)}


@pytest.mark.parametrize("name", demo.concepts())
def test_the_drafts_lack_nothing(name: str, tmp_path: Path) -> None:
    draft = demo.demo_draft(name, tmp_path / "run")
    findings = judge(draft, survey(draft.source() or Path(), resolution=demo.RESOLUTION))
    assert [problem for problem in findings.problems if problem.severity != "info"] == []
    assert findings.run is not None


def test_a_draft_and_the_plain_values_make_the_same_run(tmp_path: Path) -> None:
    drafted = make_run(demo.demo_draft("lime-star", tmp_path / "a"), tmp_path / "a").folder
    plain = create_run(
        tmp_path / "b", demo.pictures_of("lime-star"), demo.demo_values(), class_word=demo.CLASS_WORD
    ).folder
    assert drafted.file.read_bytes() == plain.file.read_bytes()
    assert sorted(path.name for path in (drafted.images / "1_zkz thing").iterdir()) == sorted(
        path.name for path in (plain.images / "1_zkz thing").iterdir()
    )


def test_an_unknown_concept_is_refused_with_the_nearest() -> None:
    with pytest.raises(demo.DemoError, match="did you mean teal-ring"):
        demo.concept("teal")


def test_a_folder_that_was_filled_is_private_and_stays_until_it_is_cleaned(temporary: Path) -> None:
    path = filled()
    assert path.parent == temporary and stat.S_IMODE(path.stat().st_mode) == 0o700
    assert settings.known_demos() == [path]
    assert demo.clean().removed == ((path, 10),)
    assert not path.exists() and settings.known_demos() == []


def test_a_folder_that_stayed_empty_is_gone_and_forgotten() -> None:
    with pytest.raises(KeyboardInterrupt), demo.demo_folder() as folder:
        raise KeyboardInterrupt
    assert not folder.path.exists() and settings.known_demos() == []


def test_cleaning_takes_the_demos_runs_off_the_known_ones_and_no_other(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "run.toml").touch()
    settings.remember_run(own)
    first, second = filled(), filled()
    assert settings.known_runs() == [second / "orange-drop", first / "orange-drop", own]
    assert len(demo.clean().removed) == 2
    assert json.loads((settings.state_folder() / "runs.json").read_text()) == [str(own)]
    assert demo.clean() == demo.Cleaned()


def test_cleaning_leaves_what_is_no_demos_folder(tmp_path: Path, temporary: Path) -> None:
    elsewhere = tmp_path / "ti_tui-demo-x"
    renamed = temporary / "photos"
    target = tmp_path / "target"
    for folder in (elsewhere, renamed, target):
        folder.mkdir()
        (folder / "precious").touch()
    (temporary / "ti_tui-demo-link").symlink_to(target)
    (temporary / "ti_tui-demo-file").touch()
    paths = [elsewhere, renamed, temporary / "ti_tui-demo-link", temporary / "ti_tui-demo-file"]
    for path in paths:
        settings.remember_demo(path)
    cleaned = demo.clean()
    assert cleaned.removed == () and len(cleaned.left) == 4
    assert all(path.exists() for path in paths) and (target / "precious").exists()


def test_cleaning_leaves_a_run_in_which_a_trainer_works() -> None:
    path = filled()
    lock = RunFolder(path / "orange-drop").lock_file
    lock.write_text(json.dumps(asdict(ProcessId.mine())))
    cleaned = demo.clean()
    assert cleaned.removed == () and f"ti-tui stop {path / 'orange-drop'}" in str(cleaned.left[0])
    lock.unlink()
    assert [removed for removed, _ in demo.clean().removed] == [path]


def test_cleaning_does_not_follow_links_out_of_the_folder(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (filled() / "orange-drop" / "link").symlink_to(precious)
    assert demo.clean().left == ()
    assert (precious / "file").exists()


def test_cleaning_works_while_the_temporary_folder_takes_no_file(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "gettempdir", no_temporary_folder)
    monkeypatch.setenv("TMPDIR", str(temporary))
    assert [removed for removed, _ in demo.clean().removed] == [path]


def test_without_a_temporary_folder_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "mkdtemp", no_temporary_folder)
    with pytest.raises(demo.DemoError, match="no temporary folder") as raised, demo.demo_folder():
        pass
    assert "TMPDIR" in raised.value.remedy


def test_without_a_state_folder_the_removal_is_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TI_TUI_STATE", str(tmp_path / "file" / "state"))
    with demo.demo_folder() as folder:
        assert folder.removal == f"rm -r {folder.path}"
        (folder.path / "x").touch()
    assert folder.path.exists()
    assert demo.clean() == demo.Cleaned()


def test_damaged_lists_remove_nothing() -> None:
    settings.state_folder().mkdir(parents=True)
    for content in ("", "[3]", '{"/": 1}', "[" * 100_000, '["", "/", "relative", "a\\u0000b"]'):
        (settings.state_folder() / "demos.json").write_text(content)
        assert demo.clean().removed == ()


def test_a_demos_draft_is_never_kept(tmp_path: Path) -> None:
    assert not demo.demo_draft("orange-drop", tmp_path).kept
    assert not draft_path().exists() and os.listdir(tmp_path) == ["temporary"]  # noqa: PTH208


def no_temporary_folder(*_: object, **__: object) -> str:
    """As `tempfile` says it."""
    raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")
