"""Writes docs/run-file.md and docs/glossary.md from the program's own tables: `python -m tools.write_docs`."""

from __future__ import annotations

from pathlib import Path

from ti_tui.glossary import GLOSSARY
from ti_tui.run.field_values import accepted_values
from ti_tui.run.recipe import TABLES

DOCS = Path(__file__).parents[1] / "docs"

RUN_FILE = """# The run file

`RUN/run.toml` is the complete recipe of a run: everything that is needed to repeat it. `ti-tui init` writes it with
every field explained, `ti-tui check` finds all its mistakes at once, the trainer never changes it. Relative paths count
from the file. Its first line is `format = 1`.

This page is made from the program's own table of fields (`python -m tools.write_docs`).
"""

GLOSSARY_PAGE = """# Glossary

The program, its documentation and its code use one word for one thing. `?` in the program shows the words of the
screen that is open. What the figures mean and what to do about them is explained in [loss.md](loss.md); the reasons for
each choice are in [training.md](training.md).

This page is made from `ti_tui/glossary.py` (`python -m tools.write_docs`).
"""


def pages() -> dict[Path, str]:
    """The text of each page by its path."""
    return {DOCS / "run-file.md": run_file_page(), DOCS / "glossary.md": glossary_page()}


def glossary_page() -> str:
    """Every word with its meaning, in chapters."""
    parts = [GLOSSARY_PAGE]
    for chapter, words in GLOSSARY.items():
        parts.append(f"## {chapter}\n\n| word | meaning |\n|---|---|")
        parts += [f"| {word} | {meaning} |" for word, meaning in words.items()]
        parts.append("")
    return "\n".join(parts)


def run_file_page() -> str:
    """Every table of the run file with its fields."""
    parts = [RUN_FILE]
    for name, table in TABLES.items():
        parts.append(f"## [{name}]\n\n{table.__doc__}\n")
        parts.append("| field | takes | default | meaning |\n|---|---|---|---|")
        for key, info in table.model_fields.items():
            default = "(required)" if info.is_required() else _default(info.get_default(call_default_factory=True))
            unit = info.json_schema_extra.get("unit", "") if isinstance(info.json_schema_extra, dict) else ""
            meaning = f"{info.description}{f' ({unit})' if unit else ''}".replace("|", "\\|")
            parts.append(f"| `{key}` | {accepted_values(info)} | {default} | {meaning} |")
        parts.append("")
    return "\n".join(parts)


def _default(value: object) -> str:
    if isinstance(value, list) and value and hasattr(value[0], "learning_rate"):
        return "`" + ", ".join(f"{item.learning_rate:g}:{item.steps}" for item in value) + "`"
    return f"`{str(value).lower() if isinstance(value, bool) else value!r}`"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
