"""The docs are those of the program: pages that are made from it, links, commands and files that they name."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import benchmarks
import tools
from ti_tui.cli import COMMANDS
from ti_tui.glossary import GLOSSARY
from tools.write_docs import pages

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULE = re.compile(r"python -m\s+([\w.]+)")
COMMAND = re.compile(r"`ti-tui ([a-z]+)\b|^ {4}ti-tui ([a-z]+)\b", re.MULTILINE)
QUOTED = re.compile(r"`([\w./-]+)`")
FOLDERS = ("ti_tui", "tests", "tools", "benchmarks", "themes", "docs", ".ci")


@pytest.fixture(params=PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_pages_that_are_made_from_the_program_are_up_to_date() -> None:
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, "run: python -m tools.write_docs"


def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(_text(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in _anchors(target), f"{link}: {target.name} has no such heading"


def test_commands_that_the_docs_name_are_there(page: Path) -> None:
    for module in MODULE.findall(_text(page)):
        assert importlib.util.find_spec(module) is not None, f"there is no module {module}"
    for names in COMMAND.findall(_text(page)):
        assert any(name in COMMANDS for name in names), f"there is no command ti-tui {''.join(names)}"


def test_files_that_the_docs_name_are_there(page: Path) -> None:
    for name in QUOTED.findall(_text(page)):
        first = name.partition("/")[0]
        if "/" in name and (first in FOLDERS or (ROOT / "ti_tui" / first).is_dir()):
            assert (ROOT / name).exists() or (ROOT / "ti_tui" / name).exists(), f"there is no {name}"


@pytest.mark.parametrize(
    "name",
    [
        found.name
        for package in (benchmarks, tools)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not found.name.endswith("__main__")
    ],
)
def test_tools_and_benchmarks_go_with_the_program(name: str) -> None:
    importlib.import_module(name)


def test_a_word_of_the_glossary_stands_in_one_chapter() -> None:
    words = [word for chapter in GLOSSARY.values() for word in chapter]
    assert len(words) == len(set(words))


def test_the_themes_that_ship_are_whole() -> None:
    from ti_tui.themes import load_themes

    loaded = load_themes([ROOT / "themes"])
    assert loaded.problems == ()
    assert {theme.name for theme in loaded.themes} == {path.stem for path in (ROOT / "themes").glob("*.toml")}


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
