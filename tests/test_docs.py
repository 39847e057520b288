"""The docs that are made from the program are those of the program."""

from __future__ import annotations

from pathlib import Path

from tools.write_docs import TARGET, page

ROOT = Path(__file__).parents[1]


def test_the_run_files_page_is_made_from_its_table() -> None:
    assert TARGET.read_text(encoding="utf-8") == page(), "run: python -m tools.write_docs"


def test_the_themes_that_ship_are_whole() -> None:
    import tomllib

    from textual.color import Color

    for path in (ROOT / "themes").glob("*.toml"):
        theme = tomllib.loads(path.read_text(encoding="utf-8"))
        assert theme["name"] == path.stem
        for key, value in theme.items():
            if key not in {"name", "dark"}:
                assert Color.parse(value), f"{path.name}: {key}"
