"""What captions were before: kept, read back, and never lost to a kill."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ti_tui.atomic import CannotWrite
from ti_tui.dataset import caption_history as history
from ti_tui.dataset.caption_files import read_caption
from ti_tui.dataset.caption_history import Change, change_caption, history_file, new_batch, read


def change(number: int, batch: str = "one") -> Change:
    return Change(float(number), batch, f"{number}.png", "old", f"new {number}", "BLIP")


def test_changes_come_back_by_batch_in_their_order(tmp_path: Path) -> None:
    file = history_file(tmp_path)
    assert read(file) == []
    history.append(file, [change(1), change(2)])
    history.append(file, [change(3, "two")])
    history.append(file, [change(4)])
    assert read(file) == [(change(1), change(2), change(4)), (change(3, "two"),)]


def test_a_half_written_last_line_costs_no_other(tmp_path: Path) -> None:
    file = history_file(tmp_path)
    history.append(file, [change(1), change(2)])
    file.write_bytes(file.read_bytes()[:-20])
    assert read(file) == [(change(1),)]
    history.append(file, [change(3)])
    assert read(file) == [(change(1), change(3))]


def test_lines_that_are_no_changes_are_passed_over(tmp_path: Path) -> None:
    file = history_file(tmp_path)
    values = {"t": 1, "batch": "b", "picture": "p", "old": "", "new": "x", "how": "typed"}
    wrong = [b"[]", b"{}", b"\xff\xfe", b"null", b"[" * 100_000, json.dumps(values | {"old": 3}).encode(), b""]
    file.write_bytes(b"\n".join([*wrong, json.dumps(values).encode(), b'{"t": 1']))
    assert read(file) == [(Change(1, "b", "p", "", "x", "typed"),)]


def test_the_last_500_batches_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = history_file(tmp_path)
    history.append(file, [change(number, f"batch {number}") for number in range(600)])
    assert [batch[0].t for batch in read(file)] == list(range(100, 600))
    monkeypatch.setattr(history, "READ_BYTES", 1000)
    assert 1 < len(read(file)) < 10 and read(file)[-1] == (change(599, "batch 599"),)


def test_a_changed_caption_is_kept_before_it_is_written(tmp_path: Path) -> None:
    picture = tmp_path / "img" / "0001.png"
    picture.parent.mkdir()
    file = history_file(tmp_path)
    batch = new_batch()
    for text in ("a cat", "a cat", " a  dog\n"):
        change_caption(file, picture, text, batch=batch, how="typed")
    assert read_caption(picture).caption == "a dog"
    ((first, second),) = read(file)
    assert (first.picture, first.old, first.new) == ("img/0001.png", "", "a cat")
    assert (second.old, second.new, second.how, second.was) == ("a cat", "a dog", "typed", "")


def test_lines_that_no_trainer_reads_are_kept_too(tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.with_suffix(".txt").write_text("the first\nthe second\n")
    change_caption(history_file(tmp_path), picture, "another", batch="b", how="BLIP")
    ((kept,),) = read(history_file(tmp_path))
    assert (kept.old, kept.was) == ("the first", "the first\nthe second")


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_kept_as_it_is(tmp_path: Path) -> None:
    picture = tmp_path / os.fsdecode(b"caf\xe9.png")
    change_caption(history_file(tmp_path), picture, "a café", batch="b", how="typed")
    ((kept,),) = read(history_file(tmp_path))
    assert (kept.picture, kept.new) == (picture.name, "a café")
    assert picture.with_suffix(".txt").read_text(encoding="utf-8") == "a café"


def test_without_its_history_no_caption_is_replaced(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.with_suffix(".txt").write_text("an old one")
    history_file(tmp_path).mkdir()
    with pytest.raises(CannotWrite):
        change_caption(history_file(tmp_path), picture, "a new one", batch="b", how="BLIP")
    assert read_caption(picture).caption == "an old one"
