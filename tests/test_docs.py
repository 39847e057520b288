"""The docs that are made from the program are those of the program."""

from __future__ import annotations

from pathlib import Path

from tools.write_docs import TARGET, page

ROOT = Path(__file__).parents[1]


def test_the_run_files_page_is_made_from_its_table() -> None:
    assert TARGET.read_text(encoding="utf-8") == page(), "run: python -m tools.write_docs"


def test_the_themes_that_ship_are_whole() -> None:
    from ti_tui.themes import load_themes

    loaded = load_themes([ROOT / "themes"])
    assert loaded.problems == ()
    assert {theme.name for theme in loaded.themes} == {path.stem for path in (ROOT / "themes").glob("*.toml")}
