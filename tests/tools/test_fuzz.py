"""A sample of the damaged files of `python -m tools.fuzz` for every reader, and that the tool sees a broken reader."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tools.fuzz import Reader, fuzz, readers

COUNT = 150


@pytest.mark.filterwarnings("ignore")
def test_every_reader_gives_a_value_or_a_refusal_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tool sets these itself.
    monkeypatch.setenv("TI_TUI_CONFIG", str(tmp_path))
    monkeypatch.setenv("TI_TUI_STATE", str(tmp_path))
    found = readers()
    assert len(found) > 20
    for reader in found:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = fuzz(reader, COUNT, 7, tmp_path / "kept")
        assert result.broke == {}, reader.name
        assert result.read + result.refused == COUNT and result.read, reader.name


def test_a_reader_that_breaks_is_told_with_its_file(tmp_path: Path) -> None:
    def read(path: Path) -> int:
        return int(path.read_text())

    result = fuzz(Reader("numbers", read, [b"12345"], "n.txt"), 50, 1, tmp_path)
    assert "ValueError" in result.broke and result.broke["ValueError"].parent == tmp_path
    with pytest.raises(ValueError, match=r"invalid|codec"):
        read(result.broke["ValueError"])
