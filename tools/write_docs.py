"""Writes docs/run-file.md from the run file's own field table: `python -m tools.write_docs`."""

from __future__ import annotations

from pathlib import Path

from ti_tui.run.file import accepts
from ti_tui.run.recipe import TABLES

TARGET = Path(__file__).parents[1] / "docs" / "run-file.md"

INTRODUCTION = """# The run file

`RUN/run.toml` is the complete recipe of a run: everything that is needed to repeat it. `ti-tui init` writes it with
every field explained, `ti-tui check` finds all its mistakes at once, the trainer never changes it. Relative paths count
from the file. Its first line is `format = 1`.

This page is made from the program's own table of fields (`python -m tools.write_docs`).
"""


def page() -> str:
    """The page's text."""
    parts = [INTRODUCTION]
    for name, table in TABLES.items():
        parts.append(f"## [{name}]\n\n{table.__doc__}\n")
        parts.append("| field | takes | default | meaning |\n|---|---|---|---|")
        for key, info in table.model_fields.items():
            default = "(required)" if info.is_required() else _default(info.get_default(call_default_factory=True))
            unit = info.json_schema_extra.get("unit", "") if isinstance(info.json_schema_extra, dict) else ""
            meaning = f"{info.description}{f' ({unit})' if unit else ''}".replace("|", "\\|")
            parts.append(f"| `{key}` | {accepts(info)} | {default} | {meaning} |")
        parts.append("")
    return "\n".join(parts)


def _default(value: object) -> str:
    if isinstance(value, list) and value and hasattr(value[0], "learning_rate"):
        return "`" + ", ".join(f"{item.learning_rate:g}:{item.steps}" for item in value) + "`"
    return f"`{str(value).lower() if isinstance(value, bool) else value!r}`"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    print(f"wrote {TARGET}")
